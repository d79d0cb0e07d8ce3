//! Defaulting against upstream's rules read naively: the fact table has them once more, written out
//! for every kind and path. It is no part of this repository: the test passes where it is absent.

#![allow(clippy::unwrap_used, reason = "all of it is test")]

mod support;

use api::conform::{Unknown, conform};
use api::defaults;
use api::doc::{Doc, Id, New, Node};
use api::schema::{Type, kinds};
use api::values::Quantity;
use support::facts;
use support::generate::Generator;

const NOW: &str = "2026-03-01T11:00:00Z";

#[test]
fn every_kind_is_defaulted_as_its_rules_say() {
    let rows = facts("defaults");
    let mut checked = 0;
    for kind in kinds() {
        let definition = kind.schema.definition();
        let rules: Vec<_> = rows
            .iter()
            .filter(|row| row["definition"] == definition)
            .collect();
        for seed in 0..if rules.is_empty() { 1 } else { 40 } {
            let mut doc = made(seed, kind.schema);
            let mut naive = doc.clone();
            defaults::apply(&mut doc, kind.schema, NOW);
            let done = doc.to_string();
            conform(&mut doc, kind.schema, Unknown::Keep).unwrap();
            assert_eq!(done, doc.to_string(), "{definition} does not conform");
            let is_list = kind.kind.ends_with("List");
            if rows.is_empty() || is_list {
                continue;
            }
            for rule in &rules {
                let [base, field] = ["base", "field"].map(|column| segments(&rule[column]));
                for object in bases(&naive, naive.top(), &base) {
                    Naive {
                        doc: &mut naive,
                        object,
                        field: &field,
                    }
                    .apply(&rule["value"], &rule["condition"]);
                }
            }
            conform(&mut naive, kind.schema, Unknown::Keep).unwrap();
            assert_eq!(done, naive.to_string(), "{definition}, seed {seed}");
            checked += 1;
        }
    }
    assert!(rows.is_empty() || checked > 1000, "{checked}");
}

/// An object with a choice of its fields.
fn made(seed: u64, schema: &Type) -> Doc {
    let mut generator = Generator::new(seed * 7919 + 1, seed == 0);
    let mut doc = generator.object(schema, "v1", &schema.name);
    conform(&mut doc, schema, Unknown::Drop).unwrap();
    // Sums over containers have a test of their own.
    if let Some(spec) = doc.find(doc.top(), "spec")
        && schema.name == "Pod"
    {
        doc.remove(spec, "resources");
    }
    doc
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Field(String),
    /// An element of a list.
    Each,
    /// A key of a map.
    Key,
}

/// `$.a[*].b{k}["c"]`, without the `$` or `@`.
fn segments(path: &str) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut rest = path.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[*]") {
            (found, rest) = ([found, vec![Segment::Each]].concat(), after);
        } else if let Some(after) = rest.strip_prefix("{k}") {
            (found, rest) = ([found, vec![Segment::Key]].concat(), after);
        } else if let Some(after) = rest.strip_prefix("[\"") {
            let (key, after) = after.split_once("\"]").unwrap();
            found.push(Segment::Field(key.to_string()));
            rest = after;
        } else {
            let plain = rest.trim_start_matches('.');
            let end = plain.find(['.', '[', '{']).unwrap_or(plain.len());
            found.push(Segment::Field(plain[..end].to_string()));
            rest = &plain[end..];
        }
    }
    found
}

/// The objects that a path with lists and maps leads to.
fn bases(doc: &Doc, at: Id, path: &[Segment]) -> Vec<Id> {
    let Some((first, rest)) = path.split_first() else {
        return vec![at];
    };
    let next: Vec<Id> = match first {
        Segment::Field(name) => doc.find(at, name).into_iter().collect(),
        _ => doc.node(at).children().map(Node::id).collect(),
    };
    next.into_iter()
        .filter(|id| !doc.node(*id).is_null())
        .flat_map(|id| bases(doc, id, rest))
        .collect()
}

struct Naive<'d> {
    doc: &'d mut Doc,
    object: Id,
    field: &'d [Segment],
}

/// Which elements are meant, and which key.
struct At {
    indices: Vec<usize>,
    key: String,
}

