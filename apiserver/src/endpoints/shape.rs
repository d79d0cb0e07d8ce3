//! The form in which objects leave: whole, only their metadata, or as rows of a Table; in the version
//! of the request, in the encoding that the client accepts.

use api::codec::Encoding;
use api::convert::convert;
use api::doc::{Doc, New};
use api::schema::{self, Type};
use bytes::Bytes;

use crate::registry::Row;
use crate::respond::{Form, encode};
use crate::storage::Object;

/// What objects are turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Themselves.
    Whole,
    /// PartialObjectMetadata.
    Metadata,
    /// Rows of a Table; each with nothing, its metadata or the whole object.
    Table(Include),
}

/// What comes with a row of a Table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    Nothing,
    /// Its metadata.
    Metadata,
    /// The object.
    Object,
}

/// The type of what a single object becomes.
pub fn metadata_schema() -> Option<&'static Type> {
    schema::kind("meta.k8s.io", "v1", "PartialObjectMetadata")
}

/// An object in the version of the request.
pub fn versioned(row: &Row, object: &Object) -> Doc {
    let mut doc = object.doc();
    if let (false, Some(stored)) = (row.is_stored_version(), &row.stored) {
        // What was stored was valid when it was converted to be stored.
        let (from, to) = (&stored.api_version, &row.api_version);
        let _ = convert(&mut doc, row.resource.kind, from, to);
    }
    doc
}

/// Only the metadata of a document.
pub fn partial(doc: &Doc) -> Doc {
    let mut partial = Doc::new();
    let top = partial.top();
    partial.set(top, "kind", "PartialObjectMetadata");
    partial.set(top, "apiVersion", "meta.k8s.io/v1");
    match doc.root().get("metadata") {
        Some(metadata) => {
            let copy = partial.graft(metadata);
            partial.put(top, "metadata", copy);
        }
        None => {
            partial.set(top, "metadata", New::Object);
        }
    }
    partial
}

/// One object, ready to be sent; without a line's end.
pub fn one(row: &Row, object: &Object, shape: Shape, encoding: Encoding) -> Bytes {
    let is_as_stored = row.is_stored_version() && shape == Shape::Whole;
    match encoding {
        Encoding::Json if is_as_stored => return object.json.clone(),
        Encoding::Protobuf if is_as_stored => return object.protobuf(row.schema),
        _ => {}
    }
    let doc = versioned(row, object);
    let (doc, schema) = match (shape, metadata_schema()) {
        (Shape::Metadata, Some(schema)) => (partial(&doc), schema),
        _ => (doc, row.schema),
    };
    let form = Form {
        encoding,
        ..Form::default()
    };
    let mut out = encode(&doc, schema, form);
    if encoding == Encoding::Json {
        out.pop();
    }
    out.into()
}
