//! Resource claims and templates of them.

use std::collections::{HashMap, HashSet};

use api::doc::Doc;
use api::field::FieldError;

use super::{
    ENTRIES_MAX, at_most, binding_conditions, configuration, device_name, distinct, pool_name,
    qualified_name, raw_object, selectors, toleration,
};
use crate::kinds::conditions;
use crate::kinds::facts::{Facts, Raw, Status, label, remove_path, subdomain};
use crate::kinds::ip::interface_address;
use crate::registry::strategy::Cx;
use crate::validation::pod::scheduling::node_selector;
use crate::validation::pod::volumes::csi_driver;
use crate::validation::{At, Errors, labels, same};

const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
const SUB_REQUESTS_MAX: usize = 8;
const RESERVED_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const DATA_BYTES_MAX: usize = 10 * 1024;
const NAME_DETAIL: &str = "must be the name of a request in the claim or the name of a request and a \
                           subrequest separated by '/'";

/// What is particular about claims.
pub const CLAIM: Facts = Facts {
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    prepare_update: |cx, new, _| {
        if cx.subresource == "status" {
            drop_released(new);
        }
    },
    create: |cx, new, errors| {
        admin_access(cx, new, new.get("spec"), errors);
        devices(errors, new.path(&["spec", "devices"]));
    },
    update: |_, new, old, errors| errors.immutable(new.get("spec"), old.get("spec")),
    sub_update: |_, new, old, errors| status(errors, new, old),
    ..Facts::PLAIN
};

/// What is particular about templates of claims.
pub const TEMPLATE: Facts = Facts {
    create: |cx, new, errors| {
        admin_access(cx, new, new.path(&["spec", "spec"]), errors);
        template(errors, new.get("spec"));
    },
    update: |_, new, old, errors| {
        template(errors, new.get("spec"));
        errors.immutable(new.get("spec"), old.get("spec"));
    },
    ..Facts::PLAIN
};

/// Devices in use by others may be looked at only from namespaces that administrators chose.
fn admin_access(cx: &Cx<'_>, new: At<'_>, spec: At<'_>, errors: &mut Errors) {
    let requests = spec.path(&["devices", "requests"]);
    let path = ["exactly", "adminAccess"];
    let asked = requests
        .items()
        .position(|request| request.path(&path).flag());
    let Some(index) = asked else {
        return;
    };
    let namespace = new.path(&["metadata", "namespace"]).str();
    let found = cx.objects.get("", "namespaces", "", namespace);
    let is_chosen = found.is_some_and(|found| {
        let doc = found.doc();
        let labels = At::root(&doc).path(&["metadata", "labels"]);
        labels
            .entry(ADMIN_LABEL)
            .is_some_and(|chosen| chosen.str() == "true")
    });
    if !is_chosen {
        let path = format!("spec.devices.requests[{index}].adminAccess");
        let detail = format!(
            "admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing \
             namespace"
        );
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn template(errors: &mut Errors, spec: At<'_>) {
    let meta = spec.get("metadata");
    labels::annotations(errors, meta.get("annotations"));
    labels::labels(errors, meta.get("labels"));
    for field in meta.items() {
        if !["annotations", "labels"].contains(&field.key()) && !field.is_empty() {
            errors.forbidden(field, "cannot be set");
        }
    }
    devices(errors, spec.path(&["spec", "devices"]));
}

/// Requests with the names of their alternatives.
type Names<'d> = HashMap<&'d str, HashSet<&'d str>>;

fn request_names<'d>(devices: At<'d>) -> Names<'d> {
    let name = |at: At<'d>| at.get("name").str();
    let subs = |request: At<'d>| request.get("firstAvailable").items().map(name).collect();
    let requests = devices.get("requests").items();
    requests
        .map(|request| (name(request), subs(request)))
        .collect()
}

fn devices(errors: &mut Errors, at: At<'_>) {
    let names = request_names(at);
    let requests = at.get("requests");
    if at_most(errors, requests, ENTRIES_MAX) {
        for request in requests.items() {
            one_request(errors, request);
        }
        distinct(errors, requests, |request| {
            request.get("name").str().to_string()
        });
    }
    if at_most(errors, at.get("constraints"), ENTRIES_MAX) {
        for constraint in at.get("constraints").items() {
            references(errors, constraint.get("requests"), &names);
            attribute(errors, constraint);
        }
    }
    if at_most(errors, at.get("config"), ENTRIES_MAX) {
        for config in at.get("config").items() {
            references(errors, config.get("requests"), &names);
            configuration(errors, config);
        }
    }
}

