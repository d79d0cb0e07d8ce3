//! What a node's status says is attached to it.

use k8s_openapi::api::core::v1;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::node::Node;

/// The change of a node's status, if it says something else than what is so. Volumes that are about
/// to be detached are no longer said to be attached.
pub(super) fn patch(node: &Node, attached: &[String], leaving: &[String]) -> Option<Value> {
    let stays = |name: &&String| !leaving.contains(name);
    let mut wanted: Vec<&String> = attached.iter().filter(stays).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut said: Vec<&String> = node
        .status
        .volumes_attached
        .iter()
        .map(|v| &v.name)
        .collect();
    said.sort_unstable();
    if said == wanted {
        return None;
    }
    let volumes: Vec<Value> = wanted
        .iter()
        .map(|name| json!({"name": name, "devicePath": ""}))
        .collect();
    Some(json!({"status": {"volumesAttached": volumes}}))
}

/// Writes a change; a node that is gone needs none.
pub(super) async fn write(
    nodes: &Api<v1::Node>,
    name: &str,
    patch: &Value,
) -> Result<(), kube::Error> {
    let patched = nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Err(error) if !client::errors::is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
