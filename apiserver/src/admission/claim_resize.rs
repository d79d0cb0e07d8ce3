//! PersistentVolumeClaimResize: claims grow if their class lets them.

use api::doc::Doc;
use api::quota::usage::class_of;
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::Along;
use crate::validation::At;
use crate::validation::pod::walk::quantity;

pub(super) struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_update = attempt.operation == Operation::Update;
        let (Some(new), Some(old), true) = (new, old, is_update) else {
            return Ok(());
        };
        if !attempt.is_of("", "persistentvolumeclaims") {
            return Ok(());
        }
        let (new, old) = (At::root(new), At::root(old));
        let size = |claim: At<'_>| {
            quantity(
                claim
                    .path(&["spec", "resources", "requests"])
                    .get("storage"),
            )
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.path(&["status", "phase"]).str() != "Bound" {
            let why = "Only bound persistent volume claims can be expanded";
            return Err(attempt.forbidden(why));
        }
        let class = class_of(new);
        let allows = !class.is_empty() && class == class_of(old) && {
            let found = attempt
                .objects()
                .get("storage.k8s.io", "storageclasses", "", class);
            found.is_some_and(|class| At::root(&class.doc()).get("allowVolumeExpansion").flag())
        };
        match allows {
            true => Ok(()),
            false => Err(attempt.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that \
                 provisions the pvc must support resize",
            )),
        }
    }
}
