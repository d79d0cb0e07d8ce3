//! The entries of an object while many of them change: found by hash, linked anew at the end. Patches
//! use it, so that a patch of n keys to an object of n keys costs n steps and not n².

use std::collections::HashMap;

use super::{Doc, Id, Kind, Node};

/// The entries of one object. Nobody else may change which entries it has until [`Self::finish`].
pub(crate) struct Entries {
    /// In order; removed ones are [`Id::NONE`].
    order: Vec<Id>,
    places: HashMap<String, usize>,
}

impl Entries {
    /// The entries of an object; of equal keys the last counts.
    pub(crate) fn of(doc: &Doc, object: Id) -> Self {
        let children = doc.node(object).children();
        let mut entries = Self {
            order: Vec::new(),
            places: HashMap::new(),
        };
        for child in children {
            entries.add(child.key(), child.id());
        }
        entries
    }

    fn add(&mut self, key: &str, id: Id) {
        let place = self.order.len();
        if let Some(old) = self.places.insert(key.to_string(), place) {
            self.order[old] = Id::NONE;
        }
        self.order.push(id);
    }

    pub(crate) fn find(&self, key: &str) -> Option<Id> {
        self.places.get(key).map(|place| self.order[*place])
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(place) = self.places.remove(key) {
            self.order[place] = Id::NONE;
        }
    }

    /// Sets a key to a value that stands nowhere, in the old one's place or last.
    pub(crate) fn put(&mut self, doc: &mut Doc, key: &str, id: Id) {
        doc.cells[id.index()].key = doc.add_text(key);
        match self.places.get(key) {
            Some(place) => self.order[*place] = id,
            None => self.add(key, id),
        }
    }

    /// Keeps the keys of which `keeps` says so.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        let order = &mut self.order;
        self.places.retain(|key, place| {
            let is_kept = keeps(key);
            if !is_kept {
                order[*place] = Id::NONE;
            }
            is_kept
        });
    }

    /// Links the entries as they are now.
    pub(crate) fn finish(self, doc: &mut Doc, object: Id) {
        doc.clear(object, Kind::Object);
        for child in self.order.into_iter().filter_map(Id::some) {
            doc.cells[child.index()].next = Id::NONE;
            doc.link_last(object, child);
        }
    }
}

/// The values of an object by key, where one lookup after the other would cost too much.
pub(super) fn by_key<'d>(object: Node<'d>) -> HashMap<&'d str, Node<'d>> {
    object
        .children()
        .map(|child| (child.key(), child))
        .collect()
}
