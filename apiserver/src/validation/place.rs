//! Where a field stands, and what its zero value is: looked up only when there is an error to tell.

use std::collections::HashMap;

use api::at::shown;
use api::doc::{Doc, Id, Kind};
use api::schema::{self, Field, Presence, Shape, Type};

use super::At;

/// The places of a document's values: for each what it is part of, and its index there.
pub(super) struct Places {
    /// Told apart by where it is in memory, which holds as long as validation does.
    document: *const Doc,
    parents: HashMap<Id, (Id, usize)>,
    schema: Option<&'static Type>,
}

/// A field as errors tell it.
pub(super) struct Place {
    /// Such as `spec.containers[0].name`.
    pub(super) path: String,
    /// Its value, or its zero value.
    pub(super) shown: String,
}

impl Places {
    pub(super) fn of(doc: &Doc) -> Self {
        let mut parents = HashMap::new();
        let mut todo = vec![doc.root()];
        while let Some(node) = todo.pop() {
            if !matches!(node.kind(), Kind::List | Kind::Object) {
                continue;
            }
            for (index, child) in node.children().enumerate() {
                parents.insert(child.id(), (node.id(), index));
                todo.push(child);
            }
        }
        Self {
            document: doc,
            parents,
            schema: type_of(doc),
        }
    }

    pub(super) fn knows(&self, doc: &Doc) -> bool {
        std::ptr::eq(self.document, doc)
    }

    pub(super) fn find(&self, at: At<'_>) -> Place {
        let (nearest, missing) = at.nearest();
        let doc = nearest.doc();
        let mut walk = Walk {
            path: String::new(),
            structure: self.schema,
            shape: None,
            presence: None,
        };
        let mut chain = vec![nearest.id()];
        while let Some((parent, _)) = chain.last().and_then(|id| self.parents.get(id)) {
            chain.push(*parent);
        }
        for pair in chain.windows(2).rev() {
            let index = self.parents.get(&pair[0]).map_or(0, |(_, index)| *index);
            walk.step(doc.node(pair[1]).kind(), index, doc.node(pair[0]).key());
        }
        for name in missing {
            walk.step(Kind::Object, 0, name);
        }
        Place {
            shown: match at.node() {
                Some(node) => shown(node),
                None => walk.zero().to_string(),
            },
            path: walk.path,
        }
    }
}

fn type_of(doc: &Doc) -> Option<&'static Type> {
    let root = doc.root();
    let api_version = root.text(&["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::kind(group, version, root.text(&["kind"]))
}

/// The way down from the root, along the type.
struct Walk {
    path: String,
    /// The struct that the last step led into.
    structure: Option<&'static Type>,
    /// Else the list, map or scalar.
    shape: Option<&'static Shape>,
    presence: Option<Presence>,
}

impl Walk {
    fn step(&mut self, parent: Kind, index: usize, key: &str) {
        let (structure, shape) = (self.structure.take(), self.shape.take());
        self.presence = None;
        if parent == Kind::List {
            self.path.push_str(&format!("[{index}]"));
            if let Some(Shape::List(list)) = shape {
                self.enter(&static_of(list).item);
            }
            return;
        }
        if let Some(Shape::Map(map)) = shape {
            self.path.push_str(&format!("[{key}]"));
            self.enter(&static_of(map).item);
            return;
        }
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        if let Some(field) = structure.and_then(|schema| schema.field(key)) {
            self.field(field);
        }
    }

    fn field(&mut self, field: &'static Field) {
        self.presence = Some(field.presence);
        self.enter(&field.shape);
    }

    fn enter(&mut self, shape: &'static Shape) {
        match shape {
            Shape::Struct(schema) => self.structure = Some(static_of(schema)),
            // Steps into a list there, which is forbidden, are lost in the path.
            Shape::SchemaOr(_, schema) => self.structure = Some(schema),
            shape => self.shape = Some(shape),
        }
    }

    /// Go's zero value as JSON.
    fn zero(&self) -> &'static str {
        if matches!(
            self.presence,
            Some(Presence::Pointer | Presence::PointerNull)
        ) {
            return "null";
        }
        match self.shape {
            None if self.structure.is_some() => "{}",
            Some(Shape::Bool) => "false",
            Some(Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString) => "0",
            Some(Shape::List(_) | Shape::Map(_) | Shape::Time | Shape::MicroTime) => "null",
            Some(Shape::Quantity) => "\"0\"",
            _ => "\"\"",
        }
    }
}

/// Built-in types are static all the way down.
fn static_of<T>(link: &'static schema::Link<T>) -> &'static T {
    link
}
