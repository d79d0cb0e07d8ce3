//! LIST: which state of the objects, which page of it, and how it is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::codec::Encoding;
use api::doc::{Doc, New};
use api::field::FieldError;
use api::page::{self, Continue};
use api::schema::{self, Type};
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use tokio::time::Instant;

use super::selection::Selection;
use super::shape::{self, Shape};
use super::table;
use crate::body::Body;
use crate::failure;
use crate::registry::call::invalid_options;
use crate::registry::{Call, Outcome, Row};
use crate::respond::{self, Form, Reply};
use crate::storage::Object;
use crate::storage::cache::Behind;
use crate::storage::collection::{self, Tree};

/// How long a read waits for a revision that is in the future here.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
/// Pieces in which long lists leave.
const PIECE: usize = 64 * 1024;
/// Lists up to here leave in one piece.
const WHOLE_MAX: usize = 256 * 1024;

/// What a list is about.
struct Options {
    resource_version: String,
    matches: String,
    limit: usize,
    token: Option<Continue>,
}

/// A page of a list.
pub struct Page {
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// The revision that they are of.
    pub revision: u64,
    /// Where the next page starts; empty at the end.
    pub token: String,
    /// Objects behind this page, where that is known.
    pub remaining: Option<i64>,
}

/// Answers with the objects that are selected.
///
/// # Errors
///
/// If parameters make no sense or the wanted state cannot be had.
pub async fn list(call: &Call<'_>, shape: Shape, form: Form) -> Outcome<Reply> {
    answer(call, page(call).await?, shape, form)
}

/// Answers with a page of objects.
///
/// # Errors
///
/// If the list has no schema.
pub fn answer(call: &Call<'_>, page: Page, shape: Shape, form: Form) -> Outcome<Reply> {
    match shape {
        Shape::Table(include) => table::many(call, &page, include, form),
        _ => write(call.row, page, shape, form),
    }
}

/// The page that a request asks for.
///
/// # Errors
///
/// If parameters make no sense or the wanted state cannot be had.
pub async fn page(call: &Call<'_>) -> Outcome<Page> {
    let mut looked_at = 0;
    let page = select(call, &mut looked_at).await?;
    let of = [call.row.resource.group, call.row.resource.name];
    let metrics = &call.api.metrics;
    let by_index = [of[0], of[1], ""];
    metrics.lists.of(&by_index).inc();
    metrics.listed.of(&by_index).add(looked_at);
    let returned = u64::try_from(page.objects.len()).unwrap_or_default();
    metrics.returned.of(&of).add(returned);
    Ok(page)
}

async fn select(call: &Call<'_>, looked_at: &mut u64) -> Outcome<Page> {
    let selection = Selection::read(call)?;
    let options = Options::read(call)?;
    let (tree, revision) = options.state(call).await?;
    let start = options.token.as_ref().map_or("", |token| &token.start);
    let namespace = &selection.namespace;
    let start = match (&**namespace, start) {
        ("", start) => start.to_string(),
        (_, "") => String::new(),
        (namespace, start) => format!("{namespace}/{start}"),
    };
    let mut page = Page {
        objects: Vec::new(),
        revision,
        token: String::new(),
        remaining: None,
    };
    let one = selection.one(call.row.resource.namespaced);
    if let (Some((namespace, name)), true) = (one, start.is_empty()) {
        let found = tree.get(&*crate::storage::keys::local(namespace, name));
        let found = found.filter(|object| selection.matches(object));
        page.objects.extend(found.cloned());
        return Ok(page);
    }
    let mut rest = collection::from(&tree, namespace, &start);
    let mut last = None;
    for (key, object) in rest.by_ref() {
        *looked_at += 1;
        if !selection.matches(object) {
            continue;
        }
        if page.objects.len() == options.limit {
            // This one starts the next page.
            let start = last.map_or_else(|| key.to_string(), |last: &Arc<str>| format!("{last}\0"));
            let start = match &**namespace {
                "" => start,
                namespace => start[namespace.len() + 1..].to_string(),
            };
            let token = Continue {
                resource_version: Some(revision),
                start,
            };
            page.token = token.encode();
            if selection.is_everything() {
                let behind = rest.count() + 1;
                page.remaining = i64::try_from(behind).ok();
            }
            call.stored()?.collection.pin(revision, tree.clone());
            break;
        }
        last = Some(key);
        page.objects.push(object.clone());
    }
    Ok(page)
}

