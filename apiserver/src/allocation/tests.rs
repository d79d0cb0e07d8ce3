//! Services on a whole server.

use std::collections::HashSet;

use crate::testing::{Server, until};
use crate::validation::At;

const SERVICES: &str = "/api/v1/namespaces/a/services";

fn service(name: &str, spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"selector":{{"a":"b"}},"ports":[{{"port":80}}]{spec}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_addresses_and_give_them_back() {
    let server = Server::start().await;
    server.namespace("a").await;
    let made = server.create(SERVICES, &service("s", "")).await.ok();
    let spec = At::root(&made).get("spec");
    let address = spec.get("clusterIP").str().to_string();
    assert!(address.starts_with("10."), "{address}");
    assert!(spec.get("clusterIPs").contains(&address) && spec.get("clusterIPs").len() == 1);
    assert!(spec.get("ipFamilies").contains("IPv4") && spec.get("ipFamilies").len() == 1);
    assert_eq!(spec.get("ipFamilyPolicy").str(), "SingleStack");
    let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    let held = server.ask("GET", &path, "").await.ok();
    let held = At::root(&held);
    assert_eq!(held.path(&["spec", "parentRef", "name"]).str(), "s");
    let labels = held.path(&["metadata", "labels"]);
    assert_eq!(
        labels
            .entry("ipaddress.kubernetes.io/ip-family")
            .unwrap()
            .str(),
        "IPv4"
    );

    let asked = format!(r#","clusterIP":"{address}""#);
    let refused = server.create(SERVICES, &service("t", &asked)).await;
    let want = format!(
        "Service \"t\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP \
         {address}: provided IP is already allocated"
    );
    assert_eq!(refused.refusal(), (422, &*want));
    let refused = server
        .create(SERVICES, &service("t", r#","clusterIP":"192.0.2.1""#))
        .await;
    let want = "Service \"t\" is invalid: spec.clusterIPs: Invalid value: [\"192.0.2.1\"]: failed to allocate \
                IP 192.0.2.1: the provided network does not match the current range";
    assert_eq!(refused.refusal(), (422, want));

    let one = format!("{SERVICES}/s");
    let external =
        r#"{"spec":{"type":"ExternalName","externalName":"x.y","clusterIP":"","clusterIPs":null}}"#;
    server.ask("PATCH", &one, external).await.ok();
    assert_eq!(server.ask("GET", &path, "").await.code, 404);
    let back = r#"{"spec":{"type":"ClusterIP","externalName":null}}"#;
    let made = server.ask("PATCH", &one, back).await.ok();
    let address = At::root(&made)
        .path(&["spec", "clusterIP"])
        .str()
        .to_string();
    let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    server.ask("GET", &path, "").await.ok();
    server.ask("DELETE", &one, "").await.ok();
    assert_eq!(server.ask("GET", &path, "").await.code, 404);
    let headless = server
        .create(SERVICES, &service("h", r#","clusterIP":"None""#))
        .await
        .ok();
    assert!(
        At::root(&headless)
            .path(&["spec", "clusterIPs"])
            .contains("None")
    );
    let dual = server
        .create(
            SERVICES,
            &service("d", r#","ipFamilyPolicy":"RequireDualStack""#),
        )
        .await;
    let want = "Service \"d\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this \
                cluster is not configured for dual-stack services";
    assert_eq!(dual.refusal(), (422, want));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_ports_and_give_them_back() {
    let server = Server::start().await;
    server.namespace("a").await;
    let both = r#"{"metadata":{"name":"s"},"spec":{"type":"NodePort","ports":[
        {"name":"t","port":53,"protocol":"TCP"},{"name":"u","port":53,"protocol":"UDP"},{"name":"v","port":80}]}}"#;
    let made = server.create(SERVICES, both).await.ok();
    let ports: Vec<i64> = At::root(&made)
        .path(&["spec", "ports"])
        .items()
        .map(|port| port.get("nodePort").int())
        .collect();
    assert!(ports[0] == ports[1] && ports[0] != ports[2], "{ports:?}");
    assert!(
        ports.iter().all(|port| (30_000..=32_767).contains(port)),
        "{ports:?}"
    );
    let asks = |port: i64| {
        format!(
            r#"{{"metadata":{{"name":"t"}},"spec":{{"type":"NodePort","ports":[{{"port":80,"nodePort":{port}}}]}}}}"#
        )
    };
    let refused = server.create(SERVICES, &asks(ports[0])).await;
    let want = format!(
        "Service \"t\" is invalid: spec.ports[0].nodePort: Invalid value: {}: provided port is already allocated",
        ports[0]
    );
    assert_eq!(refused.refusal(), (422, &*want));
    let refused = server.create(SERVICES, &asks(80)).await;
    let want = "Service \"t\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the \
                valid range. The range of valid ports is 30000-32767";
    assert_eq!(refused.refusal(), (422, want));
    let one = format!("{SERVICES}/s");
    server
        .ask("PATCH", &one, r#"{"spec":{"type":"ClusterIP"}}"#)
        .await
        .ok();
    server.create(SERVICES, &asks(ports[0])).await.ok();
    server
        .ask("DELETE", &format!("{SERVICES}/t"), "")
        .await
        .ok();
    server.create(SERVICES, &asks(ports[0])).await.ok();
    let local = r#"{"metadata":{"name":"l"},"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local","ports":[{"port":80}]}}"#;
    let made = server.create(SERVICES, local).await.ok();
    assert!(At::root(&made).path(&["spec", "healthCheckNodePort"]).int() >= 30_000);
}

/// Two servers that do not know of each other's services yet never give the same twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_given_twice() {
    let one = Server::start().await;
    one.namespace("a").await;
    let two = one.another("two").await;
    let writes = (0..40).map(|at| {
        let server = if at % 2 == 0 { &one } else { &two };
        async move {
            let body = format!(
                r#"{{"metadata":{{"name":"s{at}"}},"spec":{{"type":"NodePort","ports":[{{"port":80}}]}}}}"#
            );
            let made = server.create(SERVICES, &body).await.ok();
            let spec = At::root(&made).get("spec");
            let port = spec.get("ports").items().next().unwrap().get("nodePort").int();
            (spec.get("clusterIP").str().to_string(), port)
        }
    });
    let given = futures::future::join_all(writes).await;
    let addresses: HashSet<&String> = given.iter().map(|one| &one.0).collect();
    let ports: HashSet<i64> = given.iter().map(|one| one.1).collect();
    assert_eq!((addresses.len(), ports.len()), (40, 40));
    let asked = given[0].0.clone();
    until("both servers know the address", || async {
        two.api
            .objects()
            .get("networking.k8s.io", "ipaddresses", "", &asked)
            .is_some()
    })
    .await;
}
