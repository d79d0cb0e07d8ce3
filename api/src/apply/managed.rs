//! `metadata.managedFields`: managers and what they own, read and written.

use std::collections::BTreeMap;

use super::set::Set;
use crate::doc::{Doc, Kind, New, Node};

pub(super) const APPLY: &str = "Apply";
pub(super) const UPDATE: &str = "Update";

/// Who owns: an operation of a manager through a version and subresource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) operation: String,
    pub(super) name: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

/// What is owned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Owned {
    pub(super) fields: Set,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
}

/// All owners of an object's fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Managed {
    pub(super) owners: BTreeMap<Manager, Owned>,
}

impl Manager {
    /// As conflicts name it.
    pub(super) fn describe(&self, owned: &Owned) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == UPDATE {
            // Upstream forgets the time on the way here, so that none is printed.
            text = format!("{text} using {}", owned.api_version);
        }
        text
    }
}

/// The list of an object, none if there is none.
pub(super) fn entries(doc: &Doc) -> Option<Node<'_>> {
    doc.root()
        .path(&["metadata", "managedFields"])
        .filter(|list| list.kind() == Kind::List)
}

/// An empty list, or a single empty entry, asks for a reset.
pub(super) fn is_reset(list: Node<'_>) -> bool {
    let mut entries = list.children();
    match (entries.next(), entries.next()) {
        (None, _) => true,
        (Some(only), None) => only
            .children()
            .all(|field| field.as_str() == Some("") || field.is_null()),
        _ => false,
    }
}

impl Managed {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The owners of an object.
    pub(super) fn read(doc: &Doc) -> Result<Self, String> {
        let mut owners = BTreeMap::new();
        for (at, entry) in entries(doc)
            .into_iter()
            .flat_map(Node::children)
            .enumerate()
        {
            let text = |key: &str| entry.text(&[key]).to_string();
            let operation = text("operation");
            if operation != APPLY && operation != UPDATE {
                return Err("operation must be `Apply` or `Update`".to_string());
            }
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_string());
            }
            match &*text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
                other => {
                    return Err(format!(
                        "invalid fieldsType {other:?} in managed fields entry {at}"
                    ));
                }
            }
            let manager = Manager {
                name: text("manager"),
                api_version: if operation == APPLY {
                    String::new()
                } else {
                    api_version.clone()
                },
                operation,
                subresource: text("subresource"),
            };
            let fields = entry
                .get("fieldsV1")
                .map(Set::read)
                .transpose()?
                .unwrap_or_default();
            let time = entry.get("time").and_then(Node::as_str).map(str::to_string);
            owners.insert(
                manager,
                Owned {
                    fields,
                    api_version,
                    time,
                },
            );
        }
        Ok(Self { owners })
    }

    /// Sets an object's owners: applied ones first, then by time and name.
    pub(super) fn write(&self, doc: &mut Doc) {
        let top = doc.top();
        let metadata = doc.object(top, "metadata");
        doc.remove(metadata, "managedFields");
        if self.is_empty() {
            return;
        }
        let mut owners: Vec<(&Manager, &Owned)> = self.owners.iter().collect();
        owners.sort_by(|(a, one), (b, other)| {
            let order = a.operation.cmp(&b.operation);
            order
                .then_with(|| one.time.cmp(&other.time))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| one.api_version.cmp(&other.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let list = doc.list(metadata, "managedFields");
        for (manager, owned) in owners {
            let entry = doc.push(list, New::Object);
            doc.set(entry, "manager", &manager.name);
            doc.set(entry, "operation", &manager.operation);
            doc.set(entry, "apiVersion", &owned.api_version);
            if let Some(time) = &owned.time {
                doc.set(entry, "time", time);
            }
            doc.set(entry, "fieldsType", "FieldsV1");
            let fields = owned.fields.write(doc);
            doc.put(entry, "fieldsV1", fields);
            if !manager.subresource.is_empty() {
                doc.set(entry, "subresource", &manager.subresource);
            }
        }
    }

    /// Folds the oldest managers of updates into one per version, so that no more than `most` are
    /// left where that is possible.
    pub(super) fn cap(&mut self, most: usize) {
        let mut updaters: Vec<Manager> = self
            .owners
            .keys()
            .filter(|manager| manager.operation == UPDATE)
            .cloned()
            .collect();
        if updaters.len() <= most {
            return;
        }
        updaters.sort_by_key(|manager| (self.owners[manager].time.clone(), manager.clone()));
        let mut count = updaters.len();
        let mut first: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if count <= most {
                break;
            }
            let version = self.owners[&manager].api_version.clone();
            let Some(known) = first.get(&version).cloned() else {
                first.insert(version, manager);
                continue;
            };
            let bucket = Manager {
                operation: UPDATE.to_string(),
                name: "ancient-changes".to_string(),
                api_version: version,
                subresource: String::new(),
            };
            if !self.owners.contains_key(&bucket)
                && let Some(owned) = self.owners.remove(&known)
            {
                self.owners.insert(bucket.clone(), owned);
            }
            if let Some(owned) = self.owners.remove(&manager)
                && let Some(bucket) = self.owners.get_mut(&bucket)
            {
                bucket.fields.unite(owned.fields);
                bucket.time = owned.time;
            }
            count -= 1;
        }
    }

    /// Gives owners whose fields did not change the times that they had.
    pub(super) fn restore_times(&mut self, before: &Self) {
        for (manager, owned) in &mut self.owners {
            if let Some(old) = before.owners.get(manager) {
                owned.time.clone_from(&old.time);
            }
        }
    }
}
