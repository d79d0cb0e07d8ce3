//! What is reported of a pod: its phase, conditions and containers, as a patch of what is known.

use std::fmt::Write;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use seams::{Rng, SeededRng};
use serde_json::{Map, Value, json};

use super::super::behaviour::Kind;
use super::super::pod::Pod;
use super::Situation;
use super::containers::{Containers, End, Live, State};

/// Why a pod ends before its containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It does not.
    No,
    /// It is being deleted.
    Deleted,
    /// It has run for as long as it may.
    Late,
}

/// The patch of a pod's status; `None` if nothing has happened.
pub(super) fn of(at: &Situation<'_>, containers: &Containers<'_>, ending: Ending) -> Option<Value> {
    let pod = at.pod;
    let phase = phase(pod, containers, ending);
    let is_first = pod.status.start_time.is_none();
    // A deletion changes the generation as well: its own report will tell.
    let is_behind = pod.is_behind() && pod.metadata.deletion_timestamp.is_none();
    let is_news = is_first
        || is_behind
        || ending != Ending::No
        || containers.all().any(|one| one.changed)
        || gate_moved(pod, containers);
    if !is_news {
        return None;
    }
    let mut status = Map::new();
    if pod.status.phase.as_deref() != Some(phase) {
        status.insert("phase".into(), phase.into());
    }
    if pod.is_behind() {
        status.insert("observedGeneration".into(), pod.generation().into());
    }
    if is_first {
        status.insert("startTime".into(), json!(Time(at.now)));
        add_addresses(&mut status, "hostIP", at.host_ips);
    }
    let has_network = containers.all().any(has_network);
    if has_network && pod.status.pod_ip.is_none() {
        add_addresses(&mut status, "podIP", at.pod_ips);
    }
    if ending == Ending::Late {
        status.insert("reason".into(), "DeadlineExceeded".into());
        let message = "Pod was active on the node longer than the specified deadline";
        status.insert("message".into(), message.into());
    }
    let conditions = conditions(at, containers, phase, has_network);
    if !conditions.is_empty() {
        status.insert("conditions".into(), conditions.into());
    }
    for (field, list) in [
        ("initContainerStatuses", &containers.init),
        ("containerStatuses", &containers.main),
        ("ephemeralContainerStatuses", &containers.ephemeral),
    ] {
        if list.iter().any(|one| one.changed) {
            let list = list.iter().map(|one| container(at, one));
            status.insert(field.into(), list.collect());
        }
    }
    Some(json!({ "metadata": { "uid": pod.uid() }, "status": status }))
}

/// `hostIP` with `hostIPs`, or `podIP` with `podIPs`.
fn add_addresses(status: &mut Map<String, Value>, field: &str, addresses: &[std::net::IpAddr]) {
    let Some(first) = addresses.first() else {
        return;
    };
    let all = addresses.iter().map(|ip| json!({ "ip": ip.to_string() }));
    status.insert(field.into(), first.to_string().into());
    status.insert(format!("{field}s"), all.collect());
}

/// Whether the pod had its network when this container was dealt with.
fn has_network(one: &Live<'_>) -> bool {
    !matches!(
        one.state,
        State::New | State::Waiting("ContainerCreating" | "PodInitializing")
    )
}

fn phase(pod: &Pod, containers: &Containers<'_>, ending: Ending) -> &'static str {
    if ending == Ending::Late || containers.init.iter().any(|one| one.has_failed(pod)) {
        return "Failed";
    }
    let begun = containers.has_begun();
    let is_pending = |one: &Live<'_>| match one.kind {
        Kind::Sidecar => !one.runs() && !begun,
        _ => one.last.is_none() && one.end().is_none(),
    };
    if ending == Ending::No && !begun && containers.init.iter().any(is_pending) {
        return "Pending";
    }
    let main = &containers.main;
    // A container that waits for its restart counts by its last end.
    let end = |one: &Live<'_>| match &one.state {
        State::Running(_) => None,
        State::Ended(end) => Some((end.code, pod.restarts(one.spec, end.code))),
        State::New | State::Waiting(_) => {
            let end = one.last.as_ref()?;
            Some((end.code, pod.restarts(one.spec, end.code)))
        }
    };
    let is_waiting = |one: &Live<'_>| !one.runs() && end(one).is_none();
    if main.iter().any(is_waiting) {
        return if ending == Ending::No {
            "Pending"
        } else {
            "Failed"
        };
    }
    let ends: Vec<(i32, bool)> = main.iter().filter_map(end).collect();
    let goes_on = ending == Ending::No && ends.iter().any(|(_, restarts)| *restarts);
    if ends.len() < main.len() || goes_on {
        return "Running";
    }
    match ends.iter().all(|(code, _)| *code == 0) {
        true => "Succeeded",
        false => "Failed",
    }
}

