//! Hollow nodes against a real API server on a store in memory.

use std::time::Duration;

use apiserver::testing::{Server, eventually};
use apiserver::user::{MASTERS, User};
use client::transport::transport;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use seams::{Seams, Tasks};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;

/// A server and who administers it; hollow nodes run beside it until this is dropped.
struct World {
    server: Server,
    admin: kube::Client,
    seams: Seams,
    tasks: Tasks,
}

impl World {
    async fn start() -> World {
        let server = Server::start().await;
        server.namespace("web").await;
        let admin = transport(server.service(User::new("admin", &[MASTERS])));
        let seams = Seams::real();
        World {
            admin: kube::Client::new(admin, "default"),
            tasks: seams.tasks(),
            seams,
            server,
        }
    }

    /// Nodes that have their own credentials.
    fn own(&self, config: Config) {
        let voice = |name: String| {
            let user = User::new(&format!("system:node:{name}"), &["system:nodes"]);
            kube::Client::new(transport(self.server.service(user)), "default")
        };
        let voices = Voices::Own(config.names().map(voice).collect());
        self.run(config, voices);
    }

    fn run(&self, config: Config, voices: Voices) {
        let agent = Agent::new(config, voices, &self.seams, &self.tasks);
        let tasks = self.tasks.clone();
        self.tasks
            .spawn("hollow nodes", async move { agent.run(&tasks).await });
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.admin.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "web")
    }

    /// Makes a pod, and binds it as the scheduler would.
    async fn pod(&self, name: &str, node: &str, spec: Value) {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec,
        });
        pod["spec"]["automountServiceAccountToken"] = false.into();
        let pod = serde_json::from_value(pod).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let pods = self.pods();
        let _: Value = pods
            .create_subresource("binding", name, &PostParams::default(), &binding)
            .await
            .unwrap();
    }

    async fn annotate(&self, failure: &str) {
        let annotations = json!({ (Failure::ANNOTATION): failure });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let options = PatchParams::default();
        self.nodes()
            .patch("node-1", &options, &patch)
            .await
            .unwrap();
    }

    /// The pod, once it runs and is ready.
    async fn running(&self, name: &str) -> Pod {
        eventually("the pod runs", || async {
            let pod = self.pods().get(name).await.unwrap();
            (phase(&pod) == "Running" && condition(&pod, "Ready") == "True").then_some(pod)
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref().unwrap();
    status.phase.as_deref().unwrap_or_default()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let conditions = pod.status.as_ref().unwrap().conditions.as_deref();
    let found = conditions
        .unwrap_or_default()
        .iter()
        .find(|one| one.type_ == kind);
    found.map_or("", |one| one.status.as_str())
}

fn node_ready(node: &Node) -> &str {
    let conditions = node.status.as_ref().unwrap().conditions.as_deref();
    let found = conditions
        .unwrap_or_default()
        .iter()
        .find(|one| one.type_ == "Ready");
    found.map_or("", |one| one.status.as_str())
}

fn version(of: Option<&String>) -> u64 {
    of.unwrap().parse().unwrap()
}

fn config(count: u32) -> Config {
    Config {
        count,
        lease_duration: Duration::from_secs(4),
        ..Config::default()
    }
}

fn sleeper() -> Value {
    json!({ "containers": [{ "name": "c", "image": "i:1" }], "terminationGracePeriodSeconds": 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_registers_and_stays_alive_in_its_own_name() {
    let world = World::start().await;
    world.own(config(2));
    let node = eventually("the node is there", || async {
        world.nodes().get_opt("node-2").await.unwrap()
    })
    .await;
    let labels = node.metadata.labels.clone().unwrap();
    assert_eq!(labels["kubernetes.io/hostname"], "node-2");
    assert_eq!(labels["kubernetes.io/os"], "linux");
    let status = node.status.clone().unwrap();
    assert_eq!(status.addresses.unwrap()[0].address, "198.18.0.2");
    assert_eq!(status.allocatable.unwrap()["pods"].0, "110");
    assert_eq!(
        status.node_info.unwrap().kubelet_version,
        node::KUBELET_VERSION
    );
    assert_eq!(node_ready(&node), "True");

    let leases: Api<Lease> = Api::namespaced(world.admin.clone(), "kube-node-lease");
    let lease = eventually("the Lease is there", || async {
        leases.get_opt("node-2").await.unwrap()
    })
    .await;
    let spec = lease.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("node-2"));
    assert_eq!(
        lease.metadata.owner_references.unwrap()[0].uid,
        node.metadata.uid.unwrap()
    );
    eventually("it is renewed", || async {
        let renewed = leases.get("node-2").await.unwrap().spec.unwrap().renew_time;
        (renewed > spec.renew_time).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_starts_with_one_write_and_ends_with_two_after_its_grace() {
    let world = World::start().await;
    world.own(config(1));
    eventually("the node is there", || async {
        world.nodes().get_opt("node-1").await.unwrap()
    })
    .await;
    world.pod("p", "node-1", sleeper()).await;
    let pod = world.running("p").await;
    let status = pod.status.clone().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.128.1.2"));
    assert_eq!(status.host_ip.as_deref(), Some("198.18.0.1"));
    let managers: Vec<_> = pod.metadata.managed_fields.clone().unwrap_or_default();
    let of_node = |one: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        one.subresource.as_deref() == Some("status")
    };
    assert!(managers.iter().any(|one| of_node(&one)), "{managers:?}");

    let started = Instant::now();
    world
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    eventually("it is gone", || async {
        world
            .pods()
            .get_opt("p")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_impersonated_share_a_connection() {
    let world = World::start().await;
    world.run(config(3), Voices::Impersonating(world.admin.clone()));
    for n in 1..=3 {
        let name = format!("node-{n}");
        eventually("the node is there", || async {
            world.nodes().get_opt(&name).await.unwrap()
        })
        .await;
        world.pod(&format!("p-{n}"), &name, sleeper()).await;
    }
    let mut addresses = Vec::new();
    for n in 1..=3 {
        let pod = world.running(&format!("p-{n}")).await;
        addresses.push(pod.status.unwrap().pod_ip.unwrap());
    }
    assert_eq!(addresses, ["10.128.1.2", "10.128.2.2", "10.128.3.2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_node_does_nothing_until_it_is_mended() {
    let world = World::start().await;
    world.own(config(1));
    eventually("the node is there", || async {
        world.nodes().get_opt("node-1").await.unwrap()
    })
    .await;
    world.annotate("not-ready").await;
    eventually("it says so", || async {
        (node_ready(&world.nodes().get("node-1").await.unwrap()) == "False").then_some(())
    })
    .await;
    world.annotate("crash").await;
    sleep(Duration::from_millis(300)).await;
    world.pod("p", "node-1", sleeper()).await;
    sleep(Duration::from_millis(500)).await;
    let pod = world.pods().get("p").await.unwrap();
    assert_eq!(phase(&pod), "Pending");
    world.annotate("none").await;
    world.running("p").await;
    eventually("it is ready again", || async {
        (node_ready(&world.nodes().get("node-1").await.unwrap()) == "True").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_that_others_add_to_a_node_stay() {
    let world = World::start().await;
    let config = Config {
        report_interval: Duration::from_millis(300),
        ..config(1)
    };
    world.own(config);
    eventually("the node is there", || async {
        world.nodes().get_opt("node-1").await.unwrap()
    })
    .await;
    let patch = json!({ "status": { "capacity": { "example.com/dongle": "3" } } });
    let patch = Patch::Merge(patch);
    let options = PatchParams::default();
    let patched = world
        .nodes()
        .patch_status("node-1", &options, &patch)
        .await
        .unwrap();
    let before = version(patched.metadata.resource_version.as_ref());
    let node = eventually("it reports again", || async {
        let node = world.nodes().get("node-1").await.unwrap();
        (version(node.metadata.resource_version.as_ref()) > before).then_some(node)
    })
    .await;
    assert_eq!(
        node.status.unwrap().capacity.unwrap()["example.com/dongle"].0,
        "3"
    );
}
