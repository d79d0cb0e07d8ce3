//! Makes a document conform to a type: what Go's typed round trip does to an object, done to a tree.
//!
//! Fields come to stand in the type's order, scalars take their one canonical form, zero values are
//! dropped or written out by presence class, keys of maps are sorted. Whatever a client's encoding
//! was, the result is the same, so that stored bytes, comparisons and managed fields do not depend
//! on it. Fields that the type lacks and keys that come twice are reported on the way, with the
//! texts and in the order of upstream's strict decoder; every decoder and patch ends here.

mod report;
mod scalar;

use std::collections::HashSet;

use report::{Path, Segment};
pub use report::{Strict, TypeError};
pub(crate) use scalar::set_float;

use crate::doc::{Cell, Doc, Id, Kind, New, Span};
use crate::schema::{Field, List, Map, Presence, SchemaOr, Shape, Type};

/// What becomes of fields that the type lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Dropped: a client's.
    Drop,
    /// Kept behind the known ones: a newer server stored them.
    Keep,
}

/// Makes the root of a document conform to a type. Unknown and duplicate fields are reported and do
/// not fail it: of equal keys the last counts.
///
/// # Errors
///
/// If a value is not what the type says, in Go's words.
pub fn conform(doc: &mut Doc, schema: &Type, unknown: Unknown) -> Result<Vec<Strict>, TypeError> {
    let top = doc.top();
    let mut pass = Pass {
        doc,
        unknown,
        path: Path::default(),
        strict: Vec::new(),
        slots: Vec::new(),
    };
    pass.structure(top, schema, None)?;
    Ok(pass.strict)
}

/// Adds what Go always writes to an object of the program's own making.
pub(crate) fn complete(doc: &mut Doc, object: Id, schema: &Type) {
    let mut pass = Pass {
        doc,
        unknown: Unknown::Keep,
        path: Path::default(),
        strict: Vec::new(),
        slots: Vec::new(),
    };
    let done = pass.structure(object, schema, None);
    debug_assert!(done.is_ok(), "{:?} in {}", done, schema.name);
}

struct Pass<'d> {
    doc: &'d mut Doc,
    unknown: Unknown,
    path: Path,
    strict: Vec<Strict>,
    /// A stack of frames: for each open struct where its fields are, for each open map its entries.
    slots: Vec<Id>,
}

/// Where a value stands, for error texts.
#[derive(Clone, Copy)]
struct Place<'s> {
    owner: &'s Type,
    field: &'s Field,
}

type Maybe<'s> = Option<Place<'s>>;

