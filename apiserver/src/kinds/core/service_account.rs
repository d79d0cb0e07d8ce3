//! Service accounts: of their secrets only the names stay.

use api::doc::{Doc, Kind};

use crate::kinds::facts::{Facts, items_at};

const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// What is particular about service accounts.
pub const SERVICE_ACCOUNT: Facts = Facts {
    prepare_create: |_, new| strip_secrets(new),
    prepare_update: |_, new, _| strip_secrets(new),
    warnings: |_, new, old, warnings| {
        let has = |at: crate::validation::At<'_>| {
            let annotations = at.path(&["metadata", "annotations"]);
            annotations.entry(ENFORCE_SECRETS).is_some()
        };
        if has(new) && !old.is_some_and(has) {
            warnings.push(format!(
                "metadata.annotations[{ENFORCE_SECRETS}]: deprecated in v1.32+; prefer separate \
                 namespaces to isolate access to mounted secrets"
            ));
        }
    },
    ..Facts::PLAIN
};

fn strip_secrets(new: &mut Doc) {
    for secret in items_at(new, &["secrets"]) {
        let name = new.node(secret).text(&["name"]).to_string();
        new.clear(secret, Kind::Object);
        if !name.is_empty() {
            new.set(secret, "name", &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{prepared_create, warnings};

    #[test]
    fn only_names_of_secrets_stay() {
        let made = prepared_create(
            &SERVICE_ACCOUNT,
            r#"{"secrets":[{"kind":"Secret","name":"a","uid":"1"}]}"#,
        );
        assert_eq!(made.to_string(), r#"{"secrets":[{"name":"a"}]}"#);
    }

    #[test]
    fn the_old_annotation_is_warned_of_once() {
        let with =
            r#"{"metadata":{"annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}}}"#;
        assert_eq!(warnings(&SERVICE_ACCOUNT, with, None).len(), 1);
        assert!(warnings(&SERVICE_ACCOUNT, with, Some(with)).is_empty());
    }
}
