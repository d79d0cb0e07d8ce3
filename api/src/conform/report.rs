//! What is wrong with a document, in the words of Go and of upstream's strict decoder.

use std::fmt;

use super::{Maybe, Pass};
use crate::doc::{Id, Span};
use crate::schema::{GoType, Shape};

/// More are not collected.
const MOST: usize = 100;

/// A value that is not what the type says; its text is Go's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError(pub String);

impl std::error::Error for TypeError {}

impl fmt::Display for TypeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a strict decoder refuses and others warn about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strict {
    /// The type has no such field.
    UnknownField(String),
    /// The key came before.
    DuplicateField(String),
    /// Another decoder's complaint, such as YAML's about a key that is already set.
    Other(String),
}

impl fmt::Display for Strict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(path) => write!(out, "unknown field {path:?}"),
            Self::DuplicateField(path) => write!(out, "duplicate field {path:?}"),
            Self::Other(text) => out.write_str(text),
        }
    }
}

/// The way from the root to the value at hand.
#[derive(Default)]
pub(super) struct Path(Vec<Segment>);

#[derive(Clone, Copy)]
pub(super) enum Segment {
    /// A field of a struct.
    Field(Span),
    /// A key of a map.
    Key(Span),
    /// A place in a list.
    Index(usize),
}

impl Path {
    pub(super) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }
}

impl Pass<'_> {
    pub(super) fn report_unknown(&mut self, child: Id) {
        let path = self.path_to(child);
        self.report(Strict::UnknownField(path));
    }

    pub(super) fn report_duplicate(&mut self, child: Id) {
        let path = self.path_to(child);
        self.report(Strict::DuplicateField(path));
    }

    fn report(&mut self, found: Strict) {
        if self.strict.len() < MOST && !self.strict.contains(&found) {
            self.strict.push(found);
        }
    }

    /// `spec.containers[0].ports` and the like.
    fn path_to(&self, child: Id) -> String {
        let mut path = String::new();
        for segment in &self.path.0 {
            match segment {
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
                Segment::Field(key) | Segment::Key(key) => dotted(&mut path, self.key_text(*key)),
            }
        }
        dotted(&mut path, self.doc.node(child).key());
        path
    }

    pub(super) fn mismatch_shape(&self, id: Id, at: Maybe<'_>, shape: &Shape) -> TypeError {
        let go_type = GoType {
            shape,
            field: at.map(|place| place.field),
        };
        self.mismatch(id, at, &go_type.to_string())
    }

    /// The error about a value of the wrong kind.
    pub(super) fn mismatch(&self, id: Id, at: Maybe<'_>, go_type: &str) -> TypeError {
        let value = self.doc.cell(id).kind.go_name();
        self.cannot_unmarshal(value, at, go_type)
    }

    pub(super) fn cannot_unmarshal(&self, value: &str, at: Maybe<'_>, go_type: &str) -> TypeError {
        let mut path = String::new();
        for segment in &self.path.0 {
            if let Segment::Field(key) = segment {
                dotted(&mut path, self.key_text(*key));
            }
        }
        TypeError(match at {
            None => format!("json: cannot unmarshal {value} into Go value of type {go_type}"),
            Some(place) => format!(
                "json: cannot unmarshal {value} into Go struct field {}.{path} of type {go_type}",
                place.owner.name,
            ),
        })
    }
}

fn dotted(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}
