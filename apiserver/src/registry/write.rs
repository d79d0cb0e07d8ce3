//! Create and update: the one path that every kind takes, whatever the request changes and how.

use std::time::Duration;

use api::doc::Doc;
use api::field::FieldError;
use api::status::Status;
use raft_store::pb::mvccpb::KeyValue;
use tokio::time::{Instant, sleep_until};

use super::call::{Call, Outcome};
use super::live::Live;
use super::metadata::text;
use super::row::Stored;
use crate::admission::{Attempt, Operation};
use crate::failure;
use crate::storage::object::{self, set_revision};
use crate::storage::{Along, WriteError, keys};
use crate::validation::meta;

/// Attempts at a name that nobody has.
const NAMES_MAX: usize = 8;
/// Hours that events are kept, in seconds.
const EVENT_TTL_SECONDS: i64 = 3600;

/// Between two attempts at a write that needs something which others change too.
const SETTLE_MIN: Duration = Duration::from_millis(4);
const SETTLE_MAX: Duration = Duration::from_millis(250);

/// What became of a write.
pub struct Written {
    /// The object in the version of the request.
    pub doc: Doc,
    /// It was not there before.
    pub is_new: bool,
}

/// How a request changes an object.
pub trait Change: Send + Sync {
    /// The object as it is to be, in the version of the request, from what it is. `live` is none if
    /// there is none yet.
    ///
    /// # Errors
    ///
    /// If it cannot be changed so.
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc>;

    /// Whether it makes an object where there is none.
    fn creates(&self, call: &Call<'_>) -> bool {
        call.row.strategy.creates_on_update()
    }

    /// Whether it has already noted who owns what.
    fn tracks_itself(&self) -> bool {
        false
    }

    /// The resourceVersion of the result is what the client expects the object to have.
    fn expects_revision(&self) -> bool {
        true
    }
}

