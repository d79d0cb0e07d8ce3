//! storage.k8s.io: classes, drivers and attachments of volumes.

mod attachment;
mod driver;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::field::FieldError;
use api::name;

pub use attachment::VOLUME_ATTACHMENT;
pub use driver::{CSI_DRIVER, CSI_NODE};

use super::facts::{Facts, subdomain};
use crate::validation::errors::{IMMUTABLE, NOT_NEGATIVE};
use crate::validation::pod::walk::quantity;
use crate::validation::pod::warnings::deprecated_label;
use crate::validation::{At, Errors, labels, same};

const PARAMETERS_MAX: usize = 512;
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

/// What is particular about storage classes.
pub const STORAGE_CLASS: Facts = Facts {
    create: |_, new, errors| storage_class(errors, new),
    update: |_, new, old, errors| {
        storage_class(errors, new);
        for field in [
            "parameters",
            "provisioner",
            "reclaimPolicy",
            "volumeBindingMode",
        ] {
            errors.immutable(new.get(field), old.get(field));
        }
    },
    warnings: |_, new, _, told| {
        for (i, term) in new.get("allowedTopologies").items().enumerate() {
            let expressions = term.get("matchLabelExpressions").items();
            for (j, expression) in expressions.enumerate() {
                if let Some(advice) = deprecated_label(expression.get("key").str()) {
                    told.push(format!(
                        "allowedTopologies[{i}].matchLabelExpressions[{j}].key: {advice}"
                    ));
                }
            }
        }
    },
    ..Facts::PLAIN
};

/// What is particular about volume attributes classes.
pub const ATTRIBUTES_CLASS: Facts = Facts {
    create: |_, new, errors| attributes_class(errors, new),
    update: |_, new, old, errors| {
        for field in ["driverName", "parameters"] {
            if !same(new.get(field), old.get(field)) {
                let detail = format!("updates to {field} are forbidden.");
                errors.forbidden(new.get(field), detail);
            }
        }
        attributes_class(errors, new);
    },
    ..Facts::PLAIN
};

/// What is particular about storage capacities.
pub const STORAGE_CAPACITY: Facts = Facts {
    unconditional: false,
    create: |_, new, errors| storage_capacity(errors, new, false),
    update: |_, new, old, errors| {
        storage_capacity(errors, new, labels::has_bad_value(old.get("nodeTopology")));
        for field in ["nodeTopology", "storageClassName"] {
            if !same(new.get(field), old.get(field)) {
                errors.invalid(new.get(field), IMMUTABLE);
            }
        }
    },
    warnings: |_, new, _, told| {
        let topology = new.get("nodeTopology");
        for label in topology.get("matchLabels").items() {
            if let Some(advice) = deprecated_label(label.key()) {
                told.push(format!(
                    "nodeTopology.matchLabels.{}: {} is {advice}",
                    label.key(),
                    label.key()
                ));
            }
        }
        for (index, expression) in topology.get("matchExpressions").items().enumerate() {
            let key = expression.get("key").str();
            if let Some(advice) = deprecated_label(key) {
                told.push(format!(
                    "nodeTopology.matchExpressions[{index}].key: {key} is {advice}"
                ));
            }
        }
    },
    ..Facts::PLAIN
};

fn storage_class(errors: &mut Errors, new: At<'_>) {
    provisioner(errors, new.get("provisioner"));
    parameters(errors, new.get("parameters"));
    if !new.get("reclaimPolicy").is_empty() {
        errors.one_of(new.get("reclaimPolicy"), &["Delete", "Retain"]);
    }
    let mode = new.get("volumeBindingMode");
    if mode.is_set() {
        errors.one_of(mode, &["Immediate", "WaitForFirstConsumer"]);
    } else {
        errors.required(mode, "");
    }
    topologies(errors, new.get("allowedTopologies"));
}

fn provisioner(errors: &mut Errors, at: At<'_>) {
    if errors.need(at, "") {
        let text = at.str().to_lowercase();
        for complaint in name::label_key(&text) {
            errors.invalid_value(at, text.as_str(), complaint);
        }
    }
}

