//! Sets of field paths: who owns what. Their JSON form is FieldsV1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::codec::json::write_string;
use crate::doc::{Doc, Id, Kind, New, Node};

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
    Field(String),
    /// The element of a list that has these keys, sorted by name.
    Key(Vec<(String, Scalar)>),
    /// The element of a set that is this.
    Value(Scalar),
    /// The element at an index.
    Index(i64),
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    members: BTreeSet<Step>,
    children: BTreeMap<Step, Set>,
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

    fn json(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Number(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_string(),
            Self::Str(text) => {
                let mut out = Vec::new();
                write_string(text, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }
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
            "f" => Self::Field(rest.to_string()),
            "v" => Self::Value(Scalar::of(parsed()?.root()).ok_or("a value must be a scalar")?),
            "i" => Self::Index(rest.parse().map_err(|_| format!("bad index {rest:?}"))?),
            "k" => {
                let doc = parsed()?;
                let mut fields = Vec::new();
                for field in doc.root().children() {
                    let value = Scalar::of(field).ok_or("a key's value must be a scalar")?;
                    fields.push((field.key().to_string(), value));
                }
                fields.sort();
                Self::Key(fields)
            }
            _ => return Ok(None),
        }))
    }

    fn write(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{}", value.json()),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(fields) => {
                let mut out = Vec::from(*b"k:{");
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_string(name, &mut out);
                    out.push(b':');
                    out.extend_from_slice(value.json().as_bytes());
                }
                out.push(b'}');
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }
}

/// As conflicts name it: `.spec`, `[name="a"]`, `[="x"]`, `[3]`.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Value(value) => write!(out, "[={}]", value.json()),
            Self::Index(index) => write!(out, "[{index}]"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.json()))
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
                .map(|name| Step::Field((*name).to_string()))
                .collect();
            set.insert(&steps);
        }
        set
    }

    /// Adds a path; the empty one is no member.
    pub fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether a path is a member.
    pub fn has(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self
                .children
                .get(first)
                .is_some_and(|child| child.has(rest)),
        }
    }

    /// No members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Whether a step is a member.
    pub(crate) fn has_step(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// What is below a step.
    pub(crate) fn below(&self, step: &Step) -> Option<&Self> {
        self.children.get(step).filter(|child| !child.is_empty())
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (&Step, &Self)> {
        self.children.iter()
    }

    /// A copy with `members` added and every child changed.
    pub(crate) fn mapped(
        &self,
        extra: BTreeSet<Step>,
        change: impl Fn(&Step, &Self) -> Self,
    ) -> Self {
        let mut members = self.members.clone();
        members.extend(extra);
        let children = self
            .children
            .iter()
            .map(|(step, child)| (step.clone(), change(step, child)));
        Self {
            members,
            children: children.collect(),
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            let mine = result.children.entry(step.clone()).or_default();
            *mine = mine.union(child);
        }
        result
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let both = self.children.iter().filter_map(|(step, child)| {
            let common = child.intersection(other.children.get(step)?);
            (!common.is_empty()).then(|| (step.clone(), common))
        });
        Self {
            members,
            children: both.collect(),
        }
    }

    /// What is not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is neither in the other nor below what is.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, is_recursive: bool) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let kept = self.children.iter().filter_map(|(step, child)| {
            if is_recursive && other.members.contains(step) {
                return None;
            }
            let rest = match other.children.get(step) {
                None => child.clone(),
                Some(theirs) => child.without(theirs, is_recursive),
            };
            (!rest.is_empty()).then(|| (step.clone(), rest))
        });
        Self {
            members,
            children: kept.collect(),
        }
    }

    /// Every path, in order; a path comes before what is below it.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, above: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) {
        for step in &self.members {
            paths.push([&above[..], std::slice::from_ref(step)].concat());
        }
        for (step, child) in &self.children {
            above.push(step.clone());
            child.collect(above, paths);
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
            let has_dot = child.get(".").is_some();
            let below = Self::read(child)?;
            if below == Self::default() || has_dot {
                set.members.insert(step.clone());
            }
            if below != Self::default() {
                set.children.insert(step, below);
            }
        }
        Ok(set)
    }

    /// Writes FieldsV1 into a document; the value stands nowhere yet.
    pub fn write(&self, doc: &mut Doc) -> Id {
        let object = doc.make(New::Object);
        self.write_into(doc, object);
        object
    }

    fn write_into(&self, doc: &mut Doc, object: Id) {
        let steps: BTreeSet<&Step> = self.members.iter().chain(self.children.keys()).collect();
        for step in steps {
            let child = doc.make(New::Object);
            doc.cells[child.index()].key = doc.add_text(&step.write());
            doc.link_last(object, child);
            if let Some(below) = self.children.get(step) {
                if self.members.contains(step) {
                    doc.set(child, ".", New::Object);
                }
                below.write_into(doc, child);
            }
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
