//! Nodes: taints, addresses and what was given to them once.

use std::collections::HashSet;

use api::codec::json;
use api::doc::Doc;
use api::field::FieldError;
use api::name;

use crate::kinds::facts::{Facts, Raw, Rule, Status, label, remove_path, subdomain};
use crate::kinds::ip::{cidr_warnings, legacy_cidr};
use crate::kinds::lists::{same_texts, texts};
use crate::validation::pod::resources;
use crate::validation::{At, Errors};

const ONE_SOURCE: &str = "exactly one reference subfield must be non-nil";
const AVOID_PODS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";

/// What is particular about nodes.
pub const NODE: Facts = Facts {
    status: Status::Created,
    prepare_create: |_, new| {
        remove_path(new, &["spec", "configSource"]);
        remove_path(new, &["status", "config"]);
    },
    prepare_update: |cx, new, old| {
        let path = match cx.subresource {
            "status" => ["status", "config"],
            _ => ["spec", "configSource"],
        };
        if !At::root(old).path(&path).is_set() {
            remove_path(new, &path);
        }
    },
    create: |_, new, errors| node(errors, new),
    update: |_, new, old, errors| {
        node(errors, new);
        update(errors, new, old);
    },
    sub_update: |_, new, old, errors| update(errors, new, old),
    warnings: |cx, new, _, warnings| {
        if cx.subresource.is_empty() {
            warn(new, warnings);
        }
    },
    ..Facts::PLAIN
};

fn node(errors: &mut Errors, new: At<'_>) {
    annotations(errors, new);
    taints(errors, new);
    amounts(errors, new);
    let swap = new.path(&["status", "nodeInfo", "swap", "capacity"]);
    if swap.is_set() {
        errors.renamed(
            "status.nodeInfo.swap",
            "metadata.nodeSwapStatus",
            |errors| {
                errors.positive(swap);
            },
        );
    }
    features(errors, new.path(&["status", "declaredFeatures"]));
    let blocks = new.path(&["spec", "podCIDRs"]);
    for block in blocks.items() {
        legacy_cidr(errors, block, &[]);
    }
    let v6 = texts(blocks)
        .into_iter()
        .filter(|block| block.contains(':'));
    if blocks.len() > 1 && (v6.count() != 1 || blocks.len() > 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(blocks, detail);
    }
}

fn update(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    annotations(errors, new);
    amounts(errors, new);
    features(errors, new.path(&["status", "declaredFeatures"]));
    addresses(errors, new.path(&["status", "addresses"]));
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let blocks = spec.get("podCIDRs");
    let was = before.get("podCIDRs");
    if !was.is_empty() && !same_texts(blocks, was) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        let pairs = was.items().zip(blocks.items());
        let differing = pairs.filter(|(was, now)| was.str() != now.str()).count();
        let times = if was.len() == blocks.len() {
            differing
        } else {
            1
        };
        for _ in 0..times {
            errors.forbidden(blocks, detail);
        }
    }
    let (provider, was) = (spec.get("providerID"), before.get("providerID"));
    if !was.is_empty() && provider.str() != was.str() {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(provider, detail);
    }
    if spec.has("configSource") {
        config_source(errors, spec.get("configSource"), true);
    }
    for field in ["assigned", "active", "lastKnownGood"] {
        let source = new.path(&["status", "config", field]);
        if source.is_set() {
            config_source(errors, source, false);
        }
    }
    taints(errors, new);
    if spec.get("externalID").str() != before.get("externalID").str() {
        errors.forbidden(spec.get("externalID"), "may not be updated");
    }
}

/// Upstream looks for taints among metadata.
fn taints(errors: &mut Errors, new: At<'_>) {
    errors.renamed("spec.taints", "metadata.taints", |errors| {
        each_taint(errors, new.path(&["spec", "taints"]));
    });
}

