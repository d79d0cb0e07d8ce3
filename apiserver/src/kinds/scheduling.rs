//! scheduling.k8s.io: priority classes.

use api::field::FieldError;

use super::facts::{Facts, Generation};
use crate::validation::{At, Errors};

const SYSTEM_PREFIX: &str = "system-";
const USER_MAX: i64 = 1_000_000_000;
/// The two that every cluster has.
pub const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// What is particular about priority classes.
pub const PRIORITY_CLASS: Facts = Facts {
    generation: Generation::First,
    create: |_, new, errors| class(errors, new),
    update: |_, new, old, errors| {
        if new.get("value").int() != old.get("value").int() {
            errors.forbidden(new.get("value"), "may not be changed in an update.");
        }
        errors.immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"));
    },
    ..Facts::PLAIN
};

fn class(errors: &mut Errors, new: At<'_>) {
    let name = new.path(&["metadata", "name"]).str();
    let value = new.get("value");
    if name.starts_with(SYSTEM_PREFIX) {
        if let Some(complaint) = system_complaint(new, name) {
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use \
                 only. error: {complaint}"
            );
            errors.push(FieldError::forbidden("metadata.name", detail));
        }
    } else if value.int() > USER_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
        errors.forbidden(value, detail);
    }
    let policy = new.get("preemptionPolicy");
    if policy.is_set() {
        errors.need_one_of(policy, &["PreemptLowerPriority", "Never"]);
    }
}

fn system_complaint(new: At<'_>, name: &str) -> Option<String> {
    let Some((_, value)) = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if new.get("value").int() != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    new.get("globalDefault")
        .flag()
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_classes_are_told() {
        let good = r#"{"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":"a"},"value":5,"preemptionPolicy":"Never"}"#;
        cases(
            &PRIORITY_CLASS,
            good,
            &[
                Case::create(
                    "value",
                    "1000000001",
                    &[
                        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                    ],
                ),
                Case::create(
                    "metadata name",
                    r#""system-x""#,
                    &[
                        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
                    ],
                ),
                Case::create(
                    "preemptionPolicy",
                    r#""x""#,
                    &[
                        r#"preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never""#,
                    ],
                ),
                Case::update(
                    "value",
                    "6",
                    &["value: Forbidden: may not be changed in an update."],
                ),
                Case::update(
                    "preemptionPolicy",
                    r#""PreemptLowerPriority""#,
                    &[
                        r#"preemptionPolicy: Invalid value: "PreemptLowerPriority": field is immutable"#,
                    ],
                ),
            ],
        );
    }
}
