//! What was applied, as a ConfigMap remembers it, so that what a file says no more can be deleted. It also
//! holds what went wrong.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where the ConfigMap is.
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const NAME: &str = "trireme-manifests";

/// An object, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// Namespaces come first, then definitions of resources: others need them.
    #[serde(skip)]
    pub(super) rank: u8,
    pub(super) api_version: String,
    pub(super) kind: String,
    /// Empty if the manifest names none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Item {
    /// What a manifest is about.
    pub(super) fn of(object: &Value) -> Result<Item, String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let needed = |pointer: &str| {
            let found = text(pointer).filter(|text| !text.is_empty());
            let key = pointer.trim_start_matches('/').replace('/', ".");
            found.map(str::to_string).ok_or(format!("{key} is missing"))
        };
        let namespace = match object.pointer("/metadata/namespace") {
            None | Some(Value::Null) => "",
            Some(namespace) => namespace.as_str().ok_or("metadata.namespace is no text")?,
        };
        let item = Item {
            rank: 0,
            api_version: needed("/apiVersion")?,
            kind: needed("/kind")?,
            namespace: namespace.to_string(),
            name: needed("/metadata/name")?,
        };
        Ok(item.ranked())
    }

    /// Whether both are one object, of whatever version of its group.
    pub(super) fn is_same(&self, other: &Item) -> bool {
        let place = |item: &Item| match &*item.namespace {
            "" => "default".to_string(),
            namespace => namespace.to_string(),
        };
        let group = |item: &Item| {
            let group = item.api_version.rsplit_once('/');
            group.map_or(String::new(), |(group, _)| group.to_string())
        };
        (&self.kind, &self.name) == (&other.kind, &other.name)
            && (place(self), group(self)) == (place(other), group(other))
    }

    fn ranked(mut self) -> Item {
        self.rank = match &*self.kind {
            "Namespace" => 0,
            "CustomResourceDefinition" => 1,
            _ => 2,
        };
        self
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(out, "{} {}", self.kind, self.name),
            namespace => write!(out, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What the ConfigMap holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) items: BTreeSet<Item>,
    pub(super) errors: Vec<String>,
}

impl Inventory {
    pub(super) fn of(items: &BTreeSet<Item>, errors: &[String]) -> Inventory {
        Inventory {
            items: items.clone(),
            errors: errors.to_vec(),
        }
    }

    /// Reads the ConfigMap.
    pub(super) fn read(object: &Value) -> Result<Inventory, String> {
        let data = |key: &str| object["data"][key].as_str().unwrap_or_default();
        let items = data("objects").lines().map(|line| {
            let item = serde_json::from_str::<Item>(line);
            item.map(Item::ranked)
                .map_err(|error| format!("{NAME}: {error}"))
        });
        Ok(Inventory {
            items: items.collect::<Result<_, _>>()?,
            errors: data("errors").lines().map(str::to_string).collect(),
        })
    }

    /// The ConfigMap, an object and an error a line.
    pub(super) fn object(&self) -> Value {
        let line = |item: &Item| serde_json::to_string(item).unwrap_or_default();
        let items: Vec<String> = self.items.iter().map(line).collect();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {"objects": items.join("\n"), "errors": self.errors.join("\n")},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_comes_back_as_it_was() {
        let of = |kind: &str, namespace: &str| {
            let metadata = json!({"name": "a", "namespace": namespace});
            Item::of(&json!({"apiVersion": "v1", "kind": kind, "metadata": metadata})).unwrap()
        };
        let items = [
            of("ConfigMap", "x"),
            of("Namespace", ""),
            of("CustomResourceDefinition", ""),
        ];
        let inventory = Inventory::of(&items.into_iter().collect(), &["one".into(), "two".into()]);
        assert_eq!(Inventory::read(&inventory.object()).unwrap(), inventory);
        let order: Vec<&str> = inventory.items.iter().map(|item| &*item.kind).collect();
        assert_eq!(
            order,
            ["Namespace", "CustomResourceDefinition", "ConfigMap"]
        );
        assert!(Inventory::read(&json!({"data": {"objects": "{"}})).is_err());
        let other = Item {
            api_version: "v2".into(),
            ..of("ConfigMap", "default")
        };
        assert!(other.is_same(&of("ConfigMap", "")) && !other.is_same(&of("ConfigMap", "x")));
        let unnamed = Item::of(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}));
        assert_eq!(unnamed.unwrap_err(), "metadata.name is missing");
    }
}