impl Options {
    fn read(call: &Call<'_>) -> Outcome<Self> {
        let query = call.query;
        let token = match query.text("continue") {
            "" => None,
            token => Some(Continue::decode(token).map_err(Status::bad_request)?),
        };
        let options = Self {
            resource_version: query.text("resourceVersion").to_string(),
            matches: query.text("resourceVersionMatch").to_string(),
            limit: match query.number("limit") {
                Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
                _ => usize::MAX,
            },
            token,
        };
        check_match(call, &options.matches, options.token.is_some())?;
        let is_set = !matches!(&*options.resource_version, "" | "0");
        if options.token.is_some() && is_set {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(message).into());
        }
        Ok(options)
    }

    /// The state that is asked for.
    async fn state(&self, call: &Call<'_>) -> Outcome<(Tree, u64)> {
        let collection = &call.stored()?.collection;
        let cache = &call.api.storage.cache;
        match &self.token {
            Some(Continue {
                resource_version: Some(revision),
                start,
            }) => {
                wait_for(call, *revision).await?;
                let tree = collection.tree_at(*revision, true);
                let tree = tree.filter(|_| !cache.horizon.is_beyond(*revision));
                let tree = tree.ok_or_else(|| {
                    let token = Continue {
                        resource_version: None,
                        start: start.clone(),
                    };
                    Status::expired_token(token.encode())
                })?;
                return Ok((tree, *revision));
            }
            Some(_) => {
                let caught_up = cache.catch_up(call.deadline).await;
                caught_up.map_err(|error| failure::of_read(&error))?;
                return latest(call);
            }
            None => {}
        }
        let bad = |error: FieldError| Status::bad_request(error.to_string());
        let wanted = page::resource_version(&self.resource_version).map_err(bad)?;
        let is_exact = self.matches == "Exact"
            || (self.matches.is_empty() && self.limit < usize::MAX && wanted > 0);
        match (&*self.resource_version, wanted) {
            ("", _) => {
                let caught_up = cache.catch_up(call.deadline).await;
                caught_up.map_err(|error| failure::of_read(&error))?;
            }
            (_, 0) => wait_filled(call).await?,
            (_, wanted) => wait_for(call, wanted).await?,
        }
        if is_exact {
            let tree = collection.tree_at(wanted, self.limit < usize::MAX);
            let tree = tree.filter(|_| !cache.horizon.is_beyond(wanted));
            let tree = tree.ok_or_else(|| {
                Status::expired("The resourceVersion for the provided list is too old.")
            })?;
            return Ok((tree, wanted));
        }
        latest(call)
    }
}

/// The present state and its revision, which no later watch may miss anything after.
fn latest(call: &Call<'_>) -> Outcome<(Tree, u64)> {
    // In this order: what is applied meanwhile is in the state.
    let applied = call.api.storage.cache.applied();
    let (tree, latest, _) = call.stored()?.collection.state();
    Ok((tree, latest.max(applied)))
}

