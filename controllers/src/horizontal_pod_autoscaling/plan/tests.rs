//! Stories of autoscalers.

use serde_json::{Value, json};

use super::replicas::PodMetric;
use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A target of so many pods that each request a CPU; the clock and the history go on.
struct World {
    autoscaler: HorizontalPodAutoscaler,
    scale: Scale,
    pods: Vec<Arc<Pod>>,
    rivals: Vec<String>,
    settings: Settings,
    history: History,
    now: i64,
}

fn cpu(percent: i32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

fn pod(number: i32, phase: &str, ready: &str) -> Arc<Pod> {
    Arc::new(from(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "ns"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": phase, "startTime": "1970-01-01T00:00:00Z",
                   "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:01:00Z"}]},
    })))
}

impl World {
    fn new(replicas: i32, min: i32, max: i32, metrics: Value) -> World {
        World {
            autoscaler: from(json!({"metadata": {"name": "h", "namespace": "ns"},
                "spec": {"minReplicas": min, "maxReplicas": max, "metrics": metrics,
                         "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})),
            scale: Scale {
                spec_replicas: replicas,
                status_replicas: replicas,
                selector: "app=web".to_owned(),
            },
            pods: (0..replicas).map(|n| pod(n, "Running", "True")).collect(),
            rivals: vec!["{h ns}".to_owned()],
            settings: Settings::default(),
            history: History::default(),
            now: 10_000,
        }
    }

    fn decide(&mut self, measured: &[Measured]) -> Decision {
        let seen = Observed {
            autoscaler: &self.autoscaler,
            scale: &self.scale,
            pods: &self.pods,
            rivals: &self.rivals,
            measured,
            settings: &self.settings,
            now: at(self.now),
        };
        decide(&seen, &mut self.history)
    }

    /// Per cent of a CPU that each of the first pods uses.
    fn usage(&self, percents: &[i64]) -> Measured {
        let metrics = percents.iter().enumerate().map(|(number, percent)| {
            let metric = PodMetric {
                at: at(self.now),
                window: Duration::from_secs(60),
                value: percent * 10,
            };
            (format!("p{number}"), metric)
        });
        Measured::Pods(metrics.collect())
    }

    /// The replicas wanted if each pod uses so much.
    fn wanted(&mut self, percents: &[i64]) -> i32 {
        let usage = self.usage(percents);
        self.decide(&[usage]).status.desired_replicas
    }
}

fn condition<'d>(decision: &'d Decision, kind: &str) -> (&'d str, &'d str, &'d str) {
    let conditions = decision.status.conditions.as_ref().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .unwrap();
    (
        &found.status,
        found.reason.as_deref().unwrap(),
        found.message.as_deref().unwrap(),
    )
}

#[test]
fn usage_above_the_target_scales_up() {
    let mut world = World::new(3, 2, 6, cpu(30));
    let usage = world.usage(&[30, 50, 70]);
    let mut decision = world.decide(&[usage]);
    let reason = "cpu resource utilization (percentage of request) above target";
    assert_eq!(decision.rescale, Some((5, reason.to_owned())));
    let message = "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)";
    assert_eq!(
        condition(&decision, "ScalingActive"),
        ("True", "ValidMetricFound", message)
    );
    assert_eq!(condition(&decision, "AbleToScale").1, "ReadyForNewScale");
    assert_eq!(
        condition(&decision, "ScalingLimited"),
        (
            "False",
            "DesiredWithinRange",
            "the desired count is within the acceptable range"
        )
    );
    let current = &decision.status.current_metrics.as_ref().unwrap()[0]
        .resource
        .as_ref()
        .unwrap()
        .current;
    assert_eq!(
        (
            current.average_utilization,
            current.average_value.as_ref().unwrap().0.as_str()
        ),
        (Some(50), "500m")
    );

    let settings = world.settings.clone();
    conclude(
        &world.autoscaler,
        &mut decision,
        Ok(()),
        &mut world.history,
        &settings,
        at(world.now),
    );
    assert_eq!(
        condition(&decision, "AbleToScale"),
        (
            "True",
            "SucceededRescale",
            "the HPA controller was able to update the target scale to 5"
        )
    );
    assert_eq!(
        decision.notes,
        [Note::normal(
            "SuccessfulRescale",
            format!("New size: 5; reason: {reason}")
        )]
    );
    assert_eq!(decision.status.last_scale_time, Some(Time(at(world.now))));
}

#[test]
fn a_failed_change_is_told() {
    let mut world = World::new(3, 2, 6, cpu(30));
    let usage = world.usage(&[30, 50, 70]);
    let mut decision = world.decide(&[usage]);
    let settings = world.settings.clone();
    conclude(
        &world.autoscaler,
        &mut decision,
        Err("no".to_owned()),
        &mut world.history,
        &settings,
        at(world.now),
    );
    assert_eq!(
        condition(&decision, "AbleToScale"),
        (
            "False",
            "FailedUpdateScale",
            "the HPA controller was unable to update the target scale: no"
        )
    );
    assert!(
        decision.notes[0]
            .message
            .ends_with("above target; error: no"),
        "{:?}",
        decision.notes
    );
    assert_eq!(decision.status.last_scale_time, None);
}

#[test]
fn small_differences_are_borne() {
    assert_eq!(World::new(3, 1, 9, cpu(50)).wanted(&[52, 53, 54]), 3);
    assert_eq!(World::new(3, 1, 9, cpu(50)).wanted(&[46, 47, 48]), 3);
    let mut exact = World::new(3, 1, 9, cpu(50));
    exact.autoscaler.spec.behavior =
        from(json!({"scaleUp": {"tolerance": "0", "stabilizationWindowSeconds": 0}}));
    assert_eq!(exact.wanted(&[52, 53, 54]), 4);
}

#[test]
fn lower_recommendations_wait() {
    let mut world = World::new(5, 1, 9, cpu(50));
    let usage = world.usage(&[10; 5]);
    let decision = world.decide(&[usage]);
    assert_eq!(decision.status.desired_replicas, 5);
    let why = "recent recommendations were higher than current one, applying the highest recent recommendation";
    assert_eq!(
        condition(&decision, "AbleToScale"),
        ("True", "ScaleDownStabilized", why)
    );
    world.now += 301;
    assert_eq!(world.wanted(&[10; 5]), 1);
}

#[test]
fn bounds_are_kept_and_told() {
    let limited = |replicas, min, max, percent: i64| {
        let mut world = World::new(replicas, min, max, cpu(50));
        world.history.begin(0, at(0));
        let usage = world.usage(&vec![percent; replicas as usize]);
        let decision = world.decide(&[usage]);
        (
            decision.status.desired_replicas,
            condition(&decision, "ScalingLimited").1.to_owned(),
        )
    };
    assert_eq!(limited(2, 1, 3, 100), (3, "TooManyReplicas".to_owned()));
    assert_eq!(limited(3, 1, 90, 500), (6, "ScaleUpLimit".to_owned()));
    assert_eq!(limited(5, 2, 9, 10), (2, "TooFewReplicas".to_owned()));
    let mut above = World::new(9, 1, 5, cpu(50));
    let decision = above.decide(&[]);
    assert_eq!(
        decision.rescale,
        Some((
            5,
            "Current number of replicas above Spec.MaxReplicas".to_owned()
        ))
    );
    let mut below = World::new(1, 3, 5, cpu(50));
    assert_eq!(
        below.decide(&[]).rescale,
        Some((
            3,
            "Current number of replicas below Spec.MinReplicas".to_owned()
        ))
    );
    let mut off = World::new(0, 3, 5, cpu(50));
    let decision = off.decide(&[]);
    assert_eq!(decision.rescale, None);
    assert_eq!(
        condition(&decision, "ScalingActive"),
        (
            "False",
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero"
        )
    );
}

#[test]
fn missing_and_unready_pods_make_changes_smaller() {
    let mut missing = World::new(4, 1, 10, cpu(100));
    assert_eq!(
        missing.wanted(&[250, 250]),
        5,
        "the two that are missing are taken to use nothing"
    );
    let mut missing = World::new(4, 1, 10, cpu(100));
    missing.history.begin(0, at(0));
    assert_eq!(missing.wanted(&[50, 50]), 3, "or all, if that would shrink");
    let mut unready = World::new(3, 1, 10, cpu(30));
    unready.pods[2] = pod(2, "Pending", "False");
    assert_eq!(unready.wanted(&[60, 60, 0]), 4);
    let mut failed = World::new(3, 1, 10, cpu(50));
    failed.pods[2] = pod(2, "Failed", "False");
    assert_eq!(
        failed.wanted(&[100, 100]),
        4,
        "those that failed do not count"
    );
    let mut none = World::new(1, 1, 10, cpu(50));
    none.pods[0] = pod(0, "Pending", "False");
    let usage = none.usage(&[100]);
    let decision = none.decide(&[usage]);
    assert!(
        decision
            .failure
            .unwrap()
            .contains("did not receive metrics for targeted pods (pods might be unready)")
    );
}

#[test]
fn what_cannot_be_measured_is_told() {
    let mut world = World::new(3, 1, 9, cpu(50));
    let decision = world.decide(&[Measured::Failed(
        "no metrics returned from resource metrics API".to_owned(),
    )]);
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    assert_eq!(
        condition(&decision, "ScalingActive"),
        (
            "False",
            "FailedGetResourceMetric",
            format!("the HPA was unable to compute the replica count: {why}").as_str()
        )
    );
    let all = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    );
    assert_eq!(
        decision.notes,
        [
            Note::warning("FailedGetResourceMetric", why),
            Note::warning("FailedComputeMetricsReplicas", all)
        ]
    );
    assert_eq!(decision.rescale, None);
}

#[test]
fn a_target_needs_a_selector_of_its_own() {
    let mut world = World::new(3, 1, 9, cpu(50));
    world.rivals.push("{other ns}".to_owned());
    let decision = world.decide(&[]);
    let why = "pods by selector app=web are controlled by multiple HPAs: [{h ns} {other ns}]";
    assert_eq!(
        condition(&decision, "ScalingActive"),
        ("False", "AmbiguousSelector", why)
    );
    world.scale.selector.clear();
    let decision = world.decide(&[]);
    assert_eq!(condition(&decision, "ScalingActive").1, "InvalidSelector");
    assert_eq!(
        decision.notes[0],
        Note::warning("SelectorRequired", "selector is required")
    );
}

#[test]
fn metrics_of_pods_objects_and_the_outside() {
    let pods = json!([{"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "15"}}}]);
    let mut world = World::new(3, 1, 9, pods);
    let usage = Measured::Pods(
        [("p0", 20_000), ("p1", 10_000), ("p2", 30_000)]
            .map(|(name, value)| {
                (
                    name.to_owned(),
                    PodMetric {
                        at: at(0),
                        window: Duration::ZERO,
                        value,
                    },
                )
            })
            .into(),
    );
    assert_eq!(world.decide(&[usage]).status.desired_replicas, 4);

    let object = |target: Value| {
        json!([{"type": "Object", "object": {"metric": {"name": "qps"},
        "describedObject": {"kind": "Service", "name": "s"}, "target": target}}])
    };
    let mut world = World::new(3, 1, 9, object(json!({"type": "Value", "value": "15"})));
    assert_eq!(
        world
            .decide(&[Measured::Object(20_000)])
            .status
            .desired_replicas,
        4
    );
    let mut world = World::new(
        3,
        1,
        9,
        object(json!({"type": "AverageValue", "averageValue": "10"})),
    );
    let decision = world.decide(&[Measured::Object(60_000)]);
    assert_eq!(
        decision.rescale,
        Some((6, "external metric qps(nil) above target".to_owned()))
    );

    let external = json!([{"type": "External", "external": {"metric": {"name": "jobs"}, "target": {"type": "AverageValue", "averageValue": "2222m"}}}]);
    let mut world = World::new(3, 1, 9, external);
    assert_eq!(
        world
            .decide(&[Measured::External(vec![8600])])
            .status
            .desired_replicas,
        4
    );
}

#[test]
fn behaviors_limit_speed_and_smooth() {
    let rules = json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
                       "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
                           {"type": "Percent", "value": 50, "periodSeconds": 60}, {"type": "Pods", "value": 1, "periodSeconds": 60}]}});
    let mut world = World::new(4, 1, 20, cpu(50));
    world.autoscaler.spec.behavior = from(rules);
    let usage = world.usage(&[100; 4]);
    let mut decision = world.decide(std::slice::from_ref(&usage));
    assert_eq!(decision.status.desired_replicas, 5);
    assert_eq!(condition(&decision, "ScalingLimited").1, "ScaleUpLimit");
    let settings = world.settings.clone();
    conclude(
        &world.autoscaler,
        &mut decision,
        Ok(()),
        &mut world.history,
        &settings,
        at(world.now),
    );
    world.scale.spec_replicas = 5;
    world.now += 10;
    assert_eq!(world.wanted(&[100; 5]), 5, "one a minute");
    world.now += 60;
    assert_eq!(
        world.wanted(&[1; 5]),
        4,
        "down by the policy that changes least"
    );
    world.autoscaler.spec.behavior = from(json!({"scaleDown": {"selectPolicy": "Disabled"}}));
    world.now += 1000;
    assert_eq!(world.wanted(&[1; 5]), 5);
}
