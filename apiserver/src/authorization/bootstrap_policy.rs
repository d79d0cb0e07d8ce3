//! The roles and bindings that every cluster has, from a table beside this file, and how existing ones
//! are brought up to date.

mod reconcile;
#[cfg(test)]
mod tests;

use api::doc::{Doc, Id, New};

use super::rbac::GROUP;
use super::rules::Rule;
use crate::storage::Objects;
pub use reconcile::{Operation, Step, plan};

const TABLE: &str = include_str!("bootstrap_policy/table.txt");
const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// `false` keeps a role or binding as it is.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const CONTROLLER: &str = "system:controller:";

/// A role or binding that every cluster has.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// `clusterroles`, `clusterrolebindings`, `roles` or `rolebindings`.
    pub resource: &'static str,
    /// Empty for those of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The whole object.
    pub doc: Doc,
}

/// All of them: roles of the cluster, their bindings, roles of namespaces, their bindings.
pub fn wanted() -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for line in TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix("  ") {
            Some(rule) => {
                if let Some(role) = all.last_mut() {
                    add_rule(&mut role.doc, rule);
                }
            }
            None => all.extend(object(line)),
        }
    }
    let controllers: Vec<Wanted> = all.iter().filter_map(controller_binding).collect();
    all.extend(controllers);
    let order = [
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
    ];
    all.sort_by_key(|one| order.iter().position(|resource| *resource == one.resource));
    all
}

/// What all nodes may do, as far as it needs no closer look.
pub fn node_rules() -> Vec<Rule> {
    let role = wanted().into_iter().find(|one| one.name == "system:node");
    role.map(|role| Rule::all_of(role.doc.root()))
        .unwrap_or_default()
}

/// An object without its rules.
fn object(line: &str) -> Option<Wanted> {
    let mut words = line.split(' ');
    let (resource, kind) = match words.next()? {
        "clusterrole" => ("clusterroles", "ClusterRole"),
        "clusterbinding" => ("clusterrolebindings", "ClusterRoleBinding"),
        "role" => ("roles", "Role"),
        _ => ("rolebindings", "RoleBinding"),
    };
    let is_of_cluster = resource.starts_with("cluster");
    let namespace = if is_of_cluster { "" } else { words.next()? };
    let name = words.next()?;
    let mut doc = new(kind, namespace, name);
    if resource.ends_with("bindings") {
        let role_kind = if is_of_cluster { "ClusterRole" } else { "Role" };
        add_role(&mut doc, role_kind, words.next()?);
        for subject in words {
            let (kind, name) = subject.split_once(':')?;
            add_subject(&mut doc, kind, name);
        }
    } else {
        for word in words {
            add_aggregation(&mut doc, word);
        }
        let top = doc.top();
        doc.set(top, "rules", New::Null);
    }
    Some(Wanted {
        resource,
        namespace: namespace.to_string(),
        name: name.to_string(),
        doc,
    })
}

fn new(kind: &str, namespace: &str, name: &str) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", &format!("{GROUP}/v1"));
    let metadata = doc.object(top, "metadata");
    doc.set(metadata, "name", name);
    if !namespace.is_empty() {
        doc.set(metadata, "namespace", namespace);
    }
    let labels = doc.object(metadata, "labels");
    doc.set(labels, LABEL.0, LABEL.1);
    let annotations = doc.object(metadata, "annotations");
    doc.set(annotations, AUTO_UPDATE, "true");
    doc
}

/// `to:NAME`: a label by which another role finds it; `from:NAME`: it takes over what it finds.
fn add_aggregation(doc: &mut Doc, word: &str) {
    if let Some(name) = word.strip_prefix("to:") {
        doc.set_path(
            &["metadata", "labels", &format!("{AGGREGATE_TO}{name}")],
            "true",
        );
    } else if let Some(name) = word.strip_prefix("from:") {
        let top = doc.top();
        let rule = doc.object(top, "aggregationRule");
        let selectors = doc.list(rule, "clusterRoleSelectors");
        let selector = doc.push(selectors, New::Object);
        let labels = doc.object(selector, "matchLabels");
        doc.set(labels, &format!("{AGGREGATE_TO}{name}"), "true");
    }
}

fn add_rule(doc: &mut Doc, text: &str) {
    let words: Vec<Vec<String>> = text.split(' ').map(words).collect();
    let at = |index: usize| words.get(index).cloned().unwrap_or_default();
    let rule = match at(1).first().map(String::as_str) {
        Some("path") => Rule {
            verbs: at(0),
            paths: at(2),
            ..Rule::default()
        },
        _ => Rule {
            verbs: at(0),
            groups: at(1),
            resources: at(2),
            names: at(3),
            ..Rule::default()
        },
    };
    let top = doc.top();
    let list = doc.list(top, "rules");
    rule.write(doc, list);
}

/// The core group's name is nothing.
fn words(text: &str) -> Vec<String> {
    let words = text.split(',');
    words
        .map(|word| if word == "core" { "" } else { word }.to_string())
        .collect()
}

fn add_role(doc: &mut Doc, kind: &str, name: &str) {
    let top = doc.top();
    let role = doc.object(top, "roleRef");
    doc.set(role, "apiGroup", GROUP);
    doc.set(role, "kind", kind);
    doc.set(role, "name", name);
}

fn add_subject(doc: &mut Doc, kind: &str, name: &str) -> Id {
    let top = doc.top();
    let list = doc.list(top, "subjects");
    let subject = doc.push(list, New::Object);
    match (kind, name.split_once('/')) {
        ("account", Some((namespace, name))) => {
            doc.set(subject, "kind", "ServiceAccount");
            doc.set(subject, "name", name);
            doc.set(subject, "namespace", namespace);
        }
        (kind, _) => {
            doc.set(
                subject,
                "kind",
                if kind == "user" { "User" } else { "Group" },
            );
            doc.set(subject, "apiGroup", GROUP);
            doc.set(subject, "name", name);
        }
    }
    subject
}

/// Every controller is an account of kube-system.
fn controller_binding(role: &Wanted) -> Option<Wanted> {
    let name = role.name.strip_prefix(CONTROLLER)?;
    if role.resource != "clusterroles" {
        return None;
    }
    let mut doc = new("ClusterRoleBinding", "", &role.name);
    add_role(&mut doc, "ClusterRole", &role.name);
    add_subject(&mut doc, "account", &format!("kube-system/{name}"));
    Some(Wanted {
        resource: "clusterrolebindings",
        namespace: String::new(),
        name: role.name.clone(),
        doc,
    })
}

/// What is to be written so that a cluster has all of them.
pub fn plan_all(objects: &dyn Objects) -> Vec<Step> {
    let steps = wanted().into_iter().filter_map(|wanted| {
        let existing = objects.get(GROUP, wanted.resource, &wanted.namespace, &wanted.name);
        let existing = existing.map(|object| object.doc());
        plan(existing.as_ref(), &wanted)
    });
    steps.collect()
}
