//! ComponentStatuses: how the parts of the control plane are. Nothing is stored; whoever asks makes us look.

use api::doc::{Doc, New};
use api::schema;
use api::status::Status;
use api::values::time::{self, Precision};
use tokio::time::{Duration, Instant};

use crate::registry::object::canonical;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The parts, with the leases that their leaders hold.
const PARTS: [(&str, &str); 3] = [
    ("controller-manager", "kube-controller-manager"),
    ("scheduler", "kube-scheduler"),
    ("etcd-0", ""),
];

/// Answers GET of one part or of all.
///
/// # Errors
///
/// If there is no such part.
pub async fn answer(call: &Call<'_>, form: Form) -> Outcome<Reply> {
    let kind = match call.info.verb == "list" {
        true => "ComponentStatusList",
        false => "ComponentStatus",
    };
    let schema = schema::kind("", "v1", kind);
    let schema = schema.ok_or_else(|| Status::internal(format!("{kind} has no schema")))?;
    let mut doc = Doc::new();
    let top = doc.top();
    if call.info.verb == "list" {
        let items = doc.set(top, "items", New::List);
        for (name, lease) in PARTS {
            let health = health(call, lease).await;
            let item = doc.push(items, New::Object);
            write(&mut doc, item, name, health);
        }
    } else {
        let found = PARTS.iter().find(|part| part.0 == call.info.name);
        let (name, lease) = found.ok_or_else(|| Status::not_found(call.of(), &call.info.name))?;
        let health = health(call, lease).await;
        write(&mut doc, top, name, health);
    }
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", "v1");
    canonical(&mut doc, schema)?;
    Ok(respond::object(200, &doc, schema, form))
}

fn write(doc: &mut Doc, item: api::doc::Id, name: &str, health: Result<(), String>) {
    let metadata = doc.object(item, "metadata");
    doc.set(metadata, "name", name);
    let conditions = doc.list(item, "conditions");
    let condition = doc.push(conditions, New::Object);
    doc.set(condition, "type", "Healthy");
    let (status, message) = match &health {
        Ok(()) => ("True", "ok"),
        Err(why) => ("False", &**why),
    };
    doc.set(condition, "status", status);
    doc.set(condition, "message", message);
}

/// The store by asking it; the loops by the lease of their leader.
async fn health(call: &Call<'_>, lease: &str) -> Result<(), String> {
    if lease.is_empty() {
        let caught_up = call
            .api
            .storage
            .cache
            .catch_up(Instant::now() + PATIENCE)
            .await;
        return caught_up.map(drop).map_err(|error| format!("{error:?}"));
    }
    let found = call
        .api
        .objects()
        .get("coordination.k8s.io", "leases", "kube-system", lease);
    let found = found.ok_or("nobody leads")?.doc();
    let renewed = found.root().text(&["spec", "renewTime"]);
    let lasts = found.root().path(&["spec", "leaseDurationSeconds"]);
    let lasts = lasts.and_then(api::doc::Node::as_i64).unwrap_or_default();
    match time::parse(renewed, Precision::Micros) {
        Ok(renewed) if renewed.seconds + lasts >= call.moment.seconds => Ok(()),
        _ => Err("the leader has not renewed its lease".to_string()),
    }
}
