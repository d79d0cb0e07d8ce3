//! Delete: preconditions, finalizers, grace, and at last the end.

use api::codec::Encoding;
use api::doc::{Doc, New, Node};
use api::field::FieldError;
use api::schema;
use api::status::Status;
use api::values::time::Precision;

use super::call::{Call, Outcome, invalid_options};
use super::metadata::{self, text};
use super::object::{Expected, canonical};
use crate::admission::{Attempt, Operation};
use crate::failure;
use crate::storage::object::{self, set_revision};
use crate::storage::{Along, Object, WriteError, keys};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const POLICIES: [&str; 3] = ["Background", "Foreground", "Orphan"];

/// How an object is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds that it is given to end.
    pub grace_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<String>,
    /// The older way to say whether dependents stay.
    pub orphan_dependents: Option<bool>,
    /// The UID that it must have.
    pub uid: Option<String>,
    /// The resourceVersion that it must have.
    pub resource_version: Option<String>,
    /// Nothing is to be written.
    pub dry_run: bool,
}

/// What became of a deletion.
pub struct Deleted {
    /// The object as it was last, or as it waits for its end; in the version of the request.
    pub doc: Doc,
    /// It is gone.
    pub is_gone: bool,
}

impl DeleteOptions {
    /// Reads options from a body, or from parameters where there is no body.
    ///
    /// # Errors
    ///
    /// If they make no sense.
    pub fn read(call: &Call<'_>, body: Vec<u8>, encoding: Encoding) -> Outcome<Self> {
        let mut options = if body.is_empty() {
            Self {
                grace_seconds: call.query.number("gracePeriodSeconds"),
                propagation: call.query.get("propagationPolicy").map(str::to_string),
                orphan_dependents: call.query.maybe_flag("orphanDependents"),
                ..Self::default()
            }
        } else {
            let schema = schema::kind("", "v1", "DeleteOptions")
                .ok_or_else(|| Status::internal("DeleteOptions has no schema"))?;
            let expected = Expected {
                api_version: "",
                kind: "DeleteOptions",
                schema,
            };
            Self::of(call.decode(body, encoding, &expected)?.root())
        };
        options.dry_run |= call.dry_run;
        options.check()?;
        Ok(options)
    }

    /// Options of an object of theirs.
    pub fn of(root: Node<'_>) -> Self {
        let texts = |path: &[&str]| root.path(path).and_then(Node::as_str).map(str::to_string);
        Self {
            grace_seconds: root.get("gracePeriodSeconds").and_then(Node::as_i64),
            propagation: texts(&["propagationPolicy"]),
            orphan_dependents: root.get("orphanDependents").and_then(Node::as_bool),
            uid: texts(&["preconditions", "uid"]),
            resource_version: texts(&["preconditions", "resourceVersion"]),
            dry_run: root.get("dryRun").is_some_and(|list| !list.is_empty()),
        }
    }

