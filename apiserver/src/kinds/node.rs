//! node.k8s.io: runtime classes.

use std::collections::HashSet;

use super::facts::{Facts, label};
use crate::validation::pod::options::Options;
use crate::validation::pod::{resources, scheduling, warnings::deprecated_label};
use crate::validation::{At, Errors, labels};

/// What is particular about runtime classes.
pub const RUNTIME_CLASS: Facts = Facts {
    creates_on_update: true,
    unconditional: false,
    create: |_, new, errors| class(errors, new),
    update: |_, new, old, errors| {
        class(errors, new);
        errors.immutable(new.get("handler"), old.get("handler"));
    },
    warnings: |_, new, _, told| {
        for selected in new.path(&["scheduling", "nodeSelector"]).items() {
            if let Some(advice) = deprecated_label(selected.key()) {
                told.push(format!("scheduling.nodeSelector: {advice}"));
            }
        }
    },
    ..Facts::PLAIN
};

fn class(errors: &mut Errors, new: At<'_>) {
    if errors.need(new.get("handler"), "") {
        errors.names(new.get("handler"), label);
    }
    let overhead = new.path(&["overhead", "podFixed"]);
    if overhead.is_set() {
        errors.renamed("overhead[", "overhead.limits[", |errors| {
            errors.renamed("overhead.podFixed", "overhead", |errors| {
                resources::overhead(errors, overhead, &Options::default());
            });
        });
    }
    let rules = new.get("scheduling");
    labels::labels(errors, rules.get("nodeSelector"));
    let tolerations = rules.get("tolerations");
    scheduling::tolerations(errors, tolerations, &Options::default());
    let mut seen = HashSet::new();
    for toleration in tolerations.items() {
        let part = |field| toleration.get(field).str();
        let key = [part("key"), part("operator"), part("value"), part("effect")];
        if !seen.insert(key) {
            errors.duplicate(toleration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, warnings};

    #[test]
    fn wrong_classes_are_told() {
        let good = r#"{"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"a"},"handler":"runc",
            "overhead":{"podFixed":{"cpu":"10m"}},"scheduling":{"nodeSelector":{"a":"b"},"tolerations":[{"key":"a","operator":"Exists"}]}}"#;
        cases(
            &RUNTIME_CLASS,
            good,
            &[
                Case::create("handler", r#""""#, &["handler: Required value"]),
                Case::update(
                    "handler",
                    r#""x""#,
                    &[r#"handler: Invalid value: "x": field is immutable"#],
                ),
                Case::create(
                    "overhead podFixed cpu",
                    r#""-1""#,
                    &[
                        r#"overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#,
                    ],
                ),
                Case::create(
                    "scheduling tolerations 1",
                    r#"{"key":"a","operator":"Exists"}"#,
                    &["scheduling.tolerations[1]: Duplicate value: …"],
                ),
                Case::create(
                    "scheduling nodeSelector",
                    r#"{"a":"b c"}"#,
                    &["scheduling.nodeSelector: Invalid value: \"b c\": a valid label must be…"],
                ),
            ],
        );
        let old = r#"{"scheduling":{"nodeSelector":{"beta.kubernetes.io/os":"linux"}}}"#;
        assert_eq!(
            warnings(&RUNTIME_CLASS, old, None),
            [r#"scheduling.nodeSelector: deprecated since v1.14; use "kubernetes.io/os" instead"#]
        );
    }
}
