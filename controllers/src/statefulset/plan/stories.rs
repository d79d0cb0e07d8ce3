//! StatefulSets told step by step.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::history;
use crate::template::Template;

const NOW: &str = "2026-01-01T01:00:00Z";
const READY: &str = "2026-01-01T00:59:50Z";

/// A set of the size and its pods, each in a word: its number, then `new` or `old`, and what it is.
struct Story {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    claims: HashMap<String, Arc<Claim>>,
}

fn revision(name: &str, image: &str) -> Revision {
    let template = Template::new(json!({"metadata": {"labels": {"app": "db"}},
                                        "spec": {"containers": [{"image": image}]}}));
    let data: Value = serde_json::from_str(&history::snapshot(&template)).unwrap();
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data, "revision": 1}))
        .unwrap()
}

impl Story {
    fn new(replicas: i32, pods: &[&str]) -> Self {
        let set = json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 3},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "db"}},
                "serviceName": "svc",
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"image": "v2"}]}},
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
        });
        Self {
            set: serde_json::from_value(set).unwrap(),
            pods: pods.iter().map(|word| pod(word)).collect(),
            claims: HashMap::new(),
        }
    }

    fn parallel(mut self) -> Self {
        self.set.spec.pod_management_policy = "Parallel".into();
        self
    }

    fn rolling(mut self, rolling: Value) -> Self {
        self.set.spec.update_strategy.rolling_update = serde_json::from_value(rolling).unwrap();
        self
    }

    fn storing(mut self, when_deleted: &str, when_scaled: &str) -> Self {
        self.set.spec.volume_claim_templates =
            vec![json!({"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {"size": 1}})];
        self.set.spec.persistent_volume_claim_retention_policy = Some(
            serde_json::from_value(json!({"whenDeleted": when_deleted, "whenScaled": when_scaled}))
                .unwrap(),
        );
        for pod in &mut self.pods {
            let claim = format!("data-{}", pod.name());
            let volume = crate::pod::ClaimVolume {
                name: "data".into(),
                claim_name: Some(claim.into()),
            };
            Arc::make_mut(pod).spec.volumes = vec![volume];
        }
        self
    }

    fn claim(mut self, name: &str, metadata: Value) -> Self {
        let mut value = json!({"metadata": metadata});
        value["metadata"]["name"] = name.into();
        self.claims.insert(
            name.into(),
            Arc::new(serde_json::from_value(value).unwrap()),
        );
        self
    }

    fn plan(&self) -> Plan {
        let (current, update) = (revision("db-old", "v1"), revision("db-new", "v2"));
        let observed = Observed {
            set: &self.set,
            current: &current,
            update: &update,
            collisions: 0,
            pods: &self.pods,
            claim: &|name| self.claims.get(name).cloned(),
        };
        plan(&observed, NOW.parse().unwrap())
    }

    /// The phases in short.
    fn told(&self) -> Vec<String> {
        let tell = |step: &Step| match step {
            Step::Create { pod, body, claims } => {
                let revision = &body["metadata"]["labels"][REVISION_HASH];
                let revision = revision.as_str().unwrap().trim_start_matches("db-");
                let claims = if claims.create.is_empty() {
                    ""
                } else {
                    " with claims"
                };
                format!("create {pod} {revision}{claims}")
            }
            Step::CreateClaims { pod, claims } => match &claims.error {
                None => format!("claims for {pod}"),
                Some(error) => format!("{pod}: {error}"),
            },
            Step::Update {
                pod, patch, owners, ..
            } => {
                let what = if patch.is_some() { " labels" } else { "" };
                format!("update {}{what}{}", pod.name(), told_owners(owners))
            }
            Step::Own(owners) => format!("own{}", told_owners(owners)),
            Step::Delete(pod) => format!("delete {}", pod.name()),
        };
        self.plan().phases.iter().flatten().map(tell).collect()
    }
}

fn told_owners(all: &[Owners]) -> String {
    let owners = |one: &Owners| {
        one.owners
            .iter()
            .map(|owner| owner.kind.clone())
            .collect::<Vec<_>>()
            .join("+")
    };
    all.iter()
        .map(|one| format!(" {}={}", one.claim.name(), owners(one)))
        .collect()
}

fn pod(word: &str) -> Arc<Pod> {
    let mut parts = word.split(' ');
    let (number, age, state) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let name = format!("db-{number}");
    let mut value = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {
            "app": "db", "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": number, REVISION_HASH: format!("db-{age}")}},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": READY}]},
    });
    match state {
        "ready" => value["status"]["conditions"][0]["status"] = "True".into(),
        "unready" => {}
        "leaving" => value["metadata"]["deletionTimestamp"] = NOW.into(),
        phase => value["status"]["phase"] = phase.into(),
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn told(replicas: i32, pods: &[&str]) -> Vec<String> {
    Story::new(replicas, pods).told()
}

#[test]
fn pods_come_one_after_the_other() {
    assert_eq!(told(3, &[]), ["create db-0 new"]);
    assert!(told(3, &["0 new Pending"]).is_empty());
    assert!(told(3, &["0 new unready"]).is_empty());
    assert_eq!(told(3, &["0 new ready"]), ["create db-1 new"]);
    assert_eq!(
        told(3, &["0 new ready", "2 new ready"]),
        ["create db-1 new"]
    );
    assert!(told(3, &["0 new ready", "1 new leaving"]).is_empty());
}

#[test]
fn parallel_pods_come_at_once() {
    assert_eq!(
        Story::new(3, &["1 new unready"]).parallel().told(),
        ["create db-0 new", "create db-2 new"]
    );
}

#[test]
fn pods_that_ended_are_replaced() {
    assert_eq!(told(2, &["0 new Failed", "1 new ready"]), ["delete db-0"]);
    assert_eq!(
        told(2, &["0 new Succeeded", "1 new ready"]),
        ["delete db-0"]
    );
}

#[test]
fn pods_go_from_the_top_once_all_below_are_well() {
    assert_eq!(
        told(1, &["0 new ready", "1 new ready", "2 new ready"]),
        ["delete db-2"]
    );
    assert!(told(1, &["0 new ready", "1 new ready", "2 new leaving"]).is_empty());
    assert!(told(1, &["0 new unready", "1 new ready"]).is_empty());
    // The first that is not well may go; those above it wait for it.
    assert_eq!(told(1, &["0 new ready", "1 new unready"]), ["delete db-1"]);
    assert!(told(1, &["0 new ready", "1 new unready", "2 new unready"]).is_empty());
    let parallel = Story::new(1, &["0 new unready", "1 new unready", "2 new ready"]).parallel();
    assert_eq!(parallel.told(), ["delete db-2", "delete db-1"]);
}

#[test]
fn pods_are_renewed_from_the_top_one_by_one() {
    assert_eq!(
        told(3, &["0 old ready", "1 old ready", "2 old ready"]),
        ["delete db-2"]
    );
    assert_eq!(
        told(3, &["0 old ready", "1 old ready"]),
        ["create db-2 new"]
    );
    assert!(told(3, &["0 old ready", "1 old ready", "2 new unready"]).is_empty());
    assert_eq!(
        told(3, &["0 old ready", "1 old ready", "2 new ready"]),
        ["delete db-1"]
    );
    let mut manual = Story::new(1, &["0 old ready"]);
    manual.set.spec.update_strategy.type_ = "OnDelete".into();
    assert!(manual.told().is_empty());
}

#[test]
fn pods_below_the_partition_stay_as_they_were() {
    let partition = |pods: &[&str]| Story::new(3, pods).rolling(json!({"partition": 2})).told();
    assert_eq!(
        partition(&["0 old ready", "1 old ready", "2 old ready"]),
        ["delete db-2"]
    );
    assert!(partition(&["0 old ready", "1 old ready", "2 new ready"]).is_empty());
    assert_eq!(
        partition(&["0 old ready", "2 new ready"]),
        ["create db-1 old"]
    );
    assert_eq!(
        partition(&["0 old ready", "1 old ready"]),
        ["create db-2 new"]
    );
}

#[test]
fn several_may_be_renewed_at_a_time() {
    let some = |most: Value, pods: &[&str]| {
        Story::new(4, pods)
            .parallel()
            .rolling(json!({"partition": 0, "maxUnavailable": most}))
            .told()
    };
    let all = ["0 old ready", "1 old ready", "2 old ready", "3 old ready"];
    assert_eq!(some(json!(2), &all), ["delete db-3", "delete db-2"]);
    assert_eq!(
        some(json!("75%"), &all),
        ["delete db-3", "delete db-2", "delete db-1"]
    );
    let one_down = ["0 old ready", "1 old unready", "2 old ready", "3 new ready"];
    assert_eq!(some(json!(2), &one_down), ["delete db-2"]);
    assert!(some(json!(1), &one_down).is_empty());
}

#[test]
fn numbers_may_start_anywhere() {
    let mut story = Story::new(2, &["0 new ready", "5 new ready"]);
    story.set.spec.ordinals.start = 5;
    assert_eq!(story.told(), ["create db-6 new"]);
    story.pods.push(pod("6 new ready"));
    assert_eq!(story.told(), ["delete db-0"]);
}

#[test]
fn a_pod_has_its_number_its_claims_and_its_name() {
    let story = Story::new(1, &[]).storing("Retain", "Retain");
    let plan = story.plan();
    let Step::Create { pod, body, claims } = &plan.phases[0][0] else {
        panic!()
    };
    assert_eq!(pod, "db-0");
    assert_eq!(
        body["metadata"]["labels"],
        json!({"app": "db", "apps.kubernetes.io/pod-index": "0",
        "statefulset.kubernetes.io/pod-name": "db-0", REVISION_HASH: "db-new"})
    );
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "s");
    assert_eq!(
        (&body["spec"]["hostname"], &body["spec"]["subdomain"]),
        (&json!("db-0"), &json!("svc"))
    );
    assert_eq!(
        body["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}])
    );
    let [claim] = &claims.create[..] else {
        panic!()
    };
    assert_eq!(
        claim["metadata"],
        json!({"name": "data-db-0", "namespace": "ns",
        "labels": {"x": "y", "app": "db"}})
    );
}

#[test]
fn names_that_were_lost_and_claims_that_are_missing_come_back() {
    let mut story = Story::new(1, &["0 new ready"]);
    let labels = Arc::make_mut(&mut story.pods[0])
        .metadata
        .labels
        .as_mut()
        .unwrap();
    labels.remove("statefulset.kubernetes.io/pod-name");
    assert_eq!(story.told(), ["update db-0 labels"]);
    let waiting = || Story::new(1, &["0 new Pending"]).storing("Retain", "Retain");
    assert_eq!(waiting().told(), ["claims for db-0"]);
    assert!(waiting().claim("data-db-0", json!({})).told().is_empty());
    let going = waiting().claim("data-db-0", json!({"deletionTimestamp": NOW}));
    assert_eq!(going.told(), ["db-0: pvc data-db-0 is being deleted"]);
}

/// Upstream's TestClaimOwnerMatchesSetAndPod and TestUpdateClaimOwnerRefForSetAndPod, retold.
#[test]
fn claims_belong_to_whom_the_policy_says() {
    let of = |kind: &str, uid: &str| {
        let (api, name) = if kind == "Pod" {
            ("v1", "db-1")
        } else {
            ("apps/v1", "db")
        };
        json!({"ownerReferences": [{"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": true}]})
    };
    let wanted = |deleted, scaled, owner: Value| {
        Story::new(2, &["0 new ready", "1 new ready"])
            .storing(deleted, scaled)
            .claim("data-db-1", owner)
            .told()
    };
    let none = || json!({});
    assert!(wanted("Retain", "Retain", none()).is_empty());
    assert_eq!(
        wanted("Retain", "Retain", of("StatefulSet", "s")),
        ["update db-1 data-db-1="]
    );
    assert_eq!(
        wanted("Delete", "Retain", none()),
        ["update db-1 data-db-1=StatefulSet"]
    );
    assert!(wanted("Delete", "Retain", of("StatefulSet", "s")).is_empty());
    assert!(wanted("Retain", "Delete", none()).is_empty());
    assert_eq!(
        wanted("Retain", "Delete", of("Pod", "db-1")),
        ["update db-1 data-db-1="]
    );
    assert_eq!(
        wanted("Delete", "Delete", none()),
        ["update db-1 data-db-1=StatefulSet"]
    );
    // Of a former set: the garbage collector's.
    assert!(wanted("Delete", "Delete", of("StatefulSet", "former")).is_empty());
    let condemned = |deleted, scaled| {
        let pods = ["0 new ready", "1 new ready"];
        Story::new(1, &pods)
            .storing(deleted, scaled)
            .claim("data-db-1", none())
            .told()
    };
    assert_eq!(condemned("Retain", "Retain"), ["delete db-1"]);
    assert_eq!(
        condemned("Retain", "Delete"),
        ["own data-db-1=Pod", "delete db-1"]
    );
    assert_eq!(
        condemned("Delete", "Delete"),
        ["own data-db-1=Pod", "delete db-1"]
    );
    assert_eq!(
        condemned("Delete", "Retain"),
        ["own data-db-1=StatefulSet", "delete db-1"]
    );
}

#[test]
fn a_pod_waits_for_the_claim_of_its_predecessor_to_go() {
    let owner = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "former"}]});
    let story = |scaled| {
        Story::new(1, &[])
            .storing("Retain", scaled)
            .claim("data-db-0", owner.clone())
    };
    assert!(story("Delete").told().is_empty());
    assert_eq!(story("Retain").told(), ["create db-0 new"]);
}

