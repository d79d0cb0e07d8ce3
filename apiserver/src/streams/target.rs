//! Where proxied requests go: to a port of a node, of a pod, or of a pod behind a service.

use std::net::IpAddr;

use api::doc::{Doc, Node};
use api::status::Status;

use super::backend::{Location, Peer};
use super::node::Kubelet;
use super::object;
use crate::registry::{Call, Outcome};

/// The label of slices with the name of their service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id<'a> {
    is_tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let is_known = matches!(scheme, "" | "http" | "https");
        (is_known && !name.is_empty()).then_some(Self {
            is_tls: scheme == "https",
            name,
            port,
        })
    }

    fn location(&self, host: &str, port: &str) -> Location {
        Location {
            tls: self.is_tls.then_some(Peer::Anybody),
            host: host.to_string(),
            port: port.to_string(),
            path: String::new(),
            query: String::new(),
        }
    }
}

/// Where a request for a proxy goes, without a path.
///
/// # Errors
///
/// If there is no such place.
pub async fn find(call: &Call<'_>) -> Outcome<Location> {
    let (resource, id) = (call.row.resource.name, &*call.info.name);
    let Some(id) = Id::parse(id) else {
        let what = resource.trim_end_matches('s');
        let message = format!("invalid {what} request {id:?}");
        return Err(Status::bad_request(message).into());
    };
    match resource {
        "nodes" => of_node(call, &id).await,
        "pods" => of_pod(call, &id).await,
        _ => of_service(call, &id).await,
    }
}

async fn of_node(call: &Call<'_>, id: &Id<'_>) -> Outcome<Location> {
    let kubelet = Kubelet::find(call, id.name).await?;
    let addresses = call.api.backends.net().resolve(&kubelet.host).await;
    let addresses = addresses
        .map_err(|error| Status::bad_request(format!("lookup {}: {error}", kubelet.host)))?;
    if addresses.is_empty() {
        return Err(Status::bad_request("no addresses for hostname").into());
    }
    if !addresses.into_iter().all(is_global_unicast) {
        return Err(not_allowed());
    }
    if id.port.is_empty() || id.port == kubelet.port {
        return Ok(kubelet.location(String::new(), String::new()));
    }
    Ok(id.location(&kubelet.host, id.port))
}

async fn of_pod(call: &Call<'_>, id: &Id<'_>) -> Outcome<Location> {
    let pod = object(call, "pods", &call.info.namespace, id.name).await?;
    let port = match id.port {
        "" => first_port(&pod).map(|port| port.to_string()),
        port => Some(port.to_string()),
    };
    let address = addresses(&pod).next().unwrap_or_default();
    match address.parse() {
        Ok(address) if is_global_unicast(address) => {}
        _ => return Err(not_allowed()),
    }
    Ok(id.location(address, &port.unwrap_or_default()))
}

fn first_port(pod: &Doc) -> Option<i64> {
    let mut containers = items(pod.root(), &["spec", "containers"]);
    let port = containers.find_map(|one| items(one, &["ports"]).next());
    port?.get("containerPort")?.as_i64()
}

/// The addresses of a pod, the first one first.
fn addresses(pod: &Doc) -> impl Iterator<Item = &str> {
    items(pod.root(), &["status", "podIPs"]).map(|one| one.text(&["ip"]))
}

fn items<'d>(node: Node<'d>, path: &[&str]) -> impl Iterator<Item = Node<'d>> {
    node.path(path).into_iter().flat_map(Node::children)
}

fn not_allowed() -> Box<Status> {
    Status::bad_request("address not allowed").into()
}

/// Neither this machine, nor its link, nor many: as Go's net.IP has it.
fn is_global_unicast(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_link_local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

async fn of_service(call: &Call<'_>, id: &Id<'_>) -> Outcome<Location> {
    let unavailable = |message: String| Box::new(Status::unavailable(message));
    let service = object(call, "services", &call.info.namespace, id.name).await?;
    let port = match id.port.parse::<i64>() {
        Err(_) => id.port,
        Ok(number) => {
            let mut ports = items(service.root(), &["spec", "ports"]);
            let found = ports.find(|port| port.get("port").and_then(Node::as_i64) == Some(number));
            let found = found.ok_or_else(|| {
                let name = id.name;
                unavailable(format!(
                    "no service port {number} found for service {name:?}"
                ))
            })?;
            found.text(&["name"])
        }
    };
    let places = places(call, id.name, port);
    if places.is_empty() {
        let id = &call.info.name;
        let message = format!("no endpoints available for service {id:?}");
        return Err(unavailable(message));
    }
    let count = u64::try_from(places.len()).unwrap_or(1);
    let chosen = usize::try_from(call.api.seams.rng.next_u64() % count).unwrap_or_default();
    let (address, port) = &places[chosen];
    Ok(id.location(address, &port.to_string()))
}

/// Where a port of a service can be reached: at pods of its namespace that are ready, and nowhere
/// else, whatever its slices say.
fn places(call: &Call<'_>, service: &str, port: &str) -> Vec<(String, i64)> {
    let namespace = &*call.info.namespace;
    let objects = call.api.objects();
    let mut places = Vec::new();
    for slice in objects.list("discovery.k8s.io", "endpointslices", namespace) {
        let slice = slice.doc();
        let root = slice.root();
        if root.text(&["metadata", "labels", SERVICE_NAME]) != service {
            continue;
        }
        let mut ports = items(root, &["ports"]);
        let found = ports.find(|one| one.text(&["name"]) == port);
        let Some(number) = found.and_then(|one| one.get("port")?.as_i64()) else {
            continue;
        };
        for endpoint in items(root, &["endpoints"]) {
            let ready = endpoint.path(&["conditions", "ready"]);
            let is_ready = ready.and_then(Node::as_bool).unwrap_or(true);
            let address = items(endpoint, &["addresses"]).next();
            let address = address.and_then(Node::as_str).unwrap_or_default();
            if is_ready && is_pod(call, endpoint, address) {
                places.push((address.to_string(), number));
            }
        }
    }
    places
}

fn is_pod(call: &Call<'_>, endpoint: Node<'_>, address: &str) -> bool {
    let namespace = endpoint.text(&["targetRef", "namespace"]);
    let name = endpoint.text(&["targetRef", "name"]);
    if namespace != call.info.namespace || name.is_empty() {
        return false;
    }
    let pod = call.api.objects().get("", "pods", namespace, name);
    pod.is_some_and(|pod| addresses(&pod.doc()).any(|known| known == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_ports_and_schemes() {
        let id = |text| Id::parse(text).map(|id| (id.is_tls, id.name, id.port));
        assert_eq!(id("a"), Some((false, "a", "")));
        assert_eq!(id("a:80"), Some((false, "a", "80")));
        assert_eq!(id("https:a:"), Some((true, "a", "")));
        assert_eq!(id("http:a:b"), Some((false, "a", "b")));
        for wrong in ["", ":80", "ftp:a:80", "a:b:c", "a:b:c:d"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_reaches_the_machine_itself() {
        for (address, want) in [
            ("10.0.0.1", true),
            ("8.8.8.8", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(
                is_global_unicast(address.parse().unwrap()),
                want,
                "{address}"
            );
        }
    }
}