impl Call<'_> {
    /// What is stored of the resource.
    ///
    /// # Errors
    ///
    /// If it is not stored at all.
    pub fn stored(&self) -> Outcome<&Stored> {
        let stored = self.row.stored.as_ref();
        stored.ok_or_else(|| Status::method_not_supported(self.of(), &self.info.verb).into())
    }

    pub(super) fn key(&self, name: &str) -> Outcome<String> {
        let local = keys::local(self.namespace(), name);
        Ok(format!("{}{local}", self.stored()?.prefix))
    }

    /// Creates an object from a document of the request's version.
    ///
    /// # Errors
    ///
    /// Whatever stands against it.
    pub async fn create(&self, mut doc: Doc, tracks_itself: bool) -> Outcome<Doc> {
        self.check_identity(&mut doc, true)?;
        if !text(&doc, "resourceVersion").is_empty() {
            return Err(Box::new(Status {
                code: 500,
                message: "resourceVersion should not be set on objects to be created".to_string(),
                ..Status::default()
            }));
        }
        self.row.strategy.decoded(&mut doc);
        self.set_system_fields(&mut doc);
        if !tracks_itself {
            let nothing = self.nothing();
            self.with_field_manager(|owners| owners.update(&nothing, &mut doc, &self.manager));
        }
        let mut doc = self.to_stored(doc)?;
        let prefix = text(&doc, "generateName").to_string();
        let is_generated = text(&doc, "name").is_empty() && !prefix.is_empty();
        for _ in 1..NAMES_MAX {
            if !is_generated {
                break;
            }
            let mut named = doc.clone();
            named.set_path(&["metadata", "name"], &self.generate_name(&prefix));
            match self.create_settled(named).await {
                Err(status) if status.reason == "AlreadyExists" => {}
                done => return done,
            }
        }
        if is_generated {
            doc.set_path(&["metadata", "name"], &self.generate_name(&prefix));
        }
        self.create_settled(doc).await.map_err(|status| {
            if is_generated && status.reason == "AlreadyExists" {
                let name = status.details.name.clone();
                return Status::generate_name_conflict(self.of(), &name, 1).into();
            }
            status
        })
    }

    /// Creates an object of this name, however often what the write needs changes meanwhile.
    async fn create_settled(&self, doc: Doc) -> Outcome<Doc> {
        let mut pause = SETTLE_MIN;
        loop {
            match self.create_once(doc.clone()).await {
                Ok(doc) => return Ok(doc),
                Err(Refusal::Needs) => self.settle(&mut pause).await?,
                Err(Refusal::Final(status)) => return Err(status),
                Err(Refusal::Changed(found)) => {
                    // An attempt whose answer was lost made it, and somebody has changed it since: making
                    // it again under another name would be one too many.
                    let live = found.map(|pair| self.live(&pair)).transpose()?;
                    let live = live.map(|live| live.object.doc());
                    if let Some(live) = live.filter(|live| text(live, "uid") == text(&doc, "uid")) {
                        return self.to_request(live);
                    }
                    let name = text(&doc, "name");
                    return Err(Status::already_exists(self.of(), name).into());
                }
            }
        }
    }

    async fn create_once(&self, mut doc: Doc) -> Result<Doc, Refusal> {
        let mut along = self.along().await?;
        let mut attempt = Attempt::new(self, Operation::Create).of(&doc);
        self.api
            .admission
            .admit(&mut attempt, Some(&mut doc), None)
            .await?;
        let cx = self.cx();
        self.row.strategy.prepare_create(&cx, &mut doc);
        self.allocate(&mut doc, None, &mut along).await?;
        // What was prepared may ask for further defaults; upstream sets them whenever it reads.
        self.finish(&mut doc, self.stored_schema())?;
        let mut errors = meta::validate_create(&doc, self.scope(), self.row.strategy);
        errors.extend(self.row.strategy.validate_create(&cx, &doc));
        self.refuse(&doc, &errors)?;
        for warning in self.row.strategy.warnings(&cx, &doc, None) {
            self.warn(warning);
        }
        self.api
            .admission
            .validate(&mut attempt, Some(&doc), None, &mut along)
            .await?;
        self.row.strategy.accompany(Some(&doc), None, &mut along);
        let name = text(&doc, "name").to_string();
        let key = self.key(&name)?;
        let value = object::to_stored(&mut doc);
        let revision = if self.dry_run {
            let found = self.api.storage.writer.read(&key, self.deadline).await;
            let found = found.map_err(|error| failure::of_store(&error))?;
            match found {
                Some(_) => Err(WriteError::Changed(found)),
                None => Ok(0),
            }
        } else {
            let writer = &self.api.storage.writer;
            writer.put(&key, 0, value, &along, self.deadline).await
        };
        let revision = revision.map_err(|error| self.refusal(&name, error))?;
        attempt.finish(revision);
        if revision > 0 {
            set_revision(&mut doc, revision);
        }
        Ok(self.to_request(doc)?)
    }

    /// Changes an object.
    ///
    /// # Errors
    ///
    /// Whatever stands against it.
    pub async fn update(&self, change: &dyn Change) -> Outcome<Written> {
        let mut live = self.cached().await?;
        let mut pause = SETTLE_MIN;
        loop {
            let Some(current) = &live else {
                return self.create_by(change).await;
            };
            match self.update_once(change, current).await {
                Ok(doc) => return Ok(Written { doc, is_new: false }),
                Err(Refusal::Final(status)) if current.is_verified => return Err(status),
                // What the cache believes may be old: the store decides.
                Err(Refusal::Final(_)) => live = self.verified().await?,
                Err(Refusal::Needs) => {
                    self.settle(&mut pause).await?;
                    live = self.verified().await?;
                }
                Err(Refusal::Changed(found)) => {
                    live = match found {
                        Some(pair) => Some(self.live(&pair)?),
                        None => None,
                    };
                }
            }
            if Instant::now() >= self.deadline {
                return Err(Status::server_timeout(self.of(), &self.info.verb, 1).into());
            }
        }
    }

    async fn create_by(&self, change: &dyn Change) -> Outcome<Written> {
        if !change.creates(self) || !self.info.subresource.is_empty() {
            return Err(Status::not_found(self.of(), &self.info.name).into());
        }
        let doc = change.next(self, None)?;
        if !text(&doc, "uid").is_empty() {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: ",
                text(&doc, "uid")
            );
            return Err(Status::conflict(self.of(), &self.info.name, why).into());
        }
        let doc = self.create(doc, change.tracks_itself()).await?;
        Ok(Written { doc, is_new: true })
    }

    async fn update_once(&self, change: &dyn Change, live: &Live) -> Result<Doc, Refusal> {
        let old = live.object.doc();
        let old_in_request = self.to_request(old.clone())?;
        let mut doc = change.next(self, Some(&old_in_request))?;
        self.row.strategy.decoded(&mut doc);
        self.check_identity(&mut doc, false)?;
        self.check_preconditions(change, &mut doc, &old)?;
        if !change.tracks_itself() {
            self.with_field_manager(|owners| {
                owners.update(&old_in_request, &mut doc, &self.manager);
            });
        }
        let mut new = self.to_stored(doc)?;
        let mut along = self.along().await?;
        let mut attempt = Attempt::new(self, Operation::Update);
        let admission = &self.api.admission;
        admission
            .admit(&mut attempt, Some(&mut new), Some(&old))
            .await?;
        let cx = self.cx();
        self.keep_system_fields(&mut new, &old);
        self.row.strategy.prepare_update(&cx, &mut new, &old);
        self.allocate(&mut new, Some(&old), &mut along).await?;
        self.finish(&mut new, self.stored_schema())?;
        self.keep_times(&mut new, &old);
        let mut errors = meta::validate_update(&new, &old, self.scope());
        errors.extend(self.row.strategy.validate_update(&cx, &new, &old));
        self.refuse(&new, &errors)?;
        for warning in self.row.strategy.warnings(&cx, &new, Some(&old)) {
            self.warn(warning);
        }
        admission
            .validate(&mut attempt, Some(&new), Some(&old), &mut along)
            .await?;
        let revision = self.commit(&mut new, &old, live, along).await?;
        attempt.finish(revision);
        set_revision(&mut new, revision);
        Ok(self.to_request(new)?)
    }

    /// Writes a changed object, unless nothing changed or it is to go.
    async fn commit(
        &self,
        new: &mut Doc,
        old: &Doc,
        live: &Live,
        mut along: Along,
    ) -> Result<u64, Refusal> {
        let name = &self.info.name;
        let key = self.key(name)?;
        let writer = &self.api.storage.writer;
        let expected = live.object.revision;
        let is_ending = self.ends_by_update(new, old);
        if is_ending {
            self.release(new, &mut along);
        }
        let left = (!is_ending).then_some(&*new);
        self.row.strategy.accompany(left, Some(old), &mut along);
        let value = object::to_stored(new);
        let mut is_same = !is_ending && live.object.is_stored_as(&value);
        if is_same && let Some(encrypted) = &self.api.encrypted {
            // Whoever writes what is there already has it encrypted anew.
            is_same = !encrypted.is_stale(&key).await;
        }
        if self.dry_run || (is_same && live.is_verified) {
            return Ok(expected);
        }
        let done = if is_same {
            let found = writer.read(&key, self.deadline).await;
            let found = found.map_err(|error| failure::of_store(&error))?;
            match found {
                Some(pair) if pair.mod_revision.unsigned_abs() == expected => Ok(expected),
                found => Err(WriteError::Changed(found)),
            }
        } else if is_ending {
            writer.delete(&key, expected, &along, self.deadline).await
        } else {
            writer
                .put(&key, expected, value, &along, self.deadline)
                .await
        };
        done.map_err(|error| self.refusal(name, error))
    }

    fn refusal(&self, name: &str, error: WriteError) -> Refusal {
        match error {
            WriteError::Changed(found) => Refusal::Changed(found),
            WriteError::Needs => Refusal::Needs,
            error => Refusal::Final(failure::of_write(self.of(), name, &error)),
        }
    }

    /// Something that a write needs changed meanwhile: waits until the cache knows what it is now.
    async fn settle(&self, pause: &mut Duration) -> Outcome<()> {
        self.check_fence(&self.info.name).await?;
        let caught_up = self.api.storage.cache.catch_up(self.deadline).await;
        caught_up.map_err(|error| failure::of_read(&error))?;
        let jitter = u32::try_from(self.api.seams.rng.next_u64() % 1000).unwrap_or_default();
        let next = Instant::now() + *pause * jitter / 1000;
        if next >= self.deadline {
            return Err(Status::server_timeout(self.of(), &self.info.verb, 1).into());
        }
        sleep_until(next).await;
        *pause = (*pause * 2).min(SETTLE_MAX);
        Ok(())
    }

    /// Refuses a request whose fence holds no more, once a write of it did not come through.
    pub(super) async fn check_fence(&self, name: &str) -> Outcome<()> {
        let Some(fence) = self.api.fence_of(self.headers)? else {
            return Ok(());
        };
        let found = self
            .api
            .storage
            .writer
            .read(&fence.key, self.deadline)
            .await;
        let found = found.map_err(|error| failure::of_store(&error))?;
        if found.map_or(0, |pair| pair.mod_revision) == fence.revision {
            return Ok(());
        }
        Err(failure::of_stale_fence(self.of(), name, &fence))
    }

    /// Whether an update lets an object go that was waiting for it.
    fn ends_by_update(&self, new: &Doc, old: &Doc) -> bool {
        let grace = |doc: &Doc| {
            let seconds = doc.root().path(&["metadata", "deletionGracePeriodSeconds"]);
            seconds.and_then(api::doc::Node::as_i64).unwrap_or_default()
        };
        let has_finalizers = new
            .root()
            .path(&["metadata", "finalizers"])
            .is_some_and(|list| !list.is_empty());
        !text(new, "deletionTimestamp").is_empty()
            && !has_finalizers
            && grace(old) == 0
            && grace(new) == 0
            && !self.row.strategy.holds(new)
    }

    fn refuse(&self, doc: &Doc, errors: &[FieldError]) -> Outcome<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let of = self.row.qualified_kind();
        Err(Status::invalid(of, text(doc, "name"), errors).into())
    }

    /// What goes along with every write of this call.
    async fn along(&self) -> Outcome<Along> {
        let mut along = Along {
            stamp: self.api.stamp(self.user),
            ..Along::default()
        };
        self.api.fence(self.headers, &mut along)?;
        if self.row.resource.name == "events" && !self.dry_run {
            along.lease = self.api.leases.lease(EVENT_TTL_SECONDS).await?;
        }
        Ok(along)
    }
}

