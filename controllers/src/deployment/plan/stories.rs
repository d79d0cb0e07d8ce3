//! Rollouts told step by step: what is planned, and what the Deployment says.

use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn deployment(replicas: i32, image: &str) -> Deployment {
    deployment_of(replicas, image, "1", "0")
}

fn limit(text: &str) -> Value {
    text.parse::<i32>()
        .map_or_else(|_| text.into(), Value::from)
}

fn deployment_of(replicas: i32, image: &str, surge: &str, missing: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 2},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}},
            "strategy": {"type": "RollingUpdate",
                         "rollingUpdate": {"maxSurge": limit(surge), "maxUnavailable": limit(missing)}},
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        },
    }))
    .unwrap()
}

/// A ReplicaSet of a deployment: its image, its number, wanted and available pods. Higher numbers
/// are younger.
fn set(image: &str, revision: i32, replicas: i32, available: i32) -> Arc<ReplicaSet> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("web-{image}"), "namespace": "ns", "uid": image, "generation": 1,
                "creationTimestamp": format!("2026-01-01T00:{revision:02}:00Z"),
                "annotations": {revisions::REVISION: revision.to_string()},
            },
            "spec": {
                "replicas": replicas,
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": image}},
                             "spec": {"containers": [{"image": image}]}},
            },
            "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available,
                       "observedGeneration": 1, "terminatingReplicas": 0},
        }))
        .unwrap(),
    )
}

fn sized(set: Arc<ReplicaSet>, desired: i32, most: i32) -> Arc<ReplicaSet> {
    let mut set = ReplicaSet::clone(&set);
    let annotations = set.metadata.annotations.as_mut().unwrap();
    annotations.insert(revisions::DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(revisions::MAX_REPLICAS.into(), most.to_string());
    Arc::new(set)
}

fn plan_of(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan(deployment, sets, |_| false, now())
}

/// The steps in short.
fn told(plan: &Plan) -> Vec<String> {
    let tell = |step: &Step| match step {
        Step::Create { replicas, .. } => format!("create {replicas}"),
        Step::Update {
            set,
            replicas: Some((from, to)),
            ..
        } => format!("{} {from}->{to}", set.name()),
        Step::Update { set, .. } => format!("annotate {}", set.name()),
        Step::Delete(set) => format!("delete {}", set.name()),
        Step::Rollback(patch) => match patch.pointer("/spec/template") {
            Some(_) => "take template".to_string(),
            None => "forget rollback".to_string(),
        },
        Step::Event {
            reason, message, ..
        } => format!("{reason}: {message}"),
    };
    plan.steps.iter().map(tell).collect()
}

fn condition<'p>(plan: &'p Plan, type_: &str) -> Option<(&'p str, &'p str, &'p str)> {
    let all = plan.status.conditions.iter().flatten();
    let one = all.into_iter().find(|one| one.type_ == type_)?;
    Some((&one.status, one.reason.as_deref()?, one.message.as_deref()?))
}

#[test]
fn a_new_deployment_gets_a_set() {
    let web = deployment(3, "v1");
    let plan = plan_of(&web, &[]);
    let [
        Step::Create {
            name,
            replicas: 3,
            body,
        },
    ] = &plan.steps[..]
    else {
        panic!("{:?}", plan.steps);
    };
    let hash = &body["metadata"]["labels"]["pod-template-hash"];
    assert_eq!(*name, format!("web-{}", hash.as_str().unwrap()));
    assert_eq!(
        body["spec"]["selector"]["matchLabels"],
        json!({"app": "web", "pod-template-hash": hash})
    );
    assert_eq!(
        body["spec"]["template"]["metadata"]["labels"],
        json!({"app": "web", "pod-template-hash": hash})
    );
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "Deployment");
    assert_eq!(
        body["metadata"]["annotations"],
        json!({revisions::REVISION: "1",
        revisions::DESIRED_REPLICAS: "3", revisions::MAX_REPLICAS: "4"})
    );
    assert_eq!(plan.revision.as_deref(), Some("1"));
    let created = format!("Created new replica set {name:?}");
    assert_eq!(
        condition(&plan, "Progressing"),
        Some(("True", "NewReplicaSetCreated", &*created))
    );
    let lacking = (
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    );
    assert_eq!(condition(&plan, "Available"), Some(lacking));
    assert_eq!(plan.status.unavailable_replicas, Some(3));
    assert_eq!(plan.status.observed_generation, Some(2));
}