/// What a condition says.
struct Says {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Says {
    const TRUE: Says = Says {
        is_true: true,
        reason: None,
        message: None,
    };

    fn no(reason: &'static str, message: String) -> Says {
        Says {
            is_true: false,
            reason: Some(reason),
            message: Some(message).filter(|message| !message.is_empty()),
        }
    }
}

/// The conditions that change, those of others left alone.
fn conditions(
    at: &Situation<'_>,
    containers: &Containers<'_>,
    phase: &str,
    has_network: bool,
) -> Vec<Value> {
    let pod = at.pod;
    let is_over = matches!(phase, "Succeeded" | "Failed");
    let network = Says {
        is_true: has_network && !is_over,
        ..Says::TRUE
    };
    let mut all = vec![
        ("PodReadyToStartContainers", network),
        ("Initialized", initialized(containers, phase)),
        ("Ready", ready(pod, containers, phase)),
        ("ContainersReady", containers_ready(containers, phase)),
    ];
    // The scheduler says so of those that it places.
    if pod.condition("PodScheduled").is_none() {
        all.push(("PodScheduled", Says::TRUE));
    }
    all.into_iter()
        .filter_map(|(kind, says)| condition(at, kind, &says))
        .collect()
}

fn condition(at: &Situation<'_>, kind: &str, says: &Says) -> Option<Value> {
    let held = at.pod.condition(kind);
    let status = if says.is_true { "True" } else { "False" };
    let turned = held.is_none_or(|held| held.status != status);
    let same = held.is_some_and(|held| {
        held.reason.as_deref().unwrap_or_default() == says.reason.unwrap_or_default()
            && held.message.as_deref().unwrap_or_default()
                == says.message.as_deref().unwrap_or_default()
            && held.observed_generation == Some(at.pod.generation())
    });
    if same && !turned {
        return None;
    }
    let mut patch = json!({
        "type": kind,
        "status": status,
        "observedGeneration": at.pod.generation(),
    });
    if turned {
        patch["lastTransitionTime"] = json!(Time(at.now));
    }
    // Null takes away what was said before.
    if held.is_some_and(|held| held.reason.is_some()) || says.reason.is_some() {
        patch["reason"] = says.reason.into();
    }
    if held.is_some_and(|held| held.message.is_some()) || says.message.is_some() {
        patch["message"] = says.message.clone().into();
    }
    Some(patch)
}

fn initialized(containers: &Containers<'_>, phase: &str) -> Says {
    if phase == "Succeeded" {
        return Says {
            reason: Some("PodCompleted"),
            ..Says::TRUE
        };
    }
    let rest = containers.init.iter().filter(|one| !one.is_passed());
    let rest: Vec<&str> = rest.map(|one| one.spec.name.as_str()).collect();
    if rest.is_empty() || containers.has_begun() {
        return Says::TRUE;
    }
    let message = format!("containers with incomplete status: [{}]", rest.join(" "));
    Says::no("ContainersNotInitialized", message)
}

fn containers_ready(containers: &Containers<'_>, phase: &str) -> Says {
    match phase {
        "Succeeded" => return Says::no("PodCompleted", String::new()),
        "Failed" => return Says::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = containers
        .init
        .iter()
        .filter(|one| one.kind == Kind::Sidecar);
    let unready = sidecars.chain(&containers.main).filter(|one| !one.ready);
    let unready: Vec<&str> = unready.map(|one| one.spec.name.as_str()).collect();
    if unready.is_empty() {
        return Says::TRUE;
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Says::no("ContainersNotReady", message)
}

fn ready(pod: &Pod, containers: &Containers<'_>, phase: &str) -> Says {
    let says = containers_ready(containers, phase);
    if !says.is_true {
        return says;
    }
    let closed = pod.spec.readiness_gates.iter().filter_map(|gate| {
        let kind = &gate.condition_type;
        match pod.condition(kind) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {kind:?} does not exist."
            )),
            Some(held) if held.status == "True" => None,
            Some(held) => Some(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                held.status
            )),
        }
    });
    let closed: Vec<String> = closed.collect();
    if closed.is_empty() {
        return Says::TRUE;
    }
    Says::no("ReadinessGatesNotReady", closed.join(", "))
}

