//! WATCH: a cursor into a resource's changes, and what each change is to the one who watches.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::codec::{Encoding, json, protobuf};
use api::conform::{Unknown, conform};
use api::doc::Doc;
use api::field::FieldError;
use api::page;
use api::schema::Type;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use seams::Tasks;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::list::{check_match, wait_filled, wait_for};
use super::selection::Selection;
use super::shape::{self, Include, Shape};
use super::table;
use crate::body::Body;
use crate::failure;
use crate::instance::Api;
use crate::metrics::family::{Counter, Histogram};
use crate::registry::call::invalid_options;
use crate::registry::{Call, Outcome, Row};
use crate::respond::{self, Form, Reply};
use crate::storage::collection::{self, Change, Collection, Cursor, Pulled, Tree};
use crate::storage::{Cache, Object};
use crate::table::ListMeta;

/// Changes that are taken from the ring at once.
const PULL: usize = 256;
/// Frames are gathered into pieces of about this size.
const PIECE: usize = 64 * 1024;
/// Between two bookmarks while nothing else happens.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// A watch without a timeout of its own ends after this long, and up to twice that.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);

/// Who watches what, from where on.
struct Watcher {
    api: Arc<Api>,
    row: Arc<Row>,
    selection: Selection,
    shape: Shape,
    encoding: Encoding,
    collection: Arc<Collection>,
    cursor: Cursor,
    /// Changes up to here are known to the client.
    after: u64,
    initial: VecDeque<Arc<Object>>,
    /// The initial objects end with a bookmark of this revision.
    initial_end: Option<u64>,
    bookmarks: bool,
    with_columns: bool,
    next_bookmark: Instant,
    end: Instant,
    bell: watch::Receiver<u64>,
    /// Goes off when a bookmark is due or the watch ends. Set anew only then, and not for every event.
    alarm: Pin<Box<Sleep>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    sent: Arc<Counter>,
    sizes: Arc<Histogram>,
}

/// Answers with a stream of changes.
///
/// # Errors
///
/// If parameters make no sense or the place to start from cannot be had.
pub async fn watch(
    api: &Arc<Api>,
    row: &Arc<Row>,
    call: &Call<'_>,
    shape: Shape,
    form: Form,
) -> Outcome<Reply> {
    let selection = Selection::read(call)?;
    let start = start(call).await?;
    let collection = call.stored()?.collection.clone();
    let bell = collection.bell();
    let seconds = call.query.number("timeoutSeconds").unwrap_or_default();
    let timeout = match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => {
            let jitter = api.seams.rng.next_u64() % TIMEOUT_MIN.as_secs();
            TIMEOUT_MIN + Duration::from_secs(jitter)
        }
    };
    let now = Instant::now();
    // Whoever resumes wants to know at once that nothing is missing any more.
    let first_bookmark = match start.is_resumed {
        true => now,
        false => now + BOOKMARK_INTERVAL,
    };
    let gvr = [row.resource.group, row.resource.version, row.resource.name];
    let mut watcher = Watcher {
        api: api.clone(),
        row: row.clone(),
        selection,
        shape,
        encoding: form.encoding,
        collection,
        cursor: start.cursor,
        after: start.after,
        initial: VecDeque::new(),
        initial_end: start.ends_with_bookmark.then_some(start.after),
        bookmarks: call.query.flag("allowWatchBookmarks"),
        with_columns: true,
        next_bookmark: first_bookmark,
        end: now + timeout,
        bell,
        alarm: Box::pin(sleep_until(now)),
        stopped: Box::pin(stopped(api.tasks.clone())),
        is_over: false,
        sent: api.metrics.watch_events.of(&gvr),
        sizes: api.metrics.watch_event_sizes.of(&gvr),
    };
    watcher.set_alarm();
    if let Some(tree) = start.initial {
        watcher.take_initial(&tree);
    }
    let media_type = match form.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    if let Some(refusal) = start.refusal {
        let frame = watcher.error(&refusal);
        return Ok(respond::raw(200, media_type, frame));
    }
    let pieces = stream::unfold(watcher, |mut watcher| async move {
        let piece = watcher.next().await?;
        Some((Ok(piece), watcher))
    });
    Ok(respond::raw(200, media_type, Body::pieces(pieces)))
}