/// Why an attempt to update did not come through.
enum Refusal {
    /// It would not the next time, if the object was as the store has it.
    Final(Box<Status>),
    /// Somebody else was faster; this is what there is now.
    Changed(Option<KeyValue>),
    /// Something else changed that the write needs as it was.
    Needs,
}

impl From<Box<Status>> for Refusal {
    fn from(status: Box<Status>) -> Self {
        Self::Final(status)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;

    const PATH: &str = "/api/v1/namespaces/default/configmaps";

    /// A creation whose answer is lost, of an object that somebody changes before it is asked for
    /// again.
    #[tokio::test]
    async fn a_creation_is_recognized_though_its_object_has_changed() {
        let server = Server::start().await;
        let (lossy, losses) = server.another_with_losses("two").await;
        for (given, prefix) in [("name", "named"), ("generateName", "generated-")] {
            losses.lose(
                &format!("/configmaps/default/{prefix}"),
                ("first", "second"),
            );
            let body = format!(r#"{{"metadata":{{"{given}":"{prefix}"}},"data":{{"a":"first"}}}}"#);
            let created = lossy.create(PATH, &body).await.ok();
            assert_eq!(created.root().text(&["data", "a"]), "second");
            let list = server.ask("GET", PATH, "").await.ok();
            let items = list.root().path(&["items"]).into_iter();
            let names = items.flat_map(|items| items.children());
            let names = names.map(|item| item.text(&["metadata", "name"]).to_string());
            let made = names.filter(|name| name.starts_with(prefix)).count();
            assert_eq!(made, 1, "{list}");
        }
        // Somebody else's object of that name is not mistaken for it.
        let body = r#"{"metadata":{"name":"named"}}"#;
        assert_eq!(lossy.create(PATH, body).await.code, 409);
    }
}
