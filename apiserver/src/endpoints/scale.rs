//! The scale of an object: how many there are, and how many there should be, with the owners of that.

use api::apply::{FieldManager, ReplicasPaths, owners_from_scale, owners_to_scale};
use api::convert::{self, from_scale};
use api::doc::Doc;
use api::schema::{self, Type};
use api::status::Status;

use super::{get, write};
use crate::registry::change::{Patch, PatchKind, read_config};
use crate::registry::object::{Expected, canonical};
use crate::registry::write::Change;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply};

/// The version of scales.
const VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";
/// Where all built-in kinds have their replicas.
const REPLICAS: &[&str] = &["spec", "replicas"];

/// Answers a request to a scale.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let schema = schema::kind("autoscaling", "v1", KIND);
    let schema = schema.ok_or_else(|| Status::internal("Scale has no schema"))?;
    let object = match &*call.info.verb {
        "get" => get::find(call).await?.doc(),
        verb => {
            let step = Step::read(call, verb, body, schema)?;
            call.update(&Rescale { step, schema }).await?.doc
        }
    };
    let scale = shown(call, &object, schema)?;
    Ok(respond::object(200, &scale, schema, form))
}

fn paths<'a>(call: &'a Call<'_>) -> [(&'a str, Option<&'a [&'a str]>); 1] {
    [(&*call.row.api_version, Some(REPLICAS))]
}

/// The scale of an object, with the owners of its replicas.
fn shown(call: &Call<'_>, object: &Doc, schema: &Type) -> Outcome<Doc> {
    let mut scale = convert::to_scale(object).map_err(Status::internal)?;
    let paths: ReplicasPaths<'_> = &paths(call);
    owners_to_scale(object, &mut scale, paths).map_err(Status::internal)?;
    canonical(&mut scale, schema)?;
    Ok(scale)
}

/// How the scale changes.
enum Step {
    Replace(Doc),
    Patch(Patch),
    Apply { config: Doc, force: bool },
}

impl Step {
    fn read(call: &Call<'_>, verb: &str, body: Vec<u8>, schema: &Type) -> Outcome<Self> {
        if verb == "update" {
            let expected = Expected {
                api_version: VERSION,
                kind: KIND,
                schema,
            };
            let encoding = write::body_encoding(call.headers)?;
            return Ok(Self::Replace(call.decode(body, encoding, &expected)?));
        }
        Ok(match write::read_patch_kind(call)? {
            PatchKind::Apply => Self::Apply {
                config: read_config(call, &body)?,
                force: call.query.flag("force"),
            },
            kind => Self::Patch(Patch::read(kind, body)?),
        })
    }
}

struct Rescale {
    step: Step,
    schema: &'static Type,
}

impl Change for Rescale {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let Some(live) = live else {
            return Err(Status::not_found(call.of(), &call.info.name).into());
        };
        let before = shown(call, live, self.schema)?;
        let owners = FieldManager {
            schema: self.schema,
            api_version: VERSION,
            kind: KIND,
            subresource: "scale",
            reset: None,
            now: &call.now,
        };
        let mut scale = match &self.step {
            Step::Replace(scale) => scale.clone(),
            Step::Patch(patch) => patch.apply(call, &before, self.schema)?,
            Step::Apply { config, force } => owners
                .apply(&before, config, &call.manager, *force)
                .map_err(Status::apply)?,
        };
        if !matches!(self.step, Step::Apply { .. }) {
            owners.update(&before, &mut scale, &call.manager);
        }
        let mut doc = live.clone();
        from_scale(&mut doc, &scale);
        let paths: ReplicasPaths<'_> = &paths(call);
        owners_from_scale(&mut doc, &scale, &call.row.api_version, paths)
            .map_err(Status::internal)?;
        canonical(&mut doc, call.row.schema)?;
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn tracks_itself(&self) -> bool {
        true
    }

    fn expects_revision(&self) -> bool {
        false
    }
}
