//! Edits: links change, cells are appended, nothing moves.

use std::collections::HashMap;

use super::{Cell, Doc, Id, Kind, Node, Span};

/// A value to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum New<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Any other number, as JSON writes it.
    Number(&'a str),
    /// Text.
    Str(&'a str),
    /// An empty list.
    List,
    /// An empty object.
    Object,
}

impl<'a> From<&'a str> for New<'a> {
    fn from(value: &'a str) -> Self {
        Self::Str(value)
    }
}

impl<'a> From<&'a String> for New<'a> {
    fn from(value: &'a String) -> Self {
        Self::Str(value)
    }
}

impl From<bool> for New<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for New<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for New<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl Doc {
    /// Sets a key of an object: its value is overwritten, or appended. Makes an object of what is
    /// none.
    pub fn set<'a>(&mut self, object: Id, key: &str, value: impl Into<New<'a>>) -> Id {
        let id = self.make(value.into());
        self.put(object, key, id);
        id
    }

    /// Sets what a path of keys leads to, with objects on the way where there are none.
    pub fn set_path<'a>(&mut self, path: &[&str], value: impl Into<New<'a>>) -> Id {
        let (last, parents) = match path {
            [parents @ .., last] => (last, parents),
            [] => {
                let id = self.make(value.into());
                self.root = id;
                return id;
            }
        };
        let mut at = self.root;
        for key in parents {
            at = self.object(at, key);
        }
        self.set(at, last, value)
    }

    /// The object at a key, made if there is none.
    pub fn object(&mut self, object: Id, key: &str) -> Id {
        self.container(object, key, Kind::Object)
    }

    /// The list at a key, made if there is none.
    pub fn list(&mut self, object: Id, key: &str) -> Id {
        self.container(object, key, Kind::List)
    }

    fn container(&mut self, object: Id, key: &str, kind: Kind) -> Id {
        match self.find(object, key) {
            Some(found) if self.cell(found).kind == kind => found,
            _ => self.set(
                object,
                key,
                if kind == Kind::List {
                    New::List
                } else {
                    New::Object
                },
            ),
        }
    }

    /// Appends to a list. Makes a list of what is none.
    pub fn push<'a>(&mut self, list: Id, value: impl Into<New<'a>>) -> Id {
        let id = self.make(value.into());
        self.push_id(list, id);
        id
    }

    /// Appends a value that stands nowhere to a list.
    pub fn push_id(&mut self, list: Id, child: Id) {
        if self.cell(list).kind != Kind::List {
            self.clear(list, Kind::List);
        }
        self.link_last(list, child);
    }

    /// Puts a value that stands nowhere before the element at an index of a list, or last.
    pub fn insert_id(&mut self, list: Id, index: usize, child: Id) {
        self.insert_child(list, index, child);
    }

    fn insert_child(&mut self, parent: Id, index: usize, child: Id) {
        let before = index
            .checked_sub(1)
            .and_then(|at| self.node(parent).children().nth(at))
            .map(Node::id);
        match before {
            None if index == 0 => {
                let first = self.cell(parent).first();
                self.cells[child.index()].next = first;
                let parent = &mut self.cells[parent.index()];
                parent.a = child.0;
                if first == Id::NONE {
                    parent.b = child.0;
                }
            }
            None => self.link_last(parent, child),
            Some(before) => {
                let next = self.cell(before).next;
                self.cells[child.index()].next = next;
                self.cells[before.index()].next = child;
                if next == Id::NONE {
                    self.cells[parent.index()].b = child.0;
                }
            }
        }
    }

    /// Adds a key, which must not be there, to an object before the entry at an index, or last.
    pub(crate) fn insert_entry(&mut self, object: Id, index: usize, key: &str, child: Id) {
        self.cells[child.index()].key = self.add_text(key);
        match self.cell(object).kind {
            Kind::Object => self.insert_child(object, index, child),
            _ => self.put(object, key, child),
        }
    }

    /// Sets a key to a value that stands nowhere.
    pub fn put(&mut self, object: Id, key: &str, child: Id) {
        if self.cell(object).kind != Kind::Object {
            self.clear(object, Kind::Object);
        }
        if let Some(old) = self.find(object, key) {
            self.cells[child.index()].key = self.cell(old).key;
            self.replace_in(object, old, child);
        } else {
            self.cells[child.index()].key = self.add_text(key);
            self.link_last(object, child);
        }
    }

    /// Overwrites a value where it stands: `value` takes its place and key.
    pub fn replace_in(&mut self, parent: Id, old: Id, value: Id) {
        let (key, next) = (self.cell(old).key, self.cell(old).next);
        let before = self.before(parent, old);
        let cell = &mut self.cells[value.index()];
        (cell.key, cell.next) = (key, next);
        match before {
            Some(before) => self.cells[before.index()].next = value,
            None => self.cells[parent.index()].a = value.0,
        }
        if next == Id::NONE {
            self.cells[parent.index()].b = value.0;
        }
    }

    /// Removes a key; says whether it was there.
    pub fn remove(&mut self, object: Id, key: &str) -> bool {
        let found = self.find(object, key);
        if let Some(child) = found {
            self.unlink(object, child);
        }
        found.is_some()
    }

    /// Takes a value out of the list or object that it stands in.
    pub fn unlink(&mut self, parent: Id, child: Id) {
        let next = self.cell(child).next;
        let before = self.before(parent, child);
        match before {
            Some(before) => self.cells[before.index()].next = next,
            None => self.cells[parent.index()].a = next.0,
        }
        if next == Id::NONE {
            self.cells[parent.index()].b = before.unwrap_or(Id::NONE).0;
        }
        self.cells[child.index()].next = Id::NONE;
    }

    /// Empties a value and makes it an object or a list.
    pub fn clear(&mut self, id: Id, kind: Kind) {
        let cell = &mut self.cells[id.index()];
        (cell.kind, cell.a, cell.b) = (kind, Id::NONE.0, Id::NONE.0);
    }

    /// Overwrites the value at a place, whatever it is part of.
    pub fn assign<'a>(&mut self, id: Id, value: impl Into<New<'a>>) {
        let made = self.cell_of(value.into());
        let cell = &mut self.cells[id.index()];
        (cell.kind, cell.a, cell.b) = (made.kind, made.a, made.b);
    }

    /// Makes another value everything else stands in.
    pub fn set_root(&mut self, id: Id) {
        self.cells[id.index()].next = Id::NONE;
        self.root = id;
    }

    /// Sorts the keys of an object; of equal ones the last stays.
    pub fn sort_keys(&mut self, object: Id) {
        let mut entries: Vec<Id> = self.node(object).children().map(Node::id).collect();
        let key = |id: &Id| self.slice(self.cell(*id).key);
        // The sort is stable, so that the last of equal keys comes last.
        entries.sort_by(|a, b| key(a).cmp(key(b)));
        let is_last = |at: usize| {
            entries
                .get(at + 1)
                .is_none_or(|next| key(next) != key(&entries[at]))
        };
        let kept: Vec<Id> = (0..entries.len())
            .filter(|at| is_last(*at))
            .map(|at| entries[at])
            .collect();
        self.relink(object, &kept);
    }

    /// Removes all but the last of equal keys, in every object.
    pub fn drop_duplicates(&mut self) {
        let mut todo = vec![self.top()];
        while let Some(parent) = todo.pop() {
            let mut last = HashMap::new();
            let children: Vec<Id> = self.node(parent).children().map(Node::id).collect();
            for child in &children {
                if matches!(self.cell(*child).kind, Kind::List | Kind::Object) {
                    todo.push(*child);
                }
                if self.cell(parent).kind == Kind::Object {
                    last.insert(self.node(*child).key().to_string(), *child);
                }
            }
            if last.len() < children.len() && self.cell(parent).kind == Kind::Object {
                let kept = children
                    .iter()
                    .filter(|child| last[self.node(**child).key()] == **child);
                let kept: Vec<Id> = kept.copied().collect();
                self.relink(parent, &kept);
            }
        }
    }

    /// A value that stands nowhere yet.
    pub fn make(&mut self, value: New<'_>) -> Id {
        let cell = self.cell_of(value);
        self.add_cell(cell)
    }

    /// A copy of a value of another document; it stands nowhere yet.
    pub fn graft(&mut self, from: Node<'_>) -> Id {
        let top = self.graft_cell(from);
        // Pairs of containers whose children are still to be copied: depth must not cost stack.
        let mut todo = vec![(from, top)];
        while let Some((from, to)) = todo.pop() {
            for child in from.children() {
                let copy = self.graft_cell(child);
                self.cells[copy.index()].key = self.add_text(child.key());
                self.link_last(to, copy);
                if !child.is_empty() {
                    todo.push((child, copy));
                }
            }
        }
        top
    }

    fn graft_cell(&mut self, from: Node<'_>) -> Id {
        let cell = match from.cell() {
            cell if cell.first() != Id::NONE => Cell::container(cell.kind),
            cell if matches!(cell.kind, Kind::String | Kind::Number) => {
                let span = self.add_text(from.doc().slice(cell.span()));
                Cell::text(cell.kind, span)
            }
            cell => Cell {
                key: Span::default(),
                next: Id::NONE,
                ..*cell
            },
        };
        self.add_cell(cell)
    }

    /// Takes a whole document in; its root stands nowhere yet. Two buffers are appended, so that this
    /// is the cheapest way to put one document into another.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a request has megabytes at most"
    )]
    pub fn absorb(&mut self, other: Self) -> Id {
        let (cells, text) = (self.cells.len() as u32, self.text.len() as u32);
        self.text.push_str(&other.text);
        let moved = |id: Id| id.some().map_or(Id::NONE, |id| Id(id.0 + cells));
        self.cells.extend(other.cells.into_iter().map(|mut cell| {
            cell.key.at += text;
            cell.next = moved(cell.next);
            match cell.kind {
                Kind::List | Kind::Object => {
                    (cell.a, cell.b) = (moved(Id(cell.a)).0, moved(Id(cell.b)).0);
                }
                Kind::String | Kind::Number => cell.a += text,
                _ => {}
            }
            cell
        }));
        moved(other.root)
    }

    /// A copy of a value of this document; it stands nowhere yet. Texts are shared.
    pub fn copy(&mut self, from: Id) -> Id {
        let top = self.copy_cell(from, false);
        let mut todo = vec![(from, top)];
        while let Some((from, to)) = todo.pop() {
            let mut next = self.cell(from).first();
            while let Some(child) = next.some() {
                let copy = self.copy_cell(child, true);
                self.link_last(to, copy);
                if self.cell(child).first() != Id::NONE {
                    todo.push((child, copy));
                }
                next = self.cell(child).next;
            }
        }
        top
    }

    fn copy_cell(&mut self, from: Id, keep_key: bool) -> Id {
        let mut cell = Cell {
            next: Id::NONE,
            ..*self.cell(from)
        };
        if cell.first() != Id::NONE {
            (cell.a, cell.b) = (Id::NONE.0, Id::NONE.0);
        }
        if !keep_key {
            cell.key = Span::default();
        }
        self.add_cell(cell)
    }

    fn cell_of(&mut self, value: New<'_>) -> Cell {
        match value {
            New::Null => Cell::plain(Kind::Null),
            New::Bool(false) => Cell::plain(Kind::False),
            New::Bool(true) => Cell::plain(Kind::True),
            New::Int(value) => Cell::int(value),
            New::Number(text) => Cell::text(Kind::Number, self.add_text(text)),
            New::Str(text) => Cell::text(Kind::String, self.add_text(text)),
            New::List => Cell::container(Kind::List),
            New::Object => Cell::container(Kind::Object),
        }
    }

    /// Makes some values, which stand here or nowhere, all that a list or object holds.
    pub(crate) fn relink(&mut self, parent: Id, children: &[Id]) {
        let kind = self.cell(parent).kind;
        self.clear(parent, kind);
        for child in children {
            self.cells[child.index()].next = Id::NONE;
            self.link_last(parent, *child);
        }
    }

    /// Appends a child; its own `next` must be unset.
    pub(crate) fn link_last(&mut self, parent: Id, child: Id) {
        let cell = &mut self.cells[parent.index()];
        let last = Id(cell.b);
        cell.b = child.0;
        match last.some() {
            None => cell.a = child.0,
            Some(last) => self.cells[last.index()].next = child,
        }
    }

    fn before(&self, parent: Id, child: Id) -> Option<Id> {
        let mut children = self.node(parent).children();
        children
            .find(|node| node.cell().next == child)
            .map(Node::id)
    }

    /// Documents are bounded by the size of requests, far below what ids and spans can address.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a request has megabytes at most"
    )]
    pub(crate) fn add_cell(&mut self, cell: Cell) -> Id {
        let id = Id(self.cells.len() as u32);
        self.cells.push(cell);
        id
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a request has megabytes at most"
    )]
    pub(crate) fn add_text_by(&mut self, write: impl FnOnce(&mut String)) -> Span {
        let at = self.text.len();
        write(&mut self.text);
        Span {
            at: at as u32,
            len: (self.text.len() - at) as u32,
        }
    }

    pub(crate) fn add_text(&mut self, text: &str) -> Span {
        self.add_text_by(|all| all.push_str(text))
    }
}

