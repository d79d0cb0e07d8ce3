//! Nobody grants what they may not do themselves: whoever writes roles or bindings needs all that
//! these grant, or the verbs `escalate` or `bind`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::doc::Doc;
use api::status::{Qualified, Status};
use async_trait::async_trait;

use super::rbac::{GROUP, Rbac};
use super::rules::{self, Rule, full_authority};
use super::{Attributes, Authorizer};
use crate::admission::{Attempt, Operation, Plugin};
use crate::authentication::aggregate;
use crate::authentication::service_account::go_list;
use crate::registry::Outcome;
use crate::user::{MASTERS, User};

/// What others change on behalf of garbage collection.
const OF_GARBAGE_COLLECTION: [&str; 4] =
    ["ownerReferences", "finalizers", "selfLink", "managedFields"];

/// Who writes a role or binding, and where.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Who.
    pub user: &'a User,
    /// The namespace of the request, empty for the cluster.
    pub namespace: &'a str,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub resource: &'a str,
    /// The name in the request's path: empty when an object is created.
    pub name: &'a str,
}

/// Checks writes of roles and bindings.
#[derive(Clone)]
pub struct Escalation {
    authorizer: Authorizer,
    rbac: Arc<Rbac>,
}

impl Escalation {
    /// `rbac` knows the rules, whether or not it is part of the chain.
    pub fn new(authorizer: Authorizer, rbac: Arc<Rbac>) -> Self {
        Self { authorizer, rbac }
    }

    /// Whether a role, a role of the cluster or a binding may be written: after defaults and mutating
    /// admission, before validation. `old` is what it replaces.
    ///
    /// # Errors
    ///
    /// If it grants more than its writer holds; if a binding's role does not exist.
    pub async fn check(
        &self,
        writer: &Writer<'_>,
        new: &Doc,
        old: Option<&Doc>,
    ) -> Result<(), Status> {
        if writer.user.is_in(MASTERS) {
            return Ok(());
        }
        if old.is_some_and(|old| is_only_garbage_collection(new, old)) {
            return Ok(());
        }
        match writer.resource {
            "roles" | "clusterroles" => self.check_role(writer, new, old).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(writer, new).await,
            _ => Ok(()),
        }
    }

    async fn check_role(
        &self,
        writer: &Writer<'_>,
        new: &Doc,
        old: Option<&Doc>,
    ) -> Result<(), Status> {
        let attributes = Attributes {
            namespace: writer.namespace,
            name: writer.name,
            ..Attributes::resource(writer.user, "escalate", GROUP, writer.resource)
        };
        if self.authorizer.authorize(&attributes).await.is_allowed() {
            return Ok(());
        }
        self.confirm(writer, new, &Rule::all_of(new.root()))?;
        let aggregates = |doc: &Doc| {
            let selectors = doc
                .root()
                .path(&["aggregationRule", "clusterRoleSelectors"]);
            selectors.is_some_and(|selectors| !selectors.is_empty())
        };
        if aggregates(new) || old.is_some_and(aggregates) {
            // It can gather anything.
            let why = "must have cluster-admin privileges to use the aggregationRule";
            let confirmed = self.confirm(writer, new, &full_authority());
            return confirmed.map_err(|_| forbidden(writer, new, why));
        }
        Ok(())
    }

    async fn check_binding(&self, writer: &Writer<'_>, new: &Doc) -> Result<(), Status> {
        let role = new.root().get("roleRef");
        let of = |key: &str| role.map_or("", |role| role.text(&[key]));
        let (kind, name) = (of("kind"), of("name"));
        let resource = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            _ => "",
        };
        let attributes = Attributes {
            namespace: writer.namespace,
            name,
            ..Attributes::resource(writer.user, "bind", of("apiGroup"), resource)
        };
        if !resource.is_empty() && self.authorizer.authorize(&attributes).await.is_allowed() {
            return Ok(());
        }
        if resource.is_empty() {
            let error = format!("unsupported role reference kind: {kind:?}");
            return Err(Status::internal(error));
        }
        let of = Qualified {
            group: GROUP,
            name: resource,
        };
        let rules = self.rbac.role_rules(kind, name, writer.namespace);
        let rules = rules.map_err(|_| Status::not_found(of, name))?;
        self.confirm(writer, new, &rules)
    }

    /// Whether the writer holds all these rules.
    fn confirm(&self, writer: &Writer<'_>, new: &Doc, wanted: &[Rule]) -> Result<(), Status> {
        let user = writer.user;
        let owned = self.rbac.rules_for(user, writer.namespace);
        let missing = rules::missing(&owned.rules, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            go_list(&user.groups),
            rules::describe(missing)
        );
        if !owned.errors.is_empty() {
            why.push_str(&format!(
                "; resolution errors: [{}]",
                aggregate(&owned.errors)
            ));
        }
        Err(forbidden(writer, new, &why))
    }
}

/// The last to see an object that may still change.
#[async_trait]
impl Plugin for Escalation {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let call = attempt.call;
        let writes = matches!(attempt.operation, Operation::Create | Operation::Update);
        if let (true, GROUP, Some(new)) = (writes, &*call.info.group, new) {
            let writer = Writer {
                user: call.user,
                namespace: &call.info.namespace,
                resource: &call.info.resource,
                name: &call.info.name,
            };
            self.check(&writer, new, old).await?;
        }
        Ok(())
    }
}

fn forbidden(writer: &Writer<'_>, new: &Doc, why: &str) -> Status {
    let of = Qualified {
        group: GROUP,
        name: writer.resource,
    };
    Status::forbidden(of, new.root().text(&["metadata", "name"]), why)
}

/// Whether only what garbage collection needs is different.
fn is_only_garbage_collection(new: &Doc, old: &Doc) -> bool {
    let kept = |doc: &Doc| {
        let mut kept = doc.clone();
        if let Some(metadata) = kept.find_path(&["metadata"]) {
            for key in OF_GARBAGE_COLLECTION {
                kept.remove(metadata, key);
            }
        }
        kept
    };
    kept(new) == kept(old)
}
