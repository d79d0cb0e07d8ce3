//! What the scheduler writes: bindings, conditions, evictions, and what volumes and devices need
//! before a pod can be bound.
//!
//! Every write is a task of the term with a deadline; how many there are at once is the loop's to
//! limit. Their outcomes come back as [`Done`].

use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Informer, Recorder, clock, errors};
use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::resource::v1::{
    AllocationResult, ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus,
};
use kube::Api;
use kube::api::PostParams;
use seams::{Seams, Tasks};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::cycle::Reservation;
use crate::views::storage::SELECTED_NODE;
use crate::views::{PersistentVolume, PersistentVolumeClaim, Pod, namespace};

/// For one request.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between looks at whether volumes are bound.
const VOLUME_INTERVAL: Duration = Duration::from_millis(250);
/// Keeps a claim from vanishing while it has devices.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a claim that changes meanwhile is tried.
const CLAIM_TRIES: usize = 5;
/// How often a condition is tried.
const PATCH_TRIES: u32 = 4;
/// The longest note of an event.
const NOTE_MAX: usize = 1024;

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Done {
    /// A pod was bound, or why not.
    Bound {
        uid: String,
        result: Result<(), String>,
    },
    /// A pod's victims are gone or going, or why not.
    Preempted {
        uid: String,
        result: Result<(), String>,
    },
    /// The condition of a pod was written, or it could not be.
    Noted,
}

/// A pod on its way to its node.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) pod: Arc<Pod>,
    pub(crate) node: String,
    pub(crate) reservation: Reservation,
    pub(crate) timeout: Duration,
}

/// What a pod is told about an attempt that failed.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub(crate) pod: Arc<Pod>,
    /// Unschedulable or SchedulerError; None leaves the condition alone.
    pub(crate) condition: Option<(&'static str, String)>,
    /// The node that it is nominated for, or no more; None leaves it alone.
    pub(crate) nominated: Option<String>,
}

/// Pods that make way for another.
#[derive(Debug)]
pub(crate) struct Eviction {
    pub(crate) preemptor: Arc<Pod>,
    pub(crate) node: String,
    pub(crate) victims: Vec<Arc<Pod>>,
    /// Pods of lower priority that lose their nomination for the node.
    pub(crate) losers: Vec<Arc<Pod>>,
}

/// Writes what the loop decided.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) client: kube::Client,
    pub(crate) events: Recorder,
    pub(crate) claims: Informer<PersistentVolumeClaim>,
    pub(crate) seams: Seams,
    pub(crate) tasks: Tasks,
    pub(crate) done: mpsc::Sender<Done>,
}

