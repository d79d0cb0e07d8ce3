//! DaemonSets: a pod on every node that fits.

mod backoff;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Subscription, View, errors};
use futures::future::join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::adoption;
use crate::apps::DaemonSet;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::history::{self, REVISION_HASH, Revision};
use crate::node::Node;
use crate::pod::Pod;
use crate::pod_control::{PodControl, pod_of, slow_start};
use crate::status;
use backoff::FailedPods;
use plan::placement::{Fit, Placement, pin};
use plan::{Observed, Plan};

/// The source of its events.
const COMPONENT: &str = "daemonset-controller";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A DaemonSet.
    Set(Key),
    /// A node: which DaemonSets are to be looked at because it changed.
    Node(String),
}

/// The generation of a set, and what its template asks of nodes.
type Placed = (Option<i64>, Arc<Placement>);

/// Keeps the pods of all DaemonSets.
pub struct DaemonSets {
    context: Context,
    control: PodControl,
    queue: Queue<Work>,
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    by_controller: Index<Pod>,
    by_node: Index<Pod>,
    nodes: Informer<Node>,
    revisions: Index<Revision>,
    failed: FailedPods,
    /// What templates ask of nodes, by the set's uid, with the set's generation.
    placements: Mutex<HashMap<String, Placed>>,
    _subscriptions: [Subscription; 4],
}

#[async_trait]
impl Controller for DaemonSets {
    type Key = Work;

    fn start(context: &Context, queue: &Queue<Work>) -> Self {
        let control = PodControl::new(context, COMPONENT);
        let sets = context.informers.of::<DaemonSet>();
        let pods = context.informers.of::<Pod>();
        let nodes = context.informers.of::<Node>();
        let revisions = context.informers.of::<Revision>();
        let (saw, forget) = (control.expectations.clone(), control.expectations.clone());
        let (on_set, on_node) = (queue.clone(), queue.clone());
        let subscriptions = [
            sets.on_change(move |old, new| {
                if let (Some(old), None) = (old, new) {
                    forget.forget(old.uid());
                }
                if let Some(set) = new.or(old) {
                    on_set.add(Work::Set(Key::of(&**set)));
                }
            }),
            adoption::wake_owners_as(&pods, &sets, queue, Work::Set, move |pod| saw.saw(pod)),
            adoption::wake_owners_as(&revisions, &sets, queue, Work::Set, |_| {}),
            nodes.on_change(move |old, new| {
                let placed =
                    |node: &Arc<Node>| (node.metadata.labels.clone(), node.spec.taints.clone());
                if let Some(node) = new.filter(|new| old.map(placed) != Some(placed(new))) {
                    on_node.add(Work::Node(node.name().into()));
                }
            }),
        ];
        Self {
            context: context.clone(),
            control,
            queue: queue.clone(),
            by_controller: adoption::index_by_controller(&pods),
            by_node: pods.index("target node", |pod| {
                pod.target_node().map(str::to_string).into_iter().collect()
            }),
            revisions: adoption::index_by_controller(&revisions),
            sets,
            pods,
            nodes,
            failed: FailedPods::default(),
            placements: Mutex::default(),
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, key: &Work) -> Result<Again, Error> {
        match key {
            Work::Set(key) => self.sync_set(key).await,
            Work::Node(name) => {
                self.look_at_node(name);
                Ok(Again::Done)
            }
        }
    }
}

impl DaemonSets {
    /// Wakes the sets that lack a pod on a node, or have one too many there.
    fn look_at_node(&self, name: &str) {
        let Some(node) = self.nodes.get("", name) else {
            return;
        };
        let there = self.by_node.get(name);
        let there: HashSet<&str> = there
            .iter()
            .filter_map(|pod| Some(pod.controller()?.uid.as_str()))
            .collect();
        for set in self.sets.list() {
            let fit = self.placement(&set).fit(&node);
            let is_needed = match there.contains(set.uid()) {
                false => fit == Fit::Run,
                true => fit == Fit::Leave || set.status.number_misscheduled > 0,
            };
            if is_needed {
                self.queue.add(Work::Set(Key::of(&*set)));
            }
        }
    }

