//! The verbs that write, between the request's bytes and the registry.

use api::codec::Encoding;
use api::doc::Doc;
use api::schema::{self, Type};
use api::status::Status;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::list;
use super::shape::{self, Include, Shape};
use super::table;
use crate::catalog::returns_deleted;
use crate::registry::change::{Apply, PATCH_TYPES, Patch, PatchKind, Replace, patch_kind};
use crate::registry::delete::DeleteOptions;
use crate::registry::object::Expected;
use crate::registry::row::api_version;
use crate::registry::write::{Change, Written};
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply, success};
use crate::storage::Object;
use crate::storage::object;

/// Deletions of a collection that are under way at once.
const DELETIONS: usize = 16;
/// The body of a deletion that says nothing.
const NO_OPTIONS: &[&[u8]] = &[b"", b"null"];

/// The encoding of a request's body. Without a content type it is JSON.
///
/// # Errors
///
/// If it is none that is understood.
pub fn body_encoding(headers: &HeaderMap) -> Outcome<Encoding> {
    let value = headers.get(CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        return Ok(Encoding::Json);
    }
    let known = crate::negotiate::MEDIA_TYPES;
    let found = known.iter().find(|known| known.0 == media_type);
    found
        .map(|known| known.1)
        .ok_or_else(|| Status::unsupported_media_type(&crate::negotiate::MEDIA_TYPE_NAMES).into())
}

/// A body of a kind that is not the resource's own, such as a Binding, with its type.
///
/// # Errors
///
/// In upstream's words if it is something else.
pub fn read_as(
    call: &Call<'_>,
    body: Vec<u8>,
    (group, version, kind): (&str, &str, &str),
) -> Outcome<(Doc, &'static Type)> {
    let schema = schema::kind(group, version, kind);
    let schema = schema.ok_or_else(|| Status::internal(format!("{kind} has no schema")))?;
    let expected = Expected {
        api_version: &api_version(group, version),
        kind,
        schema,
    };
    let encoding = body_encoding(call.headers)?;
    Ok((call.decode(body, encoding, &expected)?, schema))
}

/// POST of an object.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn create(call: &Call<'_>, body: Vec<u8>, shape: Shape, form: Form) -> Outcome<Reply> {
    let encoding = body_encoding(call.headers)?;
    let doc = call.decode(body, encoding, &call.expected())?;
    let doc = call.create(doc, false).await?;
    send(call, 201, &doc, call.row.schema, shape, form)
}

/// PUT of an object.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn update(call: &Call<'_>, body: Vec<u8>, shape: Shape, form: Form) -> Outcome<Reply> {
    let encoding = body_encoding(call.headers)?;
    let doc = call.decode(body, encoding, &call.expected())?;
    written(call, &Replace(doc), shape, form).await
}

/// PATCH of an object.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn patch(call: &Call<'_>, body: Vec<u8>, shape: Shape, form: Form) -> Outcome<Reply> {
    match read_patch_kind(call)? {
        PatchKind::Apply => written(call, &Apply::read(call, &body)?, shape, form).await,
        kind => written(call, &Patch::read(kind, body)?, shape, form).await,
    }
}

/// The kind of a patch, by its content type.
///
/// # Errors
///
/// If it is none that is understood.
pub fn read_patch_kind(call: &Call<'_>) -> Outcome<PatchKind> {
    let value = call.headers.get(CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    patch_kind(text).ok_or_else(|| {
        let known = PATCH_TYPES.map(|known| known.0);
        Status::unsupported_media_type(&known).into()
    })
}

async fn written(call: &Call<'_>, change: &dyn Change, shape: Shape, form: Form) -> Outcome<Reply> {
    let Written { doc, is_new } = call.update(change).await?;
    let code = if is_new { 201 } else { 200 };
    send(call, code, &doc, call.row.schema, shape, form)
}

/// Answers with a document of the request's version.
///
/// # Errors
///
/// None so far.
pub fn send(
    call: &Call<'_>,
    code: u16,
    doc: &Doc,
    schema: &Type,
    shape: Shape,
    form: Form,
) -> Outcome<Reply> {
    match shape {
        Shape::Whole => Ok(respond::object(code, doc, schema, form)),
        Shape::Metadata => {
            let schema = shape::metadata_schema().unwrap_or(schema);
            Ok(respond::object(code, &shape::partial(doc), schema, form))
        }
        Shape::Table(include) => {
            let stored = call.to_stored(doc.clone())?;
            let object = Object::new(0, object::write(&stored));
            let mut reply = table::one(call, &object, include, form)?;
            *reply.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
            Ok(reply)
        }
    }
}

/// DELETE of one object.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn delete(call: &Call<'_>, body: Vec<u8>, shape: Shape, form: Form) -> Outcome<Reply> {
    let options = delete_options(call, body)?;
    let deleted = call.delete(&options).await?;
    let is_pending = !deleted.is_gone && options.orphan_dependents == Some(false);
    let code = if is_pending { 202 } else { 200 };
    let resource = call.row.resource;
    if !deleted.is_gone || returns_deleted(resource.group, resource.name) {
        return send(call, code, &deleted.doc, call.row.schema, shape, form);
    }
    let metadata = |key| deleted.doc.root().text(&["metadata", key]);
    let doc = success(
        resource.group,
        resource.name,
        metadata("name"),
        metadata("uid"),
    );
    let schema = respond::status_schema().unwrap_or(call.row.schema);
    Ok(respond::object(code, &doc, schema, form))
}

fn delete_options(call: &Call<'_>, body: Vec<u8>) -> Outcome<DeleteOptions> {
    let trimmed = body.trim_ascii();
    let body = if NO_OPTIONS.contains(&trimmed) {
        Vec::new()
    } else {
        body
    };
    let encoding = match body.is_empty() {
        true => Encoding::Json,
        false => body_encoding(call.headers)?,
    };
    DeleteOptions::read(call, body, encoding)
}

/// DELETE of all objects that are selected. Those that somebody else deletes meanwhile count as
/// deleted.
///
/// # Errors
///
/// The first that is no [`Status::not_found`].
pub async fn delete_collection(
    call: &Call<'_>,
    body: Vec<u8>,
    shape: Shape,
    form: Form,
) -> Outcome<Reply> {
    let options = &delete_options(call, body)?;
    let page = list::page(call).await?;
    let mut deletions: Vec<BoxFuture<'_, Outcome<()>>> = Vec::with_capacity(page.objects.len());
    for object in &page.objects {
        deletions.push(delete_one(call, object, options).boxed());
    }
    let deletions = stream::iter(deletions).buffer_unordered(DELETIONS);
    deletions.try_collect::<Vec<()>>().await?;
    let shape = match shape {
        Shape::Table(_) => Shape::Table(Include::Metadata),
        shape => shape,
    };
    list::answer(call, page, shape, form)
}

async fn delete_one(call: &Call<'_>, object: &Object, options: &DeleteOptions) -> Outcome<()> {
    let doc = object.doc();
    let metadata = |key| doc.root().text(&["metadata", key]);
    let namespace = match call.row.resource.namespaced {
        true => metadata("namespace"),
        false => "",
    };
    let deleted = call.delete_named(namespace, metadata("name"), options);
    match deleted.await {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}