fn each_taint(errors: &mut Errors, list: At<'_>) {
    let mut seen = HashSet::new();
    for taint in list.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.names(key, name::label_key);
        let complaints = name::label_value(value.str());
        if !complaints.is_empty() {
            errors.invalid(value, complaints.join(";"));
        }
        errors.need_one_of(effect, &EFFECTS);
        if !seen.insert((effect.str(), key.str())) {
            let shown = format!(
                r#"{{"Key":{:?},"Value":{:?},"Effect":{:?},"TimeAdded":null}}"#,
                key.str(),
                value.str(),
                effect.str()
            );
            let path = errors.path(taint);
            let mut error = FieldError::duplicate(path, Raw(shown));
            error.detail = "taints must be unique by key and effect pair".to_string();
            errors.push(error);
        }
    }
}

/// Taints and pods to avoid once stood here.
fn annotations(errors: &mut Errors, new: At<'_>) {
    let annotations = new.path(&["metadata", "annotations"]);
    let parsed = |key: &str| {
        let text = annotations.entry(key).map_or("", At::str);
        (!text.is_empty()).then(|| json::parse(text.as_bytes().to_vec()))
    };
    let place = "metadata.annotations";
    match parsed(TAINTS) {
        Some(Err(error)) => errors.push(FieldError::invalid(place, TAINTS, error.to_string())),
        Some(Ok(doc)) => {
            let mut found = Errors::default();
            each_taint(&mut found, At::root(&doc));
            for error in found.into_vec() {
                let field = format!("{place}.{TAINTS}{}", error.field);
                errors.push(FieldError { field, ..error });
            }
        }
        None => {}
    }
    match parsed(AVOID_PODS) {
        Some(Err(error)) => {
            let path = format!("{place}.AvoidPods");
            errors.push(FieldError::invalid(path, AVOID_PODS, error.to_string()));
        }
        Some(Ok(doc)) => avoided(errors, &doc, &format!("{place}.{AVOID_PODS}")),
        None => {}
    }
}

fn avoided(errors: &mut Errors, doc: &Doc, place: &str) {
    let entries = At::root(doc).get("preferAvoidPods").items();
    for (index, entry) in entries.enumerate() {
        let path = format!("{place}[{index}].PodSignature");
        let controller = entry.path(&["podSignature", "podController"]);
        if !controller.is_set() {
            errors.push(FieldError::required(path, ""));
        } else if !controller.get("controller").flag() {
            let path = format!("{path}.PodController.Controller");
            errors.push(FieldError::invalid(
                path,
                false,
                "must point to a controller",
            ));
        }
    }
}

/// Upstream writes resources like fields.
fn amounts(errors: &mut Errors, new: At<'_>) {
    for list in ["capacity", "allocatable"] {
        for amount in new.get("status").get(list).items() {
            let from = format!("status.{list}[{}]", amount.key());
            let to = format!("status.{list}.{}", amount.key());
            errors.renamed(&from, &to, |errors| resources::amount(errors, amount));
        }
    }
}

fn features(errors: &mut Errors, list: At<'_>) {
    let mut before: Option<&str> = None;
    for feature in list.items() {
        match before {
            Some(last) if last == feature.str() => errors.duplicate(feature),
            Some(last) if last > feature.str() => {
                errors.invalid(feature, "list must be sorted alphabetically");
            }
            _ => {}
        }
        before = Some(feature.str());
        if let Some(complaint) = feature_complaint(feature.str()) {
            let detail = format!("invalid feature name {:?}: {complaint}", feature.str());
            errors.invalid(feature, detail);
        }
    }
}

fn feature_complaint(feature: &str) -> Option<&'static str> {
    let is_segment = |segment: &str| {
        segment.starts_with(|first: char| first.is_ascii_alphabetic())
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_good = feature.starts_with(|first: char| first.is_ascii_uppercase())
        && feature.split('/').all(is_segment);
    match (feature.len() > 253, is_good) {
        (true, _) => Some("must be no more than 253 characters"),
        (false, true) => None,
        (false, false) => Some(
            "must start with an UpperCamelCase segment, with subsequent segments separated by '/' \
             (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters \
             and slashes",
        ),
    }
}

