//! How a value is owned: field by field, element by element, or as a whole.

use std::borrow::Cow;

use super::set::{Scalar, Step};
use crate::doc::{Doc, Kind, Node};
use crate::schema::{Field, List, ListTopology, Map, Shape, Topology, Type};

/// What the schema says about a place in a document.
#[derive(Clone, Copy)]
pub(super) enum Place<'s> {
    /// A field or element of a known shape.
    Shaped(&'s Shape, Topology),
    /// The root.
    Root(&'s Type),
    /// JSON without a schema, owned field by field.
    Untyped,
}

/// How the value at a place is owned.
#[derive(Clone, Copy)]
pub(super) enum Atom<'s> {
    /// As a whole.
    Leaf,
    /// Field by field.
    Struct(&'s Type),
    /// Key by key.
    Map(&'s Map),
    /// Key by key, without a schema.
    Object,
    /// Element by element.
    List(&'s List),
}

impl<'s> Place<'s> {
    pub(super) fn of(field: &'s Field) -> Self {
        Self::Shaped(&field.shape, field.topology)
    }

    /// The atom of what stands here; without a value, of what could.
    pub(super) fn atom(self, node: Option<Node<'_>>) -> Atom<'s> {
        let is_object = node.is_some_and(|node| node.kind() == Kind::Object);
        let (shape, topology) = match self {
            Self::Root(schema) => return Atom::Struct(schema),
            Self::Untyped if is_object => return Atom::Object,
            Self::Untyped => return Atom::Leaf,
            Self::Shaped(shape, topology) => (shape, topology),
        };
        match (shape, topology) {
            (_, Topology::Atomic) => Atom::Leaf,
            (Shape::Struct(schema), Topology::Natural) if schema.atomic => Atom::Leaf,
            (Shape::Struct(schema), _) => Atom::Struct(schema),
            (Shape::Map(map), _) => Atom::Map(map),
            (Shape::List(list), _) if list.topology != ListTopology::Atomic => Atom::List(list),
            (Shape::Json | Shape::Any | Shape::SchemaOr(..), _) if is_object => Atom::Object,
            _ => Atom::Leaf,
        }
    }
}

impl<'s> Atom<'s> {
    /// The place of a key, none if the schema has no such field.
    pub(super) fn child(self, key: &str) -> Option<Place<'s>> {
        match self {
            Self::Struct(schema) => schema.field(key).map(Place::of),
            Self::Map(map) => Some(Place::Shaped(&map.item, Topology::Natural)),
            Self::Object => Some(Place::Untyped),
            Self::Leaf | Self::List(_) => None,
        }
    }

    /// The name and place of a key; `hint` is where the schema probably has it, as in
    /// [`Type::position`]. The name of a field is the schema's own.
    pub(super) fn enter<'k>(
        self,
        key: &'k str,
        hint: &mut usize,
    ) -> (
        impl Fn() -> Cow<'static, str> + use<'s, 'k>,
        Option<Place<'s>>,
    ) {
        let field = match self {
            Self::Struct(schema) => schema.position(key, *hint).map(|at| {
                *hint = at + 1;
                &schema.fields[at]
            }),
            _ => None,
        };
        let place = match field {
            Some(field) => Some(Place::of(field)),
            None => self.child(key),
        };
        let name = move || match field {
            Some(field) => field.name.clone(),
            None => Cow::Owned(key.to_string()),
        };
        (name, place)
    }

    /// Whether the schema names the key: such fields are owned only if something in them is.
    pub(super) fn names(self, key: &str) -> bool {
        matches!(self, Self::Struct(schema) if schema.field(key).is_some())
    }
}

/// What tells an element of a list apart.
pub(super) fn element(list: &List, item: Node<'_>) -> Result<Step, String> {
    let ListTopology::Map(keys) = &list.topology else {
        return match item.kind() {
            Kind::Object => {
                Err("associative list without keys has an element that's a map type".into())
            }
            Kind::List => Err("not supported: associative list with lists as elements".into()),
            Kind::Null => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            _ => Ok(Step::Value(Scalar::of(item).unwrap_or(Scalar::Null))),
        };
    };
    match item.kind() {
        Kind::Object => {}
        Kind::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    }
    let mut found = Vec::new();
    for key in keys.iter() {
        let value = item
            .get(key)
            .and_then(Scalar::of)
            .or_else(|| default(list, key));
        found.extend(value.map(|value| (Cow::Borrowed(*key), value)));
    }
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't \
             have default values for any key fields)",
            keys.join(" "),
        ));
    }
    found.sort();
    Ok(Step::Key(found))
}

/// A key's default: ports without a protocol are TCP.
fn default(list: &List, key: &str) -> Option<Scalar> {
    let Shape::Struct(schema) = &list.item else {
        return None;
    };
    let facts = schema.field(key)?.facts;
    let text: Cow<'_, str> = match facts.default {
        Some(json) => json.into(),
        None => return None,
    };
    Scalar::of(Doc::literal(&text).root())
}
