//! What is served: every resource of every version of every group, in the order in which discovery
//! lists them.
//!
//! A catalog is made once for the built-in resources and anew whenever custom resources change;
//! discovery and OpenAPI are derived from it and from nothing else.

mod priority;

use std::borrow::Cow;
use std::cmp::Ordering;

use api::resources::{self, Resource};
pub use priority::{CUSTOM, Priority, compare_versions, priority};

/// A name: static if built in.
pub type Text = Cow<'static, str>;

/// A resource in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Plural name, such as `pods`.
    pub name: Text,
    /// Singular name, such as `pod`.
    pub singular: Text,
    /// Kind of its objects.
    pub kind: Text,
    /// Kind of its lists.
    pub list_kind: Text,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What clients may do, sorted.
    pub verbs: Vec<Text>,
    /// Short names, such as `po`.
    pub short_names: Vec<Text>,
    /// Categories, such as `all`.
    pub categories: Vec<Text>,
    /// `group/version` of what is stored; empty where nothing is.
    pub storage_version: Text,
    /// Sorted by name.
    pub subresources: Vec<Sub>,
}

/// A subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sub {
    /// Name, such as `status`.
    pub name: Text,
    /// Group of its kind.
    pub group: Text,
    /// Version of its kind.
    pub version: Text,
    /// Its kind.
    pub kind: Text,
    /// What clients may do, sorted.
    pub verbs: Vec<Text>,
    /// The connection is handed on.
    pub connect: bool,
    /// A path may follow.
    pub takes_path: bool,
}

impl Served {
    /// Whether clients may do something.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

impl Sub {
    /// Whether clients may do something.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

impl From<&'static Resource> for Served {
    fn from(known: &'static Resource) -> Self {
        Self {
            name: known.name.into(),
            singular: known.singular.into(),
            kind: known.kind.into(),
            list_kind: format!("{}List", known.kind).into(),
            namespaced: known.namespaced,
            verbs: texts(known.verbs),
            short_names: texts(known.short_names),
            categories: texts(known.categories),
            storage_version: known.storage_version.into(),
            subresources: known.subresources.iter().map(Sub::from).collect(),
        }
    }
}

impl From<&'static resources::Subresource> for Sub {
    fn from(known: &'static resources::Subresource) -> Self {
        Self {
            name: known.name.into(),
            group: known.group.into(),
            version: known.version.into(),
            kind: known.kind.into(),
            verbs: texts(known.verbs),
            connect: known.connect,
            takes_path: known.takes_path,
        }
    }
}

fn texts(words: &'static [&'static str]) -> Vec<Text> {
    words.iter().copied().map(Text::from).collect()
}

/// A version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name, such as `v1`.
    pub name: Text,
    /// Sorted by name.
    pub resources: Vec<Served>,
}

/// An API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, empty for the core group.
    pub name: Text,
    /// The preferred one first.
    pub versions: Vec<Version>,
}

impl Group {
    /// A version by its name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|known| known.name == name)
    }
}

/// Everything that is served, the group that clients should look at first first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    groups: Vec<Group>,
}

impl Catalog {
    /// The built-in resources.
    pub fn builtin() -> Self {
        Self::new(resources::resources().iter().map(Row::from))
    }

    /// A catalog of resources, in any order. Of two with the same name in the same version the
    /// first is served.
    pub fn new(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for row in rows {
            let at = position_or_push(
                &mut groups,
                |known| known.name == row.group,
                || Group {
                    name: row.group.clone(),
                    versions: Vec::new(),
                },
            );
            let versions = &mut groups[at].versions;
            let at = position_or_push(
                versions,
                |known| known.name == row.version,
                || Version {
                    name: row.version.clone(),
                    resources: Vec::new(),
                },
            );
            position_or_push(
                &mut versions[at].resources,
                |known| known.name == row.resource.name,
                || row.resource.clone(),
            );
        }
        groups.sort_by(before);
        for group in &mut groups {
            let name = &group.name;
            let rank = |version: &Version| priority(name, &version.name).version;
            group.versions.sort_by(|a, b| {
                let by_rank = rank(b).cmp(&rank(a));
                by_rank.then_with(|| compare_versions(&b.name, &a.name))
            });
            for version in &mut group.versions {
                version.resources.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        Self { groups }
    }

    /// All groups, the core group included.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group by its name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|known| known.name == name)
    }

    /// A version of a group.
    pub fn version(&self, group: &str, version: &str) -> Option<&Version> {
        self.group(group)?.version(version)
    }
}

/// A resource with the group and version that it is served in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Group, empty for the core group.
    pub group: Text,
    /// Version.
    pub version: Text,
    /// The resource.
    pub resource: Served,
}

