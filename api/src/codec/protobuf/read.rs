//! Messages to documents.

use super::wire::{Reader, Value};
use super::{Envelope, ProtobufError};
use crate::codec::json;
use crate::conform;
use crate::doc::{Cell, Doc, Id, Kind, New};
use crate::schema::{Field, SchemaOr, Shape, Type, kind};
use crate::values::time::{self, Moment, Precision};
use crate::values::{base64, duration};

/// Messages within messages; a step of nesting takes several frames of the stack.
const MAX_DEPTH: usize = json::MAX_DEPTH / 4;

/// Decodes a message of a type. The document still has to be made to conform: it has fields in the
/// order of the wire, and zero values that JSON leaves out. Unknown tags are skipped.
///
/// # Errors
///
/// If the bytes are no message of that type.
pub fn decode(bytes: &[u8], schema: &Type) -> Result<Doc, ProtobufError> {
    let mut doc = Doc::new();
    doc.cells.reserve(bytes.len() / 8);
    doc.text.reserve(bytes.len() * 2);
    let top = doc.top();
    Decoder {
        doc: &mut doc,
        depth: 0,
    }
    .message(bytes, schema, [0; 3], 0, top)?;
    Ok(doc)
}

pub(super) fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let mut found = Envelope {
        api_version: "",
        kind: "",
        raw: &[],
        content_type: "",
    };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| ProtobufError::Truncated);
    let mut fields = Reader(bytes);
    while let Some((tag, value)) = fields.next()? {
        match (tag, value) {
            (1, Value::Bytes(meta)) => {
                let mut fields = Reader(meta);
                while let Some((tag, value)) = fields.next()? {
                    match (tag, value) {
                        (1, Value::Bytes(name)) => found.api_version = text(name)?,
                        (2, Value::Bytes(name)) => found.kind = text(name)?,
                        _ => {}
                    }
                }
            }
            (2, Value::Bytes(raw)) => found.raw = raw,
            (4, Value::Bytes(name)) => found.content_type = text(name)?,
            _ => {}
        }
    }
    Ok(found)
}

struct Decoder<'d> {
    doc: &'d mut Doc,
    depth: usize,
}

type Outcome = Result<(), ProtobufError>;

