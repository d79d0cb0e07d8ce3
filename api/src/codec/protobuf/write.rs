//! Conforming documents to messages.

use super::wire::Writer;
use crate::codec::json;
use crate::doc::{Doc, Kind, Node};
use crate::schema::{Field, Presence, SchemaOr, Shape, Type};
use crate::values::time::{self, Precision};
use crate::values::{base64, duration};

/// Appends the message of a document that conforms to a type, without envelope.
pub fn encode(doc: &Doc, schema: &Type, out: &mut Vec<u8>) {
    message(doc.root(), schema, &mut Writer { out });
}

pub(super) fn message(node: Node<'_>, schema: &Type, out: &mut Writer<'_>) {
    // A type has at most some dozens of fields.
    let mut values: Vec<Option<Node<'_>>> = vec![None; schema.fields.len()];
    let mut hint = 0;
    for child in node.children() {
        if let Some(position) = schema.position(child.key(), hint) {
            values[position] = Some(child);
            hint = position + 1;
        }
    }
    Message {
        schema,
        values: &values,
    }
    .fields(&schema.by_tag, 0, out);
}

struct Message<'m> {
    schema: &'m Type,
    values: &'m [Option<Node<'m>>],
}

impl Message<'_> {
    /// The fields of one message, `level` hops into the type.
    fn fields(&self, mut places: &[u8], level: usize, out: &mut Writer<'_>) {
        while let [place, rest @ ..] = places {
            let field = &self.schema.fields[usize::from(*place)];
            let hop = field.hops.get(level).copied().unwrap_or_default();
            if hop == 0 {
                write_field(field, self.values[usize::from(*place)], out);
                places = rest;
                continue;
            }
            // All that shares the embedded message; it is written even if that is nothing.
            let same = |place: &u8| self.schema.fields[usize::from(*place)].hops[level] == hop;
            let count = places.iter().take_while(|place| same(place)).count();
            let start = out.open(hop);
            self.fields(&places[..count], level + 1, out);
            out.close(start);
            places = &places[count..];
        }
    }
}

fn write_field(field: &Field, value: Option<Node<'_>>, out: &mut Writer<'_>) {
    match (value, field.presence) {
        (Some(value), Presence::PointerNull) if value.is_null() => {}
        (Some(value), _) => write_value(field.tag, value, &field.shape, out),
        // Go has no absent values but pointers.
        (None, Presence::NonZero | Presence::Always) => write_zero(field.tag, &field.shape, out),
        (None, Presence::Pointer | Presence::PointerNull) => {}
    }
}

fn write_zero(tag: u8, shape: &Shape, out: &mut Writer<'_>) {
    match shape {
        Shape::Bool | Shape::Int32 | Shape::Int64 => out.int(tag, 0),
        Shape::Float => out.double(tag, 0.0),
        Shape::String => out.string(tag, ""),
        Shape::Bytes | Shape::List(_) | Shape::Map(_) => {}
        _ => {
            let start = out.open(tag);
            match shape {
                Shape::Quantity => out.string(1, "0"),
                Shape::Duration => out.int(1, 0),
                Shape::IntOrString => {
                    out.int(1, 0);
                    out.int(2, 0);
                    out.string(3, "");
                }
                _ => {}
            }
            out.close(start);
        }
    }
}

fn write_value(tag: u8, value: Node<'_>, shape: &Shape, out: &mut Writer<'_>) {
    match shape {
        Shape::Bool => out.int(tag, i64::from(value.kind() == Kind::True)),
        Shape::Int32 | Shape::Int64 => out.int(tag, value.as_i64().unwrap_or_default()),
        Shape::Float => out.double(tag, value.as_f64().unwrap_or_default()),
        Shape::String => out.string(tag, value.as_str().unwrap_or_default()),
        Shape::Bytes => {
            if let Some(text) = value.as_str() {
                out.bytes(tag, &base64::decode(text).unwrap_or_default());
            }
        }
        Shape::List(list) if !list.wrapped => {
            for item in value.children() {
                write_value(tag, item, &list.item, out);
            }
        }
        Shape::Map(map) => {
            for entry in value.children() {
                let start = out.open(tag);
                out.string(1, entry.key());
                write_value(2, entry, &map.item, out);
                out.close(start);
            }
        }
        composite => {
            let start = out.open(tag);
            write_inside(value, composite, out);
            out.close(start);
        }
    }
}

/// The inside of what is a message of its own.
fn write_inside(value: Node<'_>, shape: &Shape, out: &mut Writer<'_>) {
    match shape {
        Shape::Struct(schema) => message(value, schema, out),
        Shape::List(list) => {
            for item in value.children() {
                write_value(1, item, &list.item, out);
            }
        }
        Shape::Time => write_time(value, Precision::Seconds, out),
        Shape::MicroTime => write_time(value, Precision::Micros, out),
        Shape::Duration => {
            out.int(
                1,
                duration::parse(value.as_str().unwrap_or_default()).unwrap_or_default(),
            );
        }
        Shape::Quantity => out.string(1, value.as_str().unwrap_or_default()),
        Shape::IntOrString => {
            out.int(1, i64::from(value.kind() == Kind::String));
            out.int(2, value.as_i64().unwrap_or_default());
            out.string(3, value.as_str().unwrap_or_default());
        }
        Shape::Raw | Shape::Json | Shape::FieldsV1 | Shape::Any if !value.is_null() => {
            let mut raw = Vec::new();
            json::write(value, &mut raw);
            out.bytes(1, &raw);
        }
        Shape::SchemaOr(or, schema) => write_schema_or(value, *or, schema, out),
        _ => {}
    }
}

fn write_time(value: Node<'_>, precision: Precision, out: &mut Writer<'_>) {
    let Some(Ok(moment)) = value.as_str().map(|text| time::parse(text, precision)) else {
        return;
    };
    out.int(1, moment.seconds);
    out.int(
        2,
        match precision {
            Precision::Seconds => 0,
            Precision::Micros => i64::from(moment.nanos / 1_000 * 1_000),
        },
    );
}

fn write_schema_or(value: Node<'_>, or: SchemaOr, schema: &Type, out: &mut Writer<'_>) {
    let is_schema = value.kind() == Kind::Object;
    if or == SchemaOr::Bool {
        out.int(1, i64::from(is_schema || value.kind() == Kind::True));
    }
    if is_schema {
        let start = out.open(if or == SchemaOr::Bool { 2 } else { 1 });
        message(value, schema, out);
        out.close(start);
        return;
    }
    for item in value.children() {
        match or {
            SchemaOr::Strings => out.string(2, item.as_str().unwrap_or_default()),
            _ => {
                let start = out.open(2);
                message(item, schema, out);
                out.close(start);
            }
        }
    }
}
