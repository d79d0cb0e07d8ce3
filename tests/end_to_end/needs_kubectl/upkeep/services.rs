//! Services: endpoints, and addresses of load balancers.

use crate::support::Kubectl;

pub(super) fn know_where_their_pods_are(kubectl: &Kubectl) {
    kubectl.create_web("nginx", 3, &["--port=80"]);
    kubectl.must(&[
        "expose",
        "deployment",
        "web",
        "--port=8080",
        "--target-port=80",
    ]);
    kubectl.rolled_out("deployment/web");
    let slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
    let addresses = |path: &str| {
        let mut all: Vec<String> = kubectl
            .path(&slices, path)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        all.sort();
        all
    };
    let ready = "{range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]} {end}";
    let of_pods = || {
        let ips = kubectl.path(&["pods", "-l", "app=web"], "{.items[*].status.podIP}");
        let mut ips: Vec<String> = ips.split_whitespace().map(str::to_owned).collect();
        ips.sort();
        ips
    };
    crate::support::until("all pods are endpoints", || addresses(ready).len() == 3);
    assert_eq!(addresses(ready), of_pods());
    assert_eq!(kubectl.path(&slices, "{.items[0].ports[0].port}"), "80");
    // One that is not ready is none.
    kubectl.must(&["scale", "deploy/web", "--replicas=1"]);
    crate::support::until("one pod is left", || addresses(ready).len() == 1);
    kubectl.shows(
        &["pods", "-l", "app=web"],
        "{.items[*].status.phase}",
        "Running",
    );
    assert_eq!(addresses(ready), of_pods());
    let legacy = kubectl.must(&["get", "endpoints", "web"]);
    assert!(legacy.contains(&format!("{}:80", of_pods()[0])), "{legacy}");
    let told = kubectl.must(&["describe", "svc", "web"]);
    assert!(told.contains(&format!("{}:80", of_pods()[0])), "{told}");
    kubectl.must(&["delete", "svc", "web"]);
    kubectl.shows(&slices, "{.items}", "[]");
}

pub(super) fn get_addresses_from_the_pool(kubectl: &Kubectl) {
    let create = |name: &str| {
        kubectl.must(&["create", "service", "loadbalancer", name, "--tcp=80:80"]);
    };
    let address = "{.status.loadBalancer.ingress[*].ip}";
    create("one");
    kubectl.shows(&["svc", "one"], address, "192.0.2.8");
    create("two");
    kubectl.shows(&["svc", "two"], address, "192.0.2.9");
    // The pool is empty; it is told, and mended once there is an address.
    create("three");
    kubectl.prints(
        &[
            "get",
            "events",
            "--field-selector=involvedObject.name=three",
        ],
        "SyncLoadBalancerFailed",
    );
    assert_eq!(kubectl.path(&["svc", "three"], address), "");
    let finalizer = "{.metadata.finalizers[0]}";
    assert_eq!(
        kubectl.path(&["svc", "one"], finalizer),
        "service.kubernetes.io/load-balancer-cleanup"
    );
    kubectl.must(&["delete", "svc", "one"]);
    kubectl.shows(&["svc", "three"], address, "192.0.2.8");
    let told = kubectl.must(&["describe", "svc", "two"]);
    assert!(told.contains("EnsuredLoadBalancer"), "{told}");
    // A Service that is something else gives its address back.
    kubectl.must(&[
        "patch",
        "svc",
        "two",
        "-p",
        r#"{"spec":{"type":"ClusterIP"}}"#,
    ]);
    kubectl.shows(&["svc", "two"], address, "");
    kubectl.shows(&["svc", "two"], "{.metadata.finalizers}", "");
}
