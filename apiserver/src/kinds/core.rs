//! The core group, apart from pods and what runs them: a file for each kind or for a few alike.

pub mod claim;
pub mod config;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod quota;
pub mod service;
pub mod service_account;

use super::facts::Facts;

/// What is particular about a resource of this group.
pub fn facts(resource: &str) -> Option<&'static Facts> {
    Some(match resource {
        "configmaps" => &config::CONFIG_MAP,
        "endpoints" => &endpoints::ENDPOINTS,
        "events" => &event::LEGACY,
        "limitranges" => &quota::LIMIT_RANGE,
        "namespaces" => &namespace::NAMESPACE,
        "nodes" => &node::NODE,
        "persistentvolumeclaims" => &claim::CLAIM,
        "persistentvolumes" => &persistent_volume::PERSISTENT_VOLUME,
        "resourcequotas" => &quota::RESOURCE_QUOTA,
        "secrets" => &config::SECRET,
        "serviceaccounts" => &service_account::SERVICE_ACCOUNT,
        "services" => &service::SERVICE,
        _ => return None,
    })
}