/// Holds `resourceVersionMatch` against the other parameters.
///
/// # Errors
///
/// In upstream's words.
pub fn check_match(call: &Call<'_>, matches: &str, has_token: bool) -> Outcome<()> {
    if matches.is_empty() {
        return Ok(());
    }
    let query = call.query;
    let version = query.text("resourceVersion");
    let watches = query.flag("sendInitialEvents") || query.get("sendInitialEvents").is_some();
    let mut errors = Vec::new();
    let field = "resourceVersionMatch";
    if call.info.verb == "watch" && watches {
        if matches != "NotOlderThan" {
            errors.push(FieldError::not_supported(field, matches, &["NotOlderThan"]));
        }
    } else {
        if call.info.verb == "watch" {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        if version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        if has_token {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        if !matches!(matches, "Exact" | "NotOlderThan") {
            let known = ["Exact", "NotOlderThan"];
            errors.push(FieldError::not_supported(field, matches, &known));
        }
        if matches == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(field, why));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid_options("ListOptions", &errors))
}

/// Waits until the cache has been filled for the first time.
///
/// # Errors
///
/// If the deadline passes first.
pub async fn wait_filled(call: &Call<'_>) -> Outcome<()> {
    let filled = call.api.storage.cache.wait_for(1, call.deadline).await;
    filled.map_err(|error| failure::of_read(&error))
}

/// Waits for a revision that another server may have told the client.
///
/// # Errors
///
/// If it stays in the future.
pub async fn wait_for(call: &Call<'_>, revision: u64) -> Outcome<()> {
    let cache = &call.api.storage.cache;
    let deadline = call.deadline.min(Instant::now() + FUTURE_WAIT);
    match cache.wait_for(revision, deadline).await {
        Ok(()) => Ok(()),
        Err(Behind::Late(0)) => Err(failure::of_read(&Behind::Late(0))),
        Err(Behind::Late(current)) => {
            Err(Status::too_large_resource_version(revision, current).into())
        }
        Err(error) => Err(failure::of_read(&error)),
    }
}

/// `metadata` of a list.
pub fn list_metadata(doc: &mut Doc, page: &Page) {
    let top = doc.top();
    let metadata = doc.object(top, "metadata");
    doc.set(metadata, "resourceVersion", &page.revision.to_string());
    if !page.token.is_empty() {
        doc.set(metadata, "continue", &page.token);
    }
    if let Some(remaining) = page.remaining {
        doc.set(metadata, "remainingItemCount", remaining);
    }
}

fn write(row: &Row, page: Page, shape: Shape, form: Form) -> Outcome<Reply> {
    let (kind, api_version, schema) = match shape {
        Shape::Metadata => (
            "PartialObjectMetadataList".to_string(),
            "meta.k8s.io/v1".to_string(),
            schema::kind("meta.k8s.io", "v1", "PartialObjectMetadataList"),
        ),
        _ => {
            let kind = format!("{}List", row.resource.kind);
            let schema = schema::kind(row.resource.group, row.resource.version, &kind);
            (kind, row.api_version.clone(), schema)
        }
    };
    let mut head = Doc::new();
    let top = head.top();
    head.set(top, "kind", &kind);
    head.set(top, "apiVersion", &api_version);
    list_metadata(&mut head, &page);
    let schema = schema.ok_or_else(|| Status::internal(format!("{kind} has no schema")))?;
    match form.encoding {
        Encoding::Json if !form.is_pretty => Ok(json(row, page, shape, &head, form)),
        Encoding::Protobuf => Ok(protobuf(
            row,
            page,
            shape,
            &kind,
            &api_version,
            &head,
            schema,
            form,
        )),
        _ => {
            let items = head.set(top, "items", New::List);
            for object in &page.objects {
                let bytes = shape::one(row, object, shape, Encoding::Json);
                let item = api::codec::json::parse(bytes.to_vec()).unwrap_or_default();
                let item = head.absorb(item);
                if shape == Shape::Whole {
                    head.remove(item, "kind");
                    head.remove(item, "apiVersion");
                }
                head.push_id(items, item);
            }
            Ok(respond::object(200, &head, schema, form))
        }
    }
}

/// The pieces of an element in a JSON list.
fn item(row: &Row, object: &Object, shape: Shape, out: &mut BytesMut) {
    if shape == Shape::Whole {
        out.put_u8(b'{');
        if row.is_stored_version() {
            out.put_slice(&object.as_item());
        } else {
            let bytes = shape::one(row, object, shape, Encoding::Json);
            out.put_slice(&Object::new(object.revision, bytes).as_item());
        }
    } else {
        out.put_slice(&shape::one(row, object, shape, Encoding::Json));
    }
}

/// A JSON list: in one piece if it is short, else in pieces that are made as they are sent.
fn json(row: &Row, page: Page, shape: Shape, head: &Doc, form: Form) -> Reply {
    let mut head = head.to_string().into_bytes();
    head.pop();
    head.extend_from_slice(b",\"items\":[");
    let total: usize = page.objects.iter().map(|object| object.json.len()).sum();
    if total <= WHOLE_MAX || form.is_gzip || !row.is_stored_version() {
        let mut out = BytesMut::with_capacity(head.len() + total + 4);
        out.put_slice(&head);
        for (at, object) in page.objects.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            item(row, object, shape, &mut out);
        }
        out.put_slice(b"]}\n");
        return respond::bytes(200, out.freeze(), form);
    }
    let first = BytesMut::from(&*head);
    let todo: VecDeque<Arc<Object>> = page.objects.into();
    let is_partial = shape == Shape::Metadata;
    let pieces = stream::unfold(Some((first, todo, true)), move |state| async move {
        let (mut out, mut todo, mut is_first) = state?;
        out.reserve(PIECE);
        while out.len() < PIECE {
            let Some(object) = todo.pop_front() else {
                out.put_slice(b"]}\n");
                return Some((Ok(out.freeze()), None));
            };
            if !is_first {
                out.put_u8(b',');
            }
            is_first = false;
            if is_partial {
                out.put_slice(shape::partial(&object.doc()).to_string().as_bytes());
            } else {
                out.put_u8(b'{');
                out.put_slice(&object.as_item());
            }
        }
        Some((Ok(out.freeze()), Some((BytesMut::new(), todo, is_first))))
    });
    respond::raw(200, "application/json", Body::pieces(pieces))
}

/// A protobuf list: the envelope, the list's metadata, then the elements under their tag.
#[expect(clippy::too_many_arguments, reason = "the parts of a list, each once")]
fn protobuf(
    row: &Row,
    page: Page,
    shape: Shape,
    kind: &str,
    api_version: &str,
    head: &Doc,
    schema: &Type,
    form: Form,
) -> Reply {
    let mut metadata = Vec::new();
    api::codec::protobuf::encode(head, schema, &mut metadata);
    let items: Vec<Bytes> = page
        .objects
        .iter()
        .map(|object| {
            let bytes = shape::one(row, object, shape, Encoding::Protobuf);
            api::codec::protobuf::Envelope::open(&bytes)
                .map(|envelope| bytes.slice_ref(envelope.raw))
                .unwrap_or_default()
        })
        .collect();
    let body = api::codec::protobuf::list(api_version, kind, &metadata, &items);
    respond::bytes(200, body, form)
}