impl Pass<'_> {
    fn structure(&mut self, id: Id, schema: &Type, at: Maybe<'_>) -> Result<(), TypeError> {
        if self.doc.cell(id).kind != Kind::Object {
            return Err(self.mismatch(id, at, &schema.go_name()));
        }
        let frame = self.slots.len();
        self.slots.resize(frame + schema.fields.len(), Id::NONE);
        let mut unknown = Vec::new();
        let mut hint = 0;
        let mut next = self.doc.cell(id).first();
        while let Some(child) = next.some() {
            next = self.doc.cell(child).next;
            let key = self.doc.cell(child).key;
            let Some(position) = schema.position(self.doc.slice(key), hint) else {
                match self.unknown {
                    Unknown::Drop => self.report_unknown(child),
                    Unknown::Keep => unknown.push(child),
                }
                continue;
            };
            hint = position + 1;
            if self.slots[frame + position] != Id::NONE {
                self.report_duplicate(child);
            }
            let field = &schema.fields[position];
            self.path.push(Segment::Field(key));
            let is_there = self.field(
                child,
                Place {
                    owner: schema,
                    field,
                },
            )?;
            self.path.pop();
            self.slots[frame + position] = if is_there { child } else { Id::NONE };
        }
        self.relink(id, schema, frame)?;
        for child in unknown {
            self.doc.cells[child.index()].next = Id::NONE;
            self.doc.link_last(id, child);
        }
        Ok(())
    }

    /// Chains the fields of a frame in the type's order, with those that are always written.
    fn relink(&mut self, id: Id, schema: &Type, frame: usize) -> Result<(), TypeError> {
        let (mut first, mut last) = (Id::NONE, Id::NONE);
        for (position, field) in schema.fields.iter().enumerate() {
            let mut child = self.slots[frame + position];
            if child == Id::NONE {
                match field.presence {
                    Presence::Always => child = self.zero_field(field)?,
                    Presence::PointerNull => child = self.doc.make(New::Null),
                    Presence::NonZero | Presence::Pointer => continue,
                }
                self.doc.cells[child.index()].key = self.doc.add_text(&field.name);
            }
            match last.some() {
                None => first = child,
                Some(last) => self.doc.cells[last.index()].next = child,
            }
            last = child;
        }
        self.slots.truncate(frame);
        if let Some(last) = last.some() {
            self.doc.cells[last.index()].next = Id::NONE;
        }
        let cell = &mut self.doc.cells[id.index()];
        (cell.a, cell.b) = (first.0, last.0);
        Ok(())
    }

    /// A field's value; says whether it is there to stay.
    fn field(&mut self, id: Id, at: Place<'_>) -> Result<bool, TypeError> {
        let (shape, presence) = (&at.field.shape, at.field.presence);
        if self.doc.cell(id).kind == Kind::Null {
            match presence {
                Presence::NonZero | Presence::Pointer => return Ok(false),
                Presence::PointerNull => return Ok(true),
                Presence::Always => self.zero(id, shape)?,
            }
        }
        self.value(id, shape, Some(at))?;
        Ok(presence != Presence::NonZero || !self.doc.is_zero(id))
    }

    fn value(&mut self, id: Id, shape: &Shape, at: Maybe<'_>) -> Result<(), TypeError> {
        match shape {
            Shape::Struct(schema) => self.structure(id, schema, at),
            Shape::List(list) => self.elements(id, list, shape, at),
            Shape::Map(map) => self.entries(id, map, shape, at),
            Shape::SchemaOr(or, schema) => self.schema_or(id, *or, schema, at),
            Shape::Any | Shape::Raw | Shape::Json | Shape::FieldsV1 => Ok(()),
            scalar => self.scalar(id, scalar, at),
        }
    }

    /// The elements of a list; a `null` among them is their zero value.
    fn elements(
        &mut self,
        id: Id,
        list: &List,
        shape: &Shape,
        at: Maybe<'_>,
    ) -> Result<(), TypeError> {
        match self.doc.cell(id).kind {
            Kind::List => {}
            Kind::Null => return Ok(()),
            _ => return Err(self.mismatch_shape(id, at, shape)),
        }
        let mut next = self.doc.cell(id).first();
        let mut index = 0;
        while let Some(child) = next.some() {
            self.path.push(Segment::Index(index));
            self.element(child, &list.item, at)?;
            self.path.pop();
            next = self.doc.cell(child).next;
            index += 1;
        }
        Ok(())
    }

    fn element(&mut self, id: Id, shape: &Shape, at: Maybe<'_>) -> Result<(), TypeError> {
        if self.doc.cell(id).kind == Kind::Null {
            self.zero(id, shape)?;
        }
        self.value(id, shape, at)
    }

    /// The entries of a map, which come to stand in the order of their keys.
    fn entries(
        &mut self,
        id: Id,
        map: &Map,
        shape: &Shape,
        at: Maybe<'_>,
    ) -> Result<(), TypeError> {
        match self.doc.cell(id).kind {
            Kind::Object => {}
            Kind::Null => return Ok(()),
            _ => return Err(self.mismatch_shape(id, at, shape)),
        }
        let frame = self.slots.len();
        let children = self.doc.node(id).children();
        self.slots.extend(children.map(crate::doc::Node::id));
        let doc = &*self.doc;
        let key = |id: &Id| doc.slice(doc.cell(*id).key);
        let is_sorted = self.slots[frame..].is_sorted_by(|a, b| key(a) < key(b));
        let mut seen = HashSet::new();
        for place in frame..self.slots.len() {
            let child = self.slots[place];
            let key = self.doc.cell(child).key;
            if !is_sorted && !seen.insert(self.doc.slice(key).to_string()) {
                self.report_duplicate(child);
            }
            self.path.push(Segment::Key(key));
            self.element(child, &map.item, at)?;
            self.path.pop();
        }
        self.slots.truncate(frame);
        if !is_sorted {
            self.doc.sort_keys(id);
        }
        Ok(())
    }

    fn schema_or(
        &mut self,
        id: Id,
        or: SchemaOr,
        schema: &Type,
        at: Maybe<'_>,
    ) -> Result<(), TypeError> {
        match (self.doc.cell(id).kind, or) {
            (Kind::Object, _) => self.structure(id, schema, at),
            (Kind::True | Kind::False, SchemaOr::Bool) => Ok(()),
            (_, SchemaOr::Bool) => Err(TypeError("boolean or JSON schema expected".to_string())),
            (Kind::List, _) if self.doc.node(id).is_empty() => {
                self.doc.assign(id, New::Null);
                Ok(())
            }
            (Kind::List, _) => {
                let mut next = self.doc.cell(id).first();
                while let Some(child) = next.some() {
                    match or {
                        SchemaOr::Strings => self.element(child, &Shape::String, at)?,
                        _ if self.doc.cell(child).kind == Kind::Null => {
                            self.doc.clear(child, Kind::Object);
                            self.structure(child, schema, at)?;
                        }
                        _ => self.structure(child, schema, at)?,
                    }
                    next = self.doc.cell(child).next;
                }
                Ok(())
            }
            _ => {
                self.doc.assign(id, New::Null);
                Ok(())
            }
        }
    }

    /// The value that Go writes for an absent field without `omitempty`.
    fn zero_field(&mut self, field: &Field) -> Result<Id, TypeError> {
        let id = self.doc.make(New::Null);
        self.zero(id, &field.shape)?;
        if let Shape::Struct(schema) = &field.shape {
            self.structure(id, schema, None)?;
        }
        Ok(id)
    }

    fn zero(&mut self, id: Id, shape: &Shape) -> Result<(), TypeError> {
        let value = match shape {
            Shape::Bool => New::Bool(false),
            Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => New::Int(0),
            Shape::String => New::Str(""),
            Shape::Quantity => New::Str("0"),
            Shape::Duration => New::Str("0s"),
            Shape::Struct(_) => New::Object,
            Shape::SchemaOr(SchemaOr::Bool, _) => New::Bool(false),
            _ => New::Null,
        };
        self.doc.assign(id, value);
        Ok(())
    }

    fn overwrite(&mut self, id: Id, kind: Kind, text: &str) {
        let span = self.doc.add_text(text);
        let made = Cell::text(kind, span);
        let cell = &mut self.doc.cells[id.index()];
        (cell.kind, cell.a, cell.b) = (kind, made.a, made.b);
    }

    fn key_text(&self, key: Span) -> &str {
        self.doc.slice(key)
    }
}
