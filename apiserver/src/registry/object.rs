//! Documents between a request and the store: decoding, versions, ownership, system fields.

use api::apply::{FieldManager, Set};
use api::codec::{Encoding, Incoming, strict_decoding_error};
use api::conform::{Strict, Unknown, conform};
use api::convert::convert;
use api::defaults;
use api::doc::Doc;
use api::schema::Type;
use api::status::Status;

use super::call::{Call, FieldValidation, Outcome};

/// What the kind and version of a body are judged by.
pub struct Expected<'a> {
    /// `group/version`; empty if any will do, as for options, which every group has.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Its type.
    pub schema: &'a Type,
}

impl Call<'_> {
    /// What bodies of the object itself are.
    pub fn expected(&self) -> Expected<'_> {
        Expected {
            api_version: &self.row.api_version,
            kind: self.row.resource.kind,
            schema: self.row.schema,
        }
    }

    /// A body as a document with its defaults.
    ///
    /// # Errors
    ///
    /// In upstream's words if it is not what is expected.
    pub fn decode(
        &self,
        body: Vec<u8>,
        encoding: Encoding,
        expected: &Expected<'_>,
    ) -> Outcome<Doc> {
        let incoming = Incoming::read(body, encoding)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let (version, kind) = (incoming.api_version(), incoming.kind());
        let is_kind = kind.is_empty() || kind == expected.kind;
        let is_any = expected.api_version.is_empty();
        if is_kind && !is_any && !version.is_empty() && version != expected.api_version {
            let message = format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                expected.api_version
            );
            return Err(Status::bad_request(message).into());
        }
        if !is_kind {
            return Err(Status::bad_request(self.wrong_kind(version, kind, expected)).into());
        }
        let cannot = |why: String| {
            let (kind, version) = (expected.kind, short_version(expected.api_version));
            Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            ))
        };
        let (mut doc, strict) = incoming
            .decode(expected.schema, Unknown::Drop)
            .map_err(|error| cannot(error.to_string()))?;
        self.judge_strict(&strict, cannot)?;
        let top = doc.top();
        let is_named = ["kind", "apiVersion"].map(|key| doc.find(top, key).is_some());
        if expected.schema.has_type_meta() && !is_any {
            doc.set(top, "kind", expected.kind);
            doc.set(top, "apiVersion", expected.api_version);
            if is_named != [true, true] {
                canonical(&mut doc, expected.schema)?;
            }
        }
        defaults::apply(&mut doc, expected.schema, &self.now);
        Ok(doc)
    }

    fn wrong_kind(&self, version: &str, kind: &str, expected: &Expected<'_>) -> String {
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        if api::schema::kind(group, short, kind).is_none() {
            return format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \
                 \"pkg/api/legacyscheme/scheme.go:30\""
            );
        }
        let wanted = expected.kind;
        format!(
            "{kind} in version {short:?} cannot be handled as a {wanted}: converting \
             ({short}.{kind}) to ({}.{wanted}): unknown conversion",
            internal_package(self.row.resource.group),
        )
    }

    /// What a strict decoder complains of: an error, warnings or nothing.
    ///
    /// # Errors
    ///
    /// What `refuse` makes of the complaint, if the client wants none.
    pub fn judge_strict(
        &self,
        found: &[Strict],
        refuse: impl FnOnce(String) -> Status,
    ) -> Outcome<()> {
        match self.field_validation {
            _ if found.is_empty() => Ok(()),
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                found.iter().for_each(|one| self.warn(one.to_string()));
                Ok(())
            }
            FieldValidation::Strict => Err(refuse(strict_decoding_error(found)).into()),
        }
    }

    /// Makes a document canonical and sets defaults.
    ///
    /// # Errors
    ///
    /// If the document is not of the type.
    pub fn finish(&self, doc: &mut Doc, schema: &Type) -> Outcome<()> {
        canonical(doc, schema)?;
        defaults::apply(doc, schema, &self.now);
        Ok(())
    }

    /// A stored document in the version of the request.
    ///
    /// # Errors
    ///
    /// If it cannot be converted.
    pub fn to_request(&self, mut doc: Doc) -> Outcome<Doc> {
        if let (false, Some(stored)) = (self.row.is_stored_version(), &self.row.stored) {
            let (from, to) = (&stored.api_version, &self.row.api_version);
            convert(&mut doc, self.row.resource.kind, from, to).map_err(Status::internal)?;
        }
        Ok(doc)
    }

    /// A document of the request's version in the version that is stored.
    ///
    /// # Errors
    ///
    /// If it cannot be converted.
    pub fn to_stored(&self, mut doc: Doc) -> Outcome<Doc> {
        if let (false, Some(stored)) = (self.row.is_stored_version(), &self.row.stored) {
            let (from, to) = (&self.row.api_version, &stored.api_version);
            convert(&mut doc, self.row.resource.kind, from, to).map_err(Status::internal)?;
        }
        Ok(doc)
    }

    /// The type of stored documents.
    pub fn stored_schema(&self) -> &'static Type {
        let stored = self.row.stored.as_ref();
        stored.map_or(self.row.schema, |stored| stored.schema)
    }

    /// Runs `act` with who notes the ownership of fields.
    pub fn with_field_manager<T>(&self, act: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let subresource = &self.info.subresource;
        let reset = Set::of_fields(self.row.strategy.reset_fields(subresource));
        act(&FieldManager {
            schema: self.row.schema,
            api_version: &self.row.api_version,
            kind: self.row.resource.kind,
            subresource,
            reset: (!reset.is_empty()).then_some(&reset),
            now: &self.now,
        })
    }

    /// An object that does not exist, for those who compare.
    pub fn nothing(&self) -> Doc {
        let mut doc = Doc::new();
        let top = doc.top();
        doc.set(top, "kind", self.row.resource.kind);
        doc.set(top, "apiVersion", &self.row.api_version);
        // An empty object has nothing of a wrong type.
        let _ = conform(&mut doc, self.row.schema, Unknown::Keep);
        doc
    }
}

/// Makes a document canonical; what its type lacks stays.
///
/// # Errors
///
/// If the document is not of the type.
pub fn canonical(doc: &mut Doc, schema: &Type) -> Outcome<()> {
    conform(doc, schema, Unknown::Keep).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(())
}

fn short_version(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// The Go package of upstream's internal types of a group.
fn internal_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" => "core",
        first => first,
    }
}
