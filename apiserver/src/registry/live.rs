//! The live object that a write starts from: as the cache has it, or as the store does, and whether the
//! write may change it.

use std::sync::Arc;

use api::doc::{Doc, Kind, Node};
use api::field::FieldError;
use api::status::Status;
use raft_store::pb::mvccpb::KeyValue;

use super::call::{Call, Outcome};
use super::metadata::{self, text};
use super::write::Change;
use crate::failure;
use crate::storage::{Object, keys};

/// An object as the store has it, or as the cache believes.
pub(super) struct Live {
    pub(super) object: Arc<Object>,
    pub(super) is_verified: bool,
}

impl Call<'_> {
    /// The object as the cache has it; what the cache lacks is looked up.
    pub(super) async fn cached(&self) -> Outcome<Option<Live>> {
        let local = keys::local(self.namespace(), &self.info.name);
        match self.stored()?.collection.get(&local) {
            Some(object) => Ok(Some(Live {
                object,
                is_verified: false,
            })),
            None => self.verified().await,
        }
    }

    /// The object as the store has it.
    pub(super) async fn verified(&self) -> Outcome<Option<Live>> {
        let found = self.read(&self.key(&self.info.name)?).await?;
        Ok(found.map(|object| Live {
            object,
            is_verified: true,
        }))
    }

    pub(super) fn live(&self, pair: &KeyValue) -> Outcome<Live> {
        Ok(Live {
            object: self.object_of(pair)?,
            is_verified: true,
        })
    }

    fn object_of(&self, pair: &KeyValue) -> Outcome<Arc<Object>> {
        let revision = pair.mod_revision.unsigned_abs();
        let object = Object::from_stored(revision, &pair.value, self.stored_schema());
        Ok(Arc::new(object.map_err(Status::internal)?))
    }

    /// An object of the resource as the store has it under a key.
    pub(super) async fn read(&self, key: &str) -> Outcome<Option<Arc<Object>>> {
        let found = self.api.storage.writer.read(key, self.deadline).await;
        let found = found.map_err(|error| failure::of_store(&error))?;
        found.map(|pair| self.object_of(&pair)).transpose()
    }

    /// The object as the store has it, for those who judge it.
    ///
    /// # Errors
    ///
    /// If there is none, or the store fails.
    pub async fn current(&self) -> Outcome<Arc<Object>> {
        let live = self.verified().await?;
        let live = live.ok_or_else(|| Status::not_found(self.of(), &self.info.name))?;
        Ok(live.object)
    }

    /// Holds what a request says of the object's revision and UID against what they are.
    pub(super) fn check_preconditions(
        &self,
        change: &dyn Change,
        doc: &mut Doc,
        live: &Doc,
    ) -> Outcome<()> {
        let current = text(live, "resourceVersion");
        let wanted = text(doc, "resourceVersion");
        if wanted.is_empty() || wanted == "0" {
            if change.expects_revision() && !self.row.strategy.updates_unconditionally() {
                let error = FieldError {
                    value: Some("0".to_string()),
                    ..FieldError::invalid(
                        "metadata.resourceVersion",
                        "",
                        "must be specified for an update",
                    )
                };
                let of = self.row.qualified_kind();
                return Err(Status::invalid(of, &self.info.name, &[error]).into());
            }
            doc.set_path(&["metadata", "resourceVersion"], current);
        } else if wanted != current {
            return Err(Status::modified(self.of(), &self.info.name).into());
        }
        let (wanted, found) = (text(doc, "uid"), text(live, "uid"));
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
            );
            return Err(Status::conflict(self.of(), &self.info.name, why).into());
        }
        Ok(())
    }

    /// Who only wrote a new time into the owners of fields wrote nothing.
    pub(super) fn keep_times(&self, new: &mut Doc, old: &Doc) {
        const TIMES: &[&str] = &["metadata", "managedFields", "*", "time"];
        if new != old && are_alike(new.root(), old.root(), TIMES) {
            // The last of metadata, so that everything stays in its place.
            metadata::copy(new, old, "managedFields");
        }
    }
}

fn is_container(node: Node<'_>) -> bool {
    matches!(node.kind(), Kind::List | Kind::Object)
}

/// Whether two documents whose keys are in one order are alike but for what stands at a path; `*` is
/// every element of a list.
fn are_alike(one: Node<'_>, other: Node<'_>, but: &[&str]) -> bool {
    let (true, [step, rest @ ..]) = (is_container(one), but) else {
        return one == other;
    };
    let counts = |node: &Node<'_>| !rest.is_empty() || node.key() != *step;
    let (mut ours, mut theirs) = (
        one.children().filter(counts),
        other.children().filter(counts),
    );
    one.kind() == other.kind()
        && loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break true,
                (Some(mine), Some(its)) if mine.key() == its.key() => {
                    let is_on_path = *step == "*" || mine.key() == *step;
                    let is_alike = match is_on_path {
                        true => are_alike(mine, its, rest),
                        false => mine == its,
                    };
                    if !is_alike {
                        break false;
                    }
                }
                _ => break false,
            }
        }
}
