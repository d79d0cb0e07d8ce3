//! The ways in which a request changes an object: a whole new one, three kinds of patches, apply.

use api::codec::yaml;
use api::conform::{Unknown, conform};
use api::defaults;
use api::doc::Doc;
use api::field::FieldError;
use api::patch::{self, PatchError};
use api::schema::Type;
use api::status::{Qualified, Status};

use super::call::{Call, Outcome};
use super::write::Change;

/// PUT: a whole new object.
pub struct Replace(pub Doc);

impl Change for Replace {
    fn next(&self, _call: &Call<'_>, _live: Option<&Doc>) -> Outcome<Doc> {
        Ok(self.0.clone())
    }
}

/// What a patch is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Merge patch that knows the type.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// Content types of patches, in the order in which errors list them.
pub const PATCH_TYPES: [(&str, PatchKind); 4] = [
    ("application/json-patch+json", PatchKind::Json),
    ("application/merge-patch+json", PatchKind::Merge),
    (
        "application/strategic-merge-patch+json",
        PatchKind::Strategic,
    ),
    ("application/apply-patch+yaml", PatchKind::Apply),
];

/// The kind of a patch by its content type.
pub fn patch_kind(content_type: &str) -> Option<PatchKind> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let found = PATCH_TYPES.iter().find(|known| known.0 == media_type);
    found.map(|known| known.1)
}

/// PATCH: changes to what is there.
pub struct Patch {
    kind: PatchKind,
    doc: Doc,
    text: String,
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    ///
    /// If it is not JSON.
    pub fn read(kind: PatchKind, body: Vec<u8>) -> Outcome<Self> {
        let text = String::from_utf8_lossy(&body).into_owned();
        let doc = patch::read(body).map_err(|error| Status::bad_request(error.to_string()))?;
        Ok(Self { kind, doc, text })
    }

    /// Changes a document of a type, without its defaults.
    ///
    /// # Errors
    ///
    /// If the patch does not fit.
    pub fn apply(&self, call: &Call<'_>, live: &Doc, schema: &Type) -> Outcome<Doc> {
        let patched = || {
            let mut doc = live.clone();
            let root = self.doc.root();
            let done = match self.kind {
                PatchKind::Json => patch::json::apply(&mut doc, root),
                PatchKind::Strategic => patch::strategic::apply(&mut doc, root, schema),
                PatchKind::Merge | PatchKind::Apply => patch::merge::apply(&mut doc, root),
            };
            done.map(|()| doc)
        };
        let mut doc = patched().map_err(|error| refusal(call, &error))?;
        let invalid = |why: String| {
            let shown = match self.kind {
                PatchKind::Strategic => self.text.clone(),
                _ => patched().unwrap_or_default().to_string(),
            };
            let error = FieldError::invalid("patch", &*shown, why);
            let nothing = Qualified {
                group: "",
                name: "",
            };
            Status::invalid(nothing, "", &[error])
        };
        let strict = conform(&mut doc, schema, Unknown::Drop);
        let strict = strict.map_err(|error| invalid(error.to_string()))?;
        call.judge_strict(&strict, invalid)?;
        Ok(doc)
    }
}

impl Change for Patch {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let Some(live) = live else {
            return Err(Status::not_found(call.of(), &call.info.name).into());
        };
        let mut doc = self.apply(call, live, call.row.schema)?;
        keep_kind(live, &doc)?;
        defaults::apply(&mut doc, call.row.schema, &call.now);
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn expects_revision(&self) -> bool {
        false
    }
}

fn refusal(call: &Call<'_>, error: &PatchError) -> Box<Status> {
    Box::new(Status::patch(call.of(), &call.info.name, error))
}

/// A patch must not make another kind of an object.
fn keep_kind(live: &Doc, doc: &Doc) -> Outcome<()> {
    for key in ["kind", "apiVersion"] {
        let (old, new) = (live.root().text(&[key]), doc.root().text(&[key]));
        if old != new {
            let message = format!(
                "the {key} of the object ({new}) must not be changed by a patch (it is {old})"
            );
            return Err(Status::bad_request(message).into());
        }
    }
    Ok(())
}

/// Reads a configuration that is to be applied.
///
/// # Errors
///
/// If it is not YAML, or nobody says who applies it.
pub fn read_config(call: &Call<'_>, body: &[u8]) -> Outcome<Doc> {
    if call.query.text("fieldManager").is_empty() {
        let of = Qualified {
            group: "meta.k8s.io",
            name: "PatchOptions",
        };
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid(of, "", &[error]).into());
    }
    let bad = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
    let (mut config, strict) = yaml::parse(body).map_err(|error| bad(error.to_string()))?;
    let strict: Vec<_> = strict.into_iter().collect();
    call.judge_strict(&strict, bad)?;
    config.drop_duplicates();
    Ok(config)
}

/// PATCH with a configuration: server-side apply.
pub struct Apply {
    config: Doc,
    force: bool,
}

impl Apply {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// If it is not YAML, or nobody says who applies it.
    pub fn read(call: &Call<'_>, body: &[u8]) -> Outcome<Self> {
        let config = read_config(call, body)?;
        let apply = Self {
            config,
            force: call.query.flag("force"),
        };
        apply.check_identity(call)?;
        Ok(apply)
    }

    fn check_identity(&self, call: &Call<'_>) -> Outcome<()> {
        let root = self.config.root();
        let kind = root.text(&["kind"]);
        if !kind.is_empty() && kind != call.row.resource.kind && call.info.subresource.is_empty() {
            let message = format!(
                "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered",
                root.text(&["apiVersion"]),
                call.row.resource.kind
            );
            return Err(Status::bad_request(message).into());
        }
        Ok(())
    }
}

impl Change for Apply {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let nothing;
        let live = match live {
            Some(live) => live,
            None => {
                nothing = call.nothing();
                &nothing
            }
        };
        let applied = call.with_field_manager(|owners| {
            owners.apply(live, &self.config, &call.manager, self.force)
        });
        let mut doc = applied.map_err(Status::apply)?;
        call.finish(&mut doc, call.row.schema)?;
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn tracks_itself(&self) -> bool {
        true
    }

    fn expects_revision(&self) -> bool {
        false
    }
}