#[test]
fn a_set_that_is_there_is_found_and_a_finished_rollout_says_so() {
    let mut web = deployment(3, "v1");
    let plan = plan_of(&web, &[set("v1", 1, 3, 3)]);
    assert!(plan.steps.is_empty());
    let done = (
        "True",
        "NewReplicaSetAvailable",
        "ReplicaSet \"web-v1\" has successfully progressed.",
    );
    assert_eq!(condition(&plan, "Progressing"), Some(done));
    assert_eq!(plan.revision.as_deref(), Some("1"));
    web.status = plan.status.clone();
    web.metadata.annotations = Some([(revisions::REVISION.to_string(), "1".to_string())].into());
    let again = plan_of(&web, &[set("v1", 1, 3, 3)]);
    assert_eq!((again.status, again.revision), (plan.status, None));
    assert_eq!(again.again, None);
}

#[test]
fn a_rolling_update_stays_within_its_limits() {
    let web = deployment(3, "v2");
    assert_eq!(told(&plan_of(&web, &[set("v1", 1, 3, 3)])), ["create 1"]);
    // The new pod is not available yet: nothing old may go.
    assert!(told(&plan_of(&web, &[set("v1", 1, 3, 3), set("v2", 2, 1, 0)])).is_empty());
    assert_eq!(
        told(&plan_of(&web, &[set("v1", 1, 3, 3), set("v2", 2, 1, 1)])),
        ["web-v1 3->2"]
    );
    assert_eq!(
        told(&plan_of(&web, &[set("v1", 1, 2, 2), set("v2", 2, 1, 1)])),
        ["web-v2 1->2"]
    );
    assert_eq!(
        told(&plan_of(&web, &[set("v1", 1, 1, 1), set("v2", 2, 3, 3)])),
        ["web-v1 1->0"]
    );
    assert!(told(&plan_of(&web, &[set("v1", 1, 0, 0), set("v2", 2, 3, 3)])).is_empty());
    // A set that is too large shrinks at once.
    assert_eq!(told(&plan_of(&web, &[set("v2", 2, 5, 5)])), ["web-v2 5->3"]);
}

#[test]
fn without_surge_old_pods_make_room_first() {
    let web = deployment_of(4, "v2", "0", "25%");
    assert_eq!(
        told(&plan_of(&web, &[set("v1", 1, 4, 4)])),
        ["create 0", "web-v1 4->3"]
    );
    assert_eq!(
        told(&plan_of(&web, &[set("v1", 1, 3, 3), set("v2", 2, 0, 0)])),
        ["web-v2 0->1"]
    );
    // Neither surge nor missing pods: one may be missing, or nothing would ever happen.
    let stuck = deployment_of(4, "v2", "0", "0");
    assert_eq!(
        told(&plan_of(&stuck, &[set("v1", 1, 4, 4), set("v2", 2, 0, 0)])),
        ["web-v1 4->3"]
    );
}

/// Upstream's TestDeploymentController_cleanupUnhealthyReplicas and its neighbours, retold.
#[test]
fn old_pods_that_help_nobody_go_first() {
    let web = deployment_of(10, "v3", "0", "2");
    let sets = [set("v1", 1, 5, 5), set("v2", 2, 5, 3), set("v3", 3, 0, 0)];
    assert_eq!(told(&plan_of(&web, &sets)), ["web-v2 5->3"]);
    let sets = [set("v1", 1, 8, 8), set("v3", 3, 2, 2)];
    assert_eq!(told(&plan_of(&web, &sets)), ["web-v1 8->6"]);
    let sets = [set("v1", 1, 3, 2), set("v2", 2, 3, 3), set("v3", 3, 4, 4)];
    assert_eq!(told(&plan_of(&web, &sets)), ["web-v1 3->2", "web-v1 2->1"]);
}

#[test]
fn recreate_waits_until_all_old_pods_are_gone() {
    let mut web = deployment(3, "v2");
    web.spec.strategy.type_ = "Recreate".into();
    assert_eq!(told(&plan_of(&web, &[set("v1", 1, 3, 3)])), ["web-v1 3->0"]);
    let mut leaving = ReplicaSet::clone(&set("v1", 1, 0, 0));
    leaving.status.replicas = 1;
    assert!(told(&plan_of(&web, &[Arc::new(leaving)])).is_empty());
    let empty = [set("v1", 1, 0, 0)];
    assert!(told(&plan(&web, &empty, |_| true, now())).is_empty());
    assert_eq!(told(&plan_of(&web, &empty)), ["create 3"]);
}

