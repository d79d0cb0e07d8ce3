//! Protobuf: messages of built-in types in both directions, directed by the schema table, and the
//! envelope that they travel and are stored in.
//!
//! Byte for byte what upstream's generated code writes: fields ascending by tag, values without
//! pointers even when they are zero, maps sorted by key.

mod read;
mod wire;
mod write;

use std::fmt;

pub use read::decode;
pub use write::encode;

use crate::codec::json::SyntaxError;
use crate::doc::Doc;
use crate::schema::Type;

/// What every enveloped message starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are no message of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtobufError {
    /// Nothing at all.
    Empty,
    /// The envelope's prefix is missing.
    NoPrefix,
    /// A length or number reaches beyond the end.
    Truncated,
    /// A number of more than 64 bits.
    Overflow,
    /// A field's wire type is not that of its type.
    WireType {
        /// What the wire says.
        wire: u8,
        /// The field, such as `Pod.spec`.
        field: String,
    },
    /// Nested too deeply.
    TooDeep,
    /// JSON within a message that is none.
    Json(SyntaxError),
    /// A kind within a message that is not known.
    UnknownKind(String),
}

impl std::error::Error for ProtobufError {}

impl fmt::Display for ProtobufError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("empty data"),
            Self::NoPrefix => {
                let message = "provided data does not appear to be a protobuf message";
                write!(out, "{message}, expected prefix [107 56 115 0]")
            }
            Self::Truncated => out.write_str("unexpected EOF"),
            Self::Overflow => out.write_str("proto: integer overflow"),
            Self::WireType { wire, field } => {
                write!(out, "proto: wrong wireType = {wire} for field {field}")
            }
            Self::TooDeep => out.write_str("exceeded max depth"),
            Self::Json(error) => error.fmt(out),
            Self::UnknownKind(kind) => write!(out, "no kind {kind:?} is registered"),
        }
    }
}

/// A message in its envelope (`runtime.Unknown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `group/version`.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// The message; or JSON, where the content type says so.
    pub raw: &'a [u8],
    /// Empty for protobuf.
    pub content_type: &'a str,
}

impl<'a> Envelope<'a> {
    /// Opens an envelope.
    ///
    /// # Errors
    ///
    /// If the bytes do not start with [`MAGIC`] or what follows is no envelope.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        if bytes.is_empty() {
            return Err(ProtobufError::Empty);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoPrefix)?;
        read::envelope(body)
    }
}

/// Appends a conforming document in its envelope; kind and version are the document's own.
pub fn encode_enveloped(doc: &Doc, schema: &Type, out: &mut Vec<u8>) {
    let root = doc.root();
    out.extend_from_slice(MAGIC);
    let mut out = wire::Writer { out };
    let meta = out.open(1);
    out.string(1, root.text(&["apiVersion"]));
    out.string(2, root.text(&["kind"]));
    out.close(meta);
    let raw = out.open(2);
    write::message(root, schema, &mut out);
    out.close(raw);
    out.string(3, "");
    out.string(4, "");
}

/// A list in its envelope. `head` is the encoded list without elements, `items` are the encoded
/// elements without envelopes.
pub fn list(api_version: &str, kind: &str, head: &[u8], items: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let varint_len = |value: usize| (value.max(1).ilog2() as usize) / 7 + 1;
    let item_len = |item: &[u8]| 1 + varint_len(item.len()) + item.len();
    let items_len: usize = items.iter().map(|item| item_len(item.as_ref())).sum();
    let len = head.len() + items_len;
    let mut bytes = Vec::with_capacity(len + api_version.len() + kind.len() + 32);
    bytes.extend_from_slice(MAGIC);
    let mut out = wire::Writer { out: &mut bytes };
    let meta = out.open(1);
    out.string(1, api_version);
    out.string(2, kind);
    out.close(meta);
    out.header(2, len);
    out.out.extend_from_slice(head);
    for item in items {
        out.bytes(2, item.as_ref());
    }
    out.string(3, "");
    out.string(4, "");
    bytes
}

/// An event of a watch as it is sent: its length in four bytes, big-endian, and the event.
/// `object` is in its envelope.
pub fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(object.len() + kind.len() + 24);
    bytes.extend_from_slice(&[0; 4]);
    let mut out = wire::Writer { out: &mut bytes };
    out.string(1, kind);
    let raw = out.open(2);
    out.bytes(1, object);
    out.close(raw);
    let len = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}
