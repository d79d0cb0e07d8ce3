//! What a cluster asks of the place it runs in: load balancers, what machines there are, and routes
//! between them. The loops are those of cloud-controller-manager; a place is a [`CloudProvider`].
//!
//! - [`provider`]: the trait
//! - [`local`]: bare metal: addresses from pools, announced by the nodes
//! - [`grpc`]: any other place, by a process that serves `proto/cloud.proto`
//! - [`service`], [`node`], [`node_lifecycle`], [`route`]: the loops

pub mod grpc;
pub mod local;
pub mod node;
pub mod node_lifecycle;
pub mod provider;
pub mod route;
pub mod service;

use std::sync::Arc;

use self::provider::CloudProvider;
use crate::context::Context;
use crate::controller::Row;

/// Which place it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Config {
    /// None that could be asked.
    #[default]
    None,
    /// Bare metal.
    Local(local::Config),
    /// What a process at this `host:port` says.
    Grpc(String),
}

/// The controllers of cloud-controller-manager, with upstream's names and service accounts.
pub const CONTROLLERS: &[Row] = &[
    Row::of::<node::CloudNodes>("cloud-node-controller", "node-controller"),
    Row::of::<node_lifecycle::CloudNodeLifecycle>(
        "cloud-node-lifecycle-controller",
        "node-controller",
    ),
    Row::of::<service::ServiceController>("service-lb-controller", "service-controller"),
    Row::of::<route::RouteController>("node-route-controller", "route-controller"),
];

/// The provider that the settings name.
pub(crate) fn provider(context: &Context) -> Option<Arc<dyn CloudProvider>> {
    match &context.settings.cloud {
        Config::None => None,
        Config::Local(config) => Some(Arc::new(local::Local::new(
            config.clone(),
            &context.informers,
        ))),
        Config::Grpc(address) => match grpc::Grpc::new(address, context.seams.net.clone()) {
            Ok(provider) => Some(Arc::new(provider)),
            Err(error) => {
                tracing::error!(address, %error, "no cloud provider");
                None
            }
        },
    }
}
