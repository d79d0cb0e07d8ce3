//! NamespaceLifecycle: objects need a namespace that lives, and some namespaces live for ever.

use api::doc::Doc;
use api::status::{Cause, Qualified, Status};
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::{Along, keys};

/// Namespaces that nobody deletes.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
const NAMESPACES: Qualified<'static> = Qualified {
    group: "",
    name: "namespaces",
};

pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        _new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_deletion = attempt.operation == Operation::Delete;
        if attempt.resource() == ("", "namespaces") {
            if is_deletion && IMMORTAL.contains(&&*attempt.name) {
                let why = "this namespace may not be deleted";
                return Err(Status::forbidden(NAMESPACES, &attempt.name, why).into());
            }
            return Ok(());
        }
        let is_write = matches!(attempt.operation, Operation::Create | Operation::Update);
        if attempt.namespace().is_empty() || !is_write {
            return Ok(());
        }
        look(attempt).await.map(drop)
    }

    /// What is new needs the namespace to be as it was judged when the transaction commits: no other
    /// server may let it end in between.
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        _new: Option<&Doc>,
        _old: Option<&Doc>,
        along: &mut Along,
    ) -> Outcome<()> {
        let namespace = attempt.namespace();
        if attempt.operation != Operation::Create || namespace.is_empty() {
            return Ok(());
        }
        let revision = look(attempt).await?;
        let key = format!("{}{namespace}", keys::prefix("", "namespaces", false));
        along.needs(key, i64::try_from(revision).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// The revision of the namespace, if the attempt may go on in it.
async fn look(attempt: &Attempt<'_>) -> Outcome<u64> {
    let name = attempt.namespace();
    let found = attempt.get("", "namespaces", "", name).await;
    let found = found.ok_or_else(|| Status::not_found(NAMESPACES, name))?;
    let is_creation = attempt.operation == Operation::Create;
    if is_creation && found.doc().root().text(&["status", "phase"]) == "Terminating" {
        let mut status = attempt.forbidden(format!(
            "unable to create new content in namespace {name} because it is being terminated"
        ));
        status.details.causes.push(Cause {
            kind: "NamespaceTerminating".to_string(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_string(),
        });
        return Err(status);
    }
    Ok(found.revision)
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn objects_need_a_namespace_that_lives() {
        let server = Server::start().await;
        let map = r#"{"metadata":{"name":"m"}}"#;
        let lost = server.create("/api/v1/namespaces/no/configmaps", map).await;
        assert_eq!(lost.refusal(), (404, "namespaces \"no\" not found"));
        let immortal = server.ask("DELETE", "/api/v1/namespaces/default", "").await;
        let want = "namespaces \"default\" is forbidden: this namespace may not be deleted";
        assert_eq!(immortal.refusal(), (403, want));

        server.namespace("ending").await;
        server
            .ask("DELETE", "/api/v1/namespaces/ending", "")
            .await
            .ok();
        let late = server
            .create("/api/v1/namespaces/ending/configmaps", map)
            .await;
        let want = "configmaps \"m\" is forbidden: unable to create new content in namespace ending \
                    because it is being terminated";
        assert_eq!(late.refusal(), (403, want));
        let cause = late
            .doc
            .root()
            .path(&["details", "causes"])
            .unwrap()
            .item(0)
            .unwrap();
        assert_eq!(cause.text(&["reason"]), "NamespaceTerminating");
        assert_eq!(cause.text(&["field"]), "metadata.namespace");
    }
}
