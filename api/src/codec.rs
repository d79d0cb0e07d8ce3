//! Encodings of documents.

pub mod json;
pub mod protobuf;
