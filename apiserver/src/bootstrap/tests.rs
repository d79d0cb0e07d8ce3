//! What every cluster has, on whole servers.

use crate::testing::{Server, until};
use crate::validation::At;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cluster_has_what_it_needs() {
    let server = Server::start().await;
    let get = async |path: &str| server.ask("GET", path, "").await.ok();
    let class = get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical").await;
    assert_eq!(At::root(&class).get("value").int(), 2_000_001_000);
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = get(&format!("{flow}/prioritylevelconfigurations/workload-low")).await;
    assert_eq!(
        At::root(&level).get("spec").node().unwrap().to_string(),
        r#"{"type":"Limited","limited":{"nominalConcurrencyShares":100,"limitResponse":{"type":"Queue","queuing":{"queues":128,"handSize":6,"queueLengthLimit":50}},"lendablePercent":90}}"#
    );
    let schemas = get(&format!("{flow}/flowschemas")).await;
    assert_eq!(At::root(&schemas).get("items").len(), 11);
    let levels = get(&format!("{flow}/prioritylevelconfigurations")).await;
    assert_eq!(At::root(&levels).get("items").len(), 8);
    let block = get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await;
    assert!(
        At::root(&block)
            .path(&["spec", "cidrs"])
            .contains("10.96.0.0/12")
    );
    let ready = At::root(&block)
        .path(&["status", "conditions"])
        .find("type", "Ready");
    assert_eq!(ready.unwrap().get("status").str(), "True");
    let service = get("/api/v1/namespaces/default/services/kubernetes").await;
    let spec = At::root(&service).get("spec");
    assert_eq!(spec.get("clusterIP").str(), "10.96.0.1");
    assert_eq!(
        spec.get("ports")
            .items()
            .next()
            .unwrap()
            .get("targetPort")
            .int(),
        6443
    );
    get("/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_addresses_are_those_of_servers_that_live() {
    let one = Server::start().await;
    let two = one.another_at("two", "192.0.2.2:6443").await;
    let addresses = || async {
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
        let slice = one.ask("GET", path, "").await.doc;
        let endpoints = At::root(&slice).get("endpoints");
        let of = |at: At<'_>| {
            at.get("addresses")
                .items()
                .map(|at| at.str().to_string())
                .collect::<Vec<_>>()
        };
        endpoints.items().flat_map(of).collect::<Vec<_>>()
    };
    until("both answer", || async {
        addresses().await == ["192.0.2.1", "192.0.2.2"]
    })
    .await;
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    let endpoints = one.ask("GET", path, "").await.ok();
    let subset = At::root(&endpoints).get("subsets").items().next().unwrap();
    assert_eq!(
        subset
            .get("ports")
            .items()
            .next()
            .unwrap()
            .get("port")
            .int(),
        6443
    );
    // One that shares the address of another leaves it to that.
    let three = one.another_at("three", "192.0.2.1:6443").await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/apiserver-three";
    until("the third is there", || async {
        one.ask("GET", lease, "").await.code == 200
    })
    .await;
    three.tasks.shutdown().await;
    assert_eq!(one.ask("GET", lease, "").await.code, 404);
    assert_eq!(addresses().await, ["192.0.2.1", "192.0.2.2"]);
    two.tasks.cancel();
    until("the second is gone", || async {
        addresses().await == ["192.0.2.1"]
    })
    .await;
}
