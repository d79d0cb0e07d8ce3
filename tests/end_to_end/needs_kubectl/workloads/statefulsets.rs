//! StatefulSets: order, partitions, claims.

use crate::support::{Kubectl, Talk};

/// Pods that take a second to be ready and to end.
fn manifest(replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: {replicas}
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata:
      labels: {{app: db}}
      annotations: {{hollow.trireme.io/ready-after: 1100ms}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: db, image: 'db:1'}}]
"
    )
}

/// What happens to the pods from now on, line by line.
fn watch(kubectl: &Kubectl) -> Talk {
    let talk = Talk::start(kubectl.command(&["get", "pods", "--watch", "--output-watch-events"]));
    talk.read_to("NAME");
    talk
}

/// The names of the next pods of which this is told, in order.
fn next(talk: &Talk, event: &str, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        let line = talk.read_to(event).pop().unwrap_or_default();
        names.extend(line.split_whitespace().nth(1).map(str::to_owned));
    }
    names
}

pub(super) fn come_and_go_in_order(kubectl: &Kubectl) {
    kubectl.apply(&manifest(3));
    kubectl.rolled_out("statefulset/db");
    let ready = |n: u32| {
        let path = r#"{.status.conditions[?(@.type=="Ready")].lastTransitionTime}"#;
        kubectl.path(&["pod", &format!("db-{n}")], path)
    };
    let made = |n: u32| {
        kubectl.path(
            &["pod", &format!("db-{n}")],
            "{.metadata.creationTimestamp}",
        )
    };
    assert!(
        ready(0) <= made(1) && ready(1) <= made(2),
        "one after the other"
    );
    let label = kubectl.path(
        &["pod", "db-2"],
        r"{.metadata.labels.apps\.kubernetes\.io/pod-index}",
    );
    assert_eq!(label, "2");

    let talk = watch(kubectl);
    kubectl.must(&["scale", "sts/db", "--replicas=0"]);
    assert_eq!(
        next(&talk, "DELETED", 3),
        ["db-2", "db-1", "db-0"],
        "the last ones first"
    );

    // Who is in no hurry to be in order says so.
    kubectl.must(&["delete", "sts", "db"]);
    let parallel = manifest(3).replace(
        "serviceName: db",
        "serviceName: db\n  podManagementPolicy: Parallel",
    );
    kubectl.apply(&parallel);
    kubectl.rolled_out("statefulset/db");
    assert!(made(2) < ready(0), "all at once: {} {}", made(2), ready(0));
}

pub(super) fn update_from_the_last_one_on(kubectl: &Kubectl) {
    kubectl.apply(&manifest(3));
    kubectl.rolled_out("statefulset/db");
    let partition = |n: u32| {
        let patch =
            format!(r#"{{"spec":{{"updateStrategy":{{"rollingUpdate":{{"partition":{n}}}}}}}}}"#);
        kubectl.must(&["patch", "sts", "db", "-p", &patch]);
    };
    partition(2);
    kubectl.must(&["set", "image", "sts/db", "db=db:2"]);
    let said = kubectl.rolled_out("statefulset/db");
    assert!(
        said.contains("partitioned roll out complete: 1 new pods have been updated"),
        "{said}"
    );
    let images = "{.items[*].spec.containers[0].image}";
    assert_eq!(kubectl.path(&["pods"], images), "db:1 db:1 db:2");
    // One that is replaced below the partition comes back as it was.
    kubectl.must(&["delete", "pod", "db-0"]);
    kubectl.must(&["wait", "--for=create", "pod/db-0", "--timeout=60s"]);
    kubectl.must(&["wait", "--for=condition=Ready", "pod/db-0", "--timeout=60s"]);
    assert_eq!(kubectl.path(&["pods"], images), "db:1 db:1 db:2");

    let talk = watch(kubectl);
    partition(0);
    assert_eq!(next(&talk, "DELETED", 2), ["db-1", "db-0"]);
    kubectl.rolled_out("statefulset/db");
    assert_eq!(kubectl.path(&["pods"], images), "db:2 db:2 db:2");
    let revisions = kubectl.path(
        &["sts", "db"],
        "{.status.currentRevision} {.status.updateRevision}",
    );
    let (current, update) = revisions.split_once(' ').unwrap();
    assert_eq!(current, update);

    kubectl.must(&["rollout", "undo", "sts/db"]);
    kubectl.rolled_out("statefulset/db");
    assert_eq!(kubectl.path(&["pods"], images), "db:1 db:1 db:1");
}

pub(super) fn keep_a_claim_for_each_replica(kubectl: &Kubectl) {
    for volume in 0..2 {
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: claims-{volume}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  persistentVolumeReclaimPolicy: Retain
  hostPath: {{path: /nowhere}}
"
        ));
    }
    let claims = "
  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: by-hand
      resources: {requests: {storage: 1Gi}}
";
    kubectl.apply(&(manifest(2) + claims.trim_start_matches('\n')));
    kubectl.rolled_out("statefulset/db");
    kubectl.shows(&["pvc"], "{.items[*].status.phase}", "Bound Bound");
    let names = kubectl.must(&["get", "pvc", "-o", "name"]);
    assert_eq!(
        names,
        "persistentvolumeclaim/data-db-0\npersistentvolumeclaim/data-db-1\n"
    );
    kubectl.must(&["scale", "sts/db", "--replicas=1"]);
    kubectl.is_gone("pvc/data-db-1");
    kubectl.must(&["delete", "sts", "db"]);
    kubectl.is_gone("pod/db-0");
    assert_eq!(
        kubectl.path(&["pvc"], "{.items[*].metadata.name}"),
        "data-db-0"
    );
}
