//! Encodings of documents, and what arrives in one of them.

pub mod json;
pub mod protobuf;
pub mod yaml;

use std::fmt;

use crate::conform::{Strict, TypeError, Unknown, conform};
use crate::doc::{Doc, Kind};
use crate::schema::Type;

/// How a document is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// Not JSON.
    Json(json::SyntaxError),
    /// Not YAML.
    Yaml(yaml::YamlError),
    /// Not protobuf.
    Protobuf(protobuf::ProtobufError),
    /// A value of the wrong type.
    Type(TypeError),
    /// `kind` or `apiVersion` is no text, or what stands around it is no object.
    NotAnObject(String),
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => {
                write!(out, "couldn't get version/kind; json parse error: {error}")
            }
            Self::Yaml(error) => error.fmt(out),
            Self::Protobuf(error) => error.fmt(out),
            Self::Type(error) => error.fmt(out),
            Self::NotAnObject(found) => {
                write!(out, "couldn't get version/kind; json parse error: {found}")
            }
        }
    }
}

/// What a strict decoder would refuse, in one line.
pub fn strict_decoding_error(found: &[Strict]) -> String {
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", found.join(", "))
}

/// An object whose kind can be asked before its schema is chosen.
#[derive(Debug)]
pub struct Incoming {
    api_version: String,
    kind: String,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Tree(Doc, Option<Strict>),
    Message(Vec<u8>),
}

impl Incoming {
    /// Reads as much as tells what it is.
    ///
    /// # Errors
    ///
    /// If the bytes are not in that encoding or no object.
    pub fn read(bytes: Vec<u8>, encoding: Encoding) -> Result<Self, DecodeError> {
        let (doc, strict) = match encoding {
            Encoding::Json => (json::parse(bytes).map_err(DecodeError::Json)?, None),
            Encoding::Yaml => yaml::parse(&bytes).map_err(DecodeError::Yaml)?,
            Encoding::Protobuf => {
                let envelope = protobuf::Envelope::open(&bytes).map_err(DecodeError::Protobuf)?;
                return Ok(Self {
                    api_version: envelope.api_version.to_string(),
                    kind: envelope.kind.to_string(),
                    body: Body::Message(envelope.raw.to_vec()),
                });
            }
        };
        let (api_version, kind) = (name(&doc, "apiVersion")?, name(&doc, "kind")?);
        Ok(Self {
            api_version,
            kind,
            body: Body::Tree(doc, strict),
        })
    }

    /// `group/version`, empty if it does not say.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Its kind, empty if it does not say.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The document, made to conform to a type, with what a strict decoder would refuse.
    ///
    /// # Errors
    ///
    /// If it is not what the type says.
    pub fn decode(
        self,
        schema: &Type,
        unknown: Unknown,
    ) -> Result<(Doc, Vec<Strict>), DecodeError> {
        let (mut doc, before, is_message) = match self.body {
            Body::Tree(doc, strict) => (doc, strict, false),
            Body::Message(raw) => {
                let mut doc = protobuf::decode(&raw, schema).map_err(DecodeError::Protobuf)?;
                let top = doc.top();
                if schema.has_type_meta() {
                    doc.set(top, "kind", &self.kind);
                    doc.set(top, "apiVersion", &self.api_version);
                }
                (doc, None, true)
            }
        };
        let found = conform(&mut doc, schema, unknown).map_err(DecodeError::Type)?;
        // On the wire a field may come twice.
        let found = if is_message { Vec::new() } else { found };
        Ok((doc, before.into_iter().chain(found).collect()))
    }
}

/// The text of `kind` or `apiVersion`.
fn name(doc: &Doc, key: &str) -> Result<String, DecodeError> {
    let root = doc.root();
    if !matches!(root.kind(), Kind::Object | Kind::Null) {
        return Err(DecodeError::NotAnObject(format!(
            "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            root.kind().go_name(),
        )));
    }
    match root.get(key) {
        None => Ok(String::new()),
        Some(value) if value.is_null() => Ok(String::new()),
        Some(value) => value.as_str().map(str::to_string).ok_or_else(|| {
            DecodeError::NotAnObject(format!(
                "json: cannot unmarshal {} into Go struct field .{key} of type string",
                value.kind().go_name(),
            ))
        }),
    }
}
