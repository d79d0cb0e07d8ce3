//! What a place can do for a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, NodeAddress, Service};

use crate::node::Node;

/// Why a place did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Someone else does it, so that nothing is to be said or written.
    #[error("implemented by alternate to cloud provider")]
    ImplementedElsewhere,
    /// There is no such machine.
    #[error("instance not found")]
    NotFound,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A place that clusters run in.
pub trait CloudProvider: Send + Sync + 'static {
    /// Its load balancers, if it has some.
    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        None
    }

    /// Its machines, if it tells of them.
    fn instances(&self) -> Option<&dyn Instances> {
        None
    }

    /// Its routes, if it has some.
    fn routes(&self) -> Option<&dyn Routes> {
        None
    }
}

/// A load balancer as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Balancer {
    /// Where it is reached.
    pub status: LoadBalancerStatus,
    /// What the Service's annotations are to say about it; an empty value removes one.
    pub annotations: BTreeMap<String, String>,
}

/// Load balancers.
#[async_trait]
pub trait LoadBalancers: Send + Sync {
    /// The `spec.loadBalancerClass` that it serves besides Services without one.
    fn class(&self) -> Option<&str> {
        None
    }

    /// The load balancer of a Service, if there is one.
    async fn get(&self, service: &Service) -> Result<Option<Balancer>, CloudError>;

    /// Makes the load balancer of a Service be as the Service and these nodes want it.
    async fn ensure(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError>;

    /// Makes the load balancer of a Service send to these nodes.
    async fn update(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError>;

    /// Removes the load balancer of a Service; that there is none is no error.
    async fn delete(&self, service: &Service) -> Result<(), CloudError>;
}

/// What a place tells of a machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instance {
    /// Its id: `provider://id`.
    pub provider_id: String,
    /// Its type; may be empty.
    pub instance_type: String,
    /// Its addresses.
    pub addresses: Vec<NodeAddress>,
    /// Its zone; may be empty.
    pub zone: String,
    /// Its region; may be empty.
    pub region: String,
    /// Labels that its node shall have besides.
    pub labels: BTreeMap<String, String>,
    /// Whether it is off.
    pub is_shut_down: bool,
}

/// Machines.
#[async_trait]
pub trait Instances: Send + Sync {
    /// The machine of a node.
    ///
    /// # Errors
    ///
    /// [`CloudError::NotFound`] if there is none (any more).
    async fn instance(&self, node: &Node) -> Result<Instance, CloudError>;
}

/// A route to a node's pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Its name in its place.
    pub name: String,
    /// The node; empty if there is none any more.
    pub node: String,
    /// The addresses of the node's pods.
    pub destination: String,
    /// It leads nowhere.
    pub is_blackhole: bool,
}

/// Routes.
#[async_trait]
pub trait Routes: Send + Sync {
    /// All routes.
    async fn list(&self) -> Result<Vec<Route>, CloudError>;

    /// Makes a route; the hint makes its name unique.
    async fn create(&self, hint: &str, route: &Route) -> Result<(), CloudError>;

    /// Removes a route.
    async fn delete(&self, route: &Route) -> Result<(), CloudError>;
}
