//! The order of a merged list: what the patch names in the patch's order, the rest where it stood.

use std::collections::HashMap;

use super::super::PatchError;
use super::no_merge_key;
use crate::doc::{Doc, Id, Node};

/// The places of a list's elements by what tells them apart: a key's value, or the scalar itself.
pub(super) struct Identity(HashMap<String, usize>);

impl Identity {
    /// Of elements that must have the key.
    pub(super) fn of_nodes<'d>(
        nodes: impl Iterator<Item = Node<'d>>,
        key: &str,
    ) -> Result<Self, PatchError> {
        let mut places = HashMap::new();
        for (place, node) in nodes.enumerate() {
            let name = name(node, key).ok_or_else(|| no_merge_key(node, key))?;
            places.entry(name).or_insert(place);
        }
        Ok(Self(places))
    }

    /// Of elements of a document; those without the key are nowhere.
    pub(super) fn of_ids(doc: &Doc, ids: &[Id], key: &str) -> Self {
        let mut places = HashMap::new();
        for (place, id) in ids.iter().enumerate() {
            if let Some(name) = name(doc.node(*id), key) {
                places.entry(name).or_insert(place);
            }
        }
        Self(places)
    }

    /// Where an element with the same identity stands.
    pub(super) fn place(&self, node: Node<'_>, key: &str) -> Option<usize> {
        self.0.get(&name(node, key)?).copied()
    }

    /// Adds an element at a place; says whether it is new.
    pub(super) fn add(&mut self, node: Node<'_>, key: &str, place: usize) -> bool {
        name(node, key).is_some_and(|name| self.0.insert(name, place).is_none())
    }
}

fn name(node: Node<'_>, key: &str) -> Option<String> {
    let value = if key.is_empty() { node } else { node.get(key)? };
    Some(value.to_string())
}

/// The elements that are wanted, in that order, and the others, in theirs.
pub(super) fn split(doc: &Doc, items: &[Id], wanted: &Identity, key: &str) -> (Vec<Id>, Vec<Id>) {
    let place = |id: &Id| wanted.place(doc.node(*id), key);
    let (mut named, others): (Vec<Id>, Vec<Id>) = items.iter().partition(|id| place(id).is_some());
    named.sort_by_key(place);
    (named, others)
}

/// Both lists in one, each in its order: one of `left` comes before one of `right` if it did so in
/// the live list.
pub(super) fn interleave(
    doc: &Doc,
    left: &[Id],
    right: &[Id],
    live: &Identity,
    key: &str,
) -> Vec<Id> {
    let place = |id: Id| live.place(doc.node(id), key);
    let mut order = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (
        left.iter().copied().peekable(),
        right.iter().copied().peekable(),
    );
    loop {
        let takes_left = match (left.peek(), right.peek()) {
            (Some(one), Some(other)) => match (place(*one), place(*other)) {
                (Some(one), Some(other)) => one < other,
                _ => false,
            },
            (one, _) => one.is_some(),
        };
        match if takes_left {
            left.next()
        } else {
            right.next()
        } {
            Some(id) => order.push(id),
            None => return order,
        }
    }
}