/// A pod as events name it.
pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_string()),
        kind: Some("Pod".to_string()),
        name: Some(pod.name().to_string()),
        namespace: Some(pod.namespace().to_string()),
        uid: Some(pod.uid().to_string()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Writer {
    /// Binds a pod, after its volumes and devices.
    pub(crate) fn bind(&self, binding: Binding) {
        let writer = self.clone();
        self.tasks.spawn("bind", async move {
            let result = writer.bound(&binding).await;
            let uid = binding.pod.uid().to_string();
            writer.report(Done::Bound { uid, result }).await;
        });
    }

    /// Writes a condition, a nomination or both.
    pub(crate) fn note(&self, note: Note) {
        let writer = self.clone();
        self.tasks.spawn("note", async move {
            if let Some(status) = status_patch(&note, writer.now())
                && let Err(error) = writer.patch_status(&note.pod, status).await
            {
                tracing::warn!(pod = note.pod.name(), %error, "cannot update the pod's status");
            }
            writer.report(Done::Noted).await;
        });
    }

    /// Evicts pods.
    pub(crate) fn evict(&self, eviction: Eviction) {
        let writer = self.clone();
        self.tasks.spawn("evict", async move {
            let result = writer.evicted(&eviction).await;
            let uid = eviction.preemptor.uid().to_string();
            writer.report(Done::Preempted { uid, result }).await;
        });
    }

    /// An event about a pod, as long as events may be.
    pub(crate) fn event(&self, pod: &Pod, kind: EventType, reason: &str, action: &str, note: &str) {
        let events = self.events.named(&pod.scheduler_name);
        events.series(&reference(pod), None, kind, reason, action, truncated(note));
    }

    async fn report(&self, done: Done) {
        // Nobody listens only when the term is over.
        let _ = self.done.send(done).await;
    }

    fn now(&self) -> String {
        let now = clock::now(&*self.seams.clock);
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    async fn send(
        &self,
        method: &str,
        path: String,
        kind: &str,
        body: &Value,
    ) -> Result<(), kube::Error> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, kind)
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        match timeout(WRITE_TIMEOUT, self.client.request_text(request)).await {
            Ok(answer) => answer.map(drop),
            Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
        }
    }

    async fn patch_status(&self, pod: &Pod, status: Value) -> Result<(), kube::Error> {
        let path = format!("{}/status", path(pod));
        let kind = "application/strategic-merge-patch+json";
        let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let mut tries = 0;
        loop {
            let answer = self.send("PATCH", path.clone(), kind, &body).await;
            tries += 1;
            match answer {
                Err(error) if errors::is_transient(&error) && tries < PATCH_TRIES => {
                    let pause = Duration::from_millis(10) * 5_u32.pow(tries - 1);
                    sleep(self.seams.rng.jitter(pause)).await;
                }
                Err(error) if errors::is_not_found(&error) => return Ok(()),
                answer => return answer,
            }
        }
    }

    async fn bound(&self, binding: &Binding) -> Result<(), String> {
        let (pod, node) = (&binding.pod, &binding.node);
        if !binding.reservation.volumes.is_empty() {
            let bound = self.bind_volumes(binding).await;
            bound.map_err(|error| format!("running PreBind plugin \"VolumeBinding\": {error}"))?;
        }
        if !binding.reservation.devices.is_empty() {
            let bound = self.bind_devices(binding).await;
            bound
                .map_err(|error| format!("running PreBind plugin \"DynamicResources\": {error}"))?;
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()},
            "target": {"kind": "Node", "name": node},
        });
        let path = format!("{}/binding", path(pod));
        let bound = self.send("POST", path, "application/json", &body).await;
        bound.map_err(|error| {
            format!(
                "running Bind plugin \"DefaultBinder\": {}",
                explained(&error)
            )
        })?;
        let (namespace, name) = (pod.namespace(), pod.name());
        let note = format!("Successfully assigned {namespace}/{name} to {node}");
        self.event(pod, EventType::Normal, "Scheduled", "Binding", &note);
        Ok(())
    }

    /// Promises volumes, asks for others to be made, and waits until all are bound.
    async fn bind_volumes(&self, binding: &Binding) -> Result<(), String> {
        let plan = &binding.reservation.volumes;
        let merge = "application/merge-patch+json";
        for (volume, claim) in &plan.bindings {
            let path = format!("/api/v1/persistentvolumes/{}", volume.name());
            let sent = self
                .send("PATCH", path, merge, &promise(volume, claim))
                .await;
            sent.map_err(|error| explained(&error))?;
        }
        for claim in &plan.provisions {
            let (namespace, name) = (claim.namespace(), claim.name());
            let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
            let body = json!({"metadata": {
                "resourceVersion": claim.metadata.resource_version,
                "annotations": {SELECTED_NODE: binding.node},
            }});
            let sent = self.send("PATCH", path, merge, &body).await;
            sent.map_err(|error| explained(&error))?;
        }
        let bound = plan.bindings.iter().map(|(_, claim)| claim);
        let all: Vec<_> = bound.chain(&plan.provisions).collect();
        let waited = timeout(binding.timeout, self.until_bound(&all, binding)).await;
        waited.unwrap_or_else(|_| Err("binding volumes: context deadline exceeded".to_string()))
    }

    async fn until_bound(
        &self,
        claims: &[&Arc<PersistentVolumeClaim>],
        binding: &Binding,
    ) -> Result<(), String> {
        // Until the write is seen the annotation is missing; only its loss afterwards is a refusal.
        let mut seen = vec![false; claims.len()];
        loop {
            let mut all_bound = true;
            for (at, claim) in claims.iter().enumerate() {
                let Some(now) = self.claims.get(claim.namespace(), claim.name()) else {
                    return Err(format!(
                        "persistentvolumeclaim {:?} not found",
                        claim.name()
                    ));
                };
                let is_selected = now.selected_node() == Some(&*binding.node);
                let is_ours = binding
                    .reservation
                    .volumes
                    .provisions
                    .iter()
                    .any(|one| Arc::ptr_eq(one, claim));
                if is_ours && seen[at] && !is_selected {
                    let error = format!("provisioning failed for PVC {:?}", claim.name());
                    return Err(format!("binding volumes: {error}"));
                }
                seen[at] |= is_selected;
                all_bound &= now.is_bound();
            }
            if all_bound {
                return Ok(());
            }
            sleep(VOLUME_INTERVAL).await;
        }
    }

    /// Writes allocations and reserves claims for the pod.
    async fn bind_devices(&self, binding: &Binding) -> Result<(), String> {
        let plan = &binding.reservation.devices;
        for (claim, allocation) in &plan.allocations {
            self.reserve(&binding.pod, claim, Some(allocation)).await?;
        }
        for claim in &plan.reservations {
            self.reserve(&binding.pod, claim, None).await?;
        }
        Ok(())
    }

    async fn reserve(
        &self,
        pod: &Pod,
        claim: &ResourceClaim,
        allocation: Option<&AllocationResult>,
    ) -> Result<(), String> {
        let claims: Api<ResourceClaim> =
            Api::namespaced(self.client.clone(), namespace(&claim.metadata));
        let mut current = claim.clone();
        for _ in 0..CLAIM_TRIES {
            let written = timeout(
                WRITE_TIMEOUT,
                self.write_claim(&claims, pod, current, allocation),
            );
            let Err(error) = written.await.map_err(|elapsed| elapsed.to_string())? else {
                return Ok(());
            };
            match error {
                ClaimError::Final(error) => return Err(error),
                ClaimError::Conflict => {
                    let name = crate::views::name(&claim.metadata);
                    let read = timeout(WRITE_TIMEOUT, claims.get(name)).await;
                    let read = read.map_err(|elapsed| elapsed.to_string())?;
                    current = read.map_err(|error| explained(&error))?;
                }
            }
        }
        Err(format!(
            "claim {} changes all the time",
            crate::views::name(&claim.metadata)
        ))
    }

    async fn write_claim(
        &self,
        claims: &Api<ResourceClaim>,
        pod: &Pod,
        mut claim: ResourceClaim,
        allocation: Option<&AllocationResult>,
    ) -> Result<(), ClaimError> {
        let name = crate::views::name(&claim.metadata).to_string();
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(ClaimError::Final(format!(
                "claim {name} got deleted in the meantime"
            )));
        }
        if allocation.is_some() && crate::devices::allocation(&claim).is_some() {
            let error = format!("claim {name} got allocated elsewhere in the meantime");
            return Err(ClaimError::Final(error));
        }
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if allocation.is_some() && !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.to_string());
            claim = claims
                .replace(&name, &PostParams::default(), &claim)
                .await?;
        }
        let status = claim
            .status
            .get_or_insert_with(ResourceClaimStatus::default);
        if let Some(allocation) = allocation {
            status.allocation = Some(allocation.clone());
        }
        let reserved = status.reserved_for.get_or_insert_default();
        if !reserved.iter().any(|one| one.uid == pod.uid()) {
            reserved.push(ResourceClaimConsumerReference {
                api_group: None,
                name: pod.name().to_string(),
                resource: "pods".to_string(),
                uid: pod.uid().to_string(),
            });
        }
        claims
            .replace_status(&name, &PostParams::default(), &claim)
            .await?;
        Ok(())
    }

    async fn evicted(&self, eviction: &Eviction) -> Result<(), String> {
        for loser in &eviction.losers {
            let status = json!({"nominatedNodeName": null});
            if let Err(error) = self.patch_status(loser, status).await {
                tracing::warn!(pod = loser.name(), %error, "cannot clear the nomination");
            }
        }
        let (event, message) = crate::preemption::notices(&eviction.preemptor, &eviction.node);
        for victim in eviction
            .victims
            .iter()
            .filter(|victim| !victim.is_terminating())
        {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": message,
                "observedGeneration": victim.metadata.generation,
                "lastProbeTime": null,
                "lastTransitionTime": self.now(),
            });
            let patched = self
                .patch_status(victim, json!({"conditions": [condition]}))
                .await;
            patched.map_err(|error| explained(&error))?;
            let preconditions = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": victim.uid()}});
            let deleted = self
                .send("DELETE", path(victim), "application/json", &preconditions)
                .await;
            match deleted {
                Err(error) if errors::is_not_found(&error) => continue,
                deleted => deleted.map_err(|error| explained(&error))?,
            }
            let events = self.events.named(&eviction.preemptor.scheduler_name);
            let related = reference(&eviction.preemptor);
            let (kind, reason) = (EventType::Normal, "Preempted");
            events.series(
                &reference(victim),
                Some(&related),
                kind,
                reason,
                "Preempting",
                &*event,
            );
        }
        Ok(())
    }
}

