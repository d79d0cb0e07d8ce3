//! GET of one object.

use std::sync::Arc;

use api::codec::Encoding;
use api::page;
use api::status::Status;

use super::shape::{self, Shape};
use super::table;
use crate::failure;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply};
use crate::storage::{Object, keys};

/// Answers with one object.
///
/// # Errors
///
/// If there is none, or it cannot be read as fresh as is asked.
pub async fn get(call: &Call<'_>, shape: Shape, form: Form) -> Outcome<Reply> {
    let object = find(call).await?;
    if let Shape::Table(include) = shape {
        return table::one(call, &object, include, form);
    }
    let mut bytes = shape::one(call.row, &object, shape, form.encoding);
    if form.encoding == Encoding::Json {
        bytes = finished(&bytes, form);
    }
    Ok(respond::bytes(200, bytes, form))
}

/// JSON as it ends a response.
fn finished(json: &[u8], form: Form) -> bytes::Bytes {
    let mut out = Vec::with_capacity(json.len() + 1);
    if form.is_pretty {
        api::codec::json::indent(json, &mut out);
    } else {
        out.extend_from_slice(json);
    }
    out.push(b'\n');
    out.into()
}

/// The object that a request names, as fresh as it asks.
///
/// # Errors
///
/// If there is none, or it cannot be read as fresh as is asked.
pub async fn find(call: &Call<'_>) -> Outcome<Arc<Object>> {
    let collection = &call.stored()?.collection;
    let cache = &call.api.storage.cache;
    match call.query.text("resourceVersion") {
        "" => {
            let caught_up = cache.catch_up(call.deadline).await;
            caught_up.map_err(|error| failure::of_read(&error))?;
        }
        "0" => super::list::wait_filled(call).await?,
        version => {
            let wanted = page::resource_version(version)
                .map_err(|error| Status::bad_request(error.to_string()))?;
            super::list::wait_for(call, wanted).await?;
        }
    }
    let local = keys::local(call.namespace(), &call.info.name);
    let found = collection.get(&local);
    found.ok_or_else(|| Status::not_found(call.of(), &call.info.name).into())
}