    fn check(&self) -> Outcome<()> {
        let mut errors = Vec::new();
        if self.propagation.is_some() && self.orphan_dependents.is_some() {
            errors.push(FieldError::invalid(
                "propagationPolicy",
                self.propagation.as_deref().unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) = self
            .propagation
            .as_deref()
            .filter(|p| !POLICIES.contains(p))
        {
            errors.push(FieldError::not_supported(
                "propagationPolicy",
                policy,
                &["Foreground", "Background", "Orphan", "nil"],
            ));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(invalid_options("DeleteOptions", &errors))
    }

    /// The finalizers that an object has once it is to be deleted so.
    fn finalizers(&self, object: &Doc) -> Vec<String> {
        let list = object.root().path(&["metadata", "finalizers"]);
        let list = list.into_iter().flat_map(Node::children);
        let old: Vec<&str> = list.filter_map(Node::as_str).collect();
        let had = |name: &str| old.contains(&name);
        let (orphans, is_foreground) = match (self.orphan_dependents, self.propagation.as_deref()) {
            (Some(orphans), _) => (orphans, false),
            (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
            (None, None) => (had(ORPHAN), had(FOREGROUND)),
        };
        let kept = old
            .iter()
            .filter(|name| !matches!(**name, ORPHAN | FOREGROUND));
        let mut new: Vec<String> = kept.map(ToString::to_string).collect();
        if orphans {
            new.push(ORPHAN.to_string());
        }
        if is_foreground {
            new.push(FOREGROUND.to_string());
        }
        new
    }
}

/// What a deletion does to an object.
enum Step {
    /// It is gone.
    End,
    /// It goes on, changed, until something lets it go.
    Mark(Doc),
    /// It is on its way already.
    Nothing,
}

impl Call<'_> {
    /// Deletes the object that the request names.
    ///
    /// # Errors
    ///
    /// Whatever stands against it.
    pub async fn delete(&self, options: &DeleteOptions) -> Outcome<Deleted> {
        let name = self.info.name.clone();
        self.delete_named(self.namespace(), &name, options).await
    }

    /// Deletes an object of the resource.
    ///
    /// # Errors
    ///
    /// Whatever stands against it.
    pub async fn delete_named(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Outcome<Deleted> {
        let stored = self.stored()?;
        let local = keys::local(namespace, name);
        let key = format!("{}{local}", stored.prefix);
        let mut is_verified = false;
        let mut live = stored.collection.get(&local);
        loop {
            if live.is_none() && !is_verified {
                live = self.read(&key).await?;
                is_verified = true;
            }
            let Some(current) = live.take() else {
                return Err(Status::not_found(self.of(), name).into());
            };
            match self.delete_once(&key, name, &current, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(Some(status)) if is_verified => return Err(status),
                // What the cache believes may be old: the store decides.
                Err(_) => {
                    live = self.read(&key).await?;
                    is_verified = true;
                }
            }
            if tokio::time::Instant::now() >= self.deadline {
                return Err(Status::server_timeout(self.of(), "delete", 1).into());
            }
        }
    }

    /// One attempt; no status means that somebody else was faster.
    async fn delete_once(
        &self,
        key: &str,
        name: &str,
        live: &Object,
        options: &DeleteOptions,
    ) -> Result<Deleted, Option<Box<Status>>> {
        let old = live.doc();
        self.check_delete(&old, name, options)?;
        let mut attempt = Attempt::new(self, Operation::Delete).of(&old);
        let mut along = Along {
            stamp: self.api.stamp(self.user),
            ..Along::default()
        };
        self.api.fence(self.headers, &mut along)?;
        let admission = &self.api.admission;
        admission.admit(&mut attempt, None, Some(&old)).await?;
        admission
            .validate(&mut attempt, None, Some(&old), &mut along)
            .await?;
        let (writer, strategy) = (&self.api.storage.writer, self.row.strategy);
        let (done, mut doc, is_gone) = match self.step(&old, options)? {
            Step::Nothing => (Ok(live.revision), old, false),
            Step::End if options.dry_run => (Ok(live.revision), old, true),
            Step::End => {
                self.release(&old, &mut along);
                strategy.accompany(None, Some(&old), &mut along);
                let done = writer.delete(key, live.revision, &along, self.deadline);
                (done.await, old, true)
            }
            Step::Mark(doc) if options.dry_run => (Ok(live.revision), doc, false),
            Step::Mark(doc) => {
                let value = object::to_stored(&mut doc.clone());
                let done = writer.put(key, live.revision, value, &along, self.deadline);
                (done.await, doc, false)
            }
        };
        match done {
            Ok(revision) => {
                attempt.finish(revision);
                set_revision(&mut doc, revision);
                let doc = self.to_request(doc)?;
                Ok(Deleted { doc, is_gone })
            }
            Err(WriteError::Changed(_)) => Err(None),
            Err(WriteError::Needs) => {
                self.check_fence(name).await?;
                Err(Some(failure::of_write(self.of(), name, &WriteError::Needs)))
            }
            Err(error) => Err(Some(failure::of_write(self.of(), name, &error))),
        }
    }

    fn check_delete(&self, live: &Doc, name: &str, options: &DeleteOptions) -> Outcome<()> {
        let uid = text(live, "uid");
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
            let why = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The \
                 object might have been deleted and then recreated"
            );
            return Err(Status::conflict(self.of(), name, why).into());
        }
        let version = text(live, "resourceVersion");
        let wanted = options.resource_version.as_deref();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != version) {
            let why = format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the \
                 ResourceVersion in record ({version}). The object might have been modified"
            );
            return Err(Status::conflict(self.of(), name, why).into());
        }
        Ok(())
    }

