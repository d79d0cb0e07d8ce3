//! The life of objects: made, read, changed in every way, and deleted.

use crate::support::{Dev, until};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: a, image: 'nginx:1.25', ports: [{containerPort: 80}]}
      - {name: b, image: busybox}
";

#[test]
fn objects_are_made_changed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_masters(dir.path());
    let kubectl = dev.kubectl();
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(
            kubectl.path(&["ns", namespace], "{.status.phase}"),
            "Active"
        );
    }

    // Client-side apply: created, unchanged, configured, what is gone is removed.
    let apply = ["apply", "-f", "-"];
    assert_eq!(
        kubectl.feed(&apply, DEPLOYMENT),
        "deployment.apps/web created\n"
    );
    assert_eq!(
        kubectl.feed(&apply, DEPLOYMENT),
        "deployment.apps/web unchanged\n"
    );
    let changed = DEPLOYMENT.replace("      - {name: b, image: busybox}\n", "");
    assert_eq!(
        kubectl.feed(&apply, &changed),
        "deployment.apps/web configured\n"
    );
    let containers = "{.spec.template.spec.containers[*].name}";
    assert_eq!(kubectl.path(&["deploy", "web"], containers), "a");
    // Defaults are there, and generations count what is asked for.
    assert_eq!(
        kubectl.path(
            &["deploy", "web"],
            "{.spec.strategy.type} {.metadata.generation}"
        ),
        "RollingUpdate 2"
    );
    assert_eq!(
        kubectl.must(&["scale", "deploy/web", "--replicas=5"]),
        "deployment.apps/web scaled\n"
    );
    assert_eq!(kubectl.path(&["deploy", "web"], "{.spec.replicas}"), "5");

    // The three patches.
    let patch = |kind: &str, patch: &str| {
        kubectl.must(&["patch", "deploy", "web", "--type", kind, "-p", patch]);
    };
    patch(
        "strategic",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"x"}]}}}}"#,
    );
    assert_eq!(kubectl.path(&["deploy", "web"], containers), "c a");
    patch(
        "json",
        r#"[{"op":"remove","path":"/spec/template/spec/containers/0"}]"#,
    );
    assert_eq!(kubectl.path(&["deploy", "web"], containers), "a");
    patch("merge", r#"{"metadata":{"labels":{"tier":null,"x":"y"}}}"#);
    assert_eq!(
        kubectl.path(&["deploy", "web"], "{.metadata.labels}"),
        r#"{"x":"y"}"#
    );
    kubectl.must(&["label", "deploy", "web", "x=z", "--overwrite"]);
    kubectl.must(&["annotate", "deploy", "web", "note=1"]);

    // Tables, selectors and other forms.
    let table = kubectl.must(&["get", "deploy", "-l", "x=z"]);
    assert!(table.contains("READY") && table.contains("0/5"), "{table}");
    assert_eq!(
        kubectl.must(&["get", "deploy", "-l", "x!=z", "-o", "name"]),
        ""
    );
    let found = kubectl.must(&[
        "get",
        "deploy",
        "--field-selector",
        "metadata.name=web",
        "-o",
        "name",
    ]);
    assert_eq!(found, "deployment.apps/web\n");
    assert!(
        kubectl
            .must(&["describe", "deploy", "web"])
            .contains("StrategyType:")
    );
    assert!(
        kubectl
            .must(&["get", "deploy", "web", "-o", "yaml"])
            .contains("image: nginx:1.25")
    );

    // Deletion waits for finalizers, and says so meanwhile.
    patch(
        "merge",
        r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
    );
    kubectl.must(&[
        "delete",
        "deploy",
        "web",
        "--cascade=foreground",
        "--wait=false",
    ]);
    until("only its own finalizer holds it", || {
        let finalizers = kubectl.path(&["deploy", "web"], "{.metadata.finalizers}");
        finalizers == r#"["example.com/hold"]"#
    });
    patch("merge", r#"{"metadata":{"finalizers":null}}"#);
    assert!(
        kubectl
            .refused(&["get", "deploy", "web"])
            .contains("NotFound")
    );
    dev.stop();
}

#[test]
fn appliers_own_what_they_apply() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_apis(dir.path());
    let kubectl = dev.kubectl();
    let apply = |manager: &str| {
        [
            "apply",
            "--server-side",
            "--field-manager",
            manager,
            "-f",
            "-",
        ]
        .map(str::to_string)
    };
    let config = |a: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{{a}}}\n")
    };
    let run = |manager: &str, data: &str| {
        let arguments = apply(manager);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        kubectl.feed(&arguments, &config(data))
    };
    assert_eq!(
        run("one", "a: '1', b: '1'"),
        "configmap/c serverside-applied\n"
    );
    run("two", "c: '2'");
    let arguments = apply("two");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let conflict = kubectl.feed_refused(&arguments, &config("a: '2', c: '2'"));
    assert!(
        conflict.contains(r#"conflict with "one": .data.a"#),
        "{conflict}"
    );
    let forced = [&arguments[..], &["--force-conflicts"]].concat();
    kubectl.feed(&forced, &config("a: '2', c: '2'"));
    assert_eq!(kubectl.path(&["cm", "c"], "{.data.a}"), "2");
    // What its owner no longer applies goes; what somebody else owns stays.
    run("one", "");
    assert_eq!(
        kubectl.path(&["cm", "c"], "{.data}"),
        r#"{"a":"2","c":"2"}"#
    );
    dev.stop();
}