fn parameters(errors: &mut Errors, map: At<'_>) {
    if map.len() > PARAMETERS_MAX {
        return errors.too_long(map, PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for parameter in map.items() {
        if parameter.key().is_empty() {
            errors.invalid_value(map, "", "field can not be empty.");
        }
        bytes += parameter.key().len() + parameter.str().len();
    }
    if bytes > PARAMETER_BYTES_MAX {
        errors.too_long(map, PARAMETER_BYTES_MAX);
    }
}

fn topologies(errors: &mut Errors, list: At<'_>) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in list.items() {
        let expressions = term.get("matchLabelExpressions");
        let mut keys = BTreeMap::new();
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            errors.need(values, "");
            let mut known = HashSet::new();
            for value in values.items().filter(|value| !known.insert(value.str())) {
                errors.duplicate(value);
            }
            errors.names(key, name::label_key);
            let set: BTreeSet<&str> = values.items().map(At::str).collect();
            if keys.insert(key.str(), set).is_some() {
                errors.duplicate(key);
            }
        }
        for _ in seen.iter().filter(|before| **before == keys) {
            let path = errors.path(expressions);
            errors.push(FieldError::duplicate(path, ""));
        }
        seen.push(keys);
    }
}

fn attributes_class(errors: &mut Errors, new: At<'_>) {
    provisioner(errors, new.get("driverName"));
    parameters(errors, new.get("parameters"));
    let map = new.get("parameters");
    errors.need(map, "must contain at least one key/value pair");
}

fn storage_capacity(errors: &mut Errors, new: At<'_>, any_value: bool) {
    labels::selector(errors, new.get("nodeTopology"), any_value);
    errors.names(new.get("storageClassName"), subdomain);
    let capacity = new.get("capacity");
    if capacity.is_set() && quantity(capacity).signum() < 0 {
        errors.invalid(capacity, NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_classes_are_told() {
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"a"},"provisioner":"x.y/Z",
            "parameters":{"a":"b"},"reclaimPolicy":"Delete","volumeBindingMode":"Immediate",
            "allowedTopologies":[{"matchLabelExpressions":[{"key":"a","values":["b"]}]}]}"#;
        cases(
            &STORAGE_CLASS,
            good,
            &[
                Case::create("provisioner", r#""""#, &["provisioner: Required value"]),
                Case::create(
                    "reclaimPolicy",
                    r#""Recycle""#,
                    &[
                        r#"reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain""#,
                    ],
                ),
                Case::create(
                    "volumeBindingMode",
                    "-",
                    &["volumeBindingMode: Required value"],
                ),
                Case::create(
                    "allowedTopologies 1",
                    r#"{"matchLabelExpressions":[{"key":"a","values":["b"]}]}"#,
                    &[r#"allowedTopologies[1].matchLabelExpressions: Duplicate value: """#],
                ),
                Case::create(
                    "allowedTopologies 0 matchLabelExpressions 0 values 1",
                    r#""b""#,
                    &[
                        r#"allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "b""#,
                    ],
                ),
                Case::update(
                    "provisioner",
                    r#""z""#,
                    &[r#"provisioner: Invalid value: "z": field is immutable"#],
                ),
                Case::update(
                    "parameters a",
                    r#""c""#,
                    &[r#"parameters: Invalid value: {"a":"c"}: field is immutable"#],
                ),
            ],
        );
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttributesClass","metadata":{"name":"a"},"driverName":"x.y","parameters":{"a":"b"}}"#;
        cases(
            &ATTRIBUTES_CLASS,
            good,
            &[
                Case::create(
                    "parameters",
                    "{}",
                    &["parameters: Required value: must contain at least one key/value pair"],
                ),
                Case::update(
                    "driverName",
                    r#""z""#,
                    &["driverName: Forbidden: updates to driverName are forbidden."],
                ),
            ],
        );
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"CSIStorageCapacity","metadata":{"name":"a"},"storageClassName":"c","capacity":"1Gi","nodeTopology":{"matchLabels":{"a":"b"}}}"#;
        cases(
            &STORAGE_CAPACITY,
            good,
            &[
                Case::create(
                    "capacity",
                    r#""-1""#,
                    &[r#"capacity: Invalid value: "-1": must be greater than or equal to 0"#],
                ),
                Case::update(
                    "storageClassName",
                    r#""d""#,
                    &[r#"storageClassName: Invalid value: "d": field is immutable"#],
                ),
            ],
        );
    }
}