fn attribute(errors: &mut Errors, constraint: At<'_>) {
    let fields = ["matchAttribute", "distinctAttribute"];
    let Some(at) = fields
        .map(|field| constraint.get(field))
        .into_iter()
        .find(|at| at.is_set())
    else {
        let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but \
                      multiple fields are set";
        return errors.required(constraint, detail);
    };
    qualified_name(errors, at, at.str());
    if !at.str().contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(at, detail);
    }
}

fn one_request(errors: &mut Errors, request: At<'_>) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    errors.names(request.get("name"), label);
    let (exactly, first) = (request.get("exactly"), request.get("firstAvailable"));
    match (exactly.is_set(), first.is_empty()) {
        (false, true) => errors.required(request, ONE),
        (true, false) => {
            let detail = format!("{ONE}, but multiple fields are set");
            errors.invalid_value(request, Raw("null".to_string()), detail);
        }
        (true, true) => exact_request(errors, exactly),
        (false, false) => {
            if at_most(errors, first, SUB_REQUESTS_MAX) {
                for sub in first.items() {
                    errors.names(sub.get("name"), label);
                    exact_request(errors, sub);
                }
                distinct(errors, first, |sub| sub.get("name").str().to_string());
            }
        }
    }
}

fn exact_request(errors: &mut Errors, at: At<'_>) {
    if errors.need(at.get("deviceClassName"), "") {
        errors.names(at.get("deviceClassName"), subdomain);
    }
    selectors(errors, at.get("selectors"));
    let count = at.get("count");
    match at.get("allocationMode").str() {
        "All" if count.int() != 0 => {
            errors.invalid(count, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" => errors.positive(count),
        _ => errors.not_supported(at.get("allocationMode"), &["All", "ExactCount"]),
    }
    for one in at.get("tolerations").items() {
        toleration(errors, one);
    }
}

fn references(errors: &mut Errors, list: At<'_>, names: &Names<'_>) {
    if at_most(errors, list, ENTRIES_MAX) {
        for one in list.items() {
            reference(errors, one, names);
        }
        errors.unique(list, "");
    }
}

fn reference(errors: &mut Errors, at: At<'_>, names: &Names<'_>) {
    let parts: Vec<&str> = at.str().split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(at, NAME_DETAIL);
    }
    for part in &parts {
        for complaint in label(part) {
            errors.invalid_value(at, *part, complaint);
        }
    }
    let is_known = names
        .get(parts[0])
        .is_some_and(|subs| parts.get(1).is_none_or(|sub| subs.contains(sub)));
    if !is_known {
        errors.invalid(at, NAME_DETAIL);
    }
}

fn device_id(at: At<'_>) -> String {
    let part = |field: &'static str| at.get(field).str();
    let id = format!("{}/{}/{}", part("driver"), part("pool"), part("device"));
    match at.get("shareID").str() {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

fn allocated(claim: At<'_>) -> HashSet<String> {
    let results = claim.path(&["status", "allocation", "devices", "results"]);
    results.items().map(device_id).collect()
}

/// Devices that are no longer allocated have no status.
fn drop_released(new: &mut Doc) {
    let known = allocated(At::root(new));
    let path = ["status", "devices"];
    let devices = At::root(new).path(&path);
    let gone: Vec<_> = devices
        .items()
        .filter(|device| !known.contains(&device_id(*device)))
        .filter_map(|device| device.node().map(|node| node.id()))
        .collect();
    let is_released = !At::root(new).path(&["status", "allocation"]).is_set();
    if is_released {
        remove_path(new, &path);
    } else if let Some(list) = new.find_path(&path) {
        for device in gone {
            new.unlink(list, device);
        }
    }
}

fn status(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (status, before) = (new.get("status"), old.get("status"));
    let reserved = status.get("reservedFor");
    if at_most(errors, reserved, RESERVED_MAX) {
        for user in reserved.items() {
            for field in ["resource", "name", "uid"] {
                errors.need(user.get(field), "");
            }
        }
        distinct(errors, reserved, |user| user.get("uid").str().to_string());
    }
    let known = allocated(new);
    for device in status.get("devices").items() {
        device_status(errors, device, &known);
    }
    distinct(errors, status.get("devices"), device_id);
    let (allocation, was) = (status.get("allocation"), before.get("allocation"));
    if !reserved.is_empty() && !allocation.is_set() {
        errors.forbidden(reserved, "may not be specified when `allocated` is not set");
    } else if !reserved.is_empty() && new.path(&["metadata", "deletionTimestamp"]).is_set() {
        let had = |user: At<'_>| before.get("reservedFor").items().any(|was| same(was, user));
        if !reserved.items().all(had) {
            let detail = "new entries may not be added while `deallocationRequested` or \
                          `deletionTimestamp` are set";
            errors.forbidden(reserved, detail);
        }
    }
    if was.is_set() && allocation.is_set() {
        errors.immutable(allocation, was);
    } else if allocation.is_set() {
        let names = request_names(new.path(&["spec", "devices"]));
        judge_allocation(errors, allocation, &names);
    }
}

fn judge_allocation(errors: &mut Errors, at: At<'_>, names: &Names<'_>) {
    let devices = at.get("devices");
    if at_most(errors, devices.get("results"), ENTRIES_MAX) {
        for result in devices.get("results").items() {
            reference(errors, result.get("request"), names);
            csi_driver(errors, result.get("driver"));
            pool_name(errors, result.get("pool"));
            device_name(errors, result.get("device"));
            binding_conditions(errors, result);
        }
    }
    if at_most(errors, devices.get("config"), 2 * ENTRIES_MAX) {
        for config in devices.get("config").items() {
            errors.need_one_of(config.get("source"), &["FromClaim", "FromClass"]);
            references(errors, config.get("requests"), names);
            configuration(errors, config);
        }
    }
    if at.has("nodeSelector") {
        node_selector(errors, at.get("nodeSelector"), false);
    }
}

fn device_status(errors: &mut Errors, at: At<'_>, known: &HashSet<String>) {
    csi_driver(errors, at.get("driver"));
    pool_name(errors, at.get("pool"));
    device_name(errors, at.get("device"));
    let id = device_id(at);
    if !known.contains(&id) {
        let detail = "must be an allocated device in the claim";
        errors.invalid_value(at, id.as_str(), detail);
    }
    let list = at.get("conditions");
    if list.len() > CONDITIONS_MAX {
        errors.too_many(list, CONDITIONS_MAX);
    }
    conditions::validate(errors, list);
    if at.has("data") {
        raw_object(errors, at.get("data"), DATA_BYTES_MAX);
    }
    let network = at.get("networkData");
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if network.get(field).str().len() > most {
            errors.too_long(network.get(field), most);
        }
    }
    if at_most(errors, network.get("ips"), 16) {
        for address in network.get("ips").items() {
            interface_address(errors, address);
        }
        errors.unique(network.get("ips"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_claims_are_told() {
        let good = r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"a"},"spec":{"devices":{
            "requests":[{"name":"r","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1,"selectors":[{"cel":{"expression":"true"}}]}}],
            "constraints":[{"requests":["r"],"matchAttribute":"a.b/c"}],
            "config":[{"requests":["r"],"opaque":{"driver":"x.y","parameters":{"a":1}}}]}},
            "status":{"allocation":{"devices":{"results":[{"request":"r","driver":"x.y","pool":"p","device":"d"}]}},
            "reservedFor":[{"resource":"pods","name":"p","uid":"u"}],"devices":[{"driver":"x.y","pool":"p","device":"d"}]}}"#;
        cases(
            &CLAIM,
            good,
            &[
                Case::create(
                    "spec devices requests 0 exactly",
                    "-",
                    &[
                        "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                    ],
                ),
                Case::create(
                    "spec devices requests 0 exactly deviceClassName",
                    r#""""#,
                    &["spec.devices.requests[0].exactly.deviceClassName: Required value"],
                ),
                Case::create(
                    "spec devices requests 0 exactly count",
                    "0",
                    &[
                        "spec.devices.requests[0].exactly.count: Invalid value: 0: must be greater than zero",
                    ],
                ),
                Case::create(
                    "spec devices requests 0 exactly adminAccess",
                    "true",
                    &[
                        "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace",
                    ],
                ),
                Case::create(
                    "spec devices constraints 0 requests 0",
                    r#""x""#,
                    &[
                        r#"spec.devices.constraints[0].requests[0]: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"#,
                    ],
                ),
                Case::create(
                    "spec devices constraints 0 matchAttribute",
                    r#""c""#,
                    &[
                        r#"spec.devices.constraints[0].matchAttribute: Invalid value: "c": a fully qualified name must be a domain and a name separated by a slash"#,
                    ],
                ),
                Case::create(
                    "spec devices config 0 opaque",
                    "-",
                    &["spec.devices.config[0].opaque: Required value"],
                ),
                Case::update(
                    "spec devices requests 0 exactly count",
                    "2",
                    &["spec: Invalid value: …"],
                ),
                Case::sub(
                    "status",
                    "status reservedFor 0 uid",
                    r#""""#,
                    &["status.reservedFor[0].uid: Required value"],
                ),
                Case::sub(
                    "status",
                    "status devices 0 device",
                    r#""e""#,
                    &[
                        r#"status.devices[0]: Invalid value: "x.y/p/e": must be an allocated device in the claim"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status allocation devices results 0 device",
                    r#""e""#,
                    &[
                        "status.devices[0]: Invalid value: …",
                        "status.allocation: Invalid value: …",
                    ],
                ),
            ],
        );
    }
}