/// Whether a readiness gate makes the pod ready, or unready.
fn gate_moved(pod: &Pod, containers: &Containers<'_>) -> bool {
    if pod.spec.readiness_gates.is_empty() || containers.main.iter().any(|one| !one.ready) {
        return false;
    }
    let says = ready(pod, containers, "Running");
    let held = pod.condition("Ready");
    held.is_none_or(|held| (held.status == "True") != says.is_true)
}

fn container(at: &Situation<'_>, one: &Live<'_>) -> Value {
    let spec = one.spec;
    let mut status = json!({
        "name": spec.name,
        "image": spec.image,
        "imageID": "",
        "ready": one.ready,
        "restartCount": one.restarts,
        "started": one.runs(),
        "state": state(at, one),
    });
    if has_network(one)
        && !matches!(
            one.state,
            State::Waiting("ErrImagePull" | "ImagePullBackOff")
        )
    {
        let image = fingerprint(&[&spec.image]);
        status["imageID"] = format!("{}@sha256:{image}", repository(&spec.image)).into();
        let restarts = one.restarts.to_string();
        let id = fingerprint(&[at.pod.uid(), &spec.name, &restarts]);
        status["containerID"] = format!("containerd://{id}").into();
    }
    if let Some(last) = &one.last {
        status["lastState"] = json!({ "terminated": terminated(last) });
    }
    if let Some(resources) = &spec.resources {
        let resources = resources.value();
        if let Some(requests) = resources.get("requests") {
            status["allocatedResources"] = requests.clone();
        }
        status["resources"] = resources;
    }
    status
}

fn state(at: &Situation<'_>, one: &Live<'_>) -> Value {
    match &one.state {
        State::Running(since) => json!({ "running": { "startedAt": Time(*since) } }),
        State::Ended(end) => json!({ "terminated": terminated(end) }),
        State::New => json!({ "waiting": { "reason": "ContainerCreating" } }),
        State::Waiting(reason) => {
            let mut waiting = json!({ "reason": reason });
            if let Some(message) = waiting_message(at.pod, one, reason) {
                waiting["message"] = message.into();
            }
            json!({ "waiting": waiting })
        }
    }
}

fn waiting_message(pod: &Pod, one: &Live<'_>, reason: &str) -> Option<String> {
    let image = &one.spec.image;
    let failure = format!(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
    );
    match reason {
        "ErrImagePull" => Some(failure),
        "ImagePullBackOff" => Some(format!(
            "Back-off pulling image \"{image}\": ErrImagePull: {failure}"
        )),
        "CrashLoopBackOff" => Some(format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            pause(one.pause().as_secs()),
            one.spec.name,
            pod.name(),
            pod.namespace(),
            pod.uid(),
        )),
        _ => None,
    }
}

/// Seconds as Go writes them.
fn pause(seconds: u64) -> String {
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

fn terminated(end: &End) -> Value {
    let mut document = json!({ "exitCode": end.code, "reason": end.reason });
    for (field, moment) in [("startedAt", end.started), ("finishedAt", end.finished)] {
        if let Some(moment) = moment {
            document[field] = json!(Time(moment));
        }
    }
    document
}

/// An image without its tag.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// 64 hexadecimal digits that are always the same for the same texts.
fn fingerprint(texts: &[&str]) -> String {
    const PRIME: u64 = 0x100_0000_01b3;
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    let seed = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    let rng = SeededRng::new(seed);
    let mut text = String::with_capacity(64);
    for _ in 0..4 {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}", rng.next_u64());
    }
    text
}
