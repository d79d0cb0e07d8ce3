//! A stored object, as bytes that are ready to be sent.

use api::codec::json;
use api::doc::Doc;
use bytes::Bytes;

/// One object at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its resourceVersion: the store's revision of the write.
    pub revision: u64,
    /// Canonical JSON of the storage version, resourceVersion included.
    pub json: Bytes,
}

impl Object {
    /// The object as a document, in its storage version.
    pub fn doc(&self) -> Doc {
        // What stands here was encoded or checked by this process.
        json::parse(self.json.to_vec()).unwrap_or_default()
    }
}
