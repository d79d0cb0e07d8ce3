//! What every cluster has: its own namespaces and policy, made by whichever server comes first and
//! kept by all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::doc::Doc;
use api::status::Status;
use http::HeaderMap;
use tokio::time::{Instant, sleep};

use crate::authorization::bootstrap_policy;
use crate::authorization::bootstrap_policy::Operation;
use crate::instance::Api;
use crate::registry::change::Replace;
use crate::registry::delete::DeleteOptions;
use crate::registry::{Call, Outcome};
use crate::request::{Query, RequestInfo};
use crate::user::{MASTERS, User};

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Between two looks at what should be there.
const INTERVAL: Duration = Duration::from_secs(10);
/// Before the first is done, somebody may be waiting.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server itself.
pub fn myself() -> User {
    User::new("system:apiserver", &[MASTERS])
}

/// Makes what is missing and keeps it, until the tasks end.
pub fn keep(api: &Arc<Api>) {
    let (api, owner) = (api.clone(), api.tasks.clone());
    owner.clone().spawn("bootstrap", async move {
        let mut pause = FIRST_RETRY;
        loop {
            match ensure(&api).await {
                Ok(()) => {
                    api.is_bootstrapped.store(true, Ordering::Release);
                    pause = INTERVAL;
                }
                Err(status) => {
                    tracing::warn!(%status, "the cluster's own objects could not be made")
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = owner.cancelled() => return,
            }
        }
    });
}

async fn ensure(api: &Arc<Api>) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    let caught_up = api.storage.cache.catch_up(deadline).await;
    caught_up.map_err(|error| crate::failure::of_read(&error))?;
    for name in NAMESPACES {
        if api.objects().get("", "namespaces", "", name).is_none() {
            let mut doc = Doc::new();
            let top = doc.top();
            doc.set(top, "kind", "Namespace");
            doc.set(top, "apiVersion", "v1");
            doc.set_path(&["metadata", "name"], name);
            write(api, "", "v1", "namespaces", doc, true).await?;
        }
    }
    for step in bootstrap_policy::plan_all(api.objects()) {
        let group = "rbac.authorization.k8s.io";
        let mut doc = step.doc;
        if step.operation == Operation::Recreate {
            remove(api, group, "v1", step.resource, &step.namespace, &step.name).await?;
            crate::registry::metadata::clear(&mut doc, "resourceVersion");
            crate::registry::metadata::clear(&mut doc, "uid");
        }
        let is_new = step.operation != Operation::Update;
        write(api, group, "v1", step.resource, doc, is_new).await?;
    }
    Ok(())
}

/// Creates or replaces an object as the server itself. That somebody else was faster is fine.
///
/// # Errors
///
/// Whatever else stands against it.
pub async fn write(
    api: &Arc<Api>,
    group: &str,
    version: &str,
    resource: &str,
    mut doc: Doc,
    is_new: bool,
) -> Outcome<()> {
    let row = api.registry.get(group, version, resource);
    let row = row.ok_or_else(Status::no_such_resource)?;
    let text = |key| doc.root().text(&["metadata", key]);
    let verb = if is_new { "create" } else { "update" };
    let info = info(
        verb,
        group,
        version,
        resource,
        text("namespace"),
        text("name"),
    );
    let (query, headers, user) = (Query::default(), HeaderMap::new(), myself());
    let deadline = Instant::now() + PATIENCE;
    let call = Call::new(api, row, &info, &query, &headers, &user, deadline)?;
    crate::registry::object::canonical(&mut doc, row.schema)?;
    call.finish(&mut doc, row.schema)?;
    let done = if is_new {
        call.create(doc, false).await.map(drop)
    } else {
        call.update(&Replace(doc)).await.map(drop)
    };
    match done {
        Err(status) if matches!(status.reason, "AlreadyExists" | "Conflict") => Ok(()),
        done => done,
    }
}

/// Deletes an object as the server itself. That it is gone already is fine.
async fn remove(
    api: &Arc<Api>,
    group: &str,
    version: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Outcome<()> {
    let row = api.registry.get(group, version, resource);
    let row = row.ok_or_else(Status::no_such_resource)?;
    let info = info("delete", group, version, resource, namespace, name);
    let (query, headers, user) = (Query::default(), HeaderMap::new(), myself());
    let deadline = Instant::now() + PATIENCE;
    let call = Call::new(api, row, &info, &query, &headers, &user, deadline)?;
    match call.delete(&DeleteOptions::default()).await {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}

fn info(
    verb: &str,
    group: &str,
    version: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: verb.to_string(),
        group: group.to_string(),
        version: version.to_string(),
        namespace: namespace.to_string(),
        resource: resource.to_string(),
        name: name.to_string(),
        ..RequestInfo::default()
    }
}
