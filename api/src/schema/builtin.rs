//! The built-in types, by kind and by name.

use std::borrow::Cow;

use super::rule::{Condition, Key, Keys, Literal, Place, Rule, Setter, Value};
use super::{
    Facts, Field, Link, List, ListTopology, Map, NO_FACTS, Patch, Presence, Role, SchemaOr, Shape,
    Topology, Type,
};

/// A kind and its schema.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// API group, empty for the core group; `*` for the options that every group has.
    pub group: &'static str,
    /// Version in that group, or `*`.
    pub version: &'static str,
    /// Kind, such as `Pod` or `PodList`.
    pub kind: &'static str,
    /// Its schema.
    pub schema: &'static Type,
}

/// The schema of a built-in kind.
pub fn kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let first = KINDS.partition_point(|known| known.kind < kind);
    let same = KINDS[first..].iter().take_while(|known| known.kind == kind);
    same.clone()
        .find(|known| known.group == group && known.version == version)
        .or_else(|| same.clone().find(|known| known.group == "*"))
        .map(|known| known.schema)
}

/// All built-in kinds, sorted by kind.
pub fn kinds() -> &'static [Kind] {
    KINDS
}

/// A type by package and name, such as `meta/v1.ObjectMeta`.
pub fn type_named(name: &str) -> Option<&'static Type> {
    let found = TYPES.binary_search_by(|(known, _)| (*known).cmp(name));
    found.ok().map(|at| TYPES[at].1)
}

const fn type_meta(name: &'static str) -> Field {
    Field {
        name: Cow::Borrowed(name),
        shape: Shape::String,
        presence: Presence::NonZero,
        tag: 0,
        hops: [0; 2],
        topology: Topology::Natural,
        facts: NO_FACTS,
    }
}

const TYPE_KIND: Field = type_meta("kind");
const TYPE_API_VERSION: Field = type_meta("apiVersion");

include!(concat!(env!("OUT_DIR"), "/types.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_group_and_version() {
        assert_eq!(
            kind("", "v1", "Pod").unwrap().definition(),
            "io.k8s.api.core.v1.Pod"
        );
        let v1 = kind("autoscaling", "v1", "HorizontalPodAutoscaler").unwrap();
        let v2 = kind("autoscaling", "v2", "HorizontalPodAutoscaler").unwrap();
        assert_ne!(v1.package, v2.package);
        assert!(kind("apps", "v1", "Pod").is_none());
        assert!(kind("", "v1", "Pood").is_none());
        // Every group has the options.
        assert_eq!(
            kind("apps", "v1", "DeleteOptions").unwrap().package,
            "meta/v1"
        );
    }

    #[test]
    fn fields_are_found_wherever_the_hint_points() {
        let pod = type_named("core/v1.PodSpec").unwrap();
        for (at, field) in pod.fields.iter().enumerate() {
            for hint in [0, at, 1000] {
                assert_eq!(pod.position(&field.name, hint), Some(at));
            }
        }
        assert_eq!(pod.position("nodename", 0), None);
    }

    #[test]
    fn facts_of_a_field_arrive() {
        let spec = type_named("core/v1.PodSpec").unwrap();
        let volumes = spec.field("volumes").unwrap();
        assert_eq!((volumes.tag, volumes.presence), (1, Presence::NonZero));
        assert!(volumes.facts.patch.merge && volumes.facts.patch.retain_keys);
        assert_eq!(volumes.facts.patch.key, "name");
        let Shape::List(list) = &volumes.shape else {
            panic!("{:?}", volumes.shape)
        };
        assert_eq!(list.topology, ListTopology::Map(Cow::Borrowed(&["name"])));
        let Shape::Struct(volume) = &list.item else {
            panic!("{:?}", list.item)
        };
        assert_eq!(volume.field("emptyDir").unwrap().hops, [2, 0]);
        let phase = type_named("core/v1.PodStatus")
            .unwrap()
            .field("phase")
            .unwrap();
        assert!(
            phase.facts.values.contains(&"Running"),
            "{:?}",
            phase.facts.values
        );
        let protocol = type_named("core/v1.ContainerPort")
            .unwrap()
            .field("protocol")
            .unwrap();
        assert_eq!(protocol.facts.default, Some(r#""TCP""#));
    }

    /// What the decoders rely on, for every type.
    #[test]
    fn the_table_is_sound() {
        assert!(TYPES.len() > 600, "{}", TYPES.len());
        for (name, schema) in TYPES {
            assert_eq!(schema.by_name.len(), schema.fields.len(), "{name}");
            assert!(
                schema
                    .by_name
                    .is_sorted_by_key(|at| &schema.fields[usize::from(*at)].name)
            );
            let tags: Vec<_> = schema
                .by_tag
                .iter()
                .map(|at| path(&schema.fields[usize::from(*at)]))
                .collect();
            assert!(tags.is_sorted_by(|a, b| a < b), "{name}: {tags:?}");
            let tagged = schema.fields.iter().filter(|field| field.tag > 0).count();
            assert_eq!(schema.by_tag.len(), tagged, "{name}");
        }
    }

    fn path(field: &Field) -> Vec<u8> {
        let hops = field.hops.iter().copied().filter(|hop| *hop > 0);
        hops.chain([field.tag]).collect()
    }
}
