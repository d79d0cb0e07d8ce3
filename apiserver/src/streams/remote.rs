//! Exec, attach and port-forward: connections to the kubelet of the pod's node, as the client speaks
//! them if the kubelet does too.

use std::sync::Arc;

use api::doc::{Doc, Node};
use api::status::Status;

use super::node::Kubelet;
use super::{Inbound, admit, object, options, require_create, translate, tunnel, upgrade};
use crate::instance::Api;
use crate::registry::{Call, Outcome};
use crate::respond::Reply;

/// Answers a request for a connection.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(api: &Arc<Api>, call: &Call<'_>, inbound: Inbound<'_>) -> Outcome<Reply> {
    let info = call.info;
    let subresource = &*info.subresource;
    let mut options = options::of_connection(subresource, call.query)?;
    admit(call, &mut options).await?;
    require_create(call).await?;
    let pod = object(call, "pods", &info.namespace, &info.name).await?;
    let of_pod = format!("{}/{}", info.namespace, info.name);
    let path = match subresource {
        "portforward" => format!("/portForward/{of_pod}"),
        _ => {
            let container = container(&pod, options.root().text(&["container"]))?;
            format!("/{subresource}/{of_pod}/{container}")
        }
    };
    let node = pod.root().text(&["spec", "nodeName"]);
    if node.is_empty() {
        let message = format!("pod {} does not have a host assigned", info.name);
        return Err(Status::bad_request(message).into());
    }
    let kubelet = Kubelet::find(call, node).await?;
    let location = kubelet.location(path, options::query_for_kubelet(&options));
    if !kubelet.takes_websockets {
        let headers = &inbound.headers;
        match subresource {
            "portforward" if tunnel::is_requested(headers) => {
                return tunnel::answer(api, inbound, &location).await;
            }
            "exec" | "attach" if translate::is_requested(headers) => {
                return Ok(translate::answer(api, inbound, location, &options));
            }
            _ => {}
        }
    }
    if !upgrade::is_requested(&inbound.headers) {
        return Err(Status::bad_request("Upgrade request required").into());
    }
    upgrade::pass_on(api, inbound, &location).await
}

/// The container that is meant: the one that is named, or the only one.
///
/// # Errors
///
/// If there is none of that name, or several to choose from.
pub fn container(pod: &Doc, wanted: &str) -> Outcome<String> {
    let root = pod.root();
    let pod = root.text(&["metadata", "name"]);
    let of = |key: &str| {
        let list = root.path(&["spec", key]).into_iter();
        list.flat_map(Node::children).map(|one| one.text(&["name"]))
    };
    let refuse = |message: String| Err(Status::bad_request(message).into());
    let all = || {
        let names = of("initContainers").chain(of("containers"));
        names.chain(of("ephemeralContainers"))
    };
    if !wanted.is_empty() {
        if all().any(|name| name == wanted) {
            return Ok(wanted.to_string());
        }
        return refuse(format!("container {wanted} is not valid for pod {pod}"));
    }
    let mut containers = of("containers");
    match (containers.next(), containers.next()) {
        (Some(only), None) => Ok(only.to_string()),
        (None, _) => refuse(format!("a container name must be specified for pod {pod}")),
        _ => {
            let names: Vec<&str> = all().collect();
            let names = names.join(" ");
            refuse(format!(
                "a container name must be specified for pod {pod}, choose one of: [{names}]"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_chosen() {
        let pod =
            |spec: &str| Doc::literal(&format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#));
        let one = pod(r#"{"containers":[{"name":"a"}],"initContainers":[{"name":"i"}]}"#);
        let two = pod(
            r#"{"containers":[{"name":"a"},{"name":"b"}],"initContainers":[{"name":"i"}],
            "ephemeralContainers":[{"name":"e"}]}"#,
        );
        let cases = [
            (&one, "", Ok("a")),
            (&one, "i", Ok("i")),
            (&one, "x", Err("container x is not valid for pod p")),
            (&two, "e", Ok("e")),
            (
                &two,
                "",
                Err("a container name must be specified for pod p, choose one of: [i a b e]"),
            ),
            (
                &pod("{}"),
                "",
                Err("a container name must be specified for pod p"),
            ),
        ];
        for (pod, wanted, want) in cases {
            let found = container(pod, wanted).map_err(|status| status.message);
            assert_eq!(found.as_deref().map_err(|m| &**m), want);
        }
    }
}
