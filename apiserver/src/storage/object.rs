//! A stored object, as bytes that are ready to be sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use api::codec::{json, protobuf};
use api::conform::{Unknown, conform};
use api::doc::{Doc, Node};
use api::resources::Label;
use api::schema::Type;
use bytes::Bytes;

/// One object at one revision. Its namespace and name are the key that it is held under.
#[derive(Debug)]
pub struct Object {
    /// Its resourceVersion: the store's revision of the write.
    pub revision: u64,
    /// Canonical JSON of the storage version, resourceVersion included.
    pub json: Bytes,
    /// The same as protobuf in its envelope, as long as somebody asks for it.
    protobuf: Mutex<Option<Bytes>>,
    /// Somebody asked for it of late.
    is_asked: AtomicBool,
    selectable: OnceLock<Box<Selectable>>,
}

/// What selectors look at: all texts in one piece, since every object that is watched has it.
#[derive(Debug, Default)]
pub struct Selectable {
    /// Labels' keys and values in turn, then the fields' values.
    text: Box<str>,
    /// Where each of these ends.
    ends: Box<[u32]>,
    /// How many of them are labels' keys and values.
    labels: usize,
    /// Which fields follow name and namespace.
    known: &'static [Label],
}

impl Object {
    /// An object of some canonical JSON that has its resourceVersion.
    pub fn new(revision: u64, json: impl Into<Bytes>) -> Self {
        Self {
            revision,
            json: json.into(),
            protobuf: Mutex::default(),
            is_asked: AtomicBool::new(false),
            selectable: OnceLock::new(),
        }
    }

    /// An object of stored bytes, which are JSON without resourceVersion, or whatever upstream
    /// stored.
    pub fn from_stored(revision: u64, value: &[u8], schema: &Type) -> Result<Self, String> {
        if let Some(json) = splice(value, revision) {
            return Ok(Self::new(revision, json));
        }
        let mut doc = decode(value, schema)?;
        set_revision(&mut doc, revision);
        Ok(Self::new(revision, write(&doc)))
    }

    /// The object as a document, in its storage version.
    pub fn doc(&self) -> Doc {
        // What stands here was encoded or checked by this process.
        json::parse(self.json.to_vec()).unwrap_or_default()
    }

    /// Whether these are the bytes that are stored of it.
    pub fn is_stored_as(&self, value: &[u8]) -> bool {
        match revision_span(&self.json) {
            Some((start, end)) => {
                let (before, after) = (&self.json[..start], &self.json[end..]);
                value.len() == before.len() + after.len()
                    && value.starts_with(before)
                    && value.ends_with(after)
            }
            None => to_stored(&mut self.doc()) == value,
        }
    }

    /// The object as it stands in a list: without kind and apiVersion, which the list has.
    pub fn as_item(&self) -> Bytes {
        let start = item_start(&self.json);
        self.json.slice(start..)
    }

    /// The object as an enveloped message.
    pub fn protobuf(&self, schema: &Type) -> Bytes {
        self.is_asked.store(true, Ordering::Relaxed);
        let mut known = self.encoded();
        known
            .get_or_insert_with(|| {
                let mut out = Vec::with_capacity(self.json.len());
                protobuf::encode_enveloped(&self.doc(), schema, &mut out);
                out.into()
            })
            .clone()
    }