impl Decoder<'_> {
    /// The fields of a message, into an object. `prefix` leads to the message within the type:
    /// `level` tags of embedded structs, whose fields are the object's own.
    fn message(
        &mut self,
        bytes: &[u8],
        schema: &Type,
        prefix: [u8; 3],
        level: usize,
        object: Id,
    ) -> Outcome {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        // Elements of a list follow one another: the list is looked up once.
        let mut open = (usize::MAX, Id::NONE);
        let mut fields = Reader(bytes);
        while let Some((tag, value)) = fields.next()? {
            let Ok(tag) = u8::try_from(tag) else {
                continue;
            };
            let mut path = prefix;
            path[level] = tag;
            let at = |place: &u8| schema.fields[usize::from(*place)].wire_path();
            let place = schema.by_tag.partition_point(|place| at(place) < path);
            let Some(position) = schema.by_tag.get(place).map(|place| usize::from(*place)) else {
                continue;
            };
            let field = &schema.fields[position];
            let found = field.wire_path();
            if found == path {
                if open.0 != position {
                    open = (position, self.start(object, field));
                }
                self.field(value, field, schema, object, open.1)?;
            } else if level < 2
                && found[..=level] == path[..=level]
                && let Value::Bytes(inner) = value
            {
                self.message(inner, schema, path, level + 1, object)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The list or map of a field that may repeat.
    fn start(&mut self, object: Id, field: &Field) -> Id {
        match &field.shape {
            Shape::List(list) if !list.wrapped => self.doc.list(object, &field.name),
            Shape::Map(_) => self.doc.object(object, &field.name),
            _ => Id::NONE,
        }
    }

    fn field(
        &mut self,
        value: Value<'_>,
        field: &Field,
        schema: &Type,
        object: Id,
        open: Id,
    ) -> Outcome {
        let wire = value.wire_type();
        let wrong = || ProtobufError::WireType {
            wire,
            field: format!("{}.{}", schema.name, field.name),
        };
        match (&field.shape, value) {
            (Shape::List(list), value) if !list.wrapped => {
                if let (Shape::Int32 | Shape::Int64 | Shape::Bool, Value::Bytes(packed)) =
                    (&list.item, &value)
                {
                    let mut numbers = Reader(packed);
                    while !numbers.0.is_empty() {
                        let number = Value::Varint(numbers.varint()?);
                        let item = self.value(number, &list.item)?.ok_or_else(wrong)?;
                        self.doc.push_id(open, item);
                    }
                    return Ok(());
                }
                let item = self.value(value, &list.item)?.ok_or_else(wrong)?;
                self.doc.push_id(open, item);
            }
            (Shape::Map(map), Value::Bytes(entry)) => self.entry(entry, &map.item, open)?,
            (shape, value) => {
                let made = self.value(value, shape)?.ok_or_else(wrong)?;
                self.link(object, &field.name, made);
            }
        }
        Ok(())
    }

    /// Appends under a key, which may come twice: then conforming keeps the last.
    fn link(&mut self, object: Id, key: &str, child: Id) {
        self.doc.cells[child.index()].key = self.doc.add_text(key);
        self.doc.link_last(object, child);
    }

    fn entry(&mut self, bytes: &[u8], item: &Shape, map: Id) -> Outcome {
        let mut key = String::new();
        let mut made = None;
        let mut fields = Reader(bytes);
        while let Some((tag, value)) = fields.next()? {
            match (tag, value) {
                (1, Value::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                (2, value) => made = self.value(value, item)?,
                _ => {}
            }
        }
        let made = made.unwrap_or_else(|| self.doc.make(New::Null));
        self.link(map, &key, made);
        Ok(())
    }

    /// One value; none if the wire type is not the shape's.
    fn value(&mut self, value: Value<'_>, shape: &Shape) -> Result<Option<Id>, ProtobufError> {
        let id = match (shape, value) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "as generated code truncates"
            )]
            (Shape::Int32, Value::Varint(value)) => {
                self.doc.make(New::Int(i64::from(value as i32)))
            }
            (Shape::Int64, Value::Varint(value)) => self.doc.make(New::Int(value.cast_signed())),
            (Shape::Bool, Value::Varint(value)) => self.doc.make(New::Bool(value != 0)),
            (Shape::Float, Value::Fixed64(bits)) => {
                let id = self.doc.make(New::Null);
                conform::set_float(self.doc, id, f64::from_bits(bits));
                id
            }
            (Shape::String, Value::Bytes(text)) => self.string(text),
            (Shape::Bytes, Value::Bytes(bytes)) => {
                let at = self.doc.text.len();
                base64::encode(bytes, &mut self.doc.text);
                self.text_from(at)
            }
            (Shape::Struct(schema), Value::Bytes(bytes)) => {
                let id = self.doc.make(New::Object);
                self.message(bytes, schema, [0; 3], 0, id)?;
                id
            }
            (Shape::List(list), Value::Bytes(bytes)) => self.wrapped(bytes, &list.item)?,
            (Shape::SchemaOr(or, schema), Value::Bytes(bytes)) => {
                self.schema_or(bytes, *or, schema)?
            }
            (Shape::Time, Value::Bytes(bytes)) => self.time(bytes, Precision::Seconds)?,
            (Shape::MicroTime, Value::Bytes(bytes)) => self.time(bytes, Precision::Micros)?,
            (Shape::Duration, Value::Bytes(bytes)) => {
                let nanos = numbers(bytes)?[0];
                self.doc.make(New::Str(&duration::format(nanos)))
            }
            (Shape::Quantity, Value::Bytes(bytes)) => self.string(first(bytes)?),
            (Shape::IntOrString, Value::Bytes(bytes)) => self.int_or_string(bytes)?,
            (Shape::Raw | Shape::Json | Shape::FieldsV1 | Shape::Any, Value::Bytes(bytes)) => {
                self.embedded(first(bytes)?)?
            }
            _ => return Ok(None),
        };
        Ok(Some(id))
    }

    fn string(&mut self, bytes: &[u8]) -> Id {
        let at = self.doc.text.len();
        self.doc.text.push_str(&String::from_utf8_lossy(bytes));
        self.text_from(at)
    }

    /// A string of what was appended to the text.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a request has megabytes at most"
    )]
    fn text_from(&mut self, at: usize) -> Id {
        let span = crate::doc::Span {
            at: at as u32,
            len: (self.doc.text.len() - at) as u32,
        };
        self.doc.add_cell(Cell::text(Kind::String, span))
    }

    /// A list that is a message of its own.
    fn wrapped(&mut self, bytes: &[u8], item: &Shape) -> Result<Id, ProtobufError> {
        let list = self.doc.make(New::List);
        let mut fields = Reader(bytes);
        while let Some((tag, value)) = fields.next()? {
            if tag == 1
                && let Some(made) = self.value(value, item)?
            {
                self.doc.push_id(list, made);
            }
        }
        Ok(list)
    }

    fn time(&mut self, bytes: &[u8], precision: Precision) -> Result<Id, ProtobufError> {
        let [seconds, nanos, _] = numbers(bytes)?;
        // Go writes an unset time as an empty message, so that 1970 cannot be told from it.
        if seconds == 0 && nanos == 0 {
            return Ok(self.doc.make(New::Null));
        }
        // The years 1 to 9999, which is what RFC 3339 can say.
        let seconds = seconds.clamp(time::UNSET.seconds, 253_402_300_799);
        let nanos = u32::try_from(nanos).unwrap_or_default().min(999_999_999);
        let at = self.doc.text.len();
        time::write(Moment { seconds, nanos }, precision, &mut self.doc.text);
        Ok(self.text_from(at))
    }

    fn int_or_string(&mut self, bytes: &[u8]) -> Result<Id, ProtobufError> {
        let (mut is_text, mut number, mut text) = (false, 0, &[][..]);
        let mut fields = Reader(bytes);
        while let Some((tag, value)) = fields.next()? {
            match (tag, value) {
                (1, Value::Varint(kind)) => is_text = kind == 1,
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "as generated code truncates"
                )]
                (2, Value::Varint(value)) => number = value as i32,
                (3, Value::Bytes(value)) => text = value,
                _ => {}
            }
        }
        Ok(if is_text {
            self.string(text)
        } else {
            self.doc.make(New::from(number))
        })
    }

    fn schema_or(
        &mut self,
        bytes: &[u8],
        or: SchemaOr,
        schema: &Type,
    ) -> Result<Id, ProtobufError> {
        let mut id = self.doc.make(match or {
            SchemaOr::Bool => New::Bool(false),
            SchemaOr::Array | SchemaOr::Strings => New::Null,
        });
        let schema_tag = if or == SchemaOr::Bool { 2 } else { 1 };
        let mut fields = Reader(bytes);
        while let Some((tag, value)) = fields.next()? {
            match (tag, value) {
                (tag, Value::Bytes(inner)) if tag == schema_tag => {
                    id = self.doc.make(New::Object);
                    self.message(inner, schema, [0; 3], 0, id)?;
                }
                (1, Value::Varint(allows)) if self.doc.cell(id).kind != Kind::Object => {
                    self.doc.assign(id, allows != 0);
                }
                (2, Value::Bytes(inner)) => {
                    let item = match or {
                        SchemaOr::Strings => self.string(inner),
                        _ => {
                            let item = self.doc.make(New::Object);
                            self.message(inner, schema, [0; 3], 0, item)?;
                            item
                        }
                    };
                    self.doc.push_id(id, item);
                }
                _ => {}
            }
        }
        Ok(id)
    }

    /// JSON, or an object in an envelope, within a message.
    fn embedded(&mut self, bytes: &[u8]) -> Result<Id, ProtobufError> {
        if bytes.is_empty() {
            return Ok(self.doc.make(New::Null));
        }
        if !bytes.starts_with(super::MAGIC) {
            let inner = json::parse(bytes.to_vec()).map_err(ProtobufError::Json)?;
            return Ok(self.doc.absorb(inner));
        }
        let envelope = Envelope::open(bytes)?;
        let (group, version) = envelope
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", envelope.api_version));
        let Some(schema) = kind(group, version, envelope.kind) else {
            return Err(ProtobufError::UnknownKind(envelope.kind.to_string()));
        };
        let id = self.doc.make(New::Object);
        self.doc.set(id, "kind", envelope.kind);
        self.doc.set(id, "apiVersion", envelope.api_version);
        self.message(envelope.raw, schema, [0; 3], 0, id)?;
        Ok(id)
    }
}

/// The bytes under tag 1.
fn first(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    let mut found = &[][..];
    let mut fields = Reader(bytes);
    while let Some((tag, value)) = fields.next()? {
        if let (1, Value::Bytes(bytes)) = (tag, value) {
            found = bytes;
        }
    }
    Ok(found)
}

/// The numbers under tags 1 to 3.
fn numbers(bytes: &[u8]) -> Result<[i64; 3], ProtobufError> {
    let mut found = [0; 3];
    let mut fields = Reader(bytes);
    while let Some((tag, value)) = fields.next()? {
        if let (1..=3, Value::Varint(number)) = (tag, value) {
            found[tag as usize - 1] = number.cast_signed();
        }
    }
    Ok(found)
}