impl From<&'static Resource> for Row {
    fn from(known: &'static Resource) -> Self {
        Self {
            group: known.group.into(),
            version: known.version.into(),
            resource: known.into(),
        }
    }
}

/// By the highest priority among a group's versions, then by name.
fn before(a: &Group, b: &Group) -> Ordering {
    let rank = |group: &Group| {
        let all = group.versions.iter();
        all.map(|version| priority(&group.name, &version.name).group)
            .max()
    };
    rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name))
}

fn position_or_push<T>(
    all: &mut Vec<T>,
    same: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> usize {
    all.iter().position(same).unwrap_or_else(|| {
        all.push(make());
        all.len() - 1
    })
}

/// Resources whose deletion is answered with the object; that of others with a Status once the object
/// is gone.
const RETURN_DELETED: &[(&str, &str)] = &[
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// Whether a deletion that is done at once is answered with the object rather than a Status.
pub fn returns_deleted(group: &str, resource: &str) -> bool {
    RETURN_DELETED.contains(&(group, resource))
}

/// `v1`, `apps/v1`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    }
}

/// The reverse of [`group_version`].
pub fn split_group_version(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_upstreams_order() {
        let catalog = Catalog::builtin();
        let names: Vec<&str> = catalog.groups().iter().map(|group| &*group.name).collect();
        let want = [
            "apiregistration.k8s.io",
            "",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "autoscaling",
            "batch",
            "certificates.k8s.io",
            "networking.k8s.io",
            "policy",
            "rbac.authorization.k8s.io",
            "storage.k8s.io",
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "scheduling.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
            "resource.k8s.io",
            "flowcontrol.apiserver.k8s.io",
        ];
        assert_eq!(names, want);
        let autoscaling = catalog.group("autoscaling").unwrap();
        let versions: Vec<&str> = autoscaling.versions.iter().map(|v| &*v.name).collect();
        assert_eq!(versions, ["v2", "v1"]);
    }

    #[test]
    fn custom_resources_are_rows_among_others() {
        let custom = |group: &str, version: &str, name: &str| {
            let mut row = Row::from(api::resources::resource("apps", "v1", "deployments").unwrap());
            row.group = group.to_string().into();
            row.version = version.to_string().into();
            row.resource.name = name.to_string().into();
            row
        };
        let rows = [
            custom("z.example.com", "v1alpha1", "foos"),
            custom("z.example.com", "v1", "foos"),
            custom("z.example.com", "v1", "bars"),
            custom("a.example.com", "v1beta1", "foos"),
            custom("apps", "v1", "zoos"),
            custom("apps", "v1", "deployments"),
        ];
        let builtin = api::resources::resources().iter().map(Row::from);
        let catalog = Catalog::new(builtin.chain(rows));
        let last: Vec<&str> = catalog.groups().iter().map(|g| &*g.name).skip(21).collect();
        assert_eq!(last, ["a.example.com", "z.example.com"]);
        let group = catalog.group("z.example.com").unwrap();
        let versions: Vec<&str> = group.versions.iter().map(|v| &*v.name).collect();
        assert_eq!(versions, ["v1", "v1alpha1"]);
        let names: Vec<&str> = group.versions[0]
            .resources
            .iter()
            .map(|r| &*r.name)
            .collect();
        assert_eq!(names, ["bars", "foos"]);
        let apps = &catalog.version("apps", "v1").unwrap().resources;
        assert_eq!(apps.len(), 6);
    }
}