/// Upstream's TestScale, retold.
#[test]
fn a_rollout_keeps_its_proportions_when_the_deployment_is_resized() {
    let resize = |wanted, surge: &str, sets: &[(&str, i32)], before: (i32, i32)| {
        let web = deployment_of(wanted, "v3", surge, "0");
        let sets = sets.iter().enumerate().map(|(at, (image, replicas))| {
            sized(
                set(image, at as i32 + 1, *replicas, *replicas),
                before.0,
                before.1,
            )
        });
        told(&plan_of(&web, &sets.collect::<Vec<_>>()))
    };
    assert_eq!(resize(12, "0", &[("v3", 10)], (10, 10)), ["web-v3 10->12"]);
    assert_eq!(resize(5, "0", &[("v3", 10)], (10, 10)), ["web-v3 10->5"]);
    assert_eq!(
        resize(12, "0", &[("v2", 5), ("v3", 5)], (10, 10)),
        ["web-v3 5->6", "web-v2 5->6"]
    );
    assert_eq!(
        resize(6, "0", &[("v2", 5), ("v3", 5)], (10, 10)),
        ["web-v2 5->3", "web-v3 5->3"]
    );
    assert_eq!(
        resize(20, "0", &[("v1", 3), ("v2", 5), ("v3", 2)], (10, 10)),
        ["web-v2 5->10", "web-v1 3->6", "web-v3 2->4"]
    );
    assert_eq!(
        resize(0, "1", &[("v2", 6), ("v3", 4)], (10, 11)),
        ["web-v2 6->0", "web-v3 4->0"]
    );
    // What rounding leaves over goes to the largest.
    assert_eq!(
        resize(15, "0", &[("v1", 5), ("v2", 1), ("v3", 1)], (7, 7)),
        ["web-v1 5->11", "web-v3 1->2", "web-v2 1->2"]
    );
}

#[test]
fn a_deployment_that_rests_is_resized_and_cleaned_but_does_not_roll() {
    let mut web = deployment(3, "v2");
    web.spec.paused = true;
    web.spec.revision_history_limit = Some(0);
    let plan = plan_of(&web, &[sized(set("v1", 1, 2, 2), 2, 3)]);
    assert_eq!(told(&plan), ["web-v1 2->3"]);
    assert_eq!(
        condition(&plan, "Progressing"),
        Some(("Unknown", "DeploymentPaused", "Deployment is paused"))
    );
    web.status = plan.status;
    web.spec.paused = false;
    let plan = plan_of(&web, &[sized(set("v1", 1, 3, 3), 3, 4)]);
    assert_eq!(told(&plan), ["create 1"]);
    let gone = plan_of(&web, &[set("v1", 1, 0, 0), set("v2", 2, 3, 3)]);
    assert!(
        told(&gone).is_empty(),
        "not complete before its status says so"
    );
}

#[test]
fn a_finished_rollout_forgets_its_oldest_sets() {
    let mut web = deployment(1, "v4");
    web.spec.revision_history_limit = Some(1);
    let sets = [
        set("v1", 1, 0, 0),
        set("v2", 2, 0, 0),
        set("v3", 3, 0, 0),
        set("v4", 4, 1, 1),
    ];
    web.status = plan_of(&web, &sets).status;
    assert_eq!(
        told(&plan_of(&web, &sets)),
        ["delete web-v1", "delete web-v2"]
    );
    web.spec.revision_history_limit = Some(i32::MAX);
    assert!(told(&plan_of(&web, &sets)).is_empty());
}

