//! Namespaces: they are born active, and go when their spec has no finalizers left.

use api::doc::Doc;
use api::name;

use crate::kinds::facts::{Facts, Status, keep};
use crate::registry::strategy::{Cx, dns_label};
use crate::validation::{At, Errors};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const STANDARD: [&str; 3] = [FINALIZER, "orphan", "foregroundDeletion"];

/// What is particular about namespaces.
pub const NAMESPACE: Facts = Facts {
    name: dns_label,
    status: Status::Own(r#"{"phase":"Active"}"#),
    prepare_create: |_, new| {
        add_finalizer(new);
        label_name(new);
    },
    prepare_update,
    create: |_, new, errors| finalizers(errors, new.path(&["spec", "finalizers"]), false),
    update: |_, new, _, errors| finalizers(errors, new.path(&["spec", "finalizers"]), false),
    sub_update,
    holds: |namespace| {
        let finalizers = namespace.root().path(&["spec", "finalizers"]);
        finalizers.is_some_and(|list| !list.is_empty())
    },
    mark_deleted: |namespace| {
        namespace.set_path(&["status", "phase"], "Terminating");
    },
    ..Facts::PLAIN
};

fn add_finalizer(new: &mut Doc) {
    let spec = new.object(new.top(), "spec");
    let finalizers = new.list(spec, "finalizers");
    if !At::of(new.node(finalizers)).contains(FINALIZER) {
        new.push(finalizers, FINALIZER);
    }
}

/// Defaulting does this as well, but comes before names are generated.
fn label_name(new: &mut Doc) {
    let name = new.root().text(&["metadata", "name"]).to_string();
    new.set_path(&["metadata", "labels", NAME_LABEL], &name);
}

fn prepare_update(cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
    if cx.subresource.is_empty() {
        keep(new, old, &["spec", "finalizers"]);
    }
    label_name(new);
}

/// Upstream gives no index but through the endpoint of its own.
fn finalizers(errors: &mut Errors, at: At<'_>, with_index: bool) {
    for finalizer in at.items() {
        let place = if with_index { finalizer } else { at };
        for complaint in name::label_key(finalizer.str()) {
            errors.invalid_value(place, finalizer.str(), complaint);
        }
        if !finalizer.str().contains('/') && !STANDARD.contains(&finalizer.str()) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid_value(place, finalizer.str(), detail);
        }
    }
}

fn sub_update(cx: &Cx<'_>, new: At<'_>, _old: At<'_>, errors: &mut Errors) {
    if cx.subresource == "finalize" {
        finalizers(errors, new.path(&["spec", "finalizers"]), true);
        return;
    }
    let is_ending = new.path(&["metadata", "deletionTimestamp"]).is_set();
    let (want, detail) = match is_ending {
        false => (
            "Active",
            "may only be 'Active' if `deletionTimestamp` is empty",
        ),
        true => (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        ),
    };
    let phase = new.path(&["status", "phase"]).str();
    if phase != want {
        errors.push(api::field::FieldError::invalid(
            "status.Phase",
            phase,
            detail,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create, prepared_update};

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"},
        "spec":{"finalizers":["kubernetes","example.com/a"]},"status":{"phase":"Active"}}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &NAMESPACE,
            GOOD,
            &[
                Case::create(
                    "spec finalizers 0",
                    r#""a""#,
                    &[
                        r#"spec.finalizers: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified"#,
                    ],
                ),
                Case::sub(
                    "finalize",
                    "spec finalizers 1",
                    r#""b""#,
                    &[
                        r#"spec.finalizers[1]: Invalid value: "b": name is neither a standard finalizer name nor is it fully qualified"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status phase",
                    r#""Terminating""#,
                    &[
                        r#"status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "metadata deletionTimestamp",
                    r#""2020-01-01T00:00:00Z""#,
                    &[
                        r#"status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty"#,
                    ],
                ),
            ],
        );
    }

    #[test]
    fn a_namespace_is_born_active_and_keeps_its_finalizers() {
        let made = prepared_create(
            &NAMESPACE,
            r#"{"metadata":{"name":"a"},"spec":{},"status":{"phase":"x"}}"#,
        );
        assert_eq!(
            made.to_string(),
            r#"{"metadata":{"name":"a","labels":{"kubernetes.io/metadata.name":"a"}},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#
        );
        let old = r#"{"metadata":{"name":"a"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#;
        let new = r#"{"metadata":{"name":"a"},"spec":{},"status":{"phase":"Terminating"}}"#;
        let finalizers = |sub| {
            let made = prepared_update(&NAMESPACE, sub, new, old);
            let root = At::root(&made);
            let phase = root.path(&["status", "phase"]).str().to_string();
            (root.path(&["spec", "finalizers"]).len(), phase)
        };
        assert_eq!(finalizers(""), (1, "Active".to_string()));
        assert_eq!(finalizers("finalize"), (0, "Active".to_string()));
        assert_eq!(finalizers("status"), (1, "Terminating".to_string()));
    }
}
