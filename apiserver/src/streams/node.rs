//! Where the kubelet of a node is, and what it can do.

use api::doc::{Doc, Node};

use super::backend::{Location, Peer};
use super::{object, unknown};
use crate::registry::{Call, Outcome};

/// Where kubelets listen that do not say.
const PORT: i64 = 10250;
/// Nodes that declare this take WebSockets as clients send them.
const WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// Its preferred address.
    pub host: String,
    /// The kubelet's port.
    pub port: String,
    /// It takes WebSockets as clients send them.
    pub takes_websockets: bool,
}

impl Kubelet {
    /// The kubelet of a node.
    ///
    /// # Errors
    ///
    /// If there is no such node, or it has no address that may be used.
    pub async fn find(call: &Call<'_>, node: &str) -> Outcome<Self> {
        let node = object(call, "nodes", "", node).await?;
        Self::of(&node, call.api.backends.address_types()).map_err(unknown)
    }

    fn of(node: &Doc, address_types: &[String]) -> Result<Self, String> {
        let root = node.root();
        let list = |path: &[&str]| root.path(path).into_iter().flat_map(Node::children);
        let addresses = || list(&["status", "addresses"]);
        let of_type = |wanted: &String| addresses().find(|one| one.text(&["type"]) == wanted);
        let Some(address) = address_types.iter().find_map(of_type) else {
            let known: Vec<String> = addresses()
                .map(|one| format!("{{{} {}}}", one.text(&["type"]), one.text(&["address"])))
                .collect();
            let known = known.join(" ");
            return Err(format!(
                "no preferred addresses found; known addresses: [{known}]"
            ));
        };
        let port = root.path(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
        let port = port.and_then(Node::as_i64).filter(|port| *port > 0);
        let mut features = list(&["status", "declaredFeatures"]);
        Ok(Self {
            host: address.text(&["address"]).to_string(),
            port: port.unwrap_or(PORT).to_string(),
            takes_websockets: features.any(|feature| feature.as_str() == Some(WEBSOCKETS)),
        })
    }

    /// A path of the kubelet.
    pub fn location(&self, path: String, query: String) -> Location {
        Location {
            tls: Some(Peer::Kubelet),
            host: self.host.clone(),
            port: self.port.clone(),
            path,
            query,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS_TYPES: [&str; 3] = ["Hostname", "InternalIP", "ExternalIP"];

    fn of(status: &str) -> Result<Kubelet, String> {
        let node = Doc::literal(&format!(r#"{{"status":{status}}}"#));
        Kubelet::of(&node, &ADDRESS_TYPES.map(str::to_string))
    }

    #[test]
    fn addresses_are_preferred_by_type() {
        let kubelet = of(
            r#"{"addresses":[{"type":"ExternalIP","address":"1.2.3.4"},{"type":"InternalIP","address":"10.0.0.1"},
            {"type":"Hostname","address":"n"},{"type":"Hostname","address":"m"}],
            "daemonEndpoints":{"kubeletEndpoint":{"Port":9}},"declaredFeatures":["A","ExtendWebSocketsToKubelet"]}"#,
        )
        .unwrap();
        assert_eq!((&*kubelet.host, &*kubelet.port), ("n", "9"));
        assert!(kubelet.takes_websockets);
        let kubelet = of(r#"{"addresses":[{"type":"ExternalIP","address":"::1"}]}"#).unwrap();
        assert!(!kubelet.takes_websockets);
        let location = kubelet.location("/a b".into(), "x=1".into());
        assert_eq!(location.url(), "https://[::1]:10250/a%20b?x=1");
    }

    #[test]
    fn a_node_needs_an_address() {
        let error = of(r#"{"addresses":[{"type":"X","address":"a"},{"type":"Y","address":"b"}]}"#);
        let want = "no preferred addresses found; known addresses: [{X a} {Y b}]";
        assert_eq!(error.unwrap_err(), want);
        let want = "no preferred addresses found; known addresses: []";
        assert_eq!(of("{}").unwrap_err(), want);
    }
}