#[test]
fn a_status_counts_revisions_and_ends_an_update() {
    let status = |pods: &[&str]| Story::new(2, pods).plan().status;
    let half = status(&["0 old ready", "1 new unready"]);
    assert_eq!(
        (half.replicas, half.ready_replicas, half.available_replicas),
        (2, Some(1), Some(1))
    );
    assert_eq!(
        (half.current_replicas, half.updated_replicas),
        (Some(1), Some(1))
    );
    assert_eq!(half.current_revision.as_deref(), Some("db-old"));
    assert_eq!(half.update_revision.as_deref(), Some("db-new"));
    assert_eq!(half.observed_generation, Some(3));
    let done = status(&["0 new ready", "1 new ready"]);
    assert_eq!(done.current_revision.as_deref(), Some("db-new"));
    assert_eq!(done.current_replicas, Some(2));
    // The pod that is renewed counts no more.
    assert_eq!(
        status(&["0 old ready", "1 old ready"]).current_replicas,
        Some(1)
    );
}

#[test]
fn a_pod_must_be_ready_for_a_while_to_count() {
    let mut story = Story::new(2, &["0 new ready"]);
    story.set.spec.min_ready_seconds = 15;
    assert!(story.told().is_empty());
    assert_eq!(story.plan().again, Some(SignedDuration::from_secs(5)));
    story.set.spec.min_ready_seconds = 10;
    assert_eq!(story.told(), ["create db-1 new"]);
}

#[test]
fn a_set_that_goes_is_only_counted() {
    let mut story = Story::new(2, &["0 new ready"]);
    story.set.metadata.deletion_timestamp = serde_json::from_value(json!(NOW)).unwrap();
    assert!(story.told().is_empty());
    assert_eq!(story.plan().status.replicas, 1);
}