    fn encoded(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.protobuf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the message if nobody has asked for it since the last call.
    pub fn forget_unused(&self) {
        if !self.is_asked.swap(false, Ordering::Relaxed) {
            *self.encoded() = None;
        }
    }

    /// What selectors look at, read out of the object when one is first applied.
    pub fn selectable(&self, labels: &'static [Label]) -> &Selectable {
        self.selectable
            .get_or_init(|| Box::new(Selectable::of(self.doc().root(), labels)))
    }

    /// The same object as of a later revision: what a deletion reports.
    pub fn at(&self, revision: u64) -> Arc<Self> {
        let json = splice_over(&self.json, revision).unwrap_or_else(|| self.json.clone());
        Arc::new(Self::new(revision, json))
    }

    /// Bytes that it occupies, about.
    pub fn size(&self) -> usize {
        self.json.len() + 160
    }
}

impl Selectable {
    /// Reads labels and the fields of a resource out of an object.
    pub fn of(root: Node<'_>, known: &'static [Label]) -> Self {
        let mut text = String::new();
        let mut ends = Vec::new();
        let mut add = |part: &str| {
            text.push_str(part);
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        };
        let labels = root.path(&["metadata", "labels"]);
        let labels = labels.into_iter().flat_map(Node::children);
        let mut parts = 0;
        for label in labels {
            add(label.key());
            add(label.as_str().unwrap_or_default());
            parts += 2;
        }
        add(root.text(&["metadata", "name"]));
        add(root.text(&["metadata", "namespace"]));
        for label in known {
            match label.key.starts_with("metadata.") {
                true => add(""),
                false => add(&field_text(root, label)),
            }
        }
        Self {
            text: text.into(),
            ends: ends.into(),
            labels: parts,
            known,
        }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let keys = (0..self.labels).step_by(2);
        let found = keys.into_iter().find(|at| self.part(*at) == key)?;
        Some(self.part(found + 1))
    }

    /// The value of a field by its canonical key; empty if it has none.
    pub fn field(&self, key: &str) -> &str {
        let at = match key {
            "metadata.name" => Some(0),
            "metadata.namespace" => Some(1),
            key => self
                .known
                .iter()
                .position(|label| label.key == key)
                .map(|at| at + 2),
        };
        at.map_or("", |at| self.part(self.labels + at))
    }

    fn part(&self, at: usize) -> &str {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        self.text.get(start..end(at)).unwrap_or_default()
    }
}

/// A field's value as selectors compare it.
fn field_text(root: Node<'_>, label: &Label) -> String {
    let found = label.paths.iter().find_map(|path| {
        let node = path
            .split('.')
            .try_fold(root, step)
            .filter(|node| !node.is_null())?;
        let text = match node.as_str() {
            Some(text) => text.to_string(),
            None => node.to_string(),
        };
        (!text.is_empty()).then_some(text)
    });
    match (found, label.form) {
        (Some(text), _) => text,
        (None, "bool") => "false".to_string(),
        (None, "int") => "0".to_string(),
        (None, _) => String::new(),
    }
}

/// One step of a path: `name`, or `name[0]` for the first element.
fn step<'d>(at: Node<'d>, key: &str) -> Option<Node<'d>> {
    match key.strip_suffix("[0]") {
        Some(key) => at.get(key)?.item(0),
        None => at.get(key),
    }
}

/// A document as canonical JSON.
pub fn write(doc: &Doc) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    json::write(doc.root(), &mut out);
    out
}

/// The bytes that are stored: without what only the store knows.
pub fn to_stored(doc: &mut Doc) -> Vec<u8> {
    if let Some(metadata) = doc.find_path(&["metadata"]) {
        doc.remove(metadata, "resourceVersion");
    }
    write(doc)
}

/// Sets a document's resourceVersion.
pub fn set_revision(doc: &mut Doc, revision: u64) {
    doc.set_path(&["metadata", "resourceVersion"], &revision.to_string());
}

/// Reads stored bytes: our JSON, or the protobuf that upstream stores.
fn decode(value: &[u8], schema: &Type) -> Result<Doc, String> {
    let mut doc = if value.starts_with(protobuf::MAGIC) {
        let envelope = protobuf::Envelope::open(value).map_err(|e| e.to_string())?;
        let mut doc = protobuf::decode(envelope.raw, schema).map_err(|e| e.to_string())?;
        let top = doc.top();
        doc.set(top, "kind", envelope.kind);
        doc.set(top, "apiVersion", envelope.api_version);
        doc
    } else {
        json::parse(value.to_vec()).map_err(|e| e.to_string())?
    };
    conform(&mut doc, schema, Unknown::Keep).map_err(|e| e.to_string())?;
    Ok(doc)
}

const METADATA: &[u8] = b"\"metadata\":{";

/// Where `metadata` starts in canonical JSON, behind kind and apiVersion.
fn metadata_start(json: &[u8]) -> Option<usize> {
    let mut rest = json.strip_prefix(b"{\"kind\":\"")?;
    rest = &rest[rest.iter().position(|byte| *byte == b'"')? + 1..];
    rest = rest.strip_prefix(b",\"apiVersion\":\"")?;
    rest = &rest[rest.iter().position(|byte| *byte == b'"')? + 1..];
    rest = rest.strip_prefix(b",")?;
    rest.starts_with(METADATA)
        .then_some(json.len() - rest.len())
}

