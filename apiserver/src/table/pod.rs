//! Pods: how many containers are ready, what keeps the others, how often they were restarted.

use std::collections::HashMap;

use api::doc::Node;
use api::values::time::Moment;

use super::Printer;
use super::view::{Cell, Col, View, at, condition, int, items, moment, text};

pub(super) const PRINTERS: &[Printer] = &[
    ("", "Pod", POD),
    (
        "",
        "PodTemplate",
        &[
            Col::Name,
            Col::Containers("template.spec"),
            Col::Images("template.spec"),
            Col::Labels("template.metadata.labels"),
        ],
    ),
];

const POD: &[Col] = &[
    Col::Name,
    Col::Many(|view, cells| {
        let state = State::of(view.object);
        let restarts = match state.restarts {
            (count, Some(last)) if count != 0 => format!("{count} ({} ago)", view.ago(Some(last))),
            (count, _) => count.to_string(),
        };
        cells.push(format!("{}/{}", state.ready, state.total).into());
        cells.push(state.reason.into());
        cells.push(restarts.into());
    }),
    Col::Age,
    Col::Of(|view| {
        let first = || view.items("status.podIPs").next();
        let ip = match view.text("status.podIP") {
            "" => first().map_or("", |first| text(first, "ip")),
            ip => ip,
        };
        or_none(ip)
    }),
    Col::Of(|view| or_none(view.text("spec.nodeName"))),
    Col::Of(|view| or_none(view.text("status.nominatedNodeName"))),
    Col::Of(readiness_gates),
];

fn or_none(text: &str) -> Cell {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

fn readiness_gates(view: &View<'_>) -> Cell {
    let gates = view.items("spec.readinessGates");
    let count = gates.clone().count();
    if count == 0 {
        return "<none>".into();
    }
    let is_true = |gate: &Node<'_>| is_condition_true(view.object, text(*gate, "conditionType"));
    format!("{}/{count}", gates.filter(is_true).count()).into()
}

fn is_condition_true(pod: Node<'_>, kind: &str) -> bool {
    condition(pod, "status.conditions", kind).is_some_and(|found| text(found, "status") == "True")
}

/// What is said about a pod.
struct State {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

/// How many, and when the last one was.
type Restarts = (i64, Option<Moment>);

impl State {
    fn of(pod: Node<'_>) -> Self {
        let reason = match text(pod, "status.reason") {
            "" => text(pod, "status.phase"),
            reason => reason,
        };
        let mut state = Self {
            ready: 0,
            total: items(pod, "spec.containers").count(),
            reason: reason.to_string(),
            restarts: (0, None),
        };
        let is_gated = |condition: Node<'_>| {
            text(condition, "type") == "PodScheduled"
                && text(condition, "reason") == "SchedulingGated"
        };
        if items(pod, "status.conditions").any(is_gated) {
            state.reason = "SchedulingGated".to_string();
        }
        let (is_initializing, restartable) = state.initialization(pod);
        if !is_initializing || is_condition_true(pod, "Initialized") {
            state.restarts = restartable;
            state.containers(pod);
        }
        state.deletion(pod);
        state
    }

    /// Looks at the init containers up to the first that is not done. Says whether there is one, and
    /// how often those were restarted that run along with the others.
    fn initialization(&mut self, pod: Node<'_>) -> (bool, Restarts) {
        let restarts_always = |container: &Node<'_>| text(*container, "restartPolicy") == "Always";
        let init: HashMap<&str, bool> = items(pod, "spec.initContainers")
            .map(|container| (text(container, "name"), restarts_always(&container)))
            .collect();
        let all = items(pod, "spec.initContainers");
        let count = all.clone().count();
        self.total += all.filter(restarts_always).count();
        let mut restartable = (0, None);
        for (place, status) in items(pod, "status.initContainerStatuses").enumerate() {
            count_restarts(&mut self.restarts, status);
            let is_restartable = init.get(text(status, "name")).copied().unwrap_or(false);
            if is_restartable {
                count_restarts(&mut restartable, status);
            }
            let terminated = at(status, "state.terminated");
            if terminated.is_some_and(|state| int(state, "exitCode") == 0) {
                continue;
            }
            if is_restartable && is_true(status, "started") {
                self.ready += usize::from(is_true(status, "ready"));
                continue;
            }
            let waiting = text(status, "state.waiting.reason");
            self.reason = match terminated {
                Some(state) => format!("Init:{}", why_terminated(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => {
                    format!("Init:{waiting}")
                }
                None => format!("Init:{place}/{count}"),
            };
            return (true, restartable);
        }
        (false, restartable)
    }

    fn containers(&mut self, pod: Node<'_>) {
        let statuses: Vec<Node<'_>> = items(pod, "status.containerStatuses").collect();
        let mut is_running = false;
        let mut error = String::new();
        // The first container that has something to say has the last word.
        for status in statuses.into_iter().rev() {
            count_restarts(&mut self.restarts, status);
            let waiting = text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_string();
            } else if let Some(state) = at(status, "state.terminated") {
                self.reason = why_terminated(state);
                if int(state, "exitCode") != 0 {
                    error.clone_from(&self.reason);
                }
            } else if is_true(status, "ready") && at(status, "state.running").is_some() {
                is_running = true;
                self.ready += 1;
            }
        }
        if self.reason != "Completed" {
            return;
        }
        let has_ready = |condition: Node<'_>| {
            text(condition, "type") == "Ready" && text(condition, "status") == "True"
        };
        if is_running && items(pod, "status.conditions").any(has_ready) {
            self.reason = "Running".to_string();
        } else if !error.is_empty() {
            self.reason = error;
        } else if is_running {
            self.reason = "NotReady".to_string();
        }
    }

    fn deletion(&mut self, pod: Node<'_>) {
        if at(pod, "metadata.deletionTimestamp").is_none() {
            return;
        }
        let is_terminal = matches!(text(pod, "status.phase"), "Succeeded" | "Failed");
        if text(pod, "status.reason") == "NodeLost" {
            self.reason = "Unknown".to_string();
        } else if !is_terminal {
            self.reason = "Terminating".to_string();
        }
    }
}

fn is_true(node: Node<'_>, path: &str) -> bool {
    at(node, path).and_then(Node::as_bool) == Some(true)
}

fn why_terminated(state: Node<'_>) -> String {
    match (text(state, "reason"), int(state, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(state, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn count_restarts((count, last): &mut Restarts, status: Node<'_>) {
    *count += int(status, "restartCount");
    let finished = moment(at(status, "lastState.terminated.finishedAt"));
    *last = (*last).max(finished);
}
