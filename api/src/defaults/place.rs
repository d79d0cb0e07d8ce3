//! Writing into a document that conforms to a type, so that it still does: fields stand in the
//! type's order, keys of maps are sorted, new objects have what Go always writes, and what is zero is
//! left out where Go leaves it out.

use crate::conform;
use crate::doc::{Doc, Id, Kind, New};
use crate::schema::rule::Literal;
use crate::schema::{Presence, Shape, Type};

/// A scalar to be written.
pub(super) fn scalar(literal: Literal) -> New<'static> {
    match literal {
        Literal::Null | Literal::Json(_) => New::Null,
        Literal::Bool(value) => New::Bool(value),
        Literal::Int(value) => New::Int(value),
        Literal::Str(value) => New::Str(value),
    }
}

/// The type of the elements of the list or map that a path leads to.
pub(super) fn element_type<'s>(schema: &'s Type, path: &[&str]) -> Option<&'s Type> {
    let (last, parents) = path.split_last()?;
    let mut schema = schema;
    for key in parents {
        let Shape::Struct(inner) = &schema.field(key)?.shape else {
            return None;
        };
        schema = inner;
    }
    let item = match &schema.field(last)?.shape {
        Shape::List(list) => &list.item,
        Shape::Map(map) => &map.item,
        _ => return None,
    };
    match item {
        Shape::Struct(inner) => Some(inner),
        _ => None,
    }
}

/// Sets what a path, and at its end a key of a map, leads to. Objects on the way are made.
pub(super) fn put(
    doc: &mut Doc,
    (owner, schema): (Id, &Type),
    path: &[&str],
    key: Option<&str>,
    value: Id,
) {
    let keys = || path.iter().copied().chain(key);
    let mut at = owner;
    let mut within = Some(schema);
    for (depth, name) in keys().enumerate() {
        let field = within.and_then(|schema| Some((schema, schema.field(name)?)));
        let is_last = depth + 1 == keys().count();
        if is_last {
            return put_value(doc, at, name, field.map(|field| field.0), value);
        }
        let inner = match field.map(|field| &field.1.shape) {
            Some(Shape::Struct(inner)) => Some(&**inner),
            _ => None,
        };
        at = match doc.find(at, name) {
            Some(found) if doc.cell(found).kind == Kind::Object => found,
            _ => {
                let made = doc.make(New::Object);
                if let Some(inner) = inner {
                    conform::complete(doc, made, inner);
                }
                insert(doc, at, name, field.map(|field| field.0), made);
                made
            }
        };
        within = inner;
    }
}

fn put_value(doc: &mut Doc, owner: Id, name: &str, schema: Option<&Type>, value: Id) {
    let field = schema.and_then(|schema| schema.field(name));
    if let Some(field) = field {
        if let Shape::Struct(inner) = &field.shape
            && doc.cell(value).kind == Kind::Object
        {
            conform::complete(doc, value, inner);
        }
        let is_left_out = match field.presence {
            Presence::NonZero => doc.is_zero(value),
            Presence::Pointer => doc.node(value).is_null(),
            Presence::Always | Presence::PointerNull => false,
        };
        if is_left_out {
            doc.remove(owner, name);
            return;
        }
    }
    insert(doc, owner, name, schema, value);
}

/// Sets a field in the type's order, or an entry of a map in the order of keys.
fn insert(doc: &mut Doc, owner: Id, name: &str, schema: Option<&Type>, value: Id) {
    if doc.find(owner, name).is_some() {
        return doc.put(owner, name, value);
    }
    let place = schema.map(|schema| (schema, schema.position(name, 0)));
    let mut hint = 0;
    let before = doc.node(owner).children().take_while(|child| match place {
        // Fields that the type does not know stand last.
        Some((schema, place)) => schema.position(child.key(), hint).is_some_and(|at| {
            hint = at + 1;
            Some(at) < place
        }),
        None => child.key() < name,
    });
    let index = before.count();
    doc.insert_entry(owner, index, name, value);
}