fn addresses(errors: &mut Errors, list: At<'_>) {
    let mut seen = HashSet::new();
    for address in list.items() {
        let (kind, text) = (address.get("type").str(), address.get("address").str());
        if !seen.insert((kind, text)) {
            let path = errors.path(address);
            let shown = Raw(format!(r#"{{"Type":{kind:?},"Address":{text:?}}}"#));
            errors.push(FieldError::duplicate(path, shown));
        }
    }
}

/// Configuration of kubelets, which no longer works but may still be there.
fn config_source(errors: &mut Errors, source: At<'_>, is_spec: bool) {
    let map = source.get("configMap");
    if !map.is_set() {
        errors.invalid(source, ONE_SOURCE);
        return;
    }
    for field in ["uid", "resourceVersion"] {
        if is_spec {
            let detail = format!("{field} must not be set in spec");
            errors.deny(map.get(field), &detail);
        } else {
            errors.need(map.get(field), "");
        }
    }
    let rules: [(&str, Rule); 3] = [
        ("namespace", label),
        ("name", subdomain),
        ("kubeletConfigKey", name::config_key),
    ];
    for (field, rule) in rules {
        if errors.need(map.get(field), "") {
            errors.names(map.get(field), rule);
        }
    }
}

fn warn(new: At<'_>, warnings: &mut Vec<String>) {
    let spec = new.get("spec");
    if spec.has("configSource") {
        warnings.push("spec.configSource: the feature is removed".to_string());
    }
    if !spec.get("externalID").is_empty() {
        let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        warnings.push(text.to_string());
    }
    for (index, block) in spec.get("podCIDRs").items().enumerate() {
        warnings.extend(cidr_warnings(
            &format!("spec.podCIDRs[{index}]"),
            block.str(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create};

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"},"spec":{
        "podCIDR":"10.0.0.0/24","podCIDRs":["10.0.0.0/24","2001:db8::/64"],"providerID":"x://y",
        "taints":[{"key":"a","effect":"NoSchedule"}]},"status":{"capacity":{"cpu":"1","pods":"110"},
        "declaredFeatures":["A","B/c"],"addresses":[{"type":"InternalIP","address":"1.2.3.4"}]}}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &NODE,
            GOOD,
            &[
                Case::create(
                    "spec taints 0 key",
                    r#""a b""#,
                    &["metadata.taints[0].key: Invalid value: \"a b\": name part must consist…"],
                ),
                Case::create(
                    "spec taints 0 effect",
                    r#""x""#,
                    &[
                        r#"metadata.taints[0].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
                    ],
                ),
                Case::create(
                    "spec taints 1",
                    r#"{"key":"a","effect":"NoSchedule"}"#,
                    &[
                        r#"metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair"#,
                    ],
                ),
                Case::create(
                    "status capacity cpu",
                    r#""-1""#,
                    &[
                        r#"status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0"#,
                    ],
                ),
                Case::create(
                    "status capacity pods",
                    r#""500m""#,
                    &[r#"status.capacity.pods: Invalid value: "500m": must be an integer"#],
                ),
                Case::create(
                    "status declaredFeatures 1",
                    r#""A""#,
                    &[r#"status.declaredFeatures[1]: Duplicate value: "A""#],
                ),
                Case::create(
                    "spec podCIDRs 1",
                    r#""10.0.1.0/24""#,
                    &[
                        r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status addresses 1",
                    r#"{"type":"InternalIP","address":"1.2.3.4"}"#,
                    &[
                        r#"status.addresses[1]: Duplicate value: {"Type":"InternalIP","Address":"1.2.3.4"}"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "spec podCIDRs",
                    r#"["10.0.0.0/24"]"#,
                    &[
                        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                    ],
                ),
                Case::sub(
                    "status",
                    "spec providerID",
                    r#""x""#,
                    &[
                        "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                    ],
                ),
                Case::sub(
                    "status",
                    "spec externalID",
                    r#""x""#,
                    &["spec.externalID: Forbidden: may not be updated"],
                ),
                Case::sub(
                    "status",
                    "spec configSource",
                    "{}",
                    &[
                        "spec.configSource: Invalid value: {}: exactly one reference subfield must be non-nil",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn a_node_may_be_made_with_its_status() {
        let made = prepared_create(
            &NODE,
            r#"{"spec":{"configSource":{}},"status":{"phase":"x"}}"#,
        );
        assert_eq!(made.to_string(), r#"{"spec":{},"status":{"phase":"x"}}"#);
    }
}
