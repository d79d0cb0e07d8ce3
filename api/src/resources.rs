//! The table of built-in resources: how kinds are served. Generated from `schema/resources.txt`.

/// A resource as discovery lists it.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    /// Plural name, such as `pods`.
    pub name: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind of its objects; that of lists has `List` appended.
    pub kind: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What clients may do.
    pub verbs: &'static [&'static str],
    /// Singular name, such as `pod`.
    pub singular: &'static str,
    /// Short names, such as `po`.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// `group/version` of what is stored, where it is stored at all (else empty).
    pub storage_version: &'static str,
    /// Columns of a Table; empty where name and age are all.
    pub columns: &'static [Column],
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub labels: &'static [Label],
    /// Subresources.
    pub subresources: &'static [Subresource],
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the identifying column.
    pub format: &'static str,
    /// Columns above 0 are for `-o wide`.
    pub priority: u8,
}

/// A field that selectors may name.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// What clients write.
    pub label: &'static str,
    /// The key that it is compared under.
    pub key: &'static str,
    /// Where the value is: the first path with a non-empty value. None compares as empty.
    pub paths: &'static [&'static str],
    /// `string`, `bool` or `int`: how the value becomes text.
    pub form: &'static str,
    /// Clients may use it; else it is only in the object's field set.
    pub accepted: bool,
    /// Lists and watches by it are frequent.
    pub indexed: bool,
}

/// A subresource.
#[derive(Debug, Clone, Copy)]
pub struct Subresource {
    /// Name, such as `status`.
    pub name: &'static str,
    /// Group of its kind.
    pub group: &'static str,
    /// Version of its kind.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// What clients may do.
    pub verbs: &'static [&'static str],
    /// The connection is handed on (exec, proxy, …).
    pub connect: bool,
    /// A path may follow.
    pub takes_path: bool,
}

/// All resources that are on by default.
pub fn resources() -> &'static [Resource] {
    RESOURCES
}

/// The resource of this name.
pub fn resource(group: &str, version: &str, name: &str) -> Option<&'static Resource> {
    let same =
        |known: &&Resource| known.name == name && known.group == group && known.version == version;
    RESOURCES.iter().find(same)
}

/// The columns of kinds that only subresources answer with.
pub fn subresource_columns(group_version: &str, kind: &str) -> Option<&'static [Column]> {
    let found = TABLES
        .iter()
        .find(|known| known.0 == group_version && known.1 == kind);
    found.map(|known| known.2)
}

include!(concat!(env!("OUT_DIR"), "/resources.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_kind_that_is_served_has_a_schema() {
        assert!(RESOURCES.len() >= 68, "{}", RESOURCES.len());
        for known in RESOURCES {
            let found = schema::kind(known.group, known.version, known.kind);
            assert!(found.is_some(), "{} {}", known.group, known.kind);
            if known.verbs.contains(&"list") {
                let list = format!("{}List", known.kind);
                assert!(
                    schema::kind(known.group, known.version, &list).is_some(),
                    "{list}"
                );
            }
            for sub in known.subresources {
                let found = schema::kind(sub.group, sub.version, sub.kind);
                assert!(found.is_some(), "{}/{} {}", known.name, sub.name, sub.kind);
            }
        }
    }

    #[test]
    fn facts_of_a_resource_arrive() {
        let pods = resource("", "v1", "pods").unwrap();
        assert_eq!(pods.short_names, ["po"]);
        assert_eq!(pods.columns[1].name, "Ready");
        let host = pods
            .labels
            .iter()
            .find(|label| label.label == "spec.host")
            .unwrap();
        assert_eq!(host.key, "spec.nodeName");
        let proxy = pods
            .subresources
            .iter()
            .find(|sub| sub.name == "proxy")
            .unwrap();
        assert!(proxy.connect && proxy.takes_path);
        let both = ["v1", "v2"].map(|v| resource("autoscaling", v, "horizontalpodautoscalers"));
        assert!(
            both.iter()
                .all(|r| r.unwrap().storage_version == "autoscaling/v2")
        );
        let events = resource("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(events.storage_version, "v1");
        assert!(subresource_columns("autoscaling/v1", "Scale").is_some());
    }
}
