//! Stories: a pod is told to the plan, what it reports is merged as the API server would, time goes on.

use serde_json::{Value, json};

use super::*;

/// A pod, the time, and what was written about it.
struct Story {
    pod: Value,
    now: Timestamp,
    behaviour: Behaviour,
    starts: bool,
    slow: Duration,
    told: Option<Timestamp>,
    writes: usize,
    removed: bool,
}

const START: i64 = 1_800_000_000;

impl Story {
    fn of(spec: Value) -> Story {
        let metadata = json!({
            "name": "p", "namespace": "ns", "uid": "1-2", "generation": 1, "annotations": {},
        });
        Story {
            pod: json!({ "metadata": metadata, "spec": spec, "status": { "phase": "Pending" } }),
            now: Timestamp::from_second(START).unwrap(),
            behaviour: Behaviour::default(),
            starts: true,
            slow: Duration::ZERO,
            told: None,
            writes: 0,
            removed: false,
        }
    }

    /// With one container and a restart policy.
    fn plain(policy: &str) -> Story {
        Story::of(
            json!({ "restartPolicy": policy, "containers": [{ "name": "c", "image": "i:1" }] }),
        )
    }

    fn annotated(mut self, name: &str, value: &str) -> Story {
        self.pod["metadata"]["annotations"][format!("hollow.trireme.io/{name}")] = value.into();
        self
    }

    fn plan(&self) -> Plan {
        let pod: Pod = serde_json::from_value(self.pod.clone()).unwrap();
        plan(&Situation {
            pod: &pod,
            known: Timestamp::from_second(START).unwrap(),
            told: self.told,
            host_ips: &["198.18.0.1".parse().unwrap()],
            pod_ips: &["10.128.0.2".parse().unwrap()],
            behaviour: &self.behaviour,
            slow: self.slow,
            starts: self.starts,
            now: self.now,
        })
    }

    /// Acts until there is nothing to do at this moment; yields when to look again.
    fn settle(&mut self) -> Option<i64> {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.report.is_none() && !plan.remove {
                return plan.wake.map(|wake| wake.as_second() - START);
            }
            if let Some(report) = plan.report {
                assert_eq!(report["metadata"]["uid"], "1-2");
                merge(&mut self.pod["status"], &report["status"]);
                self.writes += 1;
            }
            if plan.remove {
                self.writes += 1;
                self.removed = true;
                return None;
            }
        }
        panic!("it never comes to rest: {:#}", self.pod);
    }

    fn at(&mut self, seconds: i64) -> Option<i64> {
        self.now = Timestamp::from_second(START + seconds).unwrap();
        self.settle()
    }

    fn delete(&mut self, grace: i64) {
        self.told = Some(self.now);
        let end = self.now + SignedDuration::from_secs(grace);
        self.pod["metadata"]["deletionTimestamp"] = end.to_string().into();
        self.pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.pod["metadata"]["generation"] = 2.into();
    }

    fn status(&self) -> &Value {
        &self.pod["status"]
    }

    fn phase(&self) -> &str {
        self.status()["phase"].as_str().unwrap()
    }

    fn condition(&self, kind: &str) -> &Value {
        let all = self.status()["conditions"].as_array().unwrap();
        all.iter().find(|one| one["type"] == kind).unwrap()
    }

    fn container(&self, at: usize) -> &Value {
        &self.status()["containerStatuses"][at]
    }
}

/// A strategic merge, as far as pods' statuses need it.
fn merge(into: &mut Value, patch: &Value) {
    for (field, value) in patch.as_object().unwrap() {
        if field != "conditions" {
            into[field] = value.clone();
            continue;
        }
        if into["conditions"].is_null() {
            into["conditions"] = json!([]);
        }
        let held = into["conditions"].as_array_mut().unwrap();
        for one in value.as_array().unwrap() {
            let place = held.iter().position(|held| held["type"] == one["type"]);
            let place = place.unwrap_or_else(|| {
                held.push(json!({}));
                held.len() - 1
            });
            for (field, value) in one.as_object().unwrap() {
                held[place][field] = value.clone();
            }
            held[place]
                .as_object_mut()
                .unwrap()
                .retain(|_, value| !value.is_null());
        }
    }
}

