//! From what exists and what is wanted to what is to be written. Nothing that somebody added is taken
//! away, and who annotates an object keeps it as it is.

use api::doc::{Doc, Node};

use super::{AUTO_UPDATE, Wanted};
use crate::authorization::rules::{self, Rule};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Create it.
    Create,
    /// Write it over the existing one.
    Update,
    /// Delete the existing one and create it: a binding cannot change its role.
    Recreate,
}

/// One object to be written.
#[derive(Debug, Clone)]
pub struct Step {
    /// How.
    pub operation: Operation,
    /// Its resource.
    pub resource: &'static str,
    /// Its namespace, empty for the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object as it is to be.
    pub doc: Doc,
}

/// What is to be done about one object; none if it is as wanted.
pub fn plan(existing: Option<&Doc>, wanted: &Wanted) -> Option<Step> {
    let step = |operation, doc| {
        Some(Step {
            operation,
            resource: wanted.resource,
            namespace: wanted.namespace.clone(),
            name: wanted.name.clone(),
            doc,
        })
    };
    let Some(existing) = existing else {
        return step(Operation::Create, wanted.doc.clone());
    };
    let root = existing.root();
    if root.text(&["metadata", "annotations", AUTO_UPDATE]) == "false" {
        return None;
    }
    if root.get("roleRef") != wanted.doc.root().get("roleRef") {
        return step(Operation::Recreate, wanted.doc.clone());
    }
    let mut doc = existing.clone();
    for key in ["labels", "annotations"] {
        add_keys(&mut doc, &["metadata", key], &wanted.doc);
    }
    match wanted.resource.ends_with("bindings") {
        true => add_items(&mut doc, &["subjects"], &wanted.doc),
        false => {
            add_rules(&mut doc, &wanted.doc);
            aggregate(&mut doc, &wanted.doc);
        }
    }
    match doc == *existing {
        true => None,
        false => step(Operation::Update, doc),
    }
}

/// Adds the keys that an object lacks.
fn add_keys(doc: &mut Doc, path: &[&str; 2], wanted: &Doc) {
    let wanted = wanted
        .root()
        .path(path)
        .into_iter()
        .flat_map(Node::children);
    for entry in wanted {
        let path = [path[0], path[1], entry.key()];
        if doc.find_path(&path).is_none() {
            doc.set_path(&path, entry.as_str().unwrap_or_default());
        }
    }
}

/// Adds the items that a list lacks.
fn add_items(doc: &mut Doc, path: &[&str], wanted: &Doc) {
    let wanted = wanted
        .root()
        .path(path)
        .into_iter()
        .flat_map(Node::children);
    for item in wanted {
        let existing = doc.root().path(path);
        let mut existing = existing.into_iter().flat_map(Node::children);
        if existing.any(|one| one == item) {
            continue;
        }
        let mut list = doc.top();
        for (at, key) in path.iter().enumerate() {
            let is_last = at + 1 == path.len();
            list = if is_last {
                doc.list(list, key)
            } else {
                doc.object(list, key)
            };
        }
        let copy = doc.graft(item);
        doc.push_id(list, copy);
    }
}

/// Adds what the rules do not cover.
fn add_rules(doc: &mut Doc, wanted: &Doc) {
    let missing = rules::missing(&Rule::all_of(doc.root()), &Rule::all_of(wanted.root()));
    if missing.is_empty() {
        return;
    }
    let top = doc.top();
    let list = doc.list(top, "rules");
    for rule in missing {
        rule.write(doc, list);
    }
}

fn aggregate(doc: &mut Doc, wanted: &Doc) {
    let has_rule = |doc: &Doc| {
        let rule = doc.root().get("aggregationRule");
        rule.is_some_and(|rule| !rule.is_null())
    };
    match has_rule(wanted) {
        true => add_items(doc, &["aggregationRule", "clusterRoleSelectors"], wanted),
        false if has_rule(doc) => {
            let top = doc.top();
            doc.remove(top, "aggregationRule");
        }
        false => {}
    }
}