    /// What the deletion does now.
    fn step(&self, old: &Doc, options: &DeleteOptions) -> Outcome<Step> {
        let strategy = self.row.strategy;
        let is_marked = !text(old, "deletionTimestamp").is_empty();
        let finalizers = options.finalizers(old);
        let is_held = !finalizers.is_empty() || strategy.holds(old);
        let mut new = old.clone();
        let changes_finalizers = set_finalizers(&mut new, &finalizers);
        let grace = strategy.grace_seconds(old, options.grace_seconds);
        if let (true, Some(_)) = (is_marked, grace) {
            let left = old.root().path(&["metadata", "deletionGracePeriodSeconds"]);
            let left = left.and_then(Node::as_i64).unwrap_or_default();
            return Ok(match options.grace_seconds {
                // Only a shorter time changes anything.
                Some(asked) if asked < left => {
                    if asked <= 0 && !is_held {
                        return Ok(Step::End);
                    }
                    self.mark(&mut new, asked, Some(left))?;
                    Step::Mark(new)
                }
                _ if left == 0 && !is_held => Step::End,
                _ => Step::Nothing,
            });
        }
        match grace {
            Some(seconds) if seconds > 0 => {
                self.mark(&mut new, seconds, None)?;
                Ok(Step::Mark(new))
            }
            _ if !is_held => Ok(Step::End),
            _ if is_marked && !changes_finalizers => Ok(Step::Nothing),
            _ => {
                if !is_marked {
                    self.mark(&mut new, 0, None)?;
                    strategy.mark_deleted(&mut new);
                }
                canonical(&mut new, self.stored_schema())?;
                Ok(Step::Mark(new))
            }
        }
    }

    /// Gives an object this many seconds; `before` is what it was given earlier.
    fn mark(&self, doc: &mut Doc, seconds: i64, before: Option<i64>) -> Outcome<()> {
        let mut end = self.moment;
        if let Some(before) = before {
            let old = text(doc, "deletionTimestamp");
            if let Ok(old) = api::values::time::parse(old, api::values::time::Precision::Seconds) {
                end = old;
                end.seconds -= before;
            }
        }
        end.seconds += seconds;
        doc.set_path(
            &["metadata", "deletionTimestamp"],
            &*end.text(Precision::Seconds),
        );
        doc.set_path(&["metadata", "deletionGracePeriodSeconds"], seconds);
        let generation = doc.root().path(&["metadata", "generation"]);
        let generation = generation.and_then(Node::as_i64).unwrap_or_default();
        if before.is_none() && generation > 0 {
            doc.set_path(&["metadata", "generation"], generation + 1);
        }
        canonical(doc, self.stored_schema())
    }
}

/// Sets the finalizers; says whether that changed anything.
fn set_finalizers(doc: &mut Doc, finalizers: &[String]) -> bool {
    let list = doc.root().path(&["metadata", "finalizers"]);
    let list = list.into_iter().flat_map(Node::children);
    let old: Vec<&str> = list.filter_map(Node::as_str).collect();
    if old == finalizers {
        return false;
    }
    metadata::clear(doc, "finalizers");
    if !finalizers.is_empty() {
        let list = doc.set_path(&["metadata", "finalizers"], New::List);
        for name in finalizers {
            doc.push(list, name);
        }
    }
    true
}
