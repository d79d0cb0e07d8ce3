//! A cursor into a document: a value, or the place where one is missing.

use crate::doc::{Doc, Kind, Node};
use crate::field::Shown;

/// How deep below what exists a missing field can be named.
const DEPTH: usize = 4;

/// A field, there or not. It is cheap to copy, and reading what is not there gives Go's zero value.
#[derive(Clone, Copy)]
pub struct At<'d> {
    /// The field, or the nearest thing around it that is there.
    node: Node<'d>,
    /// The keys from there on; empty ones name nothing.
    missing: [&'static str; DEPTH],
}

impl<'d> At<'d> {
    /// The document as a whole.
    pub fn root(doc: &'d Doc) -> Self {
        Self::of(doc.root())
    }

    /// A value that is there.
    pub fn of(node: Node<'d>) -> Self {
        Self {
            node,
            missing: [""; DEPTH],
        }
    }

    /// The field of a struct.
    pub fn get(mut self, key: &'static str) -> Self {
        if let Some(child) = self.node().and_then(|node| node.get(key)) {
            return Self::of(child);
        }
        if let Some(free) = self.missing.iter_mut().find(|name| name.is_empty()) {
            *free = key;
        }
        self
    }

    /// The field that a path of keys leads to.
    pub fn path(self, keys: &[&'static str]) -> Self {
        keys.iter().fold(self, |at, key| at.get(key))
    }

    /// The entry of a map.
    pub fn entry(self, key: &str) -> Option<Self> {
        self.node()?.get(key).map(Self::of)
    }

    /// The value, if there is one. `null` is none.
    pub fn node(self) -> Option<Node<'d>> {
        (self.missing[0].is_empty() && !self.node.is_null()).then_some(self.node)
    }

    /// The value, or the nearest thing around it that is there, and the keys from there on.
    pub fn nearest(&self) -> (Node<'d>, impl Iterator<Item = &'static str> + use<>) {
        let missing = self.missing.into_iter();
        (self.node, missing.take_while(|name| !name.is_empty()))
    }

    /// The document that it is in, or would be.
    pub fn doc(self) -> &'d Doc {
        self.node.doc()
    }

    /// Whether there is a value.
    pub fn is_set(self) -> bool {
        self.node().is_some()
    }

    /// Whether a field of it is there.
    pub fn has(self, key: &'static str) -> bool {
        self.get(key).is_set()
    }

    /// Nothing, an empty text, list or object.
    pub fn is_empty(self) -> bool {
        self.node().is_none_or(|node| match node.kind() {
            Kind::String => node.as_str() == Some(""),
            Kind::List | Kind::Object => node.is_empty(),
            _ => false,
        })
    }

    /// Its key, if it is a value in an object.
    pub fn key(self) -> &'d str {
        self.node.key()
    }

    /// The text, empty if there is none.
    pub fn str(self) -> &'d str {
        self.node().and_then(Node::as_str).unwrap_or_default()
    }

    /// The number, 0 if there is none.
    pub fn int(self) -> i64 {
        self.opt_int().unwrap_or_default()
    }

    /// The number.
    pub fn opt_int(self) -> Option<i64> {
        self.node()?.as_i64()
    }

    /// `true`, not `false` and not nothing.
    pub fn flag(self) -> bool {
        self.opt_flag().unwrap_or_default()
    }

    /// `true` or `false`.
    pub fn opt_flag(self) -> Option<bool> {
        self.node()?.as_bool()
    }

    /// The elements of a list or the entries of a map; [`Self::key`] tells their keys.
    pub fn items(self) -> impl Iterator<Item = At<'d>> + Clone {
        self.node().into_iter().flat_map(Node::children).map(At::of)
    }

    /// The number of elements or entries.
    pub fn len(self) -> usize {
        self.items().count()
    }

    /// The element of a list of structs that has this text in a field.
    pub fn find(self, field: &'static str, text: &str) -> Option<Self> {
        self.items().find(|item| item.get(field).str() == text)
    }

    /// Whether a list of texts holds one.
    pub fn contains(self, text: &str) -> bool {
        self.items().any(|item| item.str() == text)
    }
}

impl Shown for At<'_> {
    fn shown(&self) -> String {
        self.node().map_or("null".to_string(), shown)
    }
}

/// A value as errors show it.
pub fn shown(node: Node<'_>) -> String {
    match node.as_str() {
        Some(text) => format!("{text:?}"),
        None => node.to_string(),
    }
}

/// Whether two fields mean the same: nothing, `null` and an empty list are alike.
pub fn same(one: At<'_>, other: At<'_>) -> bool {
    let value = |at: At<'_>| {
        at.node()
            .filter(|node| node.kind() != Kind::List || !node.is_empty())
            .map(Node::id)
    };
    match (value(one), value(other)) {
        (None, None) => true,
        (Some(_), Some(_)) => one.node == other.node,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_reads_as_zero() {
        let doc = Doc::literal(r#"{"a":{"b":null,"c":"x","l":[{"n":"y"}]},"e":[]}"#);
        let root = At::root(&doc);
        assert_eq!(root.path(&["a", "c"]).str(), "x");
        let none = root.path(&["a", "b", "z"]);
        assert!(!none.is_set() && none.is_empty() && none.int() == 0 && !none.flag());
        assert_eq!(none.items().count(), 0);
        assert!(root.path(&["a", "l"]).find("n", "y").is_some());
        assert!(same(root.get("e"), root.get("f")) && same(root.path(&["a", "b"]), none));
        assert!(!same(root.get("a"), none));
    }
}