/// Why a claim is not written.
enum ClaimError {
    /// It is newer than known.
    Conflict,
    Final(String),
}

impl From<kube::Error> for ClaimError {
    fn from(error: kube::Error) -> Self {
        match errors::is_conflict(&error) {
            true => ClaimError::Conflict,
            false => ClaimError::Final(explained(&error)),
        }
    }
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.namespace(), pod.name())
}

/// What a server says, or else what went wrong on the way.
fn explained(error: &kube::Error) -> String {
    errors::status(error).map_or_else(|| error.to_string(), |status| status.message.clone())
}

/// A volume's promise to a claim.
fn promise(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Value {
    json!({
        "metadata": {
            "resourceVersion": volume.metadata.resource_version,
            "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
        },
        "spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(),
            "name": claim.name(),
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
        }},
    })
}

/// What of a pod's status has to change: nothing, if it says so already.
fn status_patch(note: &Note, now: String) -> Option<Value> {
    let mut status = json!({});
    if let Some((reason, message)) = &note.condition {
        let known = note.pod.scheduled.as_deref();
        let is_false = known.is_some_and(|known| known.status == "False");
        let is_known = is_false
            && known.is_some_and(|known| known.reason == *reason && known.message == *message);
        if !is_known {
            let mut condition = json!({
                "type": "PodScheduled",
                "status": "False",
                "reason": reason,
                "message": message,
                "observedGeneration": note.pod.metadata.generation,
            });
            if !is_false {
                condition["lastProbeTime"] = Value::Null;
                condition["lastTransitionTime"] = json!(now);
            }
            status["conditions"] = json!([condition]);
        }
    }
    match &note.nominated {
        Some(node) if *node != note.pod.nominated_node => {
            status["nominatedNodeName"] = match &**node {
                "" => Value::Null,
                node => json!(node),
            };
        }
        _ => {}
    }
    status
        .as_object()
        .is_some_and(|status| !status.is_empty())
        .then_some(status)
}

