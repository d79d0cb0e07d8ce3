//! StatefulSets: pods with numbers, each with claims of its own, made and renewed in order.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Subscription, View, errors};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{PartialObjectMeta, Request};
use serde_json::{Value, json};

use crate::adoption;
use crate::apps::StatefulSet;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::expectations::Expectations;
use crate::history::{self, REVISION_HASH, Revision, Wanted};
use crate::pod::Pod;
use crate::pod_control::{PodControl, slow_start};
use crate::status;
use crate::volumes::Claim;
use plan::{Missing, Observed, Owners, Step};

/// The source of its events.
const COMPONENT: &str = "statefulset-controller";

/// Keeps the pods of all StatefulSets.
pub struct StatefulSets {
    context: Context,
    control: PodControl,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    by_controller: Index<Pod>,
    claims: Informer<Claim>,
    revisions: Index<Revision>,
    /// What was written of claims.
    claims_written: Arc<Expectations>,
    _subscriptions: [Subscription; 3],
}

#[async_trait]
impl Controller for StatefulSets {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let control = PodControl::new(context, COMPONENT);
        let claims_written = Arc::<Expectations>::default();
        let sets = context.informers.of::<StatefulSet>();
        let pods = context.informers.of::<Pod>();
        let claims = context.informers.of::<Claim>();
        let revisions = context.informers.of::<Revision>();
        let (saw, forget) = (control.expectations.clone(), control.expectations.clone());
        let (saw_claim, forget_claims) = (claims_written.clone(), claims_written.clone());
        let subscriptions = [
            adoption::wake_changed(&sets, queue, move |set| {
                forget.forget(set.uid());
                forget_claims.forget(set.uid());
            }),
            adoption::wake_owners(&pods, &sets, queue, move |pod| saw.saw(pod)),
            claims.on_change(move |old, new| {
                if let Some(claim) = new.or(old) {
                    saw_claim.saw(&**claim);
                }
            }),
        ];
        Self {
            context: context.clone(),
            control,
            by_controller: adoption::index_by_controller(&pods),
            revisions: adoption::index_by_controller(&revisions),
            sets,
            pods,
            claims,
            claims_written,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        if !self.is_current(&set) {
            return Ok(Again::After(REST));
        }
        let set = &*set;
        let revisions = self.claim_revisions(set).await?;
        let pods = self.claim_pods(set).await?;
        let (update, collisions) = self.ensure_revision(set, &revisions).await?;
        let current = set.status.current_revision.as_deref();
        let current = revisions
            .iter()
            .find(|one| Some(one.name()) == current)
            .unwrap_or(&update);
        let observed = Observed {
            set,
            current,
            update: &update,
            collisions,
            pods: &pods,
            claim: &|name| self.claims.get(set.namespace(), name),
        };
        let plan = plan::plan(&observed, self.context.now());
        let mut applied = Ok(());
        for phase in &plan.phases {
            applied = self.apply(set, phase).await;
            if applied.is_err() {
                break;
            }
        }
        let client = &self.context.client;
        status::write(client, set, &set.status, &plan.status, json!({})).await?;
        applied?;
        let is_live = |one: &Revision| {
            let mut pods = pods.iter();
            [current.name(), update.name()].contains(&one.name())
                || pods.any(|pod| pod.label(REVISION_HASH) == Some(one.name()))
        };
        let limit = set
            .spec
            .revision_history_limit
            .and_then(|limit| usize::try_from(limit).ok());
        for old in history::surplus(&revisions, is_live, limit.unwrap_or(usize::MAX)) {
            history::delete(client, old).await?;
        }
        Ok(plan.again.map_or(Again::Done, Again::after))
    }
}

/// When a set is looked at again whose claims were written and are not seen yet: nobody is woken for
/// a claim.
const REST: std::time::Duration = std::time::Duration::from_millis(50);

impl StatefulSets {
    /// Whether the caches show all that was done for the set.
    fn is_current(&self, set: &StatefulSet) -> bool {
        let is_live = |name: &str, uid: &str| {
            let pod = self.pods.get(set.namespace(), name);
            pod.is_some_and(|pod| pod.uid() == uid && !pod.is_deleted())
        };
        let now = self.context.seams.clock.now();
        self.control.expectations.are_met(set.uid(), now, is_live)
            && self.claims_written.are_met(set.uid(), now, |_, _| false)
    }

