//! A request to a resource: finds the row, settles the encoding, and hands on to the verb.

use std::sync::{Arc, PoisonError};

use api::codec::Encoding;
use api::status::Status;
use http::HeaderMap;
use http::header::ACCEPT;
use tokio::time::Instant;

use super::shape::{Include, Shape};
use super::{get, list, subresource, watch, write};
use crate::instance::Api;
use crate::negotiate::{self, MEDIA_TYPE_NAMES, Target};
use crate::registry::{Call, Outcome, Row};
use crate::request::{Query, RequestInfo};
use crate::respond::{self, Form, Reply, takes_gzip};
use crate::user::User;

/// A request, taken apart.
pub struct Incoming<'a> {
    /// What it asks for.
    pub info: &'a RequestInfo,
    /// With which parameters.
    pub query: &'a Query,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub user: &'a User,
    /// Its body.
    pub body: Vec<u8>,
    /// When it must be over.
    pub deadline: Instant,
}

/// Answers a request to a resource; errors are answers too.
pub async fn answer(api: &Arc<Api>, incoming: Incoming<'_>) -> Reply {
    let form = plain_form(incoming.headers, incoming.query);
    match try_answer(api, incoming).await {
        Ok(reply) => reply,
        Err(status) => respond::status(&status, form),
    }
}

/// The form of errors, which go out whatever the client accepts.
pub fn plain_form(headers: &HeaderMap, query: &Query) -> Form {
    let accepted = negotiate::negotiate(accept_of(headers), |_| true);
    Form {
        encoding: accepted.map_or(Encoding::Json, |accepted| accepted.encoding),
        is_pretty: is_pretty(headers, query),
        is_gzip: false,
    }
}

/// The Accept header.
pub fn accept_of(headers: &HeaderMap) -> &str {
    let value = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Whether JSON is indented: for people, who use curl, wget or a browser.
pub fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.maybe_flag("pretty") {
        return pretty;
    }
    let agent = headers.get(http::header::USER_AGENT);
    let agent = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|person| agent.starts_with(person))
}

async fn try_answer(api: &Arc<Api>, incoming: Incoming<'_>) -> Outcome<Reply> {
    let info = incoming.info;
    let found = api.registry.get(&info.group, &info.version, &info.resource);
    let row = found.ok_or_else(Status::no_such_resource)?.clone();
    if row.resource.namespaced && info.namespace.is_empty() && needs_namespace(info) {
        return Err(Status::no_such_resource().into());
    }
    let call = Call::new(
        api,
        &row,
        info,
        incoming.query,
        incoming.headers,
        incoming.user,
        incoming.deadline,
    )?;
    let done = dispatch(api, &row, &call, incoming.body).await;
    let warnings =
        std::mem::take(&mut *call.warnings.lock().unwrap_or_else(PoisonError::into_inner));
    let form = plain_form(incoming.headers, incoming.query);
    let mut reply = done.unwrap_or_else(|status| respond::status(&status, form));
    respond::warn(&mut reply, &warnings);
    Ok(reply)
}

/// Objects of namespaces are named with theirs; only lists and watches reach over all of them.
fn needs_namespace(info: &RequestInfo) -> bool {
    !matches!(&*info.verb, "list" | "watch") || !info.subresource.is_empty()
}

async fn dispatch(
    api: &Arc<Api>,
    row: &Arc<Row>,
    call: &Call<'_>,
    body: Vec<u8>,
) -> Outcome<Reply> {
    let info = call.info;
    if !info.subresource.is_empty() {
        return subresource::answer(api, call, body).await;
    }
    let verb = &*info.verb;
    if !row.resource.verbs.contains(&verb) {
        return Err(Status::method_not_supported(call.of(), verb).into());
    }
    let (shape, form) = settle(call, row.stored.is_some())?;
    if row.stored.is_none() {
        return super::virtual_kinds::answer(call, body, form).await;
    }
    match verb {
        "get" => get::get(call, shape, form).await,
        "list" => list::list(call, shape, form).await,
        "watch" => watch::watch(api, row, call, shape, form).await,
        "create" => write::create(call, body, shape, form).await,
        "update" => write::update(call, body, shape, form).await,
        "patch" => write::patch(call, body, shape, form).await,
        "delete" => write::delete(call, body, shape, form).await,
        "deletecollection" => write::delete_collection(call, body, shape, form).await,
        other => Err(Status::method_not_supported(call.of(), other).into()),
    }
}

/// The shape and form of the answer that the client accepts.
///
/// # Errors
///
/// If there is none.
pub fn settle(call: &Call<'_>, has_shapes: bool) -> Outcome<(Shape, Form)> {
    let accept = accept_of(call.headers);
    let is_watch = call.info.verb == "watch";
    let allows = |target: Option<Target<'_>>| match target {
        None => true,
        Some(target) => has_shapes && is_known(target),
    };
    let accepted = negotiate::negotiate(accept, allows).filter(|accepted| {
        // Tables have no protobuf, and YAML no stream.
        let is_table = accepted.target.is_some_and(|target| target.kind == "Table");
        let is_protobuf = accepted.encoding == Encoding::Protobuf;
        let is_yaml = accepted.encoding == Encoding::Yaml;
        !(is_table && is_protobuf || is_watch && is_yaml)
    });
    let accepted = accepted.ok_or_else(|| Status::not_acceptable(&MEDIA_TYPE_NAMES))?;
    let shape = match accepted.target {
        None => Shape::Whole,
        Some(target) if target.kind == "Table" => Shape::Table(include(call)?),
        Some(_) => Shape::Metadata,
    };
    let form = Form {
        encoding: accepted.encoding,
        is_pretty: !is_watch && (accepted.pretty || is_pretty(call.headers, call.query)),
        is_gzip: !is_watch && takes_gzip(call.headers),
    };
    Ok((shape, form))
}

fn is_known(target: Target<'_>) -> bool {
    let kinds = [
        "Table",
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
    ];
    target.group == "meta.k8s.io"
        && matches!(target.version, "v1" | "v1beta1")
        && kinds.contains(&target.kind)
}

fn include(call: &Call<'_>) -> Outcome<Include> {
    Ok(match call.query.text("includeObject") {
        "" | "Metadata" => Include::Metadata,
        "None" => Include::Nothing,
        "Object" => Include::Object,
        other => {
            let message = format!("unrecognized includeObject value: {other:?}");
            return Err(Status::bad_request(message).into());
        }
    })
}
