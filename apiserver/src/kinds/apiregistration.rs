//! apiregistration.k8s.io: versions of groups, and the services that answer for them.

use api::doc::Doc;
use api::field::FieldError;
use api::name;
use api::values::base64;

use super::facts::{Facts, Status, path_segment};
use crate::registry::strategy::Cx;
use crate::validation::{At, Errors};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1000;

/// What is particular about API services.
pub const API_SERVICE: Facts = Facts {
    name: path_segment,
    unconditional: false,
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    prepare_create: local_is_available,
    create: |_, new, errors| api_service(errors, new),
    update: |_, new, _, errors| api_service(errors, new),
    sub_update: |_, new, _, errors| {
        for condition in new.path(&["status", "conditions"]).items() {
            errors.one_of(condition.get("status"), &["True", "False", "Unknown"]);
        }
    },
    ..Facts::PLAIN
};

/// What this server serves itself is there.
fn local_is_available(cx: &Cx<'_>, new: &mut Doc) {
    if At::root(new).path(&["spec", "service"]).is_set() {
        return;
    }
    let condition = format!(
        r#"{{"conditions":[{{"type":"Available","status":"True","lastTransitionTime":"{}","reason":"Local","message":"Local APIServices are always available"}}]}}"#,
        cx.now
    );
    if let Ok(status) = api::codec::json::parse(condition.into_bytes()) {
        let status = new.absorb(status);
        new.put(new.top(), "status", status);
    }
}

fn api_service(errors: &mut Errors, new: At<'_>) {
    let spec = new.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let object_name = new.path(&["metadata", "name"]).str();
    let wanted = format!("{}.{}", version.str(), group.str());
    if object_name != wanted && name::path_segment(object_name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid("metadata.name", object_name, detail));
    }
    if group.is_empty() && version.str() != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.required(group, detail);
    }
    if !group.is_empty() {
        errors.names(group, name::dns_1123_subdomain);
    }
    errors.names(version, name::dns_1035_label);
    for (field, most) in [
        ("groupPriorityMinimum", GROUP_PRIORITY_MAX),
        ("versionPriority", VERSION_PRIORITY_MAX),
    ] {
        if !(1..=most).contains(&spec.get(field).int()) {
            let detail = format!("must be positive and less than {most}");
            errors.invalid(spec.get(field), detail);
        }
    }
    service(errors, spec);
}

fn service(errors: &mut Errors, spec: At<'_>) {
    let (service, bundle, insecure) = (
        spec.get("service"),
        spec.get("caBundle"),
        spec.get("insecureSkipTLSVerify"),
    );
    if !service.is_set() {
        if !bundle.is_empty() {
            let bytes = base64::decode(bundle.str()).map_or(0, |bytes| bytes.len());
            let shown = format!("{bytes} bytes");
            let detail = "local APIServices may not have a caBundle";
            errors.invalid_value(bundle, shown.as_str(), detail);
        }
        if insecure.flag() {
            errors.invalid(
                insecure,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    errors.need(service.get("namespace"), "");
    errors.need(service.get("name"), "");
    let port = service.get("port");
    for complaint in name::port_number(port.int()) {
        errors.invalid(port, format!("port is not valid: {complaint}"));
    }
    if insecure.flag() && !bundle.is_empty() {
        errors.invalid(insecure, "may not be true if caBundle is present");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create};

    #[test]
    fn wrong_services_are_told() {
        let good = r#"{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.a.b"},
            "spec":{"group":"a.b","version":"v1","groupPriorityMinimum":100,"versionPriority":10,"caBundle":"AA==",
            "service":{"namespace":"n","name":"s","port":443}}}"#;
        cases(
            &API_SERVICE,
            good,
            &[
                Case::create(
                    "metadata name",
                    r#""x""#,
                    &[
                        r#"metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.a.b""#,
                    ],
                ),
                Case::create(
                    "spec groupPriorityMinimum",
                    "0",
                    &[
                        "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                    ],
                ),
                Case::create(
                    "spec versionPriority",
                    "1001",
                    &[
                        "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
                    ],
                ),
                Case::create(
                    "spec service",
                    "-",
                    &[
                        r#"spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle"#,
                    ],
                ),
                Case::create(
                    "spec service port",
                    "0",
                    &[
                        "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                    ],
                ),
                Case::update(
                    "spec insecureSkipTLSVerify",
                    "true",
                    &[
                        "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
                    ],
                ),
                Case::sub(
                    "status",
                    "status conditions",
                    r#"[{"type":"Available","status":"x"}]"#,
                    &[
                        r#"status.conditions[0].status: Unsupported value: "x": supported values: "True", "False", "Unknown""#,
                    ],
                ),
            ],
        );
        let made = prepared_create(&API_SERVICE, r#"{"spec":{"version":"v1"}}"#);
        assert_eq!(
            made.root().path(&["status", "conditions"]).unwrap().len(),
            1
        );
    }
}
