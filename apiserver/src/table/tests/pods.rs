//! Pods: upstream's own examples.

use api::doc::Doc;

use super::super::{Include, Table};
use super::{NOW, check, object, row};

/// Pods: what is said in `spec`, `status` and the cells ready, status and restarts.
fn check_pods(pods: &[(&str, &str, [&str; 3])]) {
    for (spec, status, [ready, reason, restarts]) in pods {
        let pod = format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec},"status":{status}}}"#);
        let want = format!(
            r#"["p","{ready}","{reason}","{restarts}","<unknown>","<none>","<none>","<none>","<none>"]"#
        );
        assert_eq!(row("v1 Pod", &pod), want, "{pod}");
    }
}

const ONE: &str = r#"{"containers":[{}]}"#;
const TWO: &str = r#"{"containers":[{},{}]}"#;
const INIT: &str = r#"{"initContainers":[{}],"containers":[{}]}"#;
const INITS: &str = r#"{"initContainers":[{},{}],"containers":[{}]}"#;
const SIDECARS: &str = r#"{"initContainers":[{"name":"a","restartPolicy":"Always"},{"name":"b","restartPolicy":"Always"}],"containers":[{}]}"#;

#[test]
fn pods_that_run() {
    let both = r#"{"phase":"Running","containerStatuses":[{"ready":true,"restartCount":3,"state":{"terminated":{"reason":"Completed","exitCode":0}}},{"ready":true,"restartCount":3,"state":{"running":{}}}]"#;
    check_pods(&[
        (
            TWO,
            r#"{"phase":"P","containerStatuses":[{"ready":true,"restartCount":3,"state":{"running":{}}},{"restartCount":3,"state":{}}]}"#,
            ["1/2", "P", "6"],
        ),
        (
            TWO,
            r#"{"phase":"P","containerStatuses":[{"ready":true,"restartCount":3,"state":{"running":{}}},{"restartCount":3,"state":{"waiting":{"reason":"W"}}}]}"#,
            ["1/2", "W", "6"],
        ),
        (
            TWO,
            r#"{"phase":"P","containerStatuses":[{"restartCount":3,"state":{"waiting":{"reason":"W"}}},{"restartCount":3,"state":{"terminated":{"reason":"T","exitCode":0}}}]}"#,
            ["0/2", "W", "6"],
        ),
        (
            TWO,
            r#"{"phase":"P","reason":"R","containerStatuses":[{"ready":true,"restartCount":3,"state":{"running":{}}},{"ready":true,"restartCount":3,"state":{}}]}"#,
            ["1/2", "R", "6"],
        ),
        (TWO, &format!("{both}}}"), ["1/2", "NotReady", "6"]),
        (
            TWO,
            &format!(r#"{both},"conditions":[{{"type":"Ready","status":"True"}}]}}"#),
            ["1/2", "Running", "6"],
        ),
        (
            ONE,
            r#"{"phase":"Running","containerStatuses":[{"ready":true,"restartCount":3,"state":{"running":{}},"lastState":{"terminated":{"finishedAt":"@-432000@"}}}]}"#,
            ["1/1", "Running", "3 (5d ago)"],
        ),
        (
            TWO,
            r#"{"phase":"Running","containerStatuses":[{"ready":true,"restartCount":6,"state":{"running":{}},"lastState":{"terminated":{"finishedAt":"@-432000@"}}},{"ready":true,"restartCount":3,"state":{"running":{}},"lastState":{"terminated":{"finishedAt":"@-1728000@"}}}]}"#,
            ["2/2", "Running", "9 (5d ago)"],
        ),
        (
            TWO,
            r#"{"phase":"P","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated"}]}"#,
            ["0/2", "SchedulingGated", "0"],
        ),
        (
            ONE,
            r#"{"phase":"Running","containerStatuses":[{"restartCount":1,"state":{"terminated":{"exitCode":137,"signal":9}}}]}"#,
            ["0/1", "Signal:9", "1"],
        ),
        (
            ONE,
            r#"{"phase":"Running","containerStatuses":[{"restartCount":1,"state":{"terminated":{"exitCode":3}}}]}"#,
            ["0/1", "ExitCode:3", "1"],
        ),
    ]);
}

#[test]
fn pods_that_initialize() {
    let going = r#"{"restartCount":3,"state":{"running":{}},"lastState":{"terminated":{"finishedAt":"@-10@"}}}"#;
    let waiting = r#"{"state":{"waiting":{}}}"#;
    let pending = |init: &str| {
        format!(
            r#"{{"phase":"P","initContainerStatuses":[{init}],"containerStatuses":[{waiting}]}}"#
        )
    };
    let done = r#"{"restartCount":2,"state":{"terminated":{"exitCode":0}},"lastState":{"terminated":{"finishedAt":"@-120@"}}}"#;
    check_pods(&[
        (INIT, &pending(going), ["0/1", "Init:0/1", "3 (10s ago)"]),
        (
            INITS,
            &pending(&format!("{going},{waiting}")),
            ["0/1", "Init:0/2", "3 (10s ago)"],
        ),
        (
            INITS,
            &pending(&format!("{done},{going}")),
            ["0/1", "Init:1/2", "5 (10s ago)"],
        ),
        (
            INIT,
            &format!(
                r#"{{"phase":"Running","initContainerStatuses":[{done}],"containerStatuses":[{{"restartCount":4,"state":{{"running":{{}}}},"lastState":{{"terminated":{{"finishedAt":"@-20@"}}}}}}]}}"#
            ),
            ["0/1", "Running", "4 (20s ago)"],
        ),
        (
            INIT,
            &pending(r#"{"state":{"waiting":{"reason":"CrashLoopBackOff"}}}"#),
            ["0/1", "Init:CrashLoopBackOff", "0"],
        ),
        (
            INIT,
            &pending(r#"{"state":{"waiting":{"reason":"PodInitializing"}}}"#),
            ["0/1", "Init:0/1", "0"],
        ),
        (
            INIT,
            &pending(r#"{"state":{"terminated":{"exitCode":2}}}"#),
            ["0/1", "Init:ExitCode:2", "0"],
        ),
        (
            INIT,
            &pending(r#"{"state":{"terminated":{"exitCode":2,"signal":9}}}"#),
            ["0/1", "Init:Signal:9", "0"],
        ),
        (
            INIT,
            &pending(r#"{"state":{"terminated":{"exitCode":2,"reason":"Error"}}}"#),
            ["0/1", "Init:Error", "0"],
        ),
    ]);
}

#[test]
fn pods_with_sidecars() {
    let last = r#""lastState":{"terminated":{"finishedAt":"@-10@"}}"#;
    let status = |phase: &str, first: &str, second: &str, container: &str, initialized: &str| {
        format!(
            r#"{{"phase":"{phase}","initContainerStatuses":[{{"name":"a","restartCount":3,{first},{last}}},{{"name":"b",{second}}}],"containerStatuses":[{container}],"conditions":[{{"type":"Initialized","status":"{initialized}"}}]}}"#
        )
    };
    let running = |started: bool| format!(r#""state":{{"running":{{}}}},"started":{started}"#);
    let waiting = r#"{"state":{"waiting":{}}}"#;
    let error = r#""state":{"terminated":{"reason":"Error","exitCode":137}},"started":false"#;
    let (on, off) = (running(true), running(false));
    check_pods(&[
        (
            SIDECARS,
            &status(
                "Pending",
                &off,
                r#""state":{"waiting":{}}"#,
                waiting,
                "False",
            ),
            ["0/3", "Init:0/2", "3 (10s ago)"],
        ),
        (
            SIDECARS,
            &status("Pending", &on, &off, waiting, "False"),
            ["0/3", "Init:1/2", "3 (10s ago)"],
        ),
        (
            SIDECARS,
            &status(
                "Running",
                &on,
                &on,
                r#"{"ready":true,"restartCount":4,"state":{"running":{}},"lastState":{"terminated":{"finishedAt":"@-20@"}}}"#,
                "True",
            ),
            ["1/3", "Running", "7 (10s ago)"],
        ),
        (
            SIDECARS,
            &status(
                "Succeeded",
                error,
                error,
                r#"{"restartCount":4,"state":{"terminated":{"reason":"Completed","exitCode":0}},"lastState":{"terminated":{"finishedAt":"@-20@"}}}"#,
                "True",
            ),
            ["0/3", "Completed", "7 (10s ago)"],
        ),
        // There is no such container in the specification.
        (
            r#"{"initContainers":[{"name":"init1"},{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"c"}]}"#,
            r#"{"phase":"Running","initContainerStatuses":[{"name":"x"},{"name":"init1"},{"name":"s"}],"containerStatuses":[{"name":"y"},{"name":"c"}]}"#,
            ["0/2", "Init:0/2", "0"],
        ),
    ]);
}

#[test]
fn pods_that_end() {
    let pod = |meta: &str, status: &str| {
        let text = format!(r#"{{"metadata":{{"name":"p"{meta}}},"spec":{ONE},"status":{status}}}"#);
        let mut out = Vec::new();
        let table = Table::of("", "v1", "Pod");
        table.write_row(object(&text).root(), Include::None, "v1", NOW, &mut out);
        let made = Doc::literal(&String::from_utf8(out).unwrap());
        let reason = made.root().get("cells").unwrap().item(2).unwrap();
        let conditions = made.root().get("conditions");
        (
            reason.as_str().unwrap().to_string(),
            conditions.map(|conditions| conditions.to_string()),
        )
    };
    let succeeded = r#"[{"type":"Completed","status":"True","reason":"Succeeded","message":"The pod has completed successfully."}]"#;
    let failed =
        r#"[{"type":"Completed","status":"True","reason":"Failed","message":"The pod failed."}]"#;
    let deleted = r#","deletionTimestamp":"@-10@""#;
    let done = r#"{"phase":"Succeeded","containerStatuses":[{"state":{"terminated":{"reason":"Completed","exitCode":0}}}]}"#;
    for (meta, status, reason, conditions) in [
        ("", done, "Completed", Some(succeeded)),
        (deleted, done, "Completed", Some(succeeded)),
        (
            "",
            r#"{"phase":"Failed","containerStatuses":[{"state":{"terminated":{"reason":"Error","exitCode":1}}}]}"#,
            "Error",
            Some(failed),
        ),
        (deleted, r#"{"phase":"Running"}"#, "Terminating", None),
        (deleted, r#"{"phase":"Pending"}"#, "Terminating", None),
        (
            deleted,
            r#"{"phase":"Running","reason":"NodeLost"}"#,
            "Unknown",
            None,
        ),
        (
            "",
            r#"{"phase":"Running","reason":"NodeLost"}"#,
            "NodeLost",
            None,
        ),
    ] {
        let want = (reason.to_string(), conditions.map(str::to_string));
        assert_eq!(pod(meta, status), want, "{meta} {status}");
    }
}

#[test]
fn pods_wide() {
    check(
        "v1 Pod",
        &[(
            r#"{"metadata":{"name":"p","creationTimestamp":"@-300@"},
                "spec":{"containers":[{}],"nodeName":"n","readinessGates":[{"conditionType":"a"},{"conditionType":"b"}]},
                "status":{"phase":"Running","podIP":"1.1.1.1","podIPs":[{"ip":"1.1.1.1"},{"ip":"::1"}],"nominatedNodeName":"m",
                  "conditions":[{"type":"a","status":"False"},{"type":"b","status":"True"}]}}"#,
            r#"["p","0/1","Running","0","5m","1.1.1.1","n","m","1/2"]"#,
        )],
    );
}