    fn placement(&self, set: &DaemonSet) -> Arc<Placement> {
        let mut all = self
            .placements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let generation = set.metadata.generation;
        match all.get(set.uid()) {
            Some((known, placement)) if *known == generation => placement.clone(),
            _ => {
                let placement = Arc::new(Placement::new(&set.spec.template));
                all.insert(set.uid().into(), (generation, placement.clone()));
                placement
            }
        }
    }

    fn forget(&self, set: &DaemonSet) {
        let mut all = self
            .placements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(set.uid());
    }

    async fn sync_set(&self, key: &Key) -> Result<Again, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        if set.is_deleted() {
            self.forget(&set);
            return Ok(Again::Done);
        }
        if set.spec.selector.selects_all() {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control
                .event(&*set, EventType::Warning, "SelectingAll", message.into());
            return Ok(Again::Done);
        }
        let is_current = self.is_current(&set);
        let pods = self.claim_pods(&set).await?;
        let (current, old) = self.history(&set, &pods).await?;
        let hash = label(&current).unwrap_or_default();
        let now = self.context.seams.clock.now();
        let generation = set.status.observed_generation.unwrap_or(0);
        let observed = Observed {
            set: &set,
            placement: &self.placement(&set),
            nodes: &self.nodes.list(),
            pods: &pods,
            hash,
            backoff: &|node| self.failed.left(set.uid(), generation, node, now),
        };
        let (mut applied, mut again) = (Ok(()), None);
        if is_current {
            let plan = plan::plan(&observed, self.context.now());
            again = plan.again;
            applied = self.apply(&set, &plan, hash).await;
            if applied.is_ok() {
                applied = self.clean_up(&set, &pods, old).await;
            }
        }
        let acted_on = if is_current {
            set.metadata.generation
        } else {
            set.status.observed_generation
        };
        let now = self.context.now();
        let status = plan::status(&observed, acted_on, now);
        status::write(&self.context.client, &*set, &set.status, &status, json!({})).await?;
        applied?;
        let seconds = set.spec.min_ready_seconds;
        let ripe = pods
            .iter()
            .filter_map(|pod| pod.available_in(seconds, now))
            .min();
        let ripe = ripe.and_then(|wait| std::time::Duration::try_from(wait).ok());
        let next = again.into_iter().chain(ripe).min();
        Ok(next.map_or(Again::Done, Again::After))
    }

    /// Whether the cache shows all that was done for the set.
    fn is_current(&self, set: &DaemonSet) -> bool {
        let is_live = |name: &str, uid: &str| {
            let pod = self.pods.get(set.namespace(), name);
            pod.is_some_and(|pod| pod.uid() == uid && !pod.is_deleted())
        };
        let now = self.context.seams.clock.now();
        self.control.expectations.are_met(set.uid(), now, is_live)
    }

    async fn claim_pods(&self, set: &DaemonSet) -> Result<Vec<Arc<Pod>>, Error> {
        let candidates = adoption::candidates(&self.by_controller, set);
        let is_match = |pod: &Pod| set.spec.selector.matches(pod.metadata.labels.as_ref());
        Ok(adoption::claim_all(&self.context.client, set, candidates, is_match).await?)
    }

    /// The revision of the set's template, made if there is none, and the others.
    async fn history(
        &self,
        set: &DaemonSet,
        pods: &[Arc<Pod>],
    ) -> Result<(Arc<Revision>, Vec<Arc<Revision>>), Error> {
        let client = &self.context.client;
        let candidates = adoption::candidates(&self.revisions, set);
        let is_match = |one: &Revision| set.spec.selector.matches(one.metadata.labels.as_ref());
        let mut own = adoption::claim_all(client, set, candidates, is_match).await?;
        history::sort(&mut own);
        let data = history::snapshot(&set.spec.template);
        let (mut equal, old): (Vec<_>, Vec<_>) = own.into_iter().partition(|one| one.data == data);
        let number = old.last().map_or(1, |last| last.revision + 1);
        let Some(current) = equal.pop() else {
            return Ok((self.create_revision(set, number).await?, old));
        };
        self.merge_revisions(set, &current, equal, pods).await?;
        if current.revision < number {
            history::renumber(client, &current, number).await?;
        }
        Ok((current, old))
    }

