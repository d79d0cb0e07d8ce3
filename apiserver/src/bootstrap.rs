//! What every cluster has: its own namespaces, policy and classes, made by whichever server comes first
//! and kept by all.
//!
//! - [`flow_control`]: who waits for whom when there is too much to do
//! - [`services`] and [`endpoints`]: the service `kubernetes`, and who answers for it

mod endpoints;
mod flow_control;
mod services;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::doc::Doc;
use api::status::Status;
use api::values::time::Precision;
use tokio::time::{Instant, sleep};

use crate::authorization::bootstrap_policy;
use crate::authorization::bootstrap_policy::Operation;
use crate::instance::Api;
use crate::registry::change::Replace;
use crate::registry::delete::DeleteOptions;
pub use crate::registry::myself;
use crate::registry::{Outcome, Own};

/// Priority classes of what the cluster itself needs.
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another \
         node if necessary.",
    ),
];
/// Where the API is if nobody says so.
const DEFAULT_PORT: u16 = 6443;
/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Between two looks at what should be there.
const INTERVAL: Duration = Duration::from_secs(10);
/// Before the first is done, somebody may be waiting.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An object that every cluster has.
struct Wanted {
    group: &'static str,
    resource: &'static str,
    doc: Doc,
}

/// The start of an object; `namespace` is empty for those of the cluster.
fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", api_version);
    doc.set_path(&["metadata", "name"], name);
    if !namespace.is_empty() {
        doc.set_path(&["metadata", "namespace"], namespace);
    }
    doc
}

/// Makes what is missing and keeps it, until the tasks end.
pub fn keep(api: &Arc<Api>) {
    endpoints::keep(api);
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
        make(api, "", "namespaces", object("v1", "Namespace", "", name)).await?;
    }
    policy(api).await?;
    for (name, value, description) in PRIORITY_CLASSES {
        let mut doc = object("scheduling.k8s.io/v1", "PriorityClass", "", name);
        doc.set_path(&["value"], value);
        doc.set_path(&["description"], description);
        make(api, "scheduling.k8s.io", "priorityclasses", doc).await?;
    }
    for wanted in flow_control::wanted() {
        keep_spec(api, wanted).await?;
    }
    // An address that somebody else has must not keep the API from serving.
    if let Err(status) = reachable(api).await {
        tracing::warn!(%status, "the service kubernetes could not be made");
    }
    Ok(())
}

async fn policy(api: &Arc<Api>) -> Outcome<()> {
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

/// Creates an object that is missing.
async fn make(api: &Arc<Api>, group: &str, resource: &str, doc: Doc) -> Outcome<()> {
    let text = |key| crate::registry::metadata::text(&doc, key);
    let found = api
        .objects()
        .get(group, resource, text("namespace"), text("name"));
    match found {
        Some(_) => Ok(()),
        None => write(api, group, "v1", resource, doc, true).await,
    }
}

/// Creates an object that is missing, and puts back its spec if that is to be kept.
async fn keep_spec(api: &Arc<Api>, wanted: Wanted) -> Outcome<()> {
    let Wanted {
        group,
        resource,
        mut doc,
    } = wanted;
    let name = crate::registry::metadata::text(&doc, "name").to_string();
    let Some(live) = api.objects().get(group, resource, "", &name) else {
        return write(api, group, "v1", resource, doc, true).await;
    };
    let mut live = live.doc();
    let row = api.registry.get(group, "v1", resource);
    let row = row.ok_or_else(Status::no_such_resource)?;
    crate::registry::object::canonical(&mut doc, row.schema)?;
    api::defaults::apply(&mut doc, row.schema, "");
    let spec = |doc: &Doc| doc.root().get("spec").map(|spec| spec.to_string());
    if spec(&doc) == spec(&live) || !flow_control::is_kept(resource, &name, &live) {
        return Ok(());
    }
    crate::kinds::facts::keep(&mut live, &doc, &["spec"]);
    write(api, group, "v1", resource, live, false).await
}

/// The service of the API, with the block that it has its address from.
async fn reachable(api: &Arc<Api>) -> Outcome<()> {
    let now = api.moment().text(Precision::Seconds);
    let (block, ready) = services::block(api, &now);
    make(api, block.group, block.resource, block.doc).await?;
    // What was just made is to be seen.
    let caught_up = api.storage.cache.catch_up(Instant::now() + PATIENCE).await;
    caught_up.map_err(|error| crate::failure::of_read(&error))?;
    let live = api
        .objects()
        .get(block.group, block.resource, "", "kubernetes");
    if let Some(mut doc) = live.map(|live| live.doc())
        && doc
            .root()
            .path(&["status", "conditions"])
            .is_none_or(|list| list.is_empty())
    {
        let list = doc.set_path(&["status", "conditions"], api::doc::New::List);
        let condition = doc.absorb(ready);
        doc.push_id(list, condition);
        write_part(api, block.group, block.resource, "status", doc).await?;
    }
    let address = api.addresses.default.parse::<std::net::SocketAddr>();
    let port = address.map_or(DEFAULT_PORT, |address| address.port());
    match services::service(api, port) {
        Some(wanted) => make(api, wanted.group, wanted.resource, wanted.doc).await,
        None => Ok(()),
    }
}

/// Replaces a part of an object as the server itself.
async fn write_part(
    api: &Arc<Api>,
    group: &str,
    resource: &str,
    part: &str,
    doc: Doc,
) -> Outcome<()> {
    let own = Own::new(api, "update", (group, "v1", resource), place(&doc))?.part(part);
    match own.call(api)?.update(&Replace(doc)).await {
        Err(status) if status.reason != "Conflict" => Err(status),
        _ => Ok(()),
    }
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
    let verb = if is_new { "create" } else { "update" };
    let own = Own::new(api, verb, (group, version, resource), place(&doc))?;
    let call = own.call(api)?;
    call.finish(&mut doc, own.row().schema)?;
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
    let of = (group, version, resource);
    let own = Own::new(api, "delete", of, (namespace, name))?;
    match own.call(api)?.delete(&DeleteOptions::default()).await {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}

/// Namespace and name of an object.
fn place(doc: &Doc) -> (&str, &str) {
    let text = |key| crate::registry::metadata::text(doc, key);
    (text("namespace"), text("name"))
}

#[cfg(test)]
mod tests;
