//! Asking in another's name: the headers by which somebody does, and what they must be allowed for
//! it. The constrained modes come first: each lets somebody act as a node, a service account or a
//! user only for certain requests (`impersonate-on:MODE:VERB`) and only as certain others
//! (`impersonate:MODE`). The old verb `impersonate` allows all requests.

use std::collections::BTreeMap;

use api::name;
use api::status::Status;
use http::HeaderMap;

use super::front_proxy::{remove_prefixed, unescape_key, values};
use super::service_account;
use crate::authorization::{Attributes, Authorizer, Decision, forbidden};
use crate::user::{
    ANONYMOUS, AUTHENTICATED, MASTERS, NODE_PREFIX, NODES, SERVICE_ACCOUNT_PREFIX, UNAUTHENTICATED,
    User,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// From so many checks on, permission for all is asked for first.
const MANY: usize = 4;

/// Whether a request acts as somebody else.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
}

/// Whom a request wants to be, and takes the headers that say so away.
///
/// # Errors
///
/// If it wants groups, a UID or extra values of no user.
pub fn wanted(headers: &mut HeaderMap) -> Result<Option<User>, Status> {
    let one = |name| values(headers, name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers.iter() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            extra.entry(unescape_key(key)).or_default().push(value);
        }
    }
    let user = User {
        name: one(USER),
        uid: one(UID),
        groups: values(headers, GROUP),
        extra,
    };
    if user == User::default() {
        return Ok(None);
    }
    if user.name.is_empty() {
        let shown = go_user(&user);
        let message = format!("requested {shown} without impersonating a user name");
        return Err(Status::bad_request(message));
    }
    for name in [USER, GROUP, UID] {
        headers.remove(name);
    }
    remove_prefixed(headers, &[EXTRA_PREFIX.to_string()]);
    Ok(Some(user))
}

/// A user as upstream's error shows it.
fn go_user(user: &User) -> String {
    let list = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_string(),
        texts => {
            let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key:?}:{}", list(values)))
        .collect();
    let extra = match &extra[..] {
        [] => "map[string][]string(nil)".to_string(),
        extra => format!("map[string][]string{{{}}}", extra.join(", ")),
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.name,
        user.uid,
        list(&user.groups)
    )
}

/// Whom somebody acts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonated {
    /// The user, with the groups that it has by its nature.
    pub user: User,
    /// The verb that allowed it, for the audit log; empty for the old one.
    pub constraint: String,
}

/// The kinds of impersonation, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A service account as the node that its pod runs on.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    /// A service account.
    ServiceAccount,
    /// Anybody else.
    UserInfo,
    /// Anybody, for anything.
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