    async fn create_revision(&self, set: &DaemonSet, number: i64) -> Result<Arc<Revision>, Error> {
        let hash = set.spec.template.hash(set.status.collision_count);
        let label = (REVISION_HASH, hash.as_str());
        let body = history::body(set, &set.spec.template, &hash, label, number);
        let client = &self.context.client;
        if let Some(revision) = history::create(client, set, &body).await? {
            return Ok(Arc::new(revision));
        }
        // The next name must differ.
        let mut status = set.status.clone();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let version = json!({"resourceVersion": set.metadata.resource_version});
        status::write(client, set, &set.status, &status, version).await?;
        let name = history::name(set.name(), &hash);
        Err(Error::other(format!(
            "controllerrevisions.apps {name:?} already exists"
        )))
    }

    /// Of several revisions of one template the latest stays; pods of the others become its own.
    async fn merge_revisions(
        &self,
        set: &DaemonSet,
        kept: &Revision,
        others: Vec<Arc<Revision>>,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        if others.is_empty() {
            return Ok(());
        }
        let api = Api::<Pod>::namespaced(self.context.client.clone(), set.namespace());
        let hash = label(kept);
        for pod in pods.iter().filter(|pod| pod.label(REVISION_HASH) != hash) {
            let is_equal = others
                .iter()
                .any(|one| label(one) == pod.label(REVISION_HASH));
            if is_equal {
                let patch =
                    json!({"metadata": {"uid": pod.uid(), "labels": {REVISION_HASH: hash}}});
                api.patch(pod.name(), &PatchParams::default(), &Patch::Merge(patch))
                    .await?;
            }
        }
        for other in others {
            history::delete(&self.context.client, &other).await?;
        }
        Ok(())
    }

    async fn apply(&self, set: &DaemonSet, plan: &Plan, hash: &str) -> Result<(), Error> {
        for event in &plan.events {
            let type_ = if event.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            };
            self.control
                .event(set, type_, event.reason, event.message.clone());
        }
        let generation = set.status.observed_generation.unwrap_or(0);
        for node in &plan.failed {
            let now = self.context.seams.clock.now();
            self.failed.next(set.uid(), generation, node, now);
        }
        let mut pod = pod_of(&set.spec.template, set);
        let labels = &mut pod["metadata"]["labels"];
        if let Some(generation) = plan::template_generation(set) {
            labels[plan::TEMPLATE_GENERATION] = json!(generation.to_string());
        }
        labels[REVISION_HASH] = json!(hash);
        let create = async |at: usize| {
            let mut pod = pod.clone();
            pin(&mut pod, &plan.create[at]);
            match self.control.create(set, pod.to_string().as_bytes()).await {
                // The namespace's end will be this set's.
                Err(Error::Api(error)) if errors::is_namespace_terminating(&error) => Ok(()),
                done => done,
            }
        };
        let (_, created) = slow_start(plan.create.len(), create).await;
        let deleted = join_all(plan.delete.iter().map(|pod| self.control.delete(set, pod))).await;
        created.and(deleted.into_iter().collect())
    }

    /// Deletes revisions beyond the limit that no pod was made from.
    async fn clean_up(
        &self,
        set: &DaemonSet,
        pods: &[Arc<Pod>],
        old: Vec<Arc<Revision>>,
    ) -> Result<(), Error> {
        let limit = set
            .spec
            .revision_history_limit
            .and_then(|limit| usize::try_from(limit).ok());
        let live: HashSet<&str> = pods
            .iter()
            .filter_map(|pod| pod.label(REVISION_HASH))
            .collect();
        let is_live = |one: &Revision| label(one).is_some_and(|hash| live.contains(hash));
        let surplus = old.len().saturating_sub(limit.unwrap_or(usize::MAX));
        for revision in old.iter().filter(|one| !is_live(one)).take(surplus) {
            history::delete(&self.context.client, revision).await?;
        }
        Ok(())
    }
}

/// The hash that a revision and its pods are labelled with.
fn label(revision: &Revision) -> Option<&str> {
    let labels = revision.metadata.labels.as_ref()?;
    labels.get(REVISION_HASH).map(String::as_str)
}
