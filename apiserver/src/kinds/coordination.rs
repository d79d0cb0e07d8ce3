//! coordination.k8s.io: leases, and the fences of those who lead by them.

use api::doc::Doc;
use api::fence;
use api::name;

use super::facts::{Facts, remove_path};
use crate::registry::metadata::text;
use crate::storage::Along;
use crate::validation::{At, Errors};

/// What is particular about leases.
pub const LEASE: Facts = Facts {
    creates_on_update: true,
    unconditional: false,
    prepare_create: |_, new| drop_coordinated(new, None),
    prepare_update: |_, new, old| drop_coordinated(new, Some(old)),
    create: |_, new, errors| spec(errors, new.get("spec")),
    update: |_, new, _, errors| spec(errors, new.get("spec")),
    accompany: move_fence,
    ..Facts::PLAIN
};

/// Coordinated leader election is off: its fields stay only where they are.
fn drop_coordinated(new: &mut Doc, old: Option<&Doc>) {
    for field in ["strategy", "preferredHolder"] {
        let path = ["spec", field];
        if !old.is_some_and(|old| At::root(old).path(&path).is_set()) {
            remove_path(new, &path);
        }
    }
}

/// A new holder moves the fence of a lease; whoever held it before writes no more.
fn move_fence(new: Option<&Doc>, old: Option<&Doc>, along: &mut Along) {
    let holder = |doc: Option<&Doc>| {
        let holder = doc.map(|doc| doc.root().text(&["spec", "holderIdentity"]));
        holder.unwrap_or_default().to_string()
    };
    let Some(lease) = new.or(old) else { return };
    let key = || fence::key(text(lease, "namespace"), text(lease, "name"));
    match (new, holder(new)) {
        (None, _) => along.deletes(key()),
        (Some(_), holder_now) if holder_now != holder(old) => along.puts(key(), holder_now),
        _ => {}
    }
}

fn spec(errors: &mut Errors, spec: At<'_>) {
    let duration = spec.get("leaseDurationSeconds");
    if duration.opt_int().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(duration, "must be greater than 0");
    }
    errors.non_negative(spec.get("leaseTransitions"));
    let strategy = spec.get("strategy");
    if strategy.is_set() {
        // Upstream names the field twice.
        errors.renamed("spec.strategy", "spec.strategy.strategy", |errors| {
            if strategy.str().contains('/') {
                errors.names(strategy, name::label_key);
            } else {
                errors.one_of(strategy, &["OldestEmulationVersion"]);
            }
        });
    }
    let holder = spec.get("preferredHolder");
    if !holder.is_empty() && strategy.is_empty() {
        errors.forbidden(holder, "may only be specified if `strategy` is defined");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_fields_are_told() {
        let good = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a"},
            "spec":{"holderIdentity":"x","leaseDurationSeconds":15,"leaseTransitions":0}}"#;
        cases(
            &LEASE,
            good,
            &[
                Case::create(
                    "spec leaseDurationSeconds",
                    "0",
                    &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
                ),
                Case::update(
                    "spec leaseTransitions",
                    "-1",
                    &[
                        "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                    ],
                ),
                Case::create(
                    "spec strategy",
                    r#""x""#,
                    &[
                        r#"spec.strategy.strategy: Unsupported value: "x": supported values: "OldestEmulationVersion""#,
                    ],
                ),
                Case::create(
                    "spec preferredHolder",
                    r#""x""#,
                    &[
                        "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
                    ],
                ),
            ],
        );
    }
}
