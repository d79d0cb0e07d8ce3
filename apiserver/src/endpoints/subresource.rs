//! Subresources: parts of an object with an endpoint of their own.

use std::sync::Arc;

use api::status::Status;

use super::{get, resource, scale, write};
use crate::instance::Api;
use crate::registry::{Call, Outcome};
use crate::respond::Reply;

/// Subresources that are the object itself, seen through a strategy that keeps the rest.
const OF_ITSELF: [&str; 5] = [
    "status",
    "approval",
    "finalize",
    "ephemeralcontainers",
    "resize",
];

/// Answers a request to a subresource.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(api: &Arc<Api>, call: &Call<'_>, body: Vec<u8>) -> Outcome<Reply> {
    let info = call.info;
    let known = call.row.subresource(&info.subresource);
    let known = known.ok_or_else(Status::no_such_resource)?;
    if !known.verbs.contains(&&*info.verb) {
        return Err(Status::method_not_supported(call.of(), &info.verb).into());
    }
    let name = &*info.subresource;
    let (shape, form) = resource::settle(call, OF_ITSELF.contains(&name))?;
    match (name, &*info.verb) {
        (name, verb) if OF_ITSELF.contains(&name) => match verb {
            "get" => get::get(call, shape, form).await,
            "update" => write::update(call, body, shape, form).await,
            "patch" => write::patch(call, body, shape, form).await,
            _ => Err(Status::method_not_supported(call.of(), verb).into()),
        },
        ("scale", _) => scale::answer(call, body, form).await,
        _ => super::actions::answer(api, call, body, form).await,
    }
}