    /// The set's revisions, sorted.
    async fn claim_revisions(&self, set: &StatefulSet) -> Result<Vec<Arc<Revision>>, Error> {
        let selects = |one: &Revision| set.spec.selector.matches(one.metadata.labels.as_ref());
        let candidates = adoption::candidates(&self.revisions, set).into_iter();
        let candidates = candidates.filter(|one| selects(one));
        let client = &self.context.client;
        let mut own = adoption::claim_all(client, set, candidates, |_| true).await?;
        history::sort(&mut own);
        Ok(own)
    }

    async fn claim_pods(&self, set: &StatefulSet) -> Result<Vec<Arc<Pod>>, Error> {
        let candidates = adoption::candidates(&self.by_controller, set);
        let is_match = |pod: &Pod| {
            set.spec.selector.matches(pod.metadata.labels.as_ref())
                && plan::is_member(set, pod.name())
        };
        let own = adoption::claim_all(&self.context.client, set, candidates, is_match).await?;
        Ok(own)
    }

    /// The revision of the set's template, made if there is none, and how often names collided.
    async fn ensure_revision(
        &self,
        set: &StatefulSet,
        revisions: &[Arc<Revision>],
    ) -> Result<(Arc<Revision>, i32), Error> {
        let mut collisions = set.status.collision_count.unwrap_or(0);
        let client = &self.context.client;
        let data = history::snapshot(&set.spec.template);
        let number = match history::wanted(revisions, &data) {
            Wanted::Latest(latest) => return Ok((latest, collisions)),
            Wanted::Older(older, number) => {
                let renumbered = history::renumber(client, &older, number).await?;
                return Ok((Arc::new(renumbered), collisions));
            }
            Wanted::New(number) => number,
        };
        loop {
            let hash = history::hash(&data, collisions);
            let label = (history::HASH_LABEL, hash.as_str());
            let body = history::body(set, &set.spec.template, &hash, label, number);
            if let Some(revision) = history::create::<StatefulSet>(client, set, &body).await? {
                return Ok((Arc::new(revision), collisions));
            }
            collisions += 1;
        }
    }

    /// Does the steps of a phase: one by one, or all at once.
    async fn apply(&self, set: &StatefulSet, phase: &[Step]) -> Result<(), Error> {
        if plan::is_parallel(set) {
            return slow_start(phase.len(), |at| self.take(set, &phase[at]))
                .await
                .1;
        }
        for step in phase {
            self.take(set, step).await?;
        }
        Ok(())
    }

    async fn take(&self, set: &StatefulSet, step: &Step) -> Result<(), Error> {
        match step {
            Step::Create { pod, body, claims } => {
                if let Err(error) = self.create_claims(set, pod, claims).await {
                    return self.say(set, pod, "Create", Err(error));
                }
                let body = body.to_string();
                match self.control.create_silently(set, body.as_bytes()).await {
                    // The cache does not show it yet, or it is another one's: nothing is said.
                    Err(error) if errors::is_already_exists(&error) => Err(error.into()),
                    done => self.say(set, pod, "Create", done.map(drop).map_err(Error::from)),
                }
            }
            Step::CreateClaims { pod, claims } => self.create_claims(set, pod, claims).await,
            Step::Update {
                pod,
                patch,
                claims,
                owners,
            } => {
                let done = self.update(set, pod, patch.as_ref(), claims, owners).await;
                self.say(set, pod.name(), "Update", done)
            }
            Step::Own(owners) => self.own(set, owners).await,
            Step::Delete(pod) => {
                let done = self.control.delete_silently(set, pod).await;
                self.say(
                    set,
                    pod.name(),
                    "Delete",
                    done.map(drop).map_err(Error::from),
                )
            }
        }
    }

    /// Tells the user what became of a pod.
    fn say(
        &self,
        set: &StatefulSet,
        pod: &str,
        verb: &str,
        done: Result<(), Error>,
    ) -> Result<(), Error> {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        self.tell(set, verb, done, format!("{what} successful"), what)
    }