impl Naive<'_> {
    fn apply(&mut self, value: &str, condition: &str) {
        for indices in self.elements() {
            for key in self.keys() {
                let at = At {
                    indices: indices.clone(),
                    key,
                };
                if condition.is_empty()
                    || parts(condition, " & ")
                        .iter()
                        .all(|one| self.holds(one, &at))
                {
                    self.set(value, &at);
                }
            }
        }
    }

    /// The indices of all elements that the field stands in.
    fn elements(&self) -> Vec<Vec<usize>> {
        let mut found = vec![Vec::new()];
        for (place, segment) in self.field.iter().enumerate() {
            let ends = place + 1 == self.field.len();
            if matches!(segment, Segment::Field(_)) || ends {
                continue;
            }
            let grown = |indices: &Vec<usize>| {
                let at = At {
                    indices: indices.clone(),
                    key: String::new(),
                };
                let list = self.resolve(&self.field[..place], &at);
                let count = list.map_or(0, |id| self.doc.node(id).len());
                let more = |index| [indices.clone(), vec![index]].concat();
                (0..count).map(more).collect::<Vec<_>>()
            };
            found = found.iter().flat_map(grown).collect();
        }
        found
    }

    /// Every key that stands anywhere, if the rule is about keys: its conditions choose.
    fn keys(&self) -> Vec<String> {
        if self.field.last() != Some(&Segment::Key) {
            return vec![String::new()];
        }
        let mut found = std::collections::BTreeSet::new();
        let mut todo = vec![self.doc.node(self.object)];
        while let Some(node) = todo.pop() {
            found.extend(node.children().map(|child| child.key().to_string()));
            todo.extend(node.children());
        }
        found.into_iter().collect()
    }

    fn resolve(&self, path: &[Segment], at: &At) -> Option<Id> {
        let mut indices = at.indices.iter();
        let mut id = self.object;
        for (place, segment) in path.iter().enumerate() {
            id = match segment {
                Segment::Field(name) => self.doc.find(id, name)?,
                Segment::Key if place + 1 == path.len() => self.doc.find(id, &at.key)?,
                _ => self.doc.node(id).children().nth(*indices.next()?)?.id(),
            };
        }
        Some(id).filter(|id| !self.doc.node(*id).is_null())
    }

    fn find(&self, path: &str, at: &At) -> Option<Node<'_>> {
        self.resolve(&segments(path), at)
            .map(|id| self.doc.node(id))
    }

    fn holds(&self, condition: &str, at: &At) -> bool {
        let (name, rest) = condition.split_once('(').unwrap();
        let argument = rest.strip_suffix(')').unwrap();
        let text = |node: Option<Node<'_>>| node.map_or(String::new(), |node| node.to_string());
        let is_zero = |text: &str| ["", "\"\"", "0", "false", "[]", "{}"].contains(&text);
        match name {
            "gate" => api::gates::is_on(argument),
            "absent" => self.find(argument, at).is_none(),
            "present" => text(self.find(argument, at)) != "[]" && self.find(argument, at).is_some(),
            "zero" => is_zero(&text(self.find(argument, at))),
            "any" => parts(argument, " ; ")
                .iter()
                .any(|way| parts(way, " & ").iter().all(|one| self.holds(one, at))),
            "eq" | "ne" | "in" => {
                let (left, right) = argument.rsplit_once(',').unwrap();
                let found = match left.strip_prefix("fn:imageTag(") {
                    Some(path) => {
                        let image = self.find(path.trim_end_matches(')'), at);
                        format!(
                            "{:?}",
                            tag(image.and_then(Node::as_str).unwrap_or_default())
                        )
                    }
                    None => text(self.find(left, at)),
                };
                let same = |one: &str| one == found || found.is_empty() && is_zero(one);
                right.split('|').any(same) == (name != "ne")
            }
            "fn:noVolumeSourceSet" => self
                .doc
                .node(self.object)
                .children()
                .all(|child| child.key() == "name"),
            name if name.starts_with("fn:") => false,
            name => panic!("what is {name}?"),
        }
    }

    fn set(&mut self, value: &str, at: &At) {
        let find = |path: &str| {
            let found = self.find(path.trim_end_matches(')'), at);
            found.map(|node| node.to_string())
        };
        let text = |path: &str| {
            let found = self.find(path.trim_end_matches(')'), at);
            found.and_then(Node::as_str).unwrap_or_default().to_string()
        };
        let json = match value.split_once('(') {
            Some(("copy", path)) => find(path),
            Some(("fn:lower", path)) => Some(quoted(&text(path).to_lowercase())),
            Some(("fn:concat", rest)) => {
                let (path, _) = rest.split_once(',').unwrap();
                Some(quoted(&(text(path) + "List")))
            }
            Some(("fn:now", _)) => Some(quoted(NOW)),
            Some(("fn:roundUpMilli", path)) => {
                let quantity = Quantity::parse(&text(path)).unwrap();
                Some(quoted(&quantity.rounded_to_millis().to_string()))
            }
            Some(("fn:storageVersionName", path)) => {
                let versions = self.find(path.trim_end_matches(')'), at);
                let mut versions = versions.into_iter().flat_map(Node::children);
                let stored = versions.find(|one| one.get("storage").unwrap().as_bool().unwrap());
                stored.map(|one| format!("[{}]", one.get("name").unwrap()))
            }
            Some((name, _)) if name.starts_with("fn:") => panic!("what is {name}?"),
            _ => Some(value.to_string()),
        };
        let Some(json) = json else { return };
        let made = Doc::literal(&format!("[{json}]"));
        let (last, parents) = self.field.split_last().unwrap();
        let mut indices = at.indices.iter();
        let mut id = self.object;
        for segment in parents {
            id = match segment {
                Segment::Field(name) => match self.doc.find(id, name) {
                    Some(found) if !self.doc.node(found).is_null() => found,
                    _ => self.doc.set(id, name, New::Object),
                },
                _ => self
                    .doc
                    .node(id)
                    .children()
                    .nth(*indices.next().unwrap())
                    .unwrap()
                    .id(),
            };
        }
        let name = match last {
            Segment::Field(name) => name.clone(),
            _ => at.key.clone(),
        };
        let value = self.doc.graft(made.root().item(0).unwrap());
        self.doc.put(id, &name, value);
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.assign(top, text);
    doc.to_string()
}

/// The generator's images are plain words or no names at all.
fn tag(image: &str) -> &'static str {
    let is_name = !image.is_empty() && image.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_name { "latest" } else { "" }
}

/// Splits at a separator outside of parentheses.
fn parts<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut found = vec![];
    let mut start = 0;
    for (at, _) in text.match_indices(separator) {
        let opened = text[start..at].matches('(').count();
        if opened == text[start..at].matches(')').count() {
            found.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    found.push(&text[start..]);
    found
}
