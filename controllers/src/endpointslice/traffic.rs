//! Hints for `spec.trafficDistribution`: every ready endpoint is for its own zone, and with
//! PreferSameNode for its own node.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use super::topology::{Slices, is_ready};

/// A `spec.trafficDistribution` that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// `PreferSameZone`, or `PreferClose` as it was called.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

impl Distribution {
    /// Parses the field.
    pub fn parse(text: &str) -> Option<Distribution> {
        match text {
            "PreferClose" | "PreferSameZone" => Some(Distribution::SameZone),
            "PreferSameNode" => Some(Distribution::SameNode),
            _ => None,
        }
    }

    fn hints(self, endpoint: &Endpoint) -> Option<EndpointHints> {
        let zone = endpoint.zone.clone();
        let node = endpoint
            .node_name
            .clone()
            .filter(|_| self == Distribution::SameNode);
        (zone.is_some() || node.is_some()).then(|| EndpointHints {
            for_zones: zone.map(|name| vec![ForZone { name }]),
            for_nodes: node.map(|name| vec![ForNode { name }]),
        })
    }

    /// Gives the slices their hints.
    pub fn add_hints(self, slices: &mut Slices) {
        slices.touch(|slice| {
            let mut ready = slice.endpoints.iter().flatten().filter(|e| is_ready(e));
            ready.any(|endpoint| {
                normal(endpoint.hints.as_ref()) != normal(self.hints(endpoint).as_ref())
            })
        });
        for endpoint in slices.written().filter(|endpoint| is_ready(endpoint)) {
            endpoint.hints = self.hints(endpoint);
        }
    }
}

/// Hints, in which missing and empty are the same.
fn normal(hints: Option<&EndpointHints>) -> (&[ForZone], &[ForNode]) {
    let zones = hints.and_then(|h| h.for_zones.as_deref());
    let nodes = hints.and_then(|h| h.for_nodes.as_deref());
    (zones.unwrap_or_default(), nodes.unwrap_or_default())
}
