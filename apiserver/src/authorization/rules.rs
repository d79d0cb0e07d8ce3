//! Rules: what roles consist of, whom they let do what, and when some rules cover others.

use std::collections::{BTreeMap, BTreeSet};

use api::doc::{Doc, Id, New, Node};

use super::Attributes;
use crate::authentication::jwt::texts;
use crate::authentication::service_account::go_list;

const ALL: &str = "*";

/// Verbs on resources or on paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Rule {
    /// API groups.
    pub groups: Vec<String>,
    /// Resources, with subresources after a slash.
    pub resources: Vec<String>,
    /// Paths; a star at the end stands for anything.
    pub paths: Vec<String>,
    /// Names of objects; none means all.
    pub names: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// Everything.
pub fn full_authority() -> Vec<Rule> {
    let all = || vec![ALL.to_string()];
    vec![
        Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Rule::default()
        },
        Rule {
            verbs: all(),
            paths: all(),
            ..Rule::default()
        },
    ]
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|one| one == wanted)
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|one| one == ALL || one == wanted)
}

fn covers_path(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*'))
}

/// `resource/subresource` in a rule stands for this one, or `*/subresource` does.
fn covers_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if subresource.is_empty() {
        return pattern == resource;
    }
    let rest = pattern.strip_suffix(subresource);
    let start = rest.and_then(|rest| rest.strip_suffix('/'));
    start.is_some_and(|start| start == ALL || start == resource)
}

impl Rule {
    /// A rule as roles hold it.
    pub fn from_node(node: Node<'_>) -> Self {
        let list = |key: &str| node.get(key).map(texts).unwrap_or_default();
        Self {
            groups: list("apiGroups"),
            resources: list("resources"),
            paths: list("nonResourceURLs"),
            names: list("resourceNames"),
            verbs: list("verbs"),
        }
    }

    /// The rules of a role.
    pub fn all_of(role: Node<'_>) -> Vec<Self> {
        let rules = role.get("rules").into_iter().flat_map(Node::children);
        rules.map(Self::from_node).collect()
    }

    /// Appends it to a list, as roles hold it.
    pub fn write(&self, doc: &mut Doc, list: Id) {
        let object = doc.push(list, New::Object);
        for (key, values) in [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !values.is_empty() || key == "verbs" {
                let list = doc.list(object, key);
                for value in values {
                    doc.push(list, value);
                }
            }
        }
    }