/// Whether the user of a request may act as another one.
///
/// # Errors
///
/// The refusal of the first mode that applies.
pub async fn impersonate(
    authorizer: &Authorizer,
    wanted: &User,
    request: &Attributes<'_>,
) -> Result<Impersonated, Status> {
    let mut refusal = None;
    for mode in MODES
        .into_iter()
        .filter(|mode| mode.applies(wanted, request.user))
    {
        let attempt = Attempt {
            authorizer,
            mode,
            wanted,
            request,
        };
        match attempt.check().await {
            Ok(user) => {
                let constraint = match mode {
                    Mode::Legacy => String::new(),
                    mode => format!("impersonate:{}", mode.name()),
                };
                return Ok(Impersonated { user, constraint });
            }
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".to_string(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    fn applies(self, wanted: &User, requestor: &User) -> bool {
        let is_name_only =
            wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.name);
        let account = account_of(&wanted.name);
        match self {
            Self::AssociatedNode => {
                let key = "authentication.kubernetes.io/node-name";
                let own = requestor.extra.get(key).map(Vec::as_slice);
                let is_own = matches!((own, node), (Some([own]), Some(node)) if own == node);
                is_name_only && is_own && account_of(&requestor.name).is_some()
            }
            Self::ArbitraryNode => is_name_only && node.is_some(),
            Self::ServiceAccount => is_name_only && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

struct Attempt<'a> {
    authorizer: &'a Authorizer,
    mode: Mode,
    wanted: &'a User,
    request: &'a Attributes<'a>,
}

impl Attempt<'_> {
    async fn check(&self) -> Result<User, Status> {
        if self.mode != Mode::Legacy {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), self.request.verb);
            let request = Attributes {
                verb: &verb,
                ..self.request.clone()
            };
            self.require(request).await?;
        }
        let verb = self.mode.verb();
        let mut user = self.wanted.clone();
        user.groups = self.check_name(&verb).await?;
        if !user.uid.is_empty() {
            let uid = Attributes {
                name: &user.uid,
                ..self.of_authentication(&verb, "uids")
            };
            self.require(uid).await?;
        }
        self.check_groups(&verb).await?;
        self.check_extra(&verb).await?;
        let group = match user.name == ANONYMOUS {
            true => Some(UNAUTHENTICATED),
            false if user.is_in(UNAUTHENTICATED) => None,
            false => Some(AUTHENTICATED),
        };
        if let Some(group) = group.filter(|group| !user.is_in(group)) {
            user.groups.push(group.to_string());
        }
        Ok(user)
    }

    /// The groups that the user has by its nature, or those that are wanted.
    async fn check_name(&self, verb: &str) -> Result<Vec<String>, Status> {
        let wanted = self.wanted;
        let mut groups = wanted.groups.clone();
        let mut attributes = Attributes {
            name: &wanted.name,
            ..self.of_users(verb, "users")
        };
        if let (Some(node), false) = (node_of(&wanted.name), self.mode == Mode::Legacy) {
            attributes.resource = "nodes";
            // Which node was judged already: it is the requestor's own.
            let is_own = self.mode == Mode::AssociatedNode;
            attributes.name = if is_own { "*" } else { node };
            groups = vec![NODES.to_string()];
        }
        if let Some((namespace, name)) = account_of(&wanted.name) {
            attributes.resource = "serviceaccounts";
            (attributes.namespace, attributes.name) = (namespace, name);
            if groups.is_empty() {
                groups = service_account::user(namespace, name, "").groups;
            }
        }
        self.require(attributes).await?;
        Ok(groups)
    }

    async fn check_groups(&self, verb: &str) -> Result<(), Status> {
        let groups = &self.wanted.groups;
        let all = self.of_users(verb, "groups");
        if self.mode != Mode::Legacy {
            if groups.iter().any(String::is_empty) {
                let why = "impersonating the empty string group is not allowed";
                return Err(forbidden(&all, why));
            }
            if self.wanted.is_in(MASTERS) {
                let masters = Attributes {
                    name: MASTERS,
                    ..all
                };
                let why = "impersonating the system:masters group is not allowed";
                return Err(forbidden(&masters, why));
            }
            let any = Attributes {
                name: "*",
                ..all.clone()
            };
            if groups.len() >= MANY && self.require(any).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            let one = Attributes {
                name: group,
                ..all.clone()
            };
            self.require(one).await?;
        }
        Ok(())
    }

    async fn check_extra(&self, verb: &str) -> Result<(), Status> {
        let extra = &self.wanted.extra;
        let all = self.of_authentication(verb, "userextras");
        if self.mode != Mode::Legacy && !extra.is_empty() {
            check_keys(extra).map_err(|why| forbidden(&all, &why))?;
            let values: usize = extra.values().map(Vec::len).sum();
            let any = Attributes {
                subresource: "*",
                name: "*",
                ..all.clone()
            };
            if values >= MANY && self.require(any).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                let one = Attributes {
                    subresource: key,
                    name: value,
                    ..all.clone()
                };
                self.require(one).await?;
            }
        }
        Ok(())
    }

    /// Users and groups belong to the core group for the old verb.
    fn of_users<'b>(&'b self, verb: &'b str, resource: &'b str) -> Attributes<'b> {
        let (group, version) = match self.mode {
            Mode::Legacy => ("", "v1"),
            _ => (AUTHENTICATION, "v1"),
        };
        Attributes {
            version,
            ..Attributes::resource(self.request.user, verb, group, resource)
        }
    }

    fn of_authentication<'b>(&'b self, verb: &'b str, resource: &'b str) -> Attributes<'b> {
        Attributes {
            version: "v1",
            ..Attributes::resource(self.request.user, verb, AUTHENTICATION, resource)
        }
    }

    async fn require(&self, attributes: Attributes<'_>) -> Result<(), Status> {
        let user;
        let mut attributes = attributes;
        if self.mode == Mode::AssociatedNode {
            user = without_extra(attributes.user);
            attributes.user = &user;
        }
        match self.authorizer.authorize(&attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Err(forbidden(&attributes, &reason))
            }
        }
    }
}

/// Whoever acts as its own node is judged the same on every node: only which extra values it has
/// counts, not what they are.
fn without_extra(user: &User) -> User {
    let keys = user.extra.keys().cloned().collect();
    let key = "authentication.kubernetes.io/associated-node-keys".to_string();
    User {
        extra: BTreeMap::from([(key, keys)]),
        ..user.clone()
    }
}

fn node_of(user: &str) -> Option<&str> {
    let node = user.strip_prefix(NODE_PREFIX)?;
    name::dns_1123_subdomain(node).is_empty().then_some(node)
}

/// Namespace and name of a well-formed service account.
fn account_of(user: &str) -> Option<(&str, &str)> {
    let rest = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?;
    let (namespace, account) = rest.split_once(':')?;
    let is_good =
        name::dns_1123_label(namespace).is_empty() && name::dns_1123_subdomain(account).is_empty();
    is_good.then_some((namespace, account))
}

fn check_keys(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        let what = if key.is_empty() {
            "the empty string key in extra".to_string()
        } else if let Some(why) = bad_key(key) {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: {why}"
            ));
        } else if *key != key.to_lowercase() {
            return Err(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key:?}"
            ));
        } else if values.iter().any(String::is_empty) {
            "the empty string value in extra".to_string()
        } else {
            continue;
        };
        return Err(format!("impersonating {what} is not allowed"));
    }
    Ok(())
}

/// Keys are paths that start with a domain.
fn bad_key(key: &str) -> Option<String> {
    let invalid =
        |value: &str, why: &str| Some(format!("extra.key: Invalid value: {value:?}: {why}"));
    let Some((domain, path)) = key
        .split_once('/')
        .filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return invalid(
            key,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
    };
    if let Some(why) = name::dns_1123_subdomain(domain).first() {
        return invalid(domain, why);
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    match path.chars().all(is_path) {
        true => None,
        false => invalid(
            path,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ),
    }
}
