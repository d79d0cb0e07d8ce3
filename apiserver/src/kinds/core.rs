//! The core group, apart from pods and what runs them: a file for each kind or for a few alike.

pub mod config;
pub mod namespace;
pub mod service;
pub mod service_account;

use super::facts::Facts;

/// The strategy of a resource of this group.
pub fn facts(resource: &str) -> Option<&'static Facts> {
    Some(match resource {
        "configmaps" => &config::CONFIG_MAP,
        "namespaces" => &namespace::NAMESPACE,
        "secrets" => &config::SECRET,
        "serviceaccounts" => &service_account::SERVICE_ACCOUNT,
        "services" => &service::SERVICE,
        _ => return None,
    })
}
