//! Who sends a request.

use std::collections::BTreeMap;

/// Group of those who may do everything, whatever the policies say.
pub const MASTERS: &str = "system:masters";
/// Group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everybody who is not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Name of whoever shows no credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of all nodes.
pub const NODES: &str = "system:nodes";
/// What a node's name starts with.
pub const NODE_PREFIX: &str = "system:node:";
/// Group of all service accounts; those of a namespace have it appended after a colon.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What a service account's name starts with; namespace, a colon and its name follow.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// An identity as authentication found it and authorization judges it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Name, such as `system:serviceaccount:default:builder`.
    pub name: String,
    /// What tells it from an earlier one of the same name; mostly empty.
    pub uid: String,
    /// Groups, in the order in which they were found.
    pub groups: Vec<String>,
    /// What else the authenticator says, keys in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whoever shows no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_string(),
            groups: vec![UNAUTHENTICATED.to_string()],
            ..Self::default()
        }
    }

    /// A user of some groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_string(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// Whether it is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known == group)
    }

    /// The node that this is the identity of.
    pub fn node_name(&self) -> Option<&str> {
        if !self.is_in(NODES) {
            return None;
        }
        self.name.strip_prefix(NODE_PREFIX)
    }

    /// Namespace and name of the service account that this is.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let rest = self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?;
        rest.split_once(':')
    }
}