#[test]
fn a_pod_starts_with_one_write_and_ends_with_two() {
    let mut story = Story::plain("Always");
    assert_eq!(story.settle(), None);
    assert_eq!((story.writes, story.phase()), (1, "Running"));
    let status = story.status();
    assert_eq!(status["podIP"], "10.128.0.2");
    assert_eq!(status["podIPs"], json!([{ "ip": "10.128.0.2" }]));
    assert_eq!(status["hostIPs"], json!([{ "ip": "198.18.0.1" }]));
    assert_eq!(status["startTime"], "2027-01-15T08:00:00Z");
    assert_eq!(status["observedGeneration"], 1);
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
    ] {
        assert_eq!(story.condition(kind)["status"], "True", "{kind}");
    }
    let container = story.container(0);
    assert_eq!(
        (&container["ready"], &container["started"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(container["containerID"].as_str().unwrap().len(), 13 + 64);

    story.at(5);
    story.delete(30);
    assert_eq!(story.settle(), Some(35));
    assert_eq!(story.writes, 1);
    story.at(35);
    assert!(story.removed);
    assert_eq!((story.writes, story.phase()), (3, "Failed"));
    assert_eq!(story.container(0)["state"]["terminated"]["exitCode"], 137);
    assert_eq!(story.condition("Ready")["reason"], "PodFailed");
}

#[test]
fn what_was_never_started_is_removed_at_once() {
    let mut story = Story::plain("Always").annotated("start-after", "10s");
    assert_eq!(story.settle(), Some(10));
    assert_eq!(
        story.container(0)["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    assert_eq!(story.status()["podIP"], Value::Null);
    let ready = story.condition("Ready");
    assert_eq!(ready["message"], "containers with unready status: [c]");
    story.delete(30);
    story.settle();
    assert!(story.removed);
    assert_eq!(story.phase(), "Failed");
}

#[test]
fn containers_that_obey_stop_before_the_grace_period_is_over() {
    let mut story = Story::plain("Always").annotated("stop-after", "2s");
    story.settle();
    story.delete(30);
    assert_eq!(story.settle(), Some(2));
    story.at(2);
    assert!(story.removed);
    assert_eq!(story.phase(), "Succeeded");
}

#[test]
fn start_up_and_readiness_take_the_time_they_are_given() {
    let mut story = Story::plain("Always")
        .annotated("start-after", "2s")
        .annotated("ready-after", "5s");
    assert_eq!(story.settle(), Some(2));
    assert_eq!(story.phase(), "Pending");
    assert_eq!(story.at(2), Some(7));
    assert_eq!(
        (story.phase(), &story.condition("Ready")["reason"]),
        ("Running", &json!("ContainersNotReady"))
    );
    assert_eq!(story.at(7), None);
    assert_eq!(story.condition("Ready")["status"], "True");
    assert_eq!(story.condition("Ready").get("reason"), None);
    assert_eq!(story.writes, 3);

    let mut story = Story::plain("Always").annotated("ready-after", "never");
    assert_eq!(story.settle(), None);
    assert_eq!(story.condition("Ready")["status"], "False");
    assert_eq!(story.phase(), "Running");
}

#[test]
fn images_that_do_not_exist_back_off() {
    for image in [
        "foo:non-existent",
        "webserver:404",
        "gcr.io/google_samples/gb-redisslave:nonexistent",
    ] {
        let mut story = Story::plain("Always");
        story.pod["spec"]["containers"][0]["image"] = image.into();
        assert_eq!(story.settle(), Some(10));
        assert_eq!(story.phase(), "Pending");
        assert_eq!(
            story.container(0)["state"]["waiting"]["reason"],
            "ErrImagePull"
        );
        assert_eq!(story.at(10), None);
        let waiting = &story.container(0)["state"]["waiting"];
        assert_eq!(waiting["reason"], "ImagePullBackOff");
        let message = waiting["message"].as_str().unwrap();
        assert!(message.starts_with(&format!(
            "Back-off pulling image \"{image}\": ErrImagePull: "
        )));
        // Another image is tried at once.
        story.pod["spec"]["containers"][0]["image"] = "i:2".into();
        story.pod["metadata"]["generation"] = 2.into();
        story.at(20);
        assert_eq!(
            (story.phase(), &story.container(0)["image"]),
            ("Running", &json!("i:2"))
        );
    }
}

#[test]
fn init_containers_run_in_order_and_sidecars_go_on() {
    let spec = json!({
        "restartPolicy": "Always",
        "initContainers": [
            { "name": "one", "image": "i" },
            { "name": "side", "image": "i", "restartPolicy": "Always" },
            { "name": "two", "image": "i" },
        ],
        "containers": [{ "name": "c", "image": "i" }],
    });
    let mut story = Story::of(spec).annotated("run-for", "two=3s");
    assert_eq!(story.settle(), Some(3));
    assert_eq!((story.phase(), story.writes), ("Pending", 1));
    let initialized = story.condition("Initialized");
    assert_eq!(initialized["reason"], "ContainersNotInitialized");
    assert_eq!(
        initialized["message"],
        "containers with incomplete status: [two]"
    );
    assert_eq!(
        story.container(0)["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    story.at(3);
    assert_eq!((story.phase(), story.writes), ("Running", 2));
    let init = &story.status()["initContainerStatuses"];
    assert_eq!(init[0]["state"]["terminated"]["reason"], "Completed");
    assert!(init[1]["state"].get("running").is_some());
    assert_eq!(story.condition("Ready")["status"], "True");
}

#[test]
fn an_init_container_that_fails_is_repeated_or_ends_the_pod() {
    let spec = |policy| {
        json!({
            "restartPolicy": policy,
            "initContainers": [{ "name": "init", "image": "i" }],
            "containers": [{ "name": "c", "image": "i" }],
        })
    };
    let mut story = Story::of(spec("Never")).annotated("exit-code", "init=1");
    story.settle();
    assert_eq!(story.phase(), "Failed");
    assert_eq!(story.condition("Initialized")["status"], "False");

    let mut story = Story::of(spec("Always")).annotated("exit-code", "init=1");
    assert_eq!(story.settle(), Some(10));
    assert_eq!(story.phase(), "Pending");
    let waiting = &story.status()["initContainerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "CrashLoopBackOff");
    assert_eq!(
        waiting["message"],
        "back-off 10s restarting failed container=init pod=p_ns(1-2)"
    );
    story.pod["metadata"]["annotations"] = json!({});
    story.at(10);
    assert_eq!(story.phase(), "Running");
}

#[test]
fn pods_of_jobs_end_with_the_code_they_are_given() {
    let of_job = |mut story: Story| {
        story.pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true,
        }]);
        story
    };
    let mut story = of_job(Story::plain("Never"));
    assert_eq!(story.settle(), Some(1));
    story.at(1);
    assert_eq!(story.phase(), "Succeeded");
    assert_eq!(story.condition("Ready")["reason"], "PodCompleted");
    assert_eq!(story.condition("Initialized")["reason"], "PodCompleted");
    assert_eq!(story.writes, 2);

    let mut story = of_job(Story::plain("Never")).annotated("exit-code", "42");
    story.at(0);
    story.at(1);
    assert_eq!(story.phase(), "Failed");
    assert_eq!(story.container(0)["state"]["terminated"]["exitCode"], 42);

    // One that sleeps for long is believed.
    let mut story = of_job(Story::plain("Never"));
    story.pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "sleep 1000000"]);
    assert_eq!(story.settle(), Some(1_000_000));
}

#[test]
fn a_container_that_fails_is_restarted_ever_later() {
    let mut story = Story::plain("OnFailure")
        .annotated("run-for", "1s")
        .annotated("exit-code", "3");
    assert_eq!(story.settle(), Some(1));
    // The first restart is at once.
    assert_eq!(story.at(1), Some(2));
    assert_eq!(story.container(0)["restartCount"], 1);
    assert_eq!(story.container(0)["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(story.at(2), Some(12));
    assert_eq!(
        story.container(0)["state"]["waiting"]["reason"],
        "CrashLoopBackOff"
    );
    assert_eq!(
        (story.phase(), &story.condition("Ready")["status"]),
        ("Running", &json!("False"))
    );
    assert_eq!(story.at(12), Some(13));
    assert_eq!(story.at(13), Some(33));
    story.pod["metadata"]["annotations"]["hollow.trireme.io/exit-code"] = "0".into();
    story.at(33);
    story.at(34);
    assert_eq!(story.phase(), "Succeeded");
}

#[test]
fn sidecars_end_with_what_they_serve() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "side", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "c", "image": "i", "command": ["sleep", "2"] }],
    });
    let mut story = Story::of(spec);
    assert_eq!(story.settle(), Some(2));
    story.at(2);
    assert_eq!(story.phase(), "Succeeded");
    let side = &story.status()["initContainerStatuses"][0];
    assert!(side["state"].get("terminated").is_some());
}

