//! Load balancers on bare metal: every Service gets addresses from pools, and one node answers for
//! them in the local network. The node reads the annotation to know that it is the one.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::values::ip;
use async_trait::async_trait;
use client::{Informer, Informers, Key};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use self::plan::Range;
use super::provider::{Balancer, CloudError, CloudProvider, LoadBalancers};
use crate::endpointslice::topology::is_ready;
use crate::node::Node;
use crate::service_endpoints::{service_of, spec_of, strings};

/// The `spec.loadBalancerClass` of this provider.
pub const CLASS: &str = "trireme.io/local";
/// The prefix of the annotations that this provider writes.
pub const ANNOTATION_PREFIX: &str = "lb.trireme.io/";
/// The annotation of a Service that names the node that answers for its addresses.
pub const ANNOUNCED_BY: &str = "lb.trireme.io/announced-by";

/// What addresses there are to give.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Of either family.
    pub pools: Vec<Range>,
}

/// The provider.
pub struct Local {
    config: Config,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    /// What was given and may not be in the cache yet.
    given: Mutex<HashMap<Key, Vec<IpAddr>>>,
}

impl Local {
    /// The provider, on a cluster's informers.
    pub fn new(config: Config, informers: &Informers) -> Local {
        Local {
            config,
            services: informers.of(),
            slices: informers.of(),
            given: Mutex::default(),
        }
    }

    fn given(&self) -> MutexGuard<'_, HashMap<Key, Vec<IpAddr>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses that others have.
    fn taken(&self, key: &Key) -> BTreeSet<IpAddr> {
        let mut taken = BTreeSet::new();
        for service in self.services.list() {
            if Key::of(&*service) != *key {
                taken.extend(has(&service));
            }
        }
        for (other, addresses) in self.given().iter() {
            if other != key {
                taken.extend(addresses);
            }
        }
        taken
    }

    /// The nodes that may answer: with `externalTrafficPolicy: Local`, those with ready endpoints.
    fn candidates<'n>(&self, service: &Service, key: &Key, nodes: &'n [Arc<Node>]) -> Vec<&'n str> {
        let all = nodes.iter().map(|node| node.name());
        if spec_of(service).external_traffic_policy.as_deref() != Some("Local") {
            return all.collect();
        }
        let slices = self.slices.in_namespace(&key.namespace);
        let slices = slices
            .iter()
            .filter(|slice| service_of(slice).as_ref() == Some(key));
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
        let ready: BTreeSet<&str> = endpoints
            .filter(|endpoint| is_ready(endpoint))
            .filter_map(|endpoint| endpoint.node_name.as_deref())
            .collect();
        all.filter(|node| ready.contains(node)).collect()
    }
}

/// The addresses that a Service has.
fn has(service: &Service) -> Vec<IpAddr> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten());
    ingress
        .filter_map(|ingress| ip::parse(ingress.ip.as_deref()?))
        .collect()
}

impl CloudProvider for Local {
    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }
}

#[async_trait]
impl LoadBalancers for Local {
    fn class(&self) -> Option<&str> {
        Some(CLASS)
    }

    async fn get(&self, service: &Service) -> Result<Option<Balancer>, CloudError> {
        let status = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.clone());
        let status = status.filter(|status| status.ingress.as_ref().is_some_and(|i| !i.is_empty()));
        Ok(status.map(|status| Balancer {
            status,
            annotations: BTreeMap::new(),
        }))
    }

    async fn ensure(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError> {
        let key = Key::of(service);
        let mut current = has(service);
        current.extend(self.given().get(&key).into_iter().flatten());
        let taken = self.taken(&key);
        let addresses = plan::addresses(service, &current, &taken, &self.config.pools);
        let addresses = addresses.map_err(CloudError::Other)?;
        self.given().insert(key.clone(), addresses.clone());
        let candidates = self.candidates(service, &key, nodes);
        let announced_by = strings(&service.metadata.annotations).get(ANNOUNCED_BY);
        let announcer = plan::announcer(
            &key.to_string(),
            announced_by.map(String::as_str),
            &candidates,
        );
        let announcer = announcer.unwrap_or_default().to_owned();
        let ingress = addresses.into_iter().map(|address| LoadBalancerIngress {
            ip: Some(ip::canonical(address)),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        });
        Ok(Balancer {
            status: LoadBalancerStatus {
                ingress: Some(ingress.collect()),
            },
            annotations: [(ANNOUNCED_BY.to_owned(), announcer)].into(),
        })
    }

    async fn update(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError> {
        self.ensure(service, nodes).await
    }

    async fn delete(&self, service: &Service) -> Result<(), CloudError> {
        self.given().remove(&Key::of(service));
        Ok(())
    }
}