    /// Whether it lets somebody do it.
    pub fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, wanted.verb) {
            return false;
        }
        if !wanted.is_resource {
            return self.paths.iter().any(|path| covers_path(path, wanted.path));
        }
        let is_named = || self.names.is_empty() || has(&self.names, wanted.name);
        let is_resource = |pattern: &String| {
            pattern == ALL || covers_resource(pattern, wanted.resource, wanted.subresource)
        };
        has_or_all(&self.groups, wanted.group)
            && self.resources.iter().any(is_resource)
            && is_named()
    }

    /// The same as rules with one verb, one group, one resource and at most one name each.
    fn atoms(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut atoms = Vec::new();
        let names: Vec<Vec<String>> = match &self.names[..] {
            [] => vec![Vec::new()],
            names => names.iter().map(one).collect(),
        };
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    atoms.extend(names.iter().map(|names| Self {
                        groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        names: names.clone(),
                        paths: Vec::new(),
                    }));
                }
            }
        }
        for path in &self.paths {
            atoms.extend(self.verbs.iter().map(|verb| Self {
                paths: one(path),
                verbs: one(verb),
                ..Self::default()
            }));
        }
        atoms
    }

    /// Whether it covers a rule that is one of [`Self::atoms`].
    fn covers(&self, atom: &Self) -> bool {
        let all = |set: &[String], wanted: &[String]| {
            has(set, ALL) || wanted.iter().all(|one| has(set, one))
        };
        let covers_resource = |wanted: &String| {
            let any = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
            has_or_all(&self.resources, wanted) || any.is_some_and(|any| has(&self.resources, &any))
        };
        let covers_path = |wanted: &String| self.paths.iter().any(|path| covers_path(path, wanted));
        let covers_names = self.names.is_empty()
            || !atom.names.is_empty() && atom.names.iter().all(|one| has(&self.names, one));
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(covers_resource)
            && covers_names
            && atom.paths.iter().all(covers_path)
    }

    /// As errors show it.
    fn compact(&self) -> String {
        let lists = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let shown = lists.into_iter().filter(|(_, values)| !values.is_empty());
        let shown: Vec<String> = shown
            .map(|(name, values)| format!("{name}:{}", go_list(values)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// What of some rules others do not cover, in atoms.
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms
        .filter(|atom| !owned.iter().any(|rule| rule.covers(atom)))
        .collect()
}

/// Missing atoms for people: a line for each resource, sorted.
pub fn describe(atoms: Vec<Rule>) -> String {
    let mut lines = BTreeSet::new();
    let mut by_resource: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for mut atom in atoms {
        if atom.paths.is_empty() {
            let verbs = std::mem::take(&mut atom.verbs);
            by_resource.entry(atom).or_default().extend(verbs);
        } else {
            lines.insert(atom.compact());
        }
    }
    for (rule, verbs) in by_resource {
        lines.insert(Rule { verbs, ..rule }.compact());
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `VERBS GROUPS RESOURCES [NAMES]` or `VERBS path PATHS`, lists with commas.
    fn rule(text: &str) -> Rule {
        let words: Vec<Vec<String>> = text
            .split(' ')
            .map(|word| word.split(',').map(str::to_string).collect())
            .collect();
        let at = |index: usize| words.get(index).cloned().unwrap_or_default();
        match at(1) == ["path"] {
            true => Rule {
                verbs: at(0),
                paths: at(2),
                ..Rule::default()
            },
            false => Rule {
                verbs: at(0),
                groups: at(1),
                resources: at(2),
                names: at(3),
                ..Rule::default()
            },
        }
    }

    #[test]
    fn what_covers_what() {
        for (owned, wanted, is_covered) in [
            ("get,list apps pods", "get apps pods", true),
            ("get apps pods", "get,list apps pods", false),
            ("* apps pods", "get apps pods", true),
            ("* apps pods", "* apps pods", true),
            ("get apps pods", "* apps pods", false),
            ("get * pods", "get apps pods", true),
            ("get apps pods", "get * pods", false),
            ("get apps *", "get apps pods/log", true),
            ("get apps */log", "get apps pods/log", true),
            ("get apps */log", "get apps pods", false),
            ("get apps pods", "get apps pods/log", false),
            ("get apps pods", "get apps */log", false),
            ("get apps pods", "get apps pods x", true),
            ("get apps pods x", "get apps pods", false),
            ("get apps pods x", "get apps pods x,y", false),
            ("get apps pods x,y", "get apps pods y", true),
            ("get path /a/*", "get path /a/b", true),
            ("get path /a/*", "get path /a", false),
            ("get path *", "get path /a/*", true),
            ("get path /a", "get path /a/*", false),
            ("get path /a", "post path /a", false),
            ("* * *", "get path /a", false),
        ] {
            let missing = missing(&[rule(owned)], &[rule(wanted)]);
            assert_eq!(missing.is_empty(), is_covered, "{owned} : {wanted}");
        }
    }

    /// Several rules together cover what none of them does alone.
    #[test]
    fn rules_add_up() {
        let owned = [rule("get apps pods"), rule("list apps pods,secrets")];
        assert!(missing(&owned, &[rule("get,list apps pods")]).is_empty());
        let lacks = missing(&owned, &[rule("get,list apps pods,secrets x")]);
        assert_eq!(
            describe(lacks),
            r#"{APIGroups:["apps"], Resources:["secrets"], ResourceNames:["x"], Verbs:["get"]}"#
        );
    }
}
