//! What the cluster serves: the kinds of discovery, for controllers that work on all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::core::discovery::v2::APIGroupDiscovery;

/// A resource of one version of its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    /// The plural name.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: BTreeSet<String>,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether clients may do all of this.
    pub(crate) fn allows(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.contains(*verb))
    }

    /// The path of the collection, in a namespace where there are some.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let root = match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match self.namespaced && !namespace.is_empty() {
            true => format!("{root}/namespaces/{namespace}/{}", self.name),
            false => format!("{root}/{}", self.name),
        }
    }
}

/// What discovery says at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    /// Every resource once, in the version that its group prefers.
    pub(crate) preferred: Vec<Resource>,
    /// What may be named by a reference: every version, by `group/version` and kind.
    by_kind: HashMap<(String, String), Resource>,
    /// Versions of groups whose servers do not answer.
    pub(crate) stale: BTreeSet<String>,
}

impl Catalog {
    /// What every cluster serves.
    pub(crate) fn built_in() -> Self {
        let mut catalog = Self::default();
        for known in api::resources::resources() {
            let resource = Resource {
                group: known.group.to_string(),
                version: known.version.to_string(),
                name: known.name.to_string(),
                kind: known.kind.to_string(),
                namespaced: known.namespaced,
                verbs: known.verbs.iter().map(ToString::to_string).collect(),
            };
            let is_same =
                |other: &Resource| other.group == resource.group && other.name == resource.name;
            if !catalog.preferred.iter().any(is_same) {
                catalog.preferred.push(resource.clone());
            }
            let key = (resource.api_version(), resource.kind.clone());
            catalog.by_kind.entry(key).or_insert(resource);
        }
        catalog
    }

    /// Asks the server.
    ///
    /// # Errors
    ///
    /// Those of the requests: nothing is known then.
    pub(crate) async fn fetch(client: &kube::Client) -> kube::Result<Self> {
        let core = client.list_core_api_versions_aggregated().await?;
        let groups = client.list_api_groups_aggregated().await?;
        Ok(Self::read(core.items.into_iter().chain(groups.items)))
    }

    /// Reads what the server says.
    pub(crate) fn read(groups: impl IntoIterator<Item = APIGroupDiscovery>) -> Self {
        let mut catalog = Self::default();
        for group in groups {
            let name = group.metadata.and_then(|meta| meta.name);
            let name = name.unwrap_or_default();
            let mut seen = BTreeSet::new();
            for version in group.versions {
                let number = version.version.unwrap_or_default();
                if version.freshness.as_deref() == Some("Stale") {
                    catalog.stale.insert(group_version(&name, &number));
                }
                for found in version.resources {
                    let kind = found.response_kind.unwrap_or_default();
                    let plural = found.resource.unwrap_or_default();
                    let resource = Resource {
                        group: name.clone(),
                        version: number.clone(),
                        kind: kind.kind.unwrap_or_default(),
                        namespaced: found.scope.as_deref() == Some("Namespaced"),
                        verbs: found.verbs.into_iter().collect(),
                        name: plural.clone(),
                    };
                    let key = (resource.api_version(), resource.kind.clone());
                    catalog
                        .by_kind
                        .entry(key)
                        .or_insert_with(|| resource.clone());
                    if seen.insert(plural) {
                        catalog.preferred.push(resource);
                    }
                }
            }
        }
        catalog
    }

    /// The resource whose objects are of a kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.by_kind
            .get(&(api_version.to_string(), kind.to_string()))
    }

    /// Preferred resources that allow what is asked.
    pub(crate) fn allowing<'c>(
        &'c self,
        verbs: &'c [&'c str],
    ) -> impl Iterator<Item = &'c Resource> {
        self.preferred
            .iter()
            .filter(move |found| found.allows(verbs))
    }

    /// What is wrong with the groups that do not answer, in upstream's words.
    pub(crate) fn failure(&self) -> Option<String> {
        let failures: BTreeMap<&String, String> = self
            .stale
            .iter()
            .map(|name| {
                (
                    name,
                    format!("{name}: stale GroupVersion discovery: {name}"),
                )
            })
            .collect();
        let texts: Vec<&str> = failures.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| {
            let texts = texts.join(", ");
            format!("unable to retrieve the complete list of server APIs: {texts}")
        })
    }
}

fn group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_string(),
        group => format!("{group}/{version}"),
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "literals for the tests of others")]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A version, its freshness and its resources.
    type Served<'a> = (&'a str, &'a str, &'a [&'a str]);

    /// A catalog of literal groups: `group`, then per version its name, freshness and resources
    /// `plural Kind scope verbs`.
    pub(crate) fn catalog(groups: &[(&str, &[Served<'_>])]) -> Catalog {
        let groups = groups.iter().map(|(group, versions)| {
            let versions = versions.iter().map(|(version, freshness, resources)| {
                let resources = resources.iter().map(|text| {
                    let parts: Vec<&str> = text.split(' ').collect();
                    json!({
                        "resource": parts[0],
                        "responseKind": {"group": group, "version": version, "kind": parts[1]},
                        "scope": parts[2],
                        "verbs": parts[3].split(',').collect::<Vec<_>>(),
                    })
                });
                let resources: Vec<_> = resources.collect();
                json!({"version": version, "freshness": freshness, "resources": resources})
            });
            let versions: Vec<_> = versions.collect();
            let group = json!({"metadata": {"name": group}, "versions": versions});
            serde_json::from_value::<APIGroupDiscovery>(group).unwrap()
        });
        Catalog::read(groups)
    }

    #[test]
    fn the_first_version_that_has_a_resource_is_preferred() {
        let catalog = catalog(&[
            (
                "",
                &[(
                    "v1",
                    "Current",
                    &[
                        "pods Pod Namespaced list,watch,delete",
                        "bindings Binding Namespaced create",
                    ],
                )],
            ),
            (
                "apps",
                &[
                    (
                        "v2",
                        "Current",
                        &["deployments Deployment Namespaced list,watch,delete"],
                    ),
                    (
                        "v1",
                        "Current",
                        &[
                            "deployments Deployment Namespaced list",
                            "old Old Cluster list,watch,delete",
                        ],
                    ),
                ],
            ),
            ("metrics.k8s.io", &[("v1beta1", "Stale", &[])]),
        ]);
        let deletable = catalog.allowing(&["delete", "list", "watch"]);
        let paths: Vec<String> = deletable.map(|resource| resource.path("a")).collect();
        assert_eq!(
            paths,
            [
                "/api/v1/namespaces/a/pods",
                "/apis/apps/v2/namespaces/a/deployments",
                "/apis/apps/v1/old"
            ]
        );
        assert_eq!(
            catalog.of_kind("apps/v1", "Deployment").unwrap().version,
            "v1"
        );
        assert!(catalog.of_kind("apps/v3", "Deployment").is_none());
        assert_eq!(
            catalog.failure().unwrap(),
            "unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale \
             GroupVersion discovery: metrics.k8s.io/v1beta1"
        );
    }
}
