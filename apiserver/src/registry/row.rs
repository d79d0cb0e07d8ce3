//! A resource as the generic path sees it: how it is served, how it is stored, what its kind adds.

use std::collections::HashMap;
use std::sync::Arc;

use api::resources::{self, Label, Resource, Subresource, resources};
use api::schema::{self, Type};
use api::status::Qualified;

use super::Strategy;
use crate::kinds;
use crate::storage::{Collection, Source, keys};

/// A resource in one version.
pub struct Row {
    /// Its facts.
    pub resource: &'static Resource,
    /// The type of its objects in this version.
    pub schema: &'static Type,
    /// `group/version`, as objects say it.
    pub api_version: String,
    /// How its objects are stored; none for those that are not.
    pub stored: Option<Stored>,
    /// What its kind adds.
    pub strategy: &'static dyn Strategy,
}

/// How the objects of a resource are stored, whatever version they are served in.
pub struct Stored {
    /// `group/version` of what is stored.
    pub api_version: String,
    /// The type of what is stored.
    pub schema: &'static Type,
    /// The fields that selectors find in what is stored.
    pub labels: &'static [Label],
    /// What their keys start with.
    pub prefix: String,
    /// Where they are in memory.
    pub collection: Arc<Collection>,
}

impl Row {
    /// The resource as errors name it.
    pub fn qualified(&self) -> Qualified<'static> {
        Qualified {
            group: self.resource.group,
            name: self.resource.name,
        }
    }

    /// The kind as errors name it.
    pub fn qualified_kind(&self) -> Qualified<'static> {
        Qualified {
            group: self.resource.group,
            name: self.resource.kind,
        }
    }

    /// Whether objects are served in the version that is stored.
    pub fn is_stored_version(&self) -> bool {
        let stored = self.stored.as_ref();
        stored.is_none_or(|stored| stored.api_version == self.api_version)
    }

    /// One of its subresources.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.resource
            .subresources
            .iter()
            .find(|sub| sub.name == name)
    }
}

/// All resources that are served.
pub struct Registry {
    rows: HashMap<(String, String), HashMap<String, Arc<Row>>>,
}

impl Registry {
    /// The built-in resources.
    pub fn built_in() -> Self {
        let mut collections: HashMap<String, Arc<Collection>> = HashMap::new();
        let mut rows: HashMap<(String, String), HashMap<String, Arc<Row>>> = HashMap::new();
        for resource in resources() {
            let Some(row) = Self::row(resource, &mut collections) else {
                continue;
            };
            let group = (resource.group.to_string(), resource.version.to_string());
            let group = rows.entry(group).or_default();
            group.insert(resource.name.to_string(), Arc::new(row));
        }
        Self { rows }
    }

    fn row(
        resource: &'static Resource,
        collections: &mut HashMap<String, Arc<Collection>>,
    ) -> Option<Row> {
        let schema = schema::kind(resource.group, resource.version, resource.kind)?;
        let stored = match resource.storage_version {
            "" => None,
            api_version => {
                // Upstream stores some kinds in an older version, which is not served here.
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                let known = schema::kind(group, version, resource.kind);
                let (version, schema) = known.map_or((resource.version, schema), |s| (version, s));
                let labels = resources::resource(group, version, resource.name);
                let labels = labels.map_or(resource.labels, |stored| stored.labels);
                let prefix = keys::prefix(group, resource.name, false);
                let collection = collections.entry(prefix.clone()).or_default().clone();
                Some(Stored {
                    api_version: self::api_version(group, version),
                    schema,
                    labels,
                    prefix,
                    collection,
                })
            }
        };
        Some(Row {
            resource,
            schema,
            api_version: api_version(resource.group, resource.version),
            stored,
            strategy: kinds::strategy(resource.group, resource.name),
        })
    }

    /// A resource in a version.
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Row>> {
        // The key is two owned strings; requests are few compared with what one costs.
        let group = (group.to_string(), version.to_string());
        self.rows.get(&group)?.get(resource)
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values().flat_map(HashMap::values)
    }

    /// What storage has to keep: each resource once, under the names of all its versions.
    pub fn sources(&self) -> Vec<((String, String), Source)> {
        let sources = self.rows().filter_map(|row| {
            let stored = row.stored.as_ref()?;
            let name = (
                row.resource.group.to_string(),
                row.resource.name.to_string(),
            );
            let source = Source {
                prefix: stored.prefix.clone(),
                schema: stored.schema,
                collection: stored.collection.clone(),
            };
            Some((name, source))
        });
        sources.collect()
    }
}

/// `group/version`, or the version alone in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_string(),
        group => format!("{group}/{version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_resource_share_their_objects() {
        let registry = Registry::built_in();
        let stored = |group, version, name| {
            let row = registry.get(group, version, name).unwrap();
            let stored = row.stored.as_ref().unwrap();
            (stored.prefix.clone(), stored.collection.clone())
        };
        let (one, two) = (
            stored("autoscaling", "v1", "horizontalpodautoscalers"),
            stored("autoscaling", "v2", "horizontalpodautoscalers"),
        );
        assert!(one.0 == two.0 && Arc::ptr_eq(&one.1, &two.1));
        let (one, two) = (
            stored("", "v1", "events"),
            stored("events.k8s.io", "v1", "events"),
        );
        assert!(one.0 == two.0 && Arc::ptr_eq(&one.1, &two.1));
        let review = registry.get("authentication.k8s.io", "v1", "tokenreviews");
        assert!(review.unwrap().stored.is_none());
    }
}
