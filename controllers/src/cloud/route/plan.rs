//! Which routes to nodes' pods are missing, and which lead nowhere.

use std::collections::BTreeMap;

use api::values::ip::Cidr;

use crate::cloud::provider::Route;
use crate::node::Node;

/// What to do about routes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Routes to remove.
    pub delete: Vec<Route>,
    /// Routes to make, with a hint for their names.
    pub create: Vec<(String, Route)>,
    /// The nodes that have all of their routes, or will have, by whether nothing has to be made.
    pub nodes: BTreeMap<String, bool>,
}

/// Plans the routes of nodes in these blocks of the cluster.
pub fn plan<'n>(
    nodes: impl IntoIterator<Item = &'n Node>,
    routes: &[Route],
    cluster: &[Cidr],
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = Vec::new();
    for node in nodes {
        let blocks = node.pod_cidrs();
        if blocks.is_empty() {
            continue;
        }
        let mut has_all = true;
        for block in blocks {
            wanted.push((node.name(), block));
            let is_there = |route: &Route| {
                route.node == node.name() && route.destination == block && !route.is_blackhole
            };
            if !routes.iter().any(is_there) {
                has_all = false;
                let route = Route {
                    node: node.name().to_owned(),
                    destination: block.to_owned(),
                    ..Route::default()
                };
                plan.create
                    .push((node.metadata.uid.clone().unwrap_or_default(), route));
            }
        }
        plan.nodes.insert(node.name().to_owned(), has_all);
    }
    let is_ours = |route: &&Route| {
        let block = Cidr::parse(&route.destination);
        block.is_some_and(|block| {
            let contains =
                |outer: &Cidr| outer.contains(block.network()) || block.contains(outer.network());
            cluster.iter().any(contains)
        })
    };
    let is_wanted = |route: &Route| {
        !route.is_blackhole && wanted.contains(&(route.node.as_str(), route.destination.as_str()))
    };
    let useless = routes
        .iter()
        .filter(is_ours)
        .filter(|route| !is_wanted(route));
    plan.delete = useless.cloned().collect();
    plan
}
