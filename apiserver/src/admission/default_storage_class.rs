//! DefaultStorageClass: claims that do not say their class get the one for all.

use std::cmp::Reverse;
use std::sync::Arc;

use api::doc::Doc;
use api::quota::usage::OLD_CLASS;
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::Object;
use crate::validation::At;

/// What marks the class for all, and its older form.
const MARKS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub(super) struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_new = attempt.operation == Operation::Create;
        let Some(claim) = new.filter(|_| is_new && attempt.is_of("", "persistentvolumeclaims"))
        else {
            return Ok(());
        };
        let at = At::root(claim);
        let annotations = at.path(&["metadata", "annotations"]);
        if at.get("spec").has("storageClassName") || annotations.entry(OLD_CLASS).is_some() {
            return Ok(());
        }
        let classes = attempt
            .objects()
            .list("storage.k8s.io", "storageclasses", "");
        if let Some(name) = newest_marked(&classes, &MARKS) {
            claim.set_path(&["spec", "storageClassName"], &name);
        }
        Ok(())
    }
}

/// The newest of the objects that an annotation marks; of equally old ones the first by name.
pub(super) fn newest_marked(objects: &[Arc<Object>], marks: &[&str]) -> Option<String> {
    let marked = objects.iter().filter_map(|object| {
        let doc = object.doc();
        let metadata = At::root(&doc).get("metadata");
        let annotations = metadata.get("annotations");
        let is_marked = |mark: &&str| annotations.entry(mark).is_some_and(|at| at.str() == "true");
        let name = metadata.get("name").str().to_string();
        let age = metadata.get("creationTimestamp").str().to_string();
        marks.iter().any(is_marked).then_some((age, Reverse(name)))
    });
    marked.max().map(|(_, name)| name.0)
}
