//! A place that a process of its own knows, by the service of `proto/cloud.proto`: so that any cloud
//! can be added without building this anew.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::View;
use http::Uri;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, NodeAddress, Service};
use seams::net::Net;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use self::pb::cloud_client::CloudClient;
use super::provider::{
    Balancer, CloudError, CloudProvider, Instance, Instances, LoadBalancers, Route, Routes,
};
use crate::node::Node;

/// The generated protocol types.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
pub mod pb {
    tonic::include_proto!("trireme.cloud.v1");
}

/// How long a place may take over an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The provider. What the process does not serve, it answers as unimplemented.
pub struct Grpc {
    channel: Channel,
}

impl Grpc {
    /// A provider at `host:port`; it is connected to when it is asked first.
    pub fn new(address: &str, net: Arc<dyn Net>) -> Result<Grpc, tonic::transport::Error> {
        let address: Arc<str> = address.into();
        let connector = tower::service_fn(move |_: Uri| {
            let (net, address) = (net.clone(), address.clone());
            async move {
                net.connect(&address)
                    .await
                    .map(TokioIo::new)
                    .map_err(io::Error::other)
            }
        });
        let endpoint = Endpoint::from_shared("http://cloud".to_owned())?
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT);
        Ok(Grpc {
            channel: endpoint.connect_with_connector_lazy(connector),
        })
    }

    fn client(&self) -> CloudClient<Channel> {
        CloudClient::new(self.channel.clone())
    }
}

fn failed(status: Status) -> CloudError {
    match status.code() {
        Code::NotFound => CloudError::NotFound,
        Code::Unimplemented => CloudError::ImplementedElsewhere,
        _ => CloudError::Other(status.message().to_owned()),
    }
}

fn node(node: &Node) -> pb::Node {
    let addresses = node.status.addresses.iter().map(|address| pb::Address {
        r#type: address.type_.clone(),
        address: address.address.clone(),
    });
    pb::Node {
        name: node.name().to_owned(),
        provider_id: node.spec.provider_id.clone().unwrap_or_default(),
        addresses: addresses.collect(),
    }
}

fn request(service: &Service, nodes: &[Arc<Node>]) -> Result<pb::LoadBalancerRequest, CloudError> {
    let whole =
        serde_json::to_vec(service).map_err(|error| CloudError::Other(error.to_string()))?;
    Ok(pb::LoadBalancerRequest {
        namespace: service.namespace().to_owned(),
        name: View::name(service).to_owned(),
        uid: service.uid().to_owned(),
        service: whole,
        nodes: nodes.iter().map(|one| node(one)).collect(),
    })
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn balancer(response: pb::LoadBalancerResponse) -> Balancer {
    let ingress = response.ingress.into_iter().map(|ingress| {
        let ip = text(ingress.ip);
        let ip_mode = text(ingress.ip_mode).or_else(|| ip.as_ref().map(|_| "VIP".to_owned()));
        LoadBalancerIngress {
            ip,
            ip_mode,
            hostname: text(ingress.hostname),
            ports: None,
        }
    });
    let status = LoadBalancerStatus {
        ingress: Some(ingress.collect()),
    };
    Balancer {
        status,
        ..Balancer::default()
    }
}

impl CloudProvider for Grpc {
    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn routes(&self) -> Option<&dyn Routes> {
        Some(self)
    }
}

#[async_trait]
impl LoadBalancers for Grpc {
    async fn get(&self, service: &Service) -> Result<Option<Balancer>, CloudError> {
        let got = self
            .client()
            .get_load_balancer(request(service, &[])?)
            .await
            .map_err(failed)?;
        let got = got.into_inner();
        Ok(got.exists.then(|| balancer(got)))
    }

    async fn ensure(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError> {
        let request = request(service, nodes)?;
        let got = self
            .client()
            .ensure_load_balancer(request)
            .await
            .map_err(failed)?;
        Ok(balancer(got.into_inner()))
    }

    async fn update(&self, service: &Service, nodes: &[Arc<Node>]) -> Result<Balancer, CloudError> {
        let request = request(service, nodes)?;
        let got = self
            .client()
            .update_load_balancer(request)
            .await
            .map_err(failed)?;
        Ok(balancer(got.into_inner()))
    }

    async fn delete(&self, service: &Service) -> Result<(), CloudError> {
        let request = request(service, &[])?;
        match self
            .client()
            .delete_load_balancer(request)
            .await
            .map_err(failed)
        {
            Ok(_) | Err(CloudError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Instances for Grpc {
    async fn instance(&self, of: &Node) -> Result<Instance, CloudError> {
        let request = pb::InstanceRequest {
            node: Some(node(of)),
        };
        let got = self
            .client()
            .get_instance(request)
            .await
            .map_err(failed)?
            .into_inner();
        let addresses = got.addresses.into_iter().map(|address| NodeAddress {
            type_: address.r#type,
            address: address.address,
        });
        Ok(Instance {
            provider_id: got.provider_id,
            instance_type: got.instance_type,
            addresses: addresses.collect(),
            zone: got.zone,
            region: got.region,
            labels: got.labels.into_iter().collect(),
            is_shut_down: got.is_shut_down,
        })
    }
}

fn to_pb(route: &Route) -> pb::Route {
    pb::Route {
        name: route.name.clone(),
        node: route.node.clone(),
        destination: route.destination.clone(),
        is_blackhole: route.is_blackhole,
    }
}

#[async_trait]
impl Routes for Grpc {
    async fn list(&self) -> Result<Vec<Route>, CloudError> {
        let got = self
            .client()
            .list_routes(pb::ListRoutesRequest {})
            .await
            .map_err(failed)?;
        let routes = got.into_inner().routes.into_iter().map(|route| Route {
            name: route.name,
            node: route.node,
            destination: route.destination,
            is_blackhole: route.is_blackhole,
        });
        Ok(routes.collect())
    }

    async fn create(&self, hint: &str, route: &Route) -> Result<(), CloudError> {
        let (hint, route) = (hint.to_owned(), Some(to_pb(route)));
        let request = pb::CreateRouteRequest { hint, route };
        self.client()
            .create_route(request)
            .await
            .map(|_| ())
            .map_err(failed)
    }

    async fn delete(&self, route: &Route) -> Result<(), CloudError> {
        let request = pb::DeleteRouteRequest {
            route: Some(to_pb(route)),
        };
        self.client()
            .delete_route(request)
            .await
            .map(|_| ())
            .map_err(failed)
    }
}
