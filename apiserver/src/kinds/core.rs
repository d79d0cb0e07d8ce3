//! The core group, apart from pods and what runs them: a file for each kind or for a few alike.

mod claim;
mod config;
mod endpoints;
mod event;
mod namespace;
mod node;
mod persistent_volume;
mod quota;
pub mod quantities;
mod service;
mod service_account;
pub mod volume;

use super::Facts;

pub use event::STRICT as STRICT_EVENT;
pub use persistent_volume::inline_spec;

/// The strategy of a resource of this group.
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
