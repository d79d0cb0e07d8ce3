//! What a user may do. Members of `system:masters` may do everything; about others the authorizers of
//! the chain are asked one after the other, and the first that has an opinion decides.
//!
//! - [`rbac`]: roles and bindings; [`rules`]: what roles consist of
//! - [`escalation`]: nobody grants what they may not do themselves
//! - [`node`]: nodes reach what runs on them
//! - [`webhook`]: an authorizer elsewhere
//! - [`bootstrap_policy`]: the roles and bindings that every cluster has

pub mod bootstrap_policy;
pub mod escalation;
pub mod node;
pub mod rbac;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::borrow::Cow;
use std::sync::Arc;

use api::selector::{FieldSelector, LabelSelector};
use api::status::{Qualified, Status};

use crate::user::{MASTERS, User};
use node::NodeAuthorizer;
use rbac::Rbac;
use rules::Rule;
use webhook::Webhook;

/// What somebody wants to do.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// Such as `list`; for paths the HTTP method in lower case.
    pub verb: &'a str,
    /// About a resource rather than a path.
    pub is_resource: bool,
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Resource.
    pub resource: &'a str,
    /// Subresource, mostly empty.
    pub subresource: &'a str,
    /// Namespace; empty for the cluster.
    pub namespace: &'a str,
    /// The object's name; empty for all of them.
    pub name: &'a str,
    /// The path of the request.
    pub path: &'a str,
    /// The fields that a list is limited to.
    pub field_selector: Option<&'a FieldSelector>,
    /// The labels that a list is limited to.
    pub label_selector: Option<&'a LabelSelector>,
}

impl<'a> Attributes<'a> {
    /// A verb on all objects of a resource of the cluster; the caller narrows it down.
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            is_resource: true,
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: None,
            label_selector: None,
        }
    }

    /// A verb on a path.
    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self {
            is_resource: false,
            version: "",
            path,
            ..Self::resource(user, verb, "", "")
        }
    }
}

/// A decision's reason; mostly empty.
pub type Reason = Cow<'static, str>;

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow(Reason),
    /// No, whatever others say.
    Deny(Reason),
    /// Nothing; the next is asked. In the end it means no.
    NoOpinion(Reason),
}

impl Decision {
    /// Nothing to say, and no reason.
    pub const NONE: Self = Self::NoOpinion(Cow::Borrowed(""));

    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// One of the chain.
#[derive(Clone)]
pub enum Mode {
    /// Everybody may do everything.
    AlwaysAllow,
    /// Nodes reach what runs on them.
    Node(Arc<NodeAuthorizer>),
    /// Roles and bindings.
    Rbac(Arc<Rbac>),
    /// An authorizer elsewhere.
    Webhook(Arc<Webhook>),
}

/// One of the chain, as settings name it.
#[derive(Clone)]
pub enum Wanted {
    /// Everybody may do everything.
    AlwaysAllow,
    /// Nobody but masters may do anything.
    AlwaysDeny,
    /// Nodes reach what runs on them.
    Node,
    /// Roles and bindings.
    Rbac,
    /// An authorizer elsewhere.
    Webhook(Arc<Webhook>),
}

/// What a user may do, as far as it is known.
#[derive(Debug, Default)]
pub struct Rules {
    /// All rules that apply.
    pub rules: Vec<Rule>,
    /// There may be more that nobody can list.
    pub is_incomplete: bool,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// The chain.
#[derive(Clone)]
pub struct Authorizer {
    modes: Vec<Mode>,
}

impl Authorizer {
    /// A chain, in order.
    pub fn new(modes: Vec<Mode>) -> Self {
        Self { modes }
    }

    /// Whether the user may do it. Reasons of those that have no opinion are kept, a line each.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(Cow::Borrowed(""));
        }
        let mut reasons: Reason = Cow::Borrowed("");
        for mode in &self.modes {
            match mode.authorize(attributes).await {
                Decision::NoOpinion(reason) if reasons.is_empty() => reasons = reason,
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => {
                    let all = reasons.to_mut();
                    all.push('\n');
                    all.push_str(&reason);
                }
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons)
    }

    /// Whether the user may do it, as an error if not.
    ///
    /// # Errors
    ///
    /// The answer of 403.
    pub async fn require(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.authorize(attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Err(forbidden(attributes, &reason))
            }
        }
    }

    /// The rules that apply to a user in a namespace.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        for mode in &self.modes {
            let of = match mode {
                Mode::AlwaysAllow => Rules {
                    rules: rules::full_authority(),
                    ..Rules::default()
                },
                Mode::Node(_) => node::rules_for(user),
                Mode::Rbac(rbac) => rbac.rules_for(user, namespace),
                Mode::Webhook(_) => webhook::rules_for(),
            };
            all.rules.extend(of.rules);
            all.errors.extend(of.errors);
            all.is_incomplete |= of.is_incomplete;
        }
        all
    }

    /// The roles and bindings, if they are part of the chain.
    pub fn rbac(&self) -> Option<&Arc<Rbac>> {
        self.modes.iter().find_map(|mode| match mode {
            Mode::Rbac(rbac) => Some(rbac),
            _ => None,
        })
    }
}

impl Mode {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match self {
            Self::AlwaysAllow => Decision::Allow(Cow::Borrowed("")),
            Self::Node(node) => node.authorize(attributes),
            Self::Rbac(rbac) => rbac.authorize(attributes),
            Self::Webhook(webhook) => webhook.authorize(attributes).await,
        }
    }
}

/// What whoever is refused is told, without the reason.
pub fn forbidden_message(attributes: &Attributes<'_>) -> String {
    let Attributes { user, verb, .. } = attributes;
    let name = &user.name;
    let message = if attributes.is_resource {
        let slash = if attributes.subresource.is_empty() {
            ""
        } else {
            "/"
        };
        let resource = format!("{}{slash}{}", attributes.resource, attributes.subresource);
        let place = match attributes.namespace {
            "" => "at the cluster scope".to_string(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let group = attributes.group;
        format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
    } else {
        format!("User {name:?} cannot {verb} path {:?}", attributes.path)
    };
    // Nothing that a browser may take for HTML.
    message
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The answer to whoever is refused.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let colon = if reason.is_empty() { "" } else { ": " };
    let why = format!("{}{colon}{reason}", forbidden_message(attributes));
    let of = Qualified {
        group: attributes.group,
        name: attributes.resource,
    };
    Status::forbidden(of, attributes.name, why)
}
