//! Services on bare metal and in a place of its own process, against a real API server.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Event, Node, Service};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::ServiceController;
use crate::cloud::grpc::pb;
use crate::cloud::grpc::pb::cloud_server::{Cloud, CloudServer};
use crate::cloud::local::plan::Range;
use crate::cloud::local::{self, ANNOUNCED_BY};
use crate::cloud::node::CloudNodes;
use crate::cloud::{self, service::plan::FINALIZER};
use crate::controller::Row;
use crate::settings::Settings;
use crate::taint::UNINITIALIZED;
use crate::testing::{Cluster, eventually, gone};

const ROWS: &[Row] = &[
    Row::of::<ServiceController>("service-lb-controller", "service-controller"),
    Row::of::<CloudNodes>("cloud-node-controller", "node-controller"),
];

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn ready_node(cluster: &Cluster, node: Value) {
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let made = nodes
        .create(&PostParams::default(), &from(node))
        .await
        .unwrap();
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status(
            &made.metadata.name.unwrap(),
            &PatchParams::default(),
            &Patch::Merge(ready),
        )
        .await
        .unwrap();
}

fn ips(service: &Service) -> Vec<String> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress)
        .unwrap_or_default();
    ingress
        .into_iter()
        .filter_map(|ingress| ingress.ip)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_an_address_from_a_pool_and_gives_it_back() {
    let cluster = Cluster::start().await;
    let pools = vec![Range::parse("192.0.2.10-192.0.2.11").unwrap()];
    let cloud = cloud::Config::Local(local::Config { pools });
    cluster.run_with(
        ROWS,
        Settings {
            cloud,
            ..Settings::default()
        },
    );
    ready_node(&cluster, json!({"metadata": {"name": "n1"}})).await;
    let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
    let wanted: Service = from(
        json!({"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}),
    );
    services
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    let found = eventually("it has an address and a node", || async {
        let service = services.get("a").await.unwrap();
        let announced = service.metadata.annotations.as_ref()?.get(ANNOUNCED_BY)?;
        (announced == "n1" && ips(&service) == ["192.0.2.10"]).then_some(service)
    })
    .await;
    assert_eq!(found.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
    let events: Api<Event> = Api::namespaced(cluster.admin.clone(), "default");
    for reason in ["EnsuringLoadBalancer", "EnsuredLoadBalancer"] {
        eventually("there is an event", || async {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
        })
        .await;
    }
    services.delete("a", &Default::default()).await.unwrap();
    gone(&services, "a").await;
    let mut wanted = wanted;
    wanted.metadata.name = Some("b".to_owned());
    services
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    eventually("another gets the address", || async {
        (ips(&services.get("b").await.unwrap()) == ["192.0.2.10"]).then_some(())
    })
    .await;
}

/// A place that remembers the names of its load balancers.
#[derive(Clone, Default)]
struct Place {
    balancers: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Cloud for Place {
    async fn get_load_balancer(
        &self,
        request: Request<pb::LoadBalancerRequest>,
    ) -> Result<Response<pb::LoadBalancerResponse>, Status> {
        let exists = self
            .balancers
            .lock()
            .unwrap()
            .contains(&request.into_inner().name);
        Ok(Response::new(pb::LoadBalancerResponse {
            exists,
            ingress: Vec::new(),
        }))
    }
    async fn ensure_load_balancer(
        &self,
        request: Request<pb::LoadBalancerRequest>,
    ) -> Result<Response<pb::LoadBalancerResponse>, Status> {
        self.balancers
            .lock()
            .unwrap()
            .push(request.into_inner().name);
        let ingress = pb::Ingress {
            hostname: "lb.example".to_owned(),
            ..pb::Ingress::default()
        };
        Ok(Response::new(pb::LoadBalancerResponse {
            exists: true,
            ingress: vec![ingress],
        }))
    }
    async fn update_load_balancer(
        &self,
        request: Request<pb::LoadBalancerRequest>,
    ) -> Result<Response<pb::LoadBalancerResponse>, Status> {
        self.ensure_load_balancer(request).await
    }
    async fn delete_load_balancer(
        &self,
        request: Request<pb::LoadBalancerRequest>,
    ) -> Result<Response<pb::LoadBalancerResponse>, Status> {
        let name = request.into_inner().name;
        self.balancers
            .lock()
            .unwrap()
            .retain(|other| *other != name);
        Ok(Response::new(pb::LoadBalancerResponse::default()))
    }
    async fn get_instance(
        &self,
        request: Request<pb::InstanceRequest>,
    ) -> Result<Response<pb::InstanceResponse>, Status> {
        let name = request.into_inner().node.unwrap_or_default().name;
        Ok(Response::new(pb::InstanceResponse {
            provider_id: format!("place://{name}"),
            zone: "z1".to_owned(),
            ..Default::default()
        }))
    }
    async fn list_routes(
        &self,
        _: Request<pb::ListRoutesRequest>,
    ) -> Result<Response<pb::ListRoutesResponse>, Status> {
        Err(Status::unimplemented("no routes here"))
    }
    async fn create_route(
        &self,
        _: Request<pb::CreateRouteRequest>,
    ) -> Result<Response<pb::RouteResponse>, Status> {
        Err(Status::unimplemented("no routes here"))
    }
    async fn delete_route(
        &self,
        _: Request<pb::DeleteRouteRequest>,
    ) -> Result<Response<pb::RouteResponse>, Status> {
        Err(Status::unimplemented("no routes here"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_its_own_process_is_asked() {
    let cluster = Cluster::start().await;
    let place = Place::default();
    let mut listener = cluster.seams.net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = CloudServer::new(place.clone());
    let tasks = cluster.tasks.clone();
    cluster.tasks.spawn("place", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(server.clone());
            let connection =
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tasks.spawn("connection", async move {
                let _ = connection.await;
            });
        }
    });
    cluster.run_with(
        ROWS,
        Settings {
            cloud: cloud::Config::Grpc(address),
            ..Settings::default()
        },
    );
    ready_node(
        &cluster,
        json!({"metadata": {"name": "n1"}, "spec": {"taints": [
        {"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}]}}),
    )
    .await;
    let nodes: Api<crate::node::Node> = Api::all(cluster.admin.clone());
    let node = eventually("the node is initialized", || async {
        let node = nodes.get("n1").await.unwrap();
        node.spec
            .taints
            .iter()
            .all(|taint| taint.key != UNINITIALIZED)
            .then_some(node)
    })
    .await;
    assert_eq!(node.spec.provider_id.as_deref(), Some("place://n1"));
    assert_eq!(node.label(crate::node::ZONE_LABEL), Some("z1"));
    let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
    services
        .create(
            &PostParams::default(),
            &from(json!({"metadata": {"name": "a"}, "spec": {
        "type": "LoadBalancer", "ports": [{"port": 80}]}})),
        )
        .await
        .unwrap();
    eventually("it has a name", || async {
        let status = services.get("a").await.unwrap().status?.load_balancer?;
        (status.ingress?.first()?.hostname.as_deref() == Some("lb.example")).then_some(())
    })
    .await;
    services.delete("a", &Default::default()).await.unwrap();
    eventually("its load balancer goes", || async {
        place.balancers.lock().unwrap().is_empty().then_some(())
    })
    .await;
}