/// Where an object starts as an element of a list; the opening brace is the reader's to add.
fn item_start(json: &[u8]) -> usize {
    metadata_start(json).unwrap_or(1)
}

/// Canonical JSON with the resourceVersion in it, first of its metadata.
fn splice(value: &[u8], revision: u64) -> Option<Vec<u8>> {
    let at = metadata_start(value)? + METADATA.len();
    if value.get(at) == Some(&b'}') {
        return None;
    }
    let mut out = Vec::with_capacity(value.len() + 42);
    out.extend_from_slice(&value[..at]);
    out.extend_from_slice(format!("\"resourceVersion\":\"{revision}\",").as_bytes());
    out.extend_from_slice(&value[at..]);
    Some(out)
}

/// Where a spliced resourceVersion stands, with its comma.
fn revision_span(json: &[u8]) -> Option<(usize, usize)> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let start = metadata_start(json)? + METADATA.len();
    let rest = json[start..].strip_prefix(KEY)?;
    let digits = rest.iter().position(|byte| *byte == b'"')?;
    let end = start + KEY.len() + digits + 2;
    (json.get(end - 1) == Some(&b',')).then_some((start, end))
}

/// Spliced JSON with another resourceVersion.
fn splice_over(json: &[u8], revision: u64) -> Option<Bytes> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let at = metadata_start(json)? + METADATA.len();
    let rest = json[at..].strip_prefix(KEY)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let mut out = Vec::with_capacity(json.len() + 8);
    out.extend_from_slice(&json[..at + KEY.len()]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&rest[end..]);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use api::{resources, schema};

    use super::*;

    const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"n","labels":{"x":"y"}},"spec":{"nodeName":"m","containers":null},"status":{}}"#;

    fn pod(revision: u64) -> Object {
        let schema = schema::kind("", "v1", "Pod").unwrap();
        Object::from_stored(revision, POD.as_bytes(), schema).unwrap()
    }

    #[test]
    fn revisions_are_spliced_in() {
        let pod = pod(7);
        assert_eq!(pod.doc().root().text(&["metadata", "resourceVersion"]), "7");
        let later = pod.at(12);
        assert_eq!(
            later.doc().root().text(&["metadata", "resourceVersion"]),
            "12"
        );
        assert_eq!(to_stored(&mut later.doc()), POD.as_bytes());
        assert!(later.is_stored_as(POD.as_bytes()) && !later.is_stored_as(&later.json));
        assert!(
            pod.as_item()
                .starts_with(b"\"metadata\":{\"resourceVersion\":\"7\",\"name\"")
        );
    }

    #[test]
    fn what_upstream_stored_is_read() {
        let schema = schema::kind("", "v1", "Pod").unwrap();
        let stored = pod(3).protobuf(schema);
        let read = Object::from_stored(9, &stored, schema).unwrap();
        assert_eq!(
            read.doc().root().text(&["metadata", "resourceVersion"]),
            "9"
        );
        assert_eq!(read.doc().root().text(&["spec", "nodeName"]), "m");
        assert!(Object::from_stored(1, b"k8s\0\xff", schema).is_err());
    }

    #[test]
    fn messages_are_kept_while_somebody_asks() {
        let schema = schema::kind("", "v1", "Pod").unwrap();
        let pod = pod(3);
        let first = pod.protobuf(schema);
        pod.forget_unused();
        assert_eq!(pod.protobuf(schema).as_ptr(), first.as_ptr());
        pod.forget_unused();
        pod.forget_unused();
        assert_ne!(pod.protobuf(schema).as_ptr(), first.as_ptr());
    }

    #[test]
    fn selectors_find_labels_and_fields() {
        let labels = resources::resource("", "v1", "pods").unwrap().labels;
        let pod = pod(1);
        let found = pod.selectable(labels);
        assert_eq!(found.label("x"), Some("y"));
        assert_eq!(found.field("spec.nodeName"), "m");
        assert_eq!(found.field("metadata.name"), "a");
        assert_eq!(found.field("spec.hostNetwork"), "false");
    }
}