/// Whether a pod's status already says all of a note.
pub(crate) fn is_news(note: &Note) -> bool {
    status_patch(note, String::new()).is_some()
}

fn truncated(note: &str) -> String {
    if note.len() <= NOTE_MAX {
        return note.to_string();
    }
    let suffix = " ...";
    let end = (0..=NOTE_MAX - suffix.len())
        .rev()
        .find(|at| note.is_char_boundary(*at));
    format!("{}{suffix}", &note[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn a_condition_is_written_once() {
        let note = |pod: Arc<Pod>, message: &str| Note {
            pod,
            condition: Some(("Unschedulable", message.to_string())),
            nominated: Some(String::new()),
        };
        let fresh = status_patch(&note(pod("p", json!({})), "m"), "T".to_string()).unwrap();
        assert_eq!(fresh["conditions"][0]["lastTransitionTime"], "T");
        let known = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"}]}});
        assert!(!is_news(&note(pod("p", known.clone()), "m")));
        let other = status_patch(&note(pod("p", known), "other"), "T".to_string()).unwrap();
        assert!(other["conditions"][0].get("lastTransitionTime").is_none());
        let nominated = pod("p", json!({"status": {"nominatedNodeName": "a"}}));
        let cleared = Note {
            pod: nominated,
            condition: None,
            nominated: Some(String::new()),
        };
        assert_eq!(
            status_patch(&cleared, String::new()).unwrap(),
            json!({"nominatedNodeName": null})
        );
    }

    #[test]
    fn long_notes_are_cut() {
        let cut = truncated(&"ä".repeat(600));
        assert!(cut.len() <= NOTE_MAX && cut.ends_with("ä ..."));
    }
}
