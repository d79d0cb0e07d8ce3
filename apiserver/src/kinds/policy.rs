//! policy: pod disruption budgets.

use api::name;

use super::facts::{Facts, Generation, Raw, Status};
use crate::validation::errors::NOT_NEGATIVE;
use crate::validation::{At, Errors, labels};

/// What is particular about pod disruption budgets.
pub const BUDGET: Facts = Facts {
    unconditional: false,
    generation: Generation::Of(&["spec"]),
    status: Status::Own(
        r#"{"disruptionsAllowed":0,"currentHealthy":0,"desiredHealthy":0,"expectedPods":0}"#,
    ),
    create: |_, new, errors| spec(errors, new.get("spec"), false),
    update: |_, new, old, errors| {
        let any_value = labels::has_bad_value(old.path(&["spec", "selector"]));
        spec(errors, new.get("spec"), any_value);
    },
    sub_update: |_, new, _, errors| {
        let status = new.get("status");
        super::conditions::validate(errors, status.get("conditions"));
        for field in [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ] {
            errors.non_negative(status.get(field));
        }
    },
    ..Facts::PLAIN
};

fn spec(errors: &mut Errors, spec: At<'_>, any_value: bool) {
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_set() && most.is_set() {
        errors.invalid(spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for amount in [least, most].into_iter().filter(|amount| amount.is_set()) {
        number_or_percent(errors, amount);
    }
    labels::selector(errors, spec.get("selector"), any_value);
    let eviction = spec.get("unhealthyPodEvictionPolicy");
    if eviction.is_set() {
        errors.one_of(eviction, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

/// Upstream shows a number as it is and a percentage as text.
fn number_or_percent(errors: &mut Errors, amount: At<'_>) {
    match amount.opt_int() {
        Some(number) if number < 0 => {
            errors.invalid_value(amount, Raw(number.to_string()), NOT_NEGATIVE);
        }
        Some(_) => {}
        None => {
            errors.names(amount, name::percent);
            let percent = amount.str().strip_suffix('%');
            let percent = percent.and_then(|digits| digits.parse::<u64>().ok());
            if percent.is_some_and(|percent| percent > 100) {
                errors.invalid(amount, "must not be greater than 100%");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_budgets_are_told() {
        let good = r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"a"},
            "spec":{"minAvailable":"50%","selector":{"matchLabels":{"a":"b"}},"unhealthyPodEvictionPolicy":"AlwaysAllow"}}"#;
        cases(
            &BUDGET,
            good,
            &[
                Case::create(
                    "spec minAvailable",
                    r#""101%""#,
                    &[r#"spec.minAvailable: Invalid value: "101%": must not be greater than 100%"#],
                ),
                Case::create(
                    "spec minAvailable",
                    "-1",
                    &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
                ),
                Case::create(
                    "spec minAvailable",
                    r#""x""#,
                    &[r#"spec.minAvailable: Invalid value: "x": a valid percent string…"#],
                ),
                Case::update("spec maxUnavailable", "1", &["spec: Invalid value: …"]),
                Case::create(
                    "spec unhealthyPodEvictionPolicy",
                    r#""x""#,
                    &[
                        r#"spec.unhealthyPodEvictionPolicy: Unsupported value: "x": supported values: "AlwaysAllow", "IfHealthyBudget""#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status currentHealthy",
                    "-1",
                    &[
                        "status.currentHealthy: Invalid value: -1: must be greater than or equal to 0",
                    ],
                ),
                Case::sub(
                    "status",
                    "status conditions",
                    r#"[{"type":"a","status":"x","reason":"","lastTransitionTime":"2024-01-01T00:00:00Z","message":""}]"#,
                    &[
                        r#"status.conditions[0].status: Unsupported value: "x": supported values: "False", "True", "Unknown""#,
                        "status.conditions[0].reason: Required value",
                    ],
                ),
            ],
        );
    }
}