#[cfg(test)]
mod tests {
    use crate::doc::{Doc, New, Node};

    fn doc(text: &str) -> Doc {
        Doc::literal(text)
    }

    #[test]
    fn documents_are_built_and_changed() {
        let mut made = Doc::new();
        made.set_path(&["spec", "replicas"], 3);
        let spec = made.find_path(&["spec"]).unwrap();
        let list = made.list(spec, "args");
        made.push(list, "-v");
        let object = made.push(list, New::Object);
        made.set(object, "on", true);
        assert_eq!(
            made,
            doc(r#"{"spec": {"replicas": 3, "args": ["-v", {"on": true}]}}"#)
        );
        assert_eq!(
            made.root()
                .path(&["spec", "replicas"])
                .and_then(Node::as_i64),
            Some(3)
        );
        assert!(made.remove(spec, "replicas"));
        assert!(!made.remove(spec, "replicas"));
        made.set(spec, "args", New::Null);
        assert_eq!(made, doc(r#"{"spec": {"args": null}}"#));
    }

    /// Every position, so that the first and last links are held right.
    #[test]
    fn lists_are_changed_anywhere() {
        for at in 0..=3 {
            let mut made = doc("[0, 1, 2]");
            let new = made.make(New::Int(9));
            made.insert_id(made.top(), at, new);
            assert_eq!(made.root().item(at).and_then(Node::as_i64), Some(9));
            assert_eq!(made.root().len(), 4);
            let last = made.push(made.top(), 10);
            assert_eq!(made.root().children().last().map(Node::id), Some(last));
            made.unlink(made.top(), new);
            made.unlink(made.top(), last);
            made.push(made.top(), 3);
            assert_eq!(made, doc("[0, 1, 2, 3]"));
            let middle = made.root().item(at).unwrap().id();
            let other = made.make(New::Str("x"));
            made.replace_in(made.top(), middle, other);
            made.push(made.top(), 4);
            assert_eq!(made.root().len(), 5);
            assert_eq!(made.root().item(at).and_then(Node::as_str), Some("x"));
        }
    }

    #[test]
    fn copies_are_deep() {
        let mut one = doc(r#"{"a": {"b": [1, "two", {}]}}"#);
        let from = one.find_path(&["a"]).unwrap();
        let copy = one.copy(from);
        one.put(one.top(), "c", copy);
        one.set_path(&["a", "b"], 1);
        assert_eq!(one, doc(r#"{"a": {"b": 1}, "c": {"b": [1, "two", {}]}}"#));
        let mut two = Doc::new();
        let grafted = two.graft(one.root());
        two.set_root(grafted);
        assert_eq!(one, two);
        let absorbed = two.absorb(one.clone());
        two.set_root(absorbed);
        two.set_path(&["d"], 1);
        one.set_path(&["d"], 1);
        assert_eq!(one, two);
    }
}
