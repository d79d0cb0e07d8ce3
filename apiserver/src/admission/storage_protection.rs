//! StorageObjectInUseProtection: what holds data does not go while it is used.

use api::doc::Doc;
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::validation::At;

/// Group, resource and what its controller takes away once nobody uses the object.
const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let Some(new) = new.filter(|_| attempt.operation == Operation::Create) else {
            return Ok(());
        };
        let mut known = FINALIZERS.iter();
        let Some((.., finalizer)) = known.find(|known| attempt.is_of(known.0, known.1)) else {
            return Ok(());
        };
        let has = At::root(new)
            .path(&["metadata", "finalizers"])
            .contains(finalizer);
        if !has {
            let top = new.top();
            let metadata = new.object(top, "metadata");
            let list = new.list(metadata, "finalizers");
            new.push(list, *finalizer);
        }
        Ok(())
    }
}