/// Upstream's TestRequeueStuckDeployment and TestSyncRolloutStatus, retold.
#[test]
fn a_rollout_without_progress_is_given_up_at_its_deadline() {
    let mut web = deployment(1, "v1");
    let sets = [set("v1", 1, 1, 0)];
    web.status = plan_of(&web, &sets).status;
    web.metadata.annotations = Some([(revisions::REVISION.to_string(), "1".to_string())].into());
    let at = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    let waiting = plan(&web, &sets, |_| false, at(10));
    assert_eq!(waiting.again, Some(SignedDuration::from_secs(591)));
    let late = plan(&web, &sets, |_| false, at(601));
    let given_up = (
        "False",
        "ProgressDeadlineExceeded",
        "ReplicaSet \"web-v1\" has timed out progressing.",
    );
    assert_eq!(condition(&late, "Progressing"), Some(given_up));
    web.status = late.status;
    assert_eq!(plan(&web, &sets, |_| false, at(700)).again, None);
    let better = plan(&web, &[set("v1", 1, 1, 1)], |_| false, at(800));
    assert_eq!(
        condition(&better, "Progressing").unwrap().1,
        "NewReplicaSetAvailable"
    );
    web.spec.progress_deadline_seconds = None;
    assert_eq!(condition(&plan_of(&web, &sets), "Progressing"), None);
}

#[test]
fn an_old_template_gets_its_old_set_under_a_new_number() {
    let web = deployment(1, "v1");
    let plan = plan_of(&web, &[set("v1", 1, 0, 0), set("v2", 2, 1, 1)]);
    let Step::Update { annotations, .. } = &plan.steps[0] else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(annotations[revisions::REVISION], "3");
    assert_eq!(
        annotations["deployment.kubernetes.io/revision-history"],
        "1"
    );
    assert_eq!(told(&plan)[1..], ["web-v1 0->1"]);
}

/// Upstream's rollback tests, retold.
#[test]
fn a_rollback_takes_a_former_template() {
    let to = |revision: &str, image: &str| {
        let mut web = deployment(1, image);
        let wish = (
            "deprecated.deployment.rollback.to".to_string(),
            revision.to_string(),
        );
        web.metadata.annotations = Some([wish, (revisions::REVISION.into(), "2".into())].into());
        told(&plan_of(&web, &[set("v1", 1, 0, 0), set("v2", 2, 1, 1)]))
    };
    assert_eq!(
        to("1", "v2"),
        [
            "take template",
            "DeploymentRollback: Rolled back deployment \"web\" to revision 1"
        ]
    );
    assert_eq!(to("0", "v2"), to("1", "v2"));
    assert_eq!(
        to("2", "v2"),
        [
            "DeploymentRollbackTemplateUnchanged: The rollback revision contains \
        the same template as current deployment \"web\"",
            "forget rollback"
        ]
    );
    assert_eq!(
        to("7", "v2"),
        [
            "DeploymentRollbackRevisionNotFound: Unable to find the revision to \
        rollback to.",
            "forget rollback"
        ]
    );
}

#[test]
fn what_selects_everything_is_left_alone() {
    let mut web = deployment(1, "v1");
    web.spec.selector = serde_json::from_value(json!({})).unwrap();
    assert_eq!(
        told(&plan_of(&web, &[])),
        ["SelectingAll: This deployment is selecting all pods. \
        A non-empty selector is required."]
    );
}

#[test]
fn a_failure_of_a_set_is_a_failure_of_the_deployment() {
    let web = deployment(1, "v1");
    let mut failing = ReplicaSet::clone(&set("v1", 1, 1, 0));
    failing.status.conditions = serde_json::from_value(json!([{"type": "ReplicaFailure",
        "status": "True", "reason": "FailedCreate", "message": "quota"}]))
    .unwrap();
    let plan = plan_of(&web, &[Arc::new(failing)]);
    assert_eq!(
        condition(&plan, "ReplicaFailure"),
        Some(("True", "FailedCreate", "quota"))
    );
    let (status, message) = creation_failed(&web, "web-x", "no", now());
    assert_eq!(message, "Failed to create new replica set \"web-x\": no");
    let reason = status.conditions.unwrap()[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("ReplicaSetCreateError"));
}

#[test]
fn terminating_pods_are_counted_where_all_sets_tell() {
    let web = deployment(1, "v1");
    let mut leaving = ReplicaSet::clone(&set("v1", 1, 1, 1));
    leaving.status.terminating_replicas = Some(2);
    assert_eq!(
        plan_of(&web, &[Arc::new(leaving.clone())])
            .status
            .terminating_replicas,
        Some(2)
    );
    leaving.status.terminating_replicas = None;
    assert_eq!(
        plan_of(&web, &[Arc::new(leaving)])
            .status
            .terminating_replicas,
        None
    );
}