/// Where a watch starts.
struct Start {
    cursor: Cursor,
    after: u64,
    initial: Option<Tree>,
    ends_with_bookmark: bool,
    /// It goes on from where the client knows everything.
    is_resumed: bool,
    /// The stream is this error and nothing else.
    refusal: Option<Box<Status>>,
}

async fn start(call: &Call<'_>) -> Outcome<Start> {
    let query = call.query;
    let sends_initial = query.maybe_flag("sendInitialEvents");
    check_options(call, sends_initial)?;
    let collection = &call.stored()?.collection;
    let text = query.text("resourceVersion");
    let wanted =
        page::resource_version(text).map_err(|error| Status::bad_request(error.to_string()))?;
    let cache: &Cache = &call.api.storage.cache;
    match (sends_initial, wanted) {
        (Some(true), 0) if text.is_empty() => {
            let caught_up = cache.catch_up(call.deadline).await;
            caught_up.map_err(|error| failure::of_read(&error))?;
        }
        (Some(true), 1..) => wait_for(call, wanted).await?,
        _ => wait_filled(call).await?,
    }
    let applied = cache.applied();
    let is_from_now = match sends_initial {
        Some(true) => true,
        Some(false) => wanted == 0,
        None => wanted == 0,
    };
    if is_from_now {
        let (tree, latest, cursor) = collection.state();
        return Ok(Start {
            cursor,
            after: latest.max(applied),
            initial: (sends_initial != Some(false)).then_some(tree),
            ends_with_bookmark: sends_initial == Some(true) && query.flag("allowWatchBookmarks"),
            is_resumed: false,
            refusal: None,
        });
    }
    let (cursor, refusal) = match collection.cursor_after(wanted) {
        Some(cursor) => (cursor, None),
        None => {
            let message = format!("too old resource version: {wanted} ({applied})");
            let (_, _, cursor) = collection.state();
            (cursor, Some(Box::new(Status::expired(message))))
        }
    };
    Ok(Start {
        cursor,
        after: wanted,
        initial: None,
        ends_with_bookmark: false,
        is_resumed: true,
        refusal,
    })
}

fn check_options(call: &Call<'_>, sends_initial: Option<bool>) -> Outcome<()> {
    let matches = call.query.text("resourceVersionMatch");
    check_match(call, matches, false)?;
    if sends_initial.is_some() && matches.is_empty() {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let error = FieldError::forbidden("resourceVersionMatch", why);
        return Err(invalid_options("ListOptions", &[error]));
    }
    Ok(())
}

impl Watcher {
    fn take_initial(&mut self, tree: &Tree) {
        let one = self.selection.one(self.row.resource.namespaced);
        if let Some((namespace, name)) = one {
            let found = tree.get(&*crate::storage::keys::local(namespace, name));
            let found = found.filter(|object| self.selection.matches(object));
            self.initial.extend(found.cloned());
            return;
        }
        let all = collection::within(tree, &self.selection.namespace);
        let selected = all.filter(|(_, object)| self.selection.matches(object));
        self.initial = selected.map(|(_, object)| object.clone()).collect();
    }

