//! Services, their pods and what is published of them, against a real API server.

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::EndpointSlices;
use crate::controller::Row;
use crate::endpoints::EndpointsController;
use crate::endpointslice_mirroring::Mirroring;
use crate::testing::{Cluster, eventually, gone};

const ROWS: &[Row] = &[
    Row::of::<EndpointSlices>("endpointslice-controller", "endpointslice-controller"),
    Row::of::<EndpointsController>("endpoints-controller", "endpoint-controller"),
    Row::of::<Mirroring>(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring-controller",
    ),
];

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn addresses(slices: &Api<EndpointSlice>, service: &str) -> Vec<(String, Option<bool>)> {
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let found = slices.list(&of).await.unwrap().items;
    let endpoints = found
        .into_iter()
        .flat_map(|slice| slice.endpoints.unwrap_or_default());
    endpoints
        .map(|e| (e.addresses[0].clone(), e.conditions.and_then(|c| c.ready)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_and_endpoints_follow_pods() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("default").await;
    cluster.run(ROWS);
    let client = || cluster.admin.clone();
    let (pods, services): (Api<Pod>, Api<Service>) = (
        Api::namespaced(client(), "default"),
        Api::namespaced(client(), "default"),
    );
    let slices: Api<EndpointSlice> = Api::namespaced(client(), "default");
    let endpoints: Api<Endpoints> = Api::namespaced(client(), "default");
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client());
    let params = PostParams::default();
    nodes
        .create(&params, &from(json!({"metadata": {"name": "n1"}})))
        .await
        .unwrap();
    services
        .create(
            &params,
            &from(json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}})),
        )
        .await
        .unwrap();
    pods.create(
        &params,
        &from(json!({"metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}})),
    )
    .await
    .unwrap();
    let status = |ready: &str| {
        Patch::Merge(
            json!({"status": {"phase": "Running", "podIP": "10.9.0.1", "podIPs": [{"ip": "10.9.0.1"}],
            "conditions": [{"type": "Ready", "status": ready}]}}),
        )
    };
    for (ready, wanted) in [("False", false), ("True", true)] {
        pods.patch_status("p", &PatchParams::default(), &status(ready))
            .await
            .unwrap();
        eventually("the slice says so", || async {
            let found = addresses(&slices, "web").await;
            (found == [("10.9.0.1".to_owned(), Some(wanted))]).then_some(())
        })
        .await;
    }
    eventually("the endpoints say so", || async {
        let subsets = endpoints.get_opt("web").await.unwrap()?.subsets?;
        let address = subsets.first()?.addresses.as_ref()?.first()?;
        (address.ip == "10.9.0.1").then_some(())
    })
    .await;
    pods.delete("p", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    eventually("both are empty", || async {
        let gone = endpoints
            .get("web")
            .await
            .unwrap()
            .subsets
            .is_none_or(|s| s.is_empty());
        (gone && addresses(&slices, "web").await.is_empty()).then_some(())
    })
    .await;
    services.delete("web", &Default::default()).await.unwrap();
    gone(&endpoints, "web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
    let endpoints: Api<Endpoints> = Api::namespaced(cluster.admin.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.admin.clone(), "default");
    let params = PostParams::default();
    // What a Service left behind goes; what is made without one is somebody's own.
    let without_service = |name| from(json!({"metadata": {"name": name}}));
    let left: Endpoints = without_service("left");
    endpoints.create(&params, &left).await.unwrap();
    cluster.run(ROWS);
    gone(&endpoints, "left").await;
    let own: Endpoints = without_service("own");
    endpoints.create(&params, &own).await.unwrap();
    services
        .create(
            &params,
            &from(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})),
        )
        .await
        .unwrap();
    endpoints
        .create(
            &params,
            &from(json!({"metadata": {"name": "db"}, "subsets": [
        {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]})),
        )
        .await
        .unwrap();
    eventually("they are mirrored", || async {
        (addresses(&slices, "db").await == [("192.0.2.7".to_owned(), Some(true))]).then_some(())
    })
    .await;
    services.delete("db", &Default::default()).await.unwrap();
    eventually("the mirror goes", || async {
        addresses(&slices, "db").await.is_empty().then_some(())
    })
    .await;
    endpoints.get("own").await.unwrap();
}
