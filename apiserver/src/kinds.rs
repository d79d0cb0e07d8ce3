//! The strategies of the built-in kinds: a file each, or one for a few that are alike.

use crate::registry::Strategy;
use crate::registry::strategy::dns_label;

/// Nothing of its own.
struct Plain;

impl Strategy for Plain {}

struct Namespace;

impl Strategy for Namespace {
    fn name_errors(&self, name: &str, is_prefix: bool) -> Vec<String> {
        dns_label(name, is_prefix)
    }
}

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match (group, resource) {
        ("", "namespaces") => &Namespace,
        _ => &Plain,
    }
}
