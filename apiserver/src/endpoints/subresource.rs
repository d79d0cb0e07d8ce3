//! Subresources: parts of an object with an endpoint of their own.

use std::sync::Arc;

use api::convert::{self, from_scale};
use api::doc::Doc;
use api::schema::{self, Type};
use api::status::Status;

use super::{get, resource, write};
use crate::instance::Api;
use crate::registry::change::{Patch, PatchKind};
use crate::registry::object::Expected;
use crate::registry::write::Change;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply};

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
        ("scale", verb) => scale(call, verb, body, form).await,
        _ => super::actions::answer(api, call, body, form).await,
    }
}

/// The scale of an object: how many there are, and how many there should be.
async fn scale(call: &Call<'_>, verb: &str, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let schema = schema::kind("autoscaling", "v1", "Scale");
    let schema = schema.ok_or_else(|| Status::internal("Scale has no schema"))?;
    let expected = Expected {
        api_version: "autoscaling/v1",
        kind: "Scale",
        schema,
    };
    let mut scale = match verb {
        "get" => to_scale(&get::find(call).await?.doc())?,
        "update" => {
            let encoding = write::body_encoding(call.headers)?;
            let doc = call.decode(body, encoding, &expected)?;
            let change = Rescale::Replace(doc);
            to_scale(&call.update(&change).await?.doc)?
        }
        _ => {
            let kind = match write::read_patch_kind(call)? {
                PatchKind::Apply => PatchKind::Merge,
                kind => kind,
            };
            let change = Rescale::Patch(Patch::read(kind, body)?, schema);
            to_scale(&call.update(&change).await?.doc)?
        }
    };
    crate::registry::object::canonical(&mut scale, schema)?;
    Ok(respond::object(200, &scale, schema, form))
}

fn to_scale(doc: &Doc) -> Outcome<Doc> {
    Ok(convert::to_scale(doc).map_err(Status::internal)?)
}

/// A change of an object's scale.
enum Rescale {
    Replace(Doc),
    Patch(Patch, &'static Type),
}

impl Change for Rescale {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let Some(live) = live else {
            return Err(Status::not_found(call.of(), &call.info.name).into());
        };
        let scale = match self {
            Self::Replace(scale) => scale.clone(),
            Self::Patch(patch, schema) => patch.apply(call, &to_scale(live)?, schema)?,
        };
        let mut doc = live.clone();
        from_scale(&mut doc, &scale);
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn expects_revision(&self) -> bool {
        false
    }
}
