//! YAML to documents and back, as upstream reads and writes it: the scalars of YAML 1.1 (`yes` is a boolean, `0777` is
//! octal), merge keys, one document, keys sorted.

mod scalar;
mod write;

use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, Span, Tag};

use scalar::Resolved;
pub use write::write;

use crate::codec::json::MAX_DEPTH;
use crate::conform::Strict;
use crate::doc::{Cell, Doc, Id, Kind, New, Node};

/// How many values aliases may stand for in all: a few lines of YAML can mean terabytes.
const MAX_ALIASED: usize = 100_000;

/// Why something is not YAML, or is none that JSON can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Counted from 1; 0 if it is about the whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::error::Error for YamlError {}

impl fmt::Display for YamlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "yaml: {}", self.message),
            line => write!(out, "yaml: line {line}: {}", self.message),
        }
    }
}

/// Parses the first document of some YAML; nothing at all is `null`. Keys that come twice are
/// reported, of them the last counts.
///
/// # Errors
///
/// If it is not YAML, has keys that JSON cannot have, or is nested too deeply.
pub fn parse(input: &[u8]) -> Result<(Doc, Option<Strict>), YamlError> {
    let text = std::str::from_utf8(input).map_err(|_| YamlError {
        line: 0,
        message: "invalid leading UTF-8 octet".to_string(),
    })?;
    let mut doc = Doc::new();
    let mut builder = Builder {
        doc: &mut doc,
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        root: None,
        duplicates: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    while builder.root.is_none() {
        match parser.next_event() {
            None => break,
            Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => builder.event(event, span)?,
            Some(Err(error)) => {
                let line = error.marker().line();
                return Err(YamlError {
                    line,
                    message: error.info().to_string(),
                });
            }
        }
    }
    let (root, duplicates) = (builder.root, builder.duplicates);
    let root = root.unwrap_or_else(|| doc.make(New::Null));
    doc.set_root(root);
    let strict = (!duplicates.is_empty()).then(|| {
        Strict::Other(format!(
            "yaml: unmarshal errors:\n  {}",
            duplicates.join("\n  ")
        ))
    });
    Ok((doc, strict))
}

/// A collection whose end has not been seen.
struct Open {
    id: Id,
    /// In a mapping: the key whose value comes next.
    key: Option<Key>,
    seen: HashSet<String>,
}

enum Key {
    Text(String),
    /// `<<`: the entries of the value become the mapping's own.
    Merge,
}

struct Builder<'d> {
    doc: &'d mut Doc,
    open: Vec<Open>,
    anchors: HashMap<usize, Id>,
    aliased: usize,
    root: Option<Id>,
    duplicates: Vec<String>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        let error = |message: &str| YamlError {
            line,
            message: message.to_string(),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let resolved = scalar::value(&text, style, tag.as_deref());
                let resolved = resolved.map_err(|message| error(&message))?;
                if self.wants_key() {
                    return self.key(&text, &resolved, style, line);
                }
                let id = self.scalar(&resolved).map_err(|message| error(&message))?;
                self.finish(id, anchor, line)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Kind::List, anchor, tag.as_deref(), line)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Kind::Object, anchor, tag.as_deref(), line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                if self.doc.cell(open.id).kind == Kind::Object {
                    self.doc.sort_keys(open.id);
                }
                self.place(open.id, line)
            }
            Event::Alias(anchor) => {
                if self.wants_key() {
                    return Err(error("aliases as keys are not supported"));
                }
                let Some(id) = self.anchors.get(&anchor).copied() else {
                    return Err(error("unknown anchor referenced"));
                };
                if self.open.iter().any(|open| open.id == id) {
                    return Err(error("anchor value contains itself"));
                }
                let before = self.doc.cells.len();
                let copy = self.doc.copy(id);
                self.aliased += self.doc.cells.len() - before;
                if self.aliased > MAX_ALIASED
                    || self.doc.node(copy).depth() + self.open.len() > MAX_DEPTH
                {
                    let message = "document contains excessive aliasing".to_string();
                    return Err(YamlError { line: 0, message });
                }
                self.place(copy, line)
            }
            Event::DocumentEnd if self.root.is_none() => {
                let id = self.doc.make(New::Null);
                self.root = Some(id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|open| open.key.is_none() && self.doc.cell(open.id).kind == Kind::Object)
    }

    fn begin(
        &mut self,
        kind: Kind,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<(), YamlError> {
        let error = |message: &str| YamlError {
            line,
            message: message.to_string(),
        };
        if self.wants_key() {
            return Err(error("invalid map key: keys must be scalars"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(error("exceeded max depth"));
        }
        if let Some(tag) = tag.filter(|tag| tag.is_yaml_core_schema())
            && !matches!(
                (kind, &*tag.suffix),
                (Kind::List, "seq") | (Kind::Object, "map")
            )
        {
            return Err(error(&format!(
                "cannot decode a collection as !!{}",
                tag.suffix
            )));
        }
        let id = self.doc.add_cell(Cell::container(kind));
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        self.open.push(Open {
            id,
            key: None,
            seen: HashSet::new(),
        });
        Ok(())
    }

    fn key(
        &mut self,
        text: &str,
        resolved: &Resolved<'_>,
        style: saphyr_parser::ScalarStyle,
        line: usize,
    ) -> Result<(), YamlError> {
        let key = match resolved {
            Resolved::Str(_) if text == "<<" && style == saphyr_parser::ScalarStyle::Plain => {
                Key::Merge
            }
            Resolved::Str(text) => Key::Text(text.to_string()),
            Resolved::Bool(value) => Key::Text(value.to_string()),
            Resolved::Int(value) => Key::Text(value.to_string()),
            Resolved::Unsigned(value) => Key::Text(value.to_string()),
            Resolved::Float(value) => Key::Text(value.to_string()),
            Resolved::Null => {
                let message = "unsupported map key of type: %!s(<nil>), key: <nil>".to_string();
                return Err(YamlError { line, message });
            }
        };
        if let Some(open) = self.open.last_mut() {
            open.key = Some(key);
        }
        Ok(())
    }

    fn scalar(&mut self, resolved: &Resolved<'_>) -> Result<Id, String> {
        let id = match resolved {
            Resolved::Null => self.doc.make(New::Null),
            Resolved::Bool(value) => self.doc.make(New::Bool(*value)),
            Resolved::Int(value) => self.doc.make(New::Int(*value)),
            Resolved::Unsigned(value) => self.doc.make(New::Number(&value.to_string())),
            Resolved::Float(value) if value.is_finite() => {
                let id = self.doc.make(New::Null);
                crate::conform::set_float(self.doc, id, *value);
                id
            }
            Resolved::Float(value) => {
                let name = if value.is_nan() {
                    "NaN"
                } else if *value > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(format!("json: unsupported value: {name}"));
            }
            Resolved::Str(text) => self.doc.make(New::Str(text)),
        };
        Ok(id)
    }

    fn finish(&mut self, id: Id, anchor: usize, line: usize) -> Result<(), YamlError> {
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        self.place(id, line)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, id: Id, line: usize) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        let (parent, key) = (open.id, open.key.take());
        match key {
            None => self.doc.link_last(parent, id),
            Some(Key::Text(key)) => {
                self.doc.cells[id.index()].key = self.doc.add_text(&key);
                self.doc.link_last(parent, id);
                self.note(key, line);
            }
            Some(Key::Merge) => self.merge(parent, id, line)?,
        }
        Ok(())
    }

    fn note(&mut self, key: String, line: usize) {
        if let Some(open) = self.open.last_mut() {
            if open.seen.contains(&key) {
                self.duplicates
                    .push(format!("line {line}: key {key:?} already set in map"));
            } else {
                open.seen.insert(key);
            }
        }
    }

    /// The entries of a mapping, or of several, become the parent's.
    fn merge(&mut self, parent: Id, from: Id, line: usize) -> Result<(), YamlError> {
        let sources: Vec<Id> = match self.doc.cell(from).kind {
            Kind::Object => vec![from],
            // The first of a list wins, so it comes last.
            Kind::List => {
                let mut all: Vec<Id> = self.doc.node(from).children().map(Node::id).collect();
                all.reverse();
                all
            }
            _ => Vec::new(),
        };
        let all_maps = sources
            .iter()
            .all(|id| self.doc.cell(*id).kind == Kind::Object);
        if sources.is_empty() || !all_maps {
            let message = "map merge requires map or sequence of maps as the value".to_string();
            return Err(YamlError { line, message });
        }
        for source in sources {
            let mut next = self.doc.cell(source).first();
            while let Some(child) = next.some() {
                next = self.doc.cell(child).next;
                let copy = self.doc.copy(child);
                self.doc.cells[copy.index()].key = self.doc.cell(child).key;
                self.doc.link_last(parent, copy);
                let key = self.doc.node(child).key().to_string();
                self.note(key, line);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match parse(text.as_bytes()) {
            Ok((doc, None)) => doc.to_string(),
            Ok((doc, Some(strict))) => format!("{doc} ({strict})"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        for (text, want) in [
            ("yes", "true"),
            ("Off", "false"),
            ("y", "true"),
            ("yEs", r#""yEs""#),
            ("~", "null"),
            ("", "null"),
            ("0777", "511"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("08", "8"),
            ("1_000", "1000"),
            ("+1", "1"),
            ("1e3", "1000"),
            ("1.0", "1"),
            (".5", "0.5"),
            ("-", "[null]"),
            ("1:30", r#""1:30""#),
            ("2024-01-01", r#""2024-01-01""#),
            ("'yes'", r#""yes""#),
            ("\"1\"", r#""1""#),
            ("!!str 1", r#""1""#),
            ("!!int \"1\"", "1"),
            ("! yes", r#""yes""#),
            ("18446744073709551615", "18446744073709551615"),
            ("!!binary aGk=", r#""hi""#),
            ("|\n  a\n  b\n", r#""a\nb\n""#),
            ("1.2.3", r#""1.2.3""#),
            ("100m", r#""100m""#),
        ] {
            assert_eq!(json(text), want, "{text}");
        }
    }

    #[test]
    fn collections_become_json() {
        assert_eq!(
            json("b: 1\na: [x, {c: d}]\n"),
            r#"{"a":["x",{"c":"d"}],"b":1}"#
        );
        assert_eq!(json("1: a\ntrue: b\n"), r#"{"1":"a","true":"b"}"#);
        assert_eq!(
            json("a: &x {b: 1}\nc: *x\n"),
            r#"{"a":{"b":1},"c":{"b":1}}"#
        );
        assert_eq!(
            json("x: &x {b: 1, c: 2}\nz:\n  <<: *x\n"),
            r#"{"x":{"b":1,"c":2},"z":{"b":1,"c":2}}"#
        );
        assert_eq!(json("a: 1\n---\nb: 2\n"), r#"{"a":1}"#);
        assert_eq!(json("# nothing\n"), "null");
        assert_eq!(json("{\"a\": [1, 2.50]}"), r#"{"a":[1,2.5]}"#);
    }

    #[test]
    fn keys_that_come_twice_are_reported() {
        let twice = "spec:\n  foo: 1\n  bar: 2\n  foo: 3\n";
        let complaint = "yaml: unmarshal errors:\n  line 4: key \"foo\" already set in map";
        assert_eq!(
            json(twice),
            format!(r#"{{"spec":{{"bar":2,"foo":3}}}} ({complaint})"#)
        );
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        assert!(json("? [a]\n: b\n").contains("invalid map key"));
        assert!(json(".inf").contains("unsupported value: +Inf"));
        assert!(
            json("a: b: c").starts_with("yaml: line 1: "),
            "{}",
            json("a: b: c")
        );
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_string()
            + &('b'..='h').fold(String::new(), |text, key| {
                let before = char::from(u8::try_from(key).unwrap_or_default() - 1);
                text + &format!(
                    "{key}: &{key} [{}]\n",
                    vec![format!("*{before}"); 10].join(",")
                )
            });
        assert_eq!(json(&bomb), "yaml: document contains excessive aliasing");
        assert_eq!(
            json("&a [*a]"),
            "yaml: line 1: anchor value contains itself"
        );
        assert!(json(&"[".repeat(2000)).starts_with("yaml: "));
    }
}