    fn tell(
        &self,
        set: &StatefulSet,
        verb: &str,
        done: Result<(), Error>,
        success: String,
        failure: String,
    ) -> Result<(), Error> {
        match &done {
            Ok(()) => {
                let reason = format!("Successful{verb}");
                self.control.event(set, EventType::Normal, &reason, success);
            }
            Err(error) => {
                let message = format!("{failure} failed error: {}", error.message());
                self.control
                    .event(set, EventType::Warning, &format!("Failed{verb}"), message);
            }
        }
        done
    }

    async fn create_claims(
        &self,
        set: &StatefulSet,
        pod: &str,
        claims: &Missing,
    ) -> Result<(), Error> {
        let mut failures = Vec::new();
        for claim in &claims.create {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default();
            let done = self.create_claim(set, claim).await;
            if done.as_ref().is_err_and(errors::is_already_exists) {
                continue;
            }
            let what = |of: &str| {
                format!(
                    "Create Claim {name} {of}Pod {pod} in StatefulSet {}",
                    set.name()
                )
            };
            let success = format!("{} success", what(""));
            if let Err(error) = self.tell(
                set,
                "Create",
                done.map_err(Error::from),
                success,
                what("for "),
            ) {
                failures.push(format!("failed to create PVC {name}: {}", error.message()));
            }
        }
        failures.extend(claims.error.clone());
        match &failures[..] {
            [] => Ok(()),
            [one] => Err(Error::other(one)),
            all => Err(Error::other(format!("[{}]", all.join(", ")))),
        }
    }

    async fn create_claim(&self, set: &StatefulSet, claim: &Value) -> Result<(), kube::Error> {
        let url = Api::<Claim>::namespaced(self.context.client.clone(), set.namespace());
        let body = claim.to_string().into_bytes();
        let request = Request::new(url.resource_url()).create(&PostParams::default(), body);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let claim: PartialObjectMeta<Claim> = self.context.client.request(request).await?;
        self.wrote_claim(set, claim.metadata.resource_version.as_deref());
        Ok(())
    }

    fn wrote_claim(&self, set: &StatefulSet, version: Option<&str>) {
        self.claims_written
            .wrote(set.uid(), version, self.context.seams.clock.now());
    }

    async fn update(
        &self,
        set: &StatefulSet,
        pod: &Pod,
        patch: Option<&Value>,
        claims: &Missing,
        owners: &[Owners],
    ) -> Result<(), Error> {
        self.create_claims(set, pod.name(), claims).await?;
        self.own(set, owners).await?;
        if let Some(patch) = patch {
            let api = Api::<Pod>::namespaced(self.context.client.clone(), set.namespace());
            let patch = Patch::Strategic(patch);
            let written = api
                .patch(pod.name(), &PatchParams::default(), &patch)
                .await?;
            let version = written.metadata.resource_version.as_deref();
            self.control
                .expectations
                .wrote(set.uid(), version, self.context.seams.clock.now());
        }
        Ok(())
    }

    async fn own(&self, set: &StatefulSet, all: &[Owners]) -> Result<(), Error> {
        for Owners {
            claim,
            owners,
            is_conflict,
        } in all
        {
            if *is_conflict {
                let message = format!(
                    "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging \
                     controller, the retention policy is ignored for this claim",
                    claim.name(),
                );
                self.control
                    .event(set, EventType::Warning, "ConflictingController", message);
            }
            let version = &claim.metadata.resource_version;
            let patch = json!({"metadata": {"uid": claim.uid(), "resourceVersion": version,
                                            "ownerReferences": owners}});
            let api = Api::<Claim>::namespaced(self.context.client.clone(), set.namespace());
            let patch = Patch::Merge(patch);
            let written = api
                .patch(claim.name(), &PatchParams::default(), &patch)
                .await;
            let written = written.map_err(|error| {
                Error::other(format!(
                    "could not update claim {} for delete policy ownerRefs: {}",
                    claim.name(),
                    errors::message(&error),
                ))
            })?;
            self.wrote_claim(set, written.metadata.resource_version.as_deref());
        }
        Ok(())
    }
}
