//! Sets of field paths: who owns what. Their JSON form is FieldsV1.
//!
//! Every write compares and writes such sets, so that they are built bottom-up, as sorted lists, with
//! the names of fields borrowed from the schema.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use crate::codec::json::write_string;
use crate::doc::{Doc, Id, Kind, New, Node};

/// Of sets from here on, one is merged into the other in one pass instead of step by step.
const MANY: usize = 8;

/// A scalar within a path. The order is upstream's: numbers, strings, booleans, null.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// An integer.
    Int(i64),
    /// Any other number, as it was written.
    Number(String),
    /// Text.
    Str(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// One step of a path. The order is the one in which FieldsV1 lists them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field, or a key of a map.
    Field(Cow<'static, str>),
    /// The element of a list that has these keys, sorted by name.
    Key(Vec<(Cow<'static, str>, Scalar)>),
    /// The element of a set that is this.
    Value(Scalar),
    /// The element at an index.
    Index(i64),
}

/// A set of paths: its first steps in order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set(Vec<Entry>);

/// A step that is a member, has members below it, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    step: Step,
    is_member: bool,
    below: Set,
}

impl Entry {
    fn is_void(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    fn unite(&mut self, other: Self) {
        self.is_member |= other.is_member;
        self.below.unite(other.below);
    }
}

impl Scalar {
    /// The scalar that a value is; none for lists and objects.
    pub fn of(node: Node<'_>) -> Option<Self> {
        Some(match node.kind() {
            Kind::Null => Self::Null,
            Kind::False => Self::Bool(false),
            Kind::True => Self::Bool(true),
            Kind::Int => Self::Int(node.as_i64()?),
            Kind::Number => Self::Number(node.as_number()?.to_string()),
            Kind::String => Self::Str(node.as_str()?.to_string()),
            Kind::List | Kind::Object => return None,
        })
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Number(text) => out.push_str(text),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Null => out.push_str("null"),
            Self::Str(text) => quote(text, out),
        }
    }
}

/// Appends a JSON string.
fn quote(text: &str, out: &mut String) {
    let is_plain = |byte| !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0..=0x1f | 0xe2);
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut quoted = Vec::new();
    write_string(text, &mut quoted);
    out.push_str(&String::from_utf8_lossy(&quoted));
}

impl Step {
    /// The step of a key in FieldsV1; none if it is of a kind that is not known.
    fn read(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(format!("missing colon: {text}"));
        };
        let parsed =
            || crate::codec::json::parse(rest.as_bytes().to_vec()).map_err(|e| e.to_string());
        Ok(Some(match kind {
            "f" => Self::Field(Cow::Owned(rest.to_string())),
            "v" => Self::Value(Scalar::of(parsed()?.root()).ok_or("a value must be a scalar")?),
            "i" => Self::Index(rest.parse().map_err(|_| format!("bad index {rest:?}"))?),
            "k" => match one_key(rest) {
                Some((name, value)) => {
                    let value = Scalar::Str(value.to_string());
                    Self::Key(vec![(Cow::Owned(name.to_string()), value)])
                }
                None => Self::Key(keys(&parsed()?)?),
            },
            _ => return Ok(None),
        }))
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            Self::Value(value) => {
                out.push_str("v:");
                value.write(out);
            }
            Self::Index(index) => {
                out.push_str("i:");
                out.push_str(&index.to_string());
            }
            Self::Key(fields) => {
                out.push_str("k:{");
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    quote(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// `{"name":"value"}` without escapes, which is how most elements are told apart.
fn one_key(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix("{\"")?.strip_suffix("\"}")?;
    let (name, value) = inner.split_once("\":\"")?;
    let is_plain = |text: &str| !text.bytes().any(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
    (is_plain(name) && is_plain(value)).then_some((name, value))
}

fn keys(doc: &Doc) -> Result<Vec<(Cow<'static, str>, Scalar)>, String> {
    let mut fields = Vec::new();
    for field in doc.root().children() {
        let value = Scalar::of(field).ok_or("a key's value must be a scalar")?;
        fields.push((Cow::Owned(field.key().to_string()), value));
    }
    fields.sort();
    Ok(fields)
}

/// As conflicts name it: `.spec`, `[name="a"]`, `[="x"]`, `[3]`.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = |value: &Scalar| {
            let mut text = String::new();
            value.write(&mut text);
            text
        };
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Value(value) => write!(out, "[={}]", json(value)),
            Self::Index(index) => write!(out, "[{index}]"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", json(value)))
                    .collect();
                write!(out, "[{}]", fields.join(","))
            }
        }
    }
}

/// The text of a path.
pub fn path_text(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl Set {
    /// A set of paths of fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let steps: Vec<Step> = path
                .iter()
                .map(|name| Step::Field(Cow::Owned((*name).to_string())))
                .collect();
            set.insert(&steps);
        }
        set
    }

    fn find(&self, step: &Step) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry.step.cmp(step))
    }

    fn get(&self, step: &Step) -> Option<&Entry> {
        self.find(step).ok().map(|at| &self.0[at])
    }

    /// Adds a path; the empty one is no member.
    pub fn insert(&mut self, path: &[Step]) {
        let [first, rest @ ..] = path else { return };
        let at = self.find(first).unwrap_or_else(|at| {
            let entry = Entry {
                step: first.clone(),
                is_member: false,
                below: Self::default(),
            };
            self.0.insert(at, entry);
            at
        });
        match rest {
            [] => self.0[at].is_member = true,
            rest => self.0[at].below.insert(rest),
        }
    }

    /// Adds a step with what is below it, if there is anything to add; [`Self::finish`] brings them
    /// into order.
    pub(super) fn push(&mut self, step: Step, is_member: bool, below: Self) {
        self.0.push(Entry {
            step,
            is_member,
            below,
        });
    }

    /// Brings what was pushed into order.
    pub(super) fn finish(&mut self) {
        if self.0.is_sorted_by(|one, other| one.step < other.step) {
            return;
        }
        let mut entries = std::mem::take(&mut self.0);
        entries.sort_by(|one, other| one.step.cmp(&other.step));
        for entry in entries {
            match self.0.last_mut() {
                Some(last) if last.step == entry.step => last.unite(entry),
                _ => self.0.push(entry),
            }
        }
    }

    /// Whether a path is a member.
    pub fn has(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.has_step(last),
            [first, rest @ ..] => self.get(first).is_some_and(|entry| entry.below.has(rest)),
        }
    }

    /// No members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a step is a member.
    pub(crate) fn has_step(&self, step: &Step) -> bool {
        self.get(step).is_some_and(|entry| entry.is_member)
    }

    /// What is below a step.
    pub(crate) fn below(&self, step: &Step) -> Option<&Self> {
        let below = self.get(step).map(|entry| &entry.below);
        below.filter(|below| !below.is_empty())
    }

    /// A copy in which every step that has something below it is changed: whether it is a member as
    /// well, and what is below.
    pub(crate) fn mapped(&self, change: impl Fn(&Step, &Self) -> (bool, Self)) -> Self {
        let mapped = self.0.iter().map(|entry| {
            if entry.below.is_empty() {
                return entry.clone();
            }
            let (is_member, below) = change(&entry.step, &entry.below);
            Entry {
                step: entry.step.clone(),
                is_member: entry.is_member || is_member,
                below,
            }
        });
        Self(mapped.collect())
    }

    /// Adds what is in another.
    pub fn unite(&mut self, other: Self) {
        if self.0.is_empty() {
            *self = other;
        } else if other.0.len() < MANY {
            for entry in other.0 {
                match self.find(&entry.step) {
                    Ok(at) => self.0[at].unite(entry),
                    Err(at) => self.0.insert(at, entry),
                }
            }
        } else {
            self.merge(other);
        }
    }

    fn merge(&mut self, other: Self) {
        let mut ours = std::mem::take(&mut self.0).into_iter().peekable();
        let mut theirs = other.0.into_iter().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(mine), Some(its)) => mine.step.cmp(&its.step),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let next = match order {
                Ordering::Less => ours.next(),
                Ordering::Greater => theirs.next(),
                Ordering::Equal => ours.next().zip(theirs.next()).map(|(mut mine, its)| {
                    mine.unite(its);
                    mine
                }),
            };
            self.0.extend(next);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.unite(other.clone());
        result
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (few, many) = match self.0.len() <= other.0.len() {
            true => (self, other),
            false => (other, self),
        };
        let both = few.0.iter().filter_map(|entry| {
            let known = many.get(&entry.step)?;
            let common = Entry {
                step: entry.step.clone(),
                is_member: entry.is_member && known.is_member,
                below: entry.below.intersection(&known.below),
            };
            (!common.is_void()).then_some(common)
        });
        Self(both.collect())
    }

    /// What is not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.subtract(other);
        result
    }

    /// What is neither in the other nor below what is.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.cut(other, true);
        result
    }

    /// Removes what is in another.
    pub fn subtract(&mut self, other: &Self) {
        self.cut(other, false);
    }

    fn cut(&mut self, other: &Self, is_recursive: bool) {
        let cut = |mine: &mut Entry, its: &Entry| {
            if its.is_member {
                mine.is_member = false;
                if is_recursive {
                    mine.below = Self::default();
                }
            }
            mine.below.cut(&its.below, is_recursive);
            mine.is_void()
        };
        if other.0.len() < self.0.len() {
            let mut is_any_void = false;
            for its in &other.0 {
                if let Ok(at) = self.find(&its.step) {
                    is_any_void |= cut(&mut self.0[at], its);
                }
            }
            if is_any_void {
                self.0.retain(|entry| !entry.is_void());
            }
        } else if !self.0.is_empty() {
            self.0.retain_mut(|mine| match other.get(&mine.step) {
                Some(its) => !cut(mine, its),
                None => true,
            });
        }
    }

    /// Removes paths of fields.
    pub(super) fn drop_fields(&mut self, paths: &[&[&str]]) {
        for path in paths {
            self.drop_field(path);
        }
    }

    fn drop_field(&mut self, path: &[&str]) {
        let [first, rest @ ..] = path else { return };
        let found = self.0.binary_search_by(|entry| match &entry.step {
            Step::Field(name) => (**name).cmp(first),
            _ => Ordering::Greater,
        });
        let Ok(at) = found else { return };
        match rest {
            [] => self.0[at].is_member = false,
            rest => self.0[at].below.drop_field(rest),
        }
        if self.0[at].is_void() {
            self.0.remove(at);
        }
    }

    /// Every path, in order; a path comes before what is below it.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, above: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) {
        let members = self.0.iter().filter(|entry| entry.is_member);
        for Entry { step, .. } in members {
            paths.push([&above[..], std::slice::from_ref(step)].concat());
        }
        for Entry { step, below, .. } in &self.0 {
            above.push(step.clone());
            below.collect(above, paths);
            above.pop();
        }
    }

    /// Reads FieldsV1; steps of kinds that are not known are skipped.
    ///
    /// # Errors
    ///
    /// If a key is malformed.
    pub fn read(fields: Node<'_>) -> Result<Self, String> {
        let mut set = Self::default();
        for child in fields.children() {
            if child.key() == "." {
                continue;
            }
            let Some(step) = Step::read(child.key())? else {
                continue;
            };
            let below = Self::read(child)?;
            let is_member = below.is_empty() || child.get(".").is_some();
            set.push(step, is_member, below);
        }
        set.finish();
        Ok(set)
    }

    /// Writes FieldsV1 into a document; the value stands nowhere yet.
    pub fn write(&self, doc: &mut Doc) -> Id {
        let object = doc.make(New::Object);
        self.write_into(doc, object);
        object
    }

    fn write_into(&self, doc: &mut Doc, object: Id) {
        for Entry {
            step,
            is_member,
            below,
        } in &self.0
        {
            let child = doc.make(New::Object);
            doc.cells[child.index()].key = doc.add_text_by(|text| step.write(text));
            doc.link_last(object, child);
            if *is_member && !below.is_empty() {
                doc.set(child, ".", New::Object);
            }
            below.write_into(doc, child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &str = r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}},"f:finalizers":{"v:\"x\"":{}},"f:list":{"i:3":{}}}}"#;

    fn set(text: &str) -> Set {
        Set::read(Doc::literal(text).root()).unwrap()
    }

    fn written(set: &Set) -> String {
        let mut doc = Doc::new();
        let id = set.write(&mut doc);
        doc.node(id).to_string()
    }

    #[test]
    fn fields_v1_comes_back() {
        assert_eq!(written(&set(FIELDS)), FIELDS);
        let paths: Vec<String> = set(FIELDS)
            .paths()
            .iter()
            .map(|path| path_text(path))
            .collect();
        assert_eq!(
            paths,
            [
                ".metadata.labels",
                ".metadata.labels.app",
                r#".spec.containers[name="a"]"#,
                r#".spec.containers[name="a"].image"#,
                r#".spec.finalizers[="x"]"#,
                ".spec.list[3]",
            ]
        );
        assert!(Set::read(Doc::literal(r#"{"x":{}}"#).root()).is_err());
        assert_eq!(set(r#"{"z:new":{},"f:a":{}}"#), set(r#"{"f:a":{}}"#));
    }

    #[test]
    fn algebra() {
        let one = set(r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{}}"#);
        let two = set(r#"{"f:a":{"f:b":{}},"f:e":{}}"#);
        assert_eq!(
            written(&one.union(&two)),
            r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{},"f:e":{}}"#
        );
        assert_eq!(written(&one.intersection(&two)), r#"{"f:a":{"f:b":{}}}"#);
        assert_eq!(
            written(&one.difference(&two)),
            r#"{"f:a":{".":{},"f:c":{}},"f:d":{}}"#
        );
        let whole = set(r#"{"f:a":{}}"#);
        assert_eq!(
            written(&one.difference(&whole)),
            r#"{"f:a":{"f:b":{},"f:c":{}},"f:d":{}}"#
        );
        assert_eq!(written(&one.recursive_difference(&whole)), r#"{"f:d":{}}"#);
        assert!(one.difference(&one).is_empty());
    }
}