#[test]
fn namespaces_end_when_all_that_was_in_them_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_masters(dir.path());
    let kubectl = dev.kubectl();
    kubectl.must(&["create", "ns", "gone"]);
    let held = "apiVersion: v1\nkind: ConfigMap\n\
                metadata: {name: held, namespace: gone, finalizers: [example.com/hold]}\n";
    kubectl.feed(&["create", "-f", "-"], held);
    kubectl.must(&["delete", "ns", "gone", "--wait=false"]);
    let why =
        "{.status.phase} {.status.conditions[?(@.type=='NamespaceFinalizersRemaining')].message}";
    until("it says what it waits for", || {
        let said = kubectl.path(&["ns", "gone"], why);
        said.starts_with("Terminating") && said.contains("example.com/hold in 1 resource instances")
    });
    let refused = kubectl.refused(&["create", "cm", "late", "-n", "gone"]);
    let want = "because it is being terminated";
    assert!(refused.contains(want), "{refused}");
    let free = r#"{"metadata":{"finalizers":null}}"#;
    kubectl.must(&[
        "patch",
        "cm",
        "held",
        "-n",
        "gone",
        "--type=merge",
        "-p",
        free,
    ]);
    until("it is gone", || !kubectl.succeeds(&["get", "ns", "gone"]));
    assert!(kubectl.refused(&["get", "ns", "gone"]).contains("NotFound"));
    dev.stop();
}

#[test]
fn the_api_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_apis(dir.path());
    let kubectl = dev.kubectl();
    let resources = kubectl.must(&["api-resources", "--no-headers"]);
    for name in [
        "pods",
        "deployments",
        "horizontalpodautoscalers",
        "clusterroles",
    ] {
        assert!(
            resources.lines().any(|line| line.starts_with(name)),
            "{name}\n{resources}"
        );
    }
    assert!(
        kubectl
            .must(&["api-versions"])
            .lines()
            .any(|line| line == "apps/v1")
    );
    let explained = kubectl.must(&["explain", "pod.spec.containers.ports"]);
    assert!(
        explained.contains("containerPort\t<integer> -required-"),
        "{explained}"
    );
    assert!(
        kubectl
            .must(&["version"])
            .contains("Server Version: v1.36.")
    );
    assert!(
        kubectl
            .must(&["get", "--raw", "/readyz?verbose"])
            .ends_with("readyz check passed\n")
    );
    let v2 = kubectl.must(&["get", "--raw", "/openapi/v2"]);
    assert!(v2.contains("io.k8s.api.core.v1.Pod"));
    dev.stop();
}