#[test]
fn a_deadline_ends_the_pod() {
    let mut story = Story::plain("Always");
    story.pod["spec"]["activeDeadlineSeconds"] = 5.into();
    assert_eq!(story.settle(), Some(5));
    story.at(5);
    assert_eq!(
        (story.phase(), &story.status()["reason"]),
        ("Failed", &json!("DeadlineExceeded"))
    );
    let message = "Pod was active on the node longer than the specified deadline";
    assert_eq!(story.status()["message"], message);
}

#[test]
fn readiness_gates_are_waited_for() {
    let mut story = Story::plain("Always");
    story.pod["spec"]["readinessGates"] = json!([{ "conditionType": "a/b" }]);
    story.settle();
    assert_eq!(story.condition("ContainersReady")["status"], "True");
    let ready = story.condition("Ready");
    assert_eq!(ready["reason"], "ReadinessGatesNotReady");
    assert_eq!(
        ready["message"],
        "corresponding condition of pod readiness gate \"a/b\" does not exist."
    );
    let conditions = story.pod["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(json!({ "type": "a/b", "status": "True" }));
    story.settle();
    assert_eq!(
        (story.writes, &story.condition("Ready")["status"]),
        (2, &json!("True"))
    );
}

#[test]
fn what_others_write_stays() {
    let mut story = Story::plain("Always");
    story.settle();
    let foreign = json!({
        "phase": "Failed",
        "conditions": [{ "type": "Ready", "status": "False", "reason": "Test", "observedGeneration": 1 }],
    });
    merge(&mut story.pod["status"], &foreign);
    let before = story.pod.clone();
    story.at(100);
    assert_eq!(story.pod, before);
    story.pod["status"]["phase"] = "Running".into();
    story.at(200);
    assert_eq!(story.condition("Ready")["reason"], "Test");

    // A status without any container is somebody else's.
    let mut story = Story::plain("Always");
    story.pod["status"] = json!({ "phase": "Running" });
    assert_eq!(story.settle(), None);
    assert_eq!(story.writes, 0);
}

#[test]
fn changes_of_the_specification_are_acknowledged() {
    let mut story = Story::plain("Always");
    let cpu = |cpu| json!({ "requests": { "cpu": cpu } });
    story.pod["spec"]["containers"][0]["resources"] = cpu("1");
    story.settle();
    assert_eq!(
        story.container(0)["allocatedResources"],
        json!({ "cpu": "1" })
    );
    story.pod["metadata"]["generation"] = 2.into();
    story.pod["spec"]["containers"][0]["resources"] = cpu("2");
    story.at(1);
    assert_eq!(story.writes, 2);
    assert_eq!(story.status()["observedGeneration"], 2);
    assert_eq!(story.condition("Ready")["observedGeneration"], 2);
    assert_eq!(story.container(0)["resources"], cpu("2"));
    assert_eq!(story.container(0)["restartCount"], 0);
    // A new image restarts the container in place.
    story.pod["metadata"]["generation"] = 3.into();
    story.pod["spec"]["containers"][0]["image"] = "i:2".into();
    story.at(2);
    assert_eq!(story.container(0)["restartCount"], 1);
    assert_eq!(story.phase(), "Running");
}

#[test]
fn finalizers_of_others_do_not_make_it_repeat_itself() {
    let mut story = Story::plain("Always");
    story.settle();
    story.delete(0);
    story.settle();
    assert!(story.removed);
    let writes = story.writes;
    assert_eq!(story.settle(), None);
    assert_eq!(story.writes, writes);
}

#[test]
fn a_slow_node_is_late_and_one_that_is_not_ready_starts_nothing() {
    let mut story = Story::plain("Always");
    story.slow = Duration::from_secs(4);
    assert_eq!(story.settle(), Some(4));
    story.at(4);
    assert_eq!(story.phase(), "Running");
    story.delete(1);
    assert_eq!(story.settle(), Some(9));

    let mut story = Story::plain("Always");
    story.starts = false;
    assert_eq!(story.settle(), None);
    assert_eq!(story.phase(), "Pending");
    story.starts = true;
    story.at(60);
    assert_eq!(story.phase(), "Running");
}