    /// The next piece of the stream; none at its end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let mut out = BytesMut::new();
        while out.len() < PIECE {
            let Some(object) = self.initial.pop_front() else {
                break;
            };
            let frame = self.frame("ADDED", &object);
            self.put(&frame, &mut out);
        }
        if self.initial.is_empty()
            && let Some(revision) = self.initial_end.take()
        {
            let bookmark = self.bookmark(revision, true);
            out.put_slice(&bookmark);
        }
        if !out.is_empty() {
            return Some(out.freeze());
        }
        self.follow().await
    }

    fn put(&self, frame: &Bytes, out: &mut BytesMut) {
        self.count(frame);
        out.put_slice(frame);
    }

    fn count(&self, frame: &Bytes) {
        self.sent.inc();
        self.sizes.observe(frame.len() as f64);
    }

    /// What changes are to this watcher, in one piece. Mostly that is one frame, which is not copied.
    fn gather(&mut self, changes: &[Arc<Change>]) -> Option<Bytes> {
        let mut first = None;
        let mut out = BytesMut::new();
        for change in changes {
            let Some(frame) = self.change(change) else {
                continue;
            };
            self.count(&frame);
            match first.take() {
                None if out.is_empty() => first = Some(frame),
                one => {
                    one.iter().for_each(|one: &Bytes| out.put_slice(one));
                    out.put_slice(&frame);
                }
            }
        }
        first.or_else(|| (!out.is_empty()).then(|| out.freeze()))
    }

    fn last_bookmark(&self) -> Instant {
        self.end - LAST_BOOKMARK
    }

    fn set_alarm(&mut self) {
        let bookmark = self.next_bookmark.min(self.last_bookmark());
        let next = match self.bookmarks {
            true => bookmark.min(self.end),
            false => self.end,
        };
        self.alarm.as_mut().reset(next);
    }

    /// Waits for changes and gathers them.
    async fn follow(&mut self) -> Option<Bytes> {
        loop {
            self.bell.borrow_and_update();
            let before = self.api.storage.cache.applied();
            match self.collection.pull(&mut self.cursor, PULL) {
                Pulled::Behind => {
                    self.is_over = true;
                    let message = format!("too old resource version: {} ({before})", self.after);
                    return Some(self.error(&Status::expired(message)));
                }
                Pulled::Changes(changes) => {
                    if let Some(piece) = self.gather(&changes) {
                        return Some(piece);
                    }
                    if !changes.is_empty() {
                        continue;
                    }
                    self.after = self.after.max(before);
                }
            }
            tokio::select! {
                rung = self.bell.changed() => rung.ok()?,
                () = self.alarm.as_mut() => {
                    let now = Instant::now();
                    if now >= self.end {
                        return None;
                    }
                    let is_last = now >= self.last_bookmark();
                    self.next_bookmark = now + BOOKMARK_INTERVAL;
                    self.bookmarks &= !is_last;
                    self.set_alarm();
                    let revision = self.after;
                    return Some(self.bookmark(revision, false));
                }
                () = self.stopped.as_mut() => {
                    // The client goes on at another server from here.
                    self.is_over = true;
                    let revision = self.after;
                    return self.bookmarks.then(|| self.bookmark(revision, false));
                }
            }
        }
    }

    /// What a change is to this watcher.
    fn change(&mut self, change: &Change) -> Option<Bytes> {
        if change.revision <= self.after || !self.selection.is_in_namespace(&change.key) {
            return None;
        }
        self.after = change.revision;
        let before = change.before.as_ref();
        let (was, is) = if self.selection.is_everything() {
            (before.is_some(), change.now.is_some())
        } else {
            let meant = |object: &Arc<Object>| self.selection.matches(object);
            (
                before.is_some_and(meant),
                change.now.as_ref().is_some_and(meant),
            )
        };
        match (was, is) {
            (false, false) => None,
            (false, true) if before.is_some() => {
                change.now.as_ref().map(|now| self.frame("ADDED", now))
            }
            (false, true) => self.shared(change, "ADDED", change.now.as_ref()?),
            (true, true) => self.shared(change, "MODIFIED", change.now.as_ref()?),
            (true, false) => match &change.last {
                Some(last) => self.shared(change, "DELETED", last),
                // It is there still, but not for this watcher: what it was, as of now.
                None => before.map(|before| self.frame("DELETED", &before.at(change.revision))),
            },
        }
    }

    /// A frame that most watchers of the change send alike.
    fn shared(&mut self, change: &Change, kind: &str, object: &Arc<Object>) -> Option<Bytes> {
        if self.shape != Shape::Whole || !self.row.is_stored_version() {
            return Some(self.frame(kind, object));
        }
        let at = match self.encoding {
            Encoding::Json => 0,
            Encoding::Protobuf => 1,
            Encoding::Yaml => return Some(self.frame(kind, object)),
        };
        Some(change.frame(at, || self.frame(kind, object)))
    }

    fn frame(&mut self, kind: &str, object: &Arc<Object>) -> Bytes {
        if let Shape::Table(include) = self.shape {
            let revision = object.revision.to_string();
            return self.table_frame(kind, std::slice::from_ref(object), &revision, include);
        }
        let bytes = shape::one(&self.row, object, self.shape, self.encoding);
        wrap(kind, &bytes, self.encoding)
    }

    fn table_frame(
        &mut self,
        kind: &str,
        objects: &[Arc<Object>],
        revision: &str,
        include: Include,
    ) -> Bytes {
        let meta = ListMeta {
            resource_version: revision,
            continue_token: "",
            remaining: None,
        };
        let now = self.api.moment();
        let with_columns = std::mem::take(&mut self.with_columns);
        let table = table::write(&self.row, &meta, objects, include, with_columns, now);
        wrap(kind, &table, self.encoding)
    }

    /// Tells the client how far it is.
    fn bookmark(&mut self, revision: u64, ends_initial: bool) -> Bytes {
        let mut doc = Doc::new();
        let top = doc.top();
        let (kind, api_version, schema): (_, _, Option<&Type>) = match self.shape {
            Shape::Metadata => (
                "PartialObjectMetadata",
                "meta.k8s.io/v1",
                shape::metadata_schema(),
            ),
            _ => (
                self.row.resource.kind,
                &*self.row.api_version,
                Some(self.row.schema),
            ),
        };
        doc.set(top, "kind", kind);
        doc.set(top, "apiVersion", api_version);
        doc.set_path(&["metadata", "resourceVersion"], &revision.to_string());
        if ends_initial {
            let key = "k8s.io/initial-events-end";
            doc.set_path(&["metadata", "annotations", key], "true");
        }
        if let Some(schema) = schema {
            // Nothing in it can be of a wrong type.
            let _ = conform(&mut doc, schema, Unknown::Keep);
        }
        match (self.shape, schema) {
            (Shape::Table(_), _) => {
                let text = Bytes::from(doc.to_string());
                let object = Arc::new(Object::new(revision, text));
                let revision = revision.to_string();
                self.table_frame("BOOKMARK", &[object], &revision, Include::Object)
            }
            (_, Some(schema)) => {
                let form = Form {
                    encoding: self.encoding,
                    ..Form::default()
                };
                let mut bytes = respond::encode(&doc, schema, form);
                if self.encoding == Encoding::Json {
                    bytes.pop();
                }
                wrap("BOOKMARK", &bytes, self.encoding)
            }
            (_, None) => Bytes::new(),
        }
    }

    fn error(&self, status: &Status) -> Bytes {
        let doc = status.to_doc();
        let bytes = match (self.encoding, respond::status_schema()) {
            (Encoding::Protobuf, Some(schema)) => {
                let mut bytes = Vec::new();
                protobuf::encode_enveloped(&doc, schema, &mut bytes);
                bytes
            }
            _ => {
                let mut bytes = Vec::new();
                json::write(doc.root(), &mut bytes);
                bytes
            }
        };
        wrap("ERROR", &bytes, self.encoding)
    }
}

async fn stopped(tasks: Tasks) {
    tasks.cancelled().await;
}

/// An event as it stands in the stream.
fn wrap(kind: &str, object: &[u8], encoding: Encoding) -> Bytes {
    if encoding == Encoding::Protobuf {
        return protobuf::watch_event(kind, object).into();
    }
    let mut out = BytesMut::with_capacity(object.len() + kind.len() + 24);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}
