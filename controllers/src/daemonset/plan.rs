//! What a DaemonSet needs: a pod on every node that fits, renewed a few at a time, and its status.

pub(super) mod placement;
mod renewal;
mod status;
#[cfg(test)]
mod stories;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::View;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub(super) use status::status;

use crate::apps::{DaemonSet, scaled};
use crate::history::REVISION_HASH;
use crate::node::Node;
use crate::pod::{Phase, Pod};
use placement::{Fit, Placement};

/// How many pods are made, and deleted, before the set is looked at again.
const BURST: usize = 250;
/// The label of pods with the number of the template they were made from, in use before revisions.
pub(super) const TEMPLATE_GENERATION: &str = "pod-template-generation";
const TEMPLATE_GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// What there is of a DaemonSet.
pub(super) struct Observed<'o> {
    /// The set itself.
    pub set: &'o DaemonSet,
    /// Where its pods fit.
    pub placement: &'o Placement,
    /// All nodes.
    pub nodes: &'o [Arc<Node>],
    /// Its pods.
    pub pods: &'o [Arc<Pod>],
    /// The hash of its template's revision.
    pub hash: &'o str,
    /// How long a failed pod on a node is left there still.
    pub backoff: &'o (dyn Fn(&str) -> Option<Duration> + Sync),
}

/// What to do for a DaemonSet.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go.
    pub delete: Vec<Arc<Pod>>,
    /// What to tell the user.
    pub events: Vec<Event>,
    /// Nodes on which a failed pod goes now: the next one is left longer.
    pub failed: Vec<String>,
    /// When to look again although nothing happens.
    pub again: Option<Duration>,
}

/// What to tell the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// In a word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// What to do for a DaemonSet. Pods are renewed only when all nodes have what they should have.
pub(super) fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner::new(observed, now);
    planner.place();
    let is_settled = planner.plan.create.is_empty() && planner.plan.delete.is_empty();
    if is_settled && observed.set.spec.update_strategy.type_ == "RollingUpdate" {
        planner.renew();
    }
    let mut plan = planner.plan;
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

struct Planner<'o> {
    observed: &'o Observed<'o>,
    set: &'o DaemonSet,
    now: Timestamp,
    on_node: BTreeMap<&'o str, Vec<&'o Arc<Pod>>>,
    plan: Plan,
}

impl<'o> Planner<'o> {
    fn new(observed: &'o Observed<'o>, now: Timestamp) -> Self {
        Self {
            observed,
            set: observed.set,
            now,
            on_node: by_node(observed.pods),
            plan: Plan::default(),
        }
    }

    fn place(&mut self) {
        for node in self.observed.nodes {
            self.place_on(node);
        }
        let known = self.observed.nodes.iter().map(|node| node.name());
        let known: std::collections::BTreeSet<&str> = known.collect();
        for (node, pods) in &self.on_node {
            if !known.contains(node) {
                let unbound = pods.iter().filter(|pod| pod.spec.node_name.is_empty());
                self.plan.delete.extend(unbound.map(|pod| Arc::clone(pod)));
            }
        }
    }

    fn place_on(&mut self, node: &Node) {
        let fit = self.observed.placement.fit(node);
        let Some(pods) = self.on_node.get(node.name()).cloned() else {
            if fit == Fit::Run {
                self.plan.create.push(node.name().into());
            }
            return;
        };
        if fit == Fit::Leave {
            let live = pods.into_iter().filter(|pod| !pod.is_deleted());
            return self.plan.delete.extend(live.cloned());
        }
        let mut running = self.sort_out_ended(node, pods);
        running.sort_by(|a, b| bound_and_old_first(a, b));
        if !self.allows_surge() {
            return self
                .plan
                .delete
                .extend(running.into_iter().skip(1).cloned());
        }
        match running[..] {
            [] if fit == Fit::Run => self.plan.create.push(node.name().into()),
            [] | [_] => {}
            _ => self.keep_one_of_each(&running),
        }
    }

    /// Deletes pods that ended; those that run.
    fn sort_out_ended(&mut self, node: &Node, pods: Vec<&'o Arc<Pod>>) -> Vec<&'o Arc<Pod>> {
        let mut running = Vec::new();
        for pod in pods.into_iter().filter(|pod| !pod.is_deleted()) {
            let (state, verb, is_warning, reason) = match pod.status.phase {
                Phase::Failed => ("failed", "kill", true, "FailedDaemonPod"),
                Phase::Succeeded => ("succeeded", "delete", false, "SucceededDaemonPod"),
                _ => {
                    running.push(pod);
                    continue;
                }
            };
            if is_warning {
                if let Some(left) = (self.observed.backoff)(node.name()) {
                    let sooner = self.plan.again.is_none_or(|again| left < again);
                    self.plan.again = if sooner { Some(left) } else { self.plan.again };
                    continue;
                }
                self.plan.failed.push(node.name().into());
            }
            let message = format!(
                "Found {state} daemon pod {}/{} on node {}, will try to {verb} it",
                pod.namespace(),
                pod.name(),
                node.name(),
            );
            self.plan.events.push(Event {
                is_warning,
                reason,
                message,
            });
            self.plan.delete.push(pod.clone());
        }
        running
    }

    /// Of several pods on a node, the oldest new and the oldest old one stay, until the new one can
    /// take over.
    fn keep_one_of_each(&mut self, running: &[&'o Arc<Pod>]) {
        let (mut new, mut old) = (None, None);
        for pod in running {
            let is_new = pod.label(REVISION_HASH) == Some(self.observed.hash);
            let slot = if is_new { &mut new } else { &mut old };
            match slot {
                None => *slot = Some(*pod),
                Some(_) => self.plan.delete.push(Arc::clone(pod)),
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!old.is_ready() || self.is_available(new))
        {
            self.plan.delete.push(old.clone());
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    fn limit(
        &self,
        which: fn(&crate::apps::RollingUpdate) -> Option<&IntOrString>,
        total: i32,
    ) -> i32 {
        let strategy = &self.set.spec.update_strategy;
        let rolling = strategy
            .rolling_update
            .as_ref()
            .filter(|_| strategy.type_ == "RollingUpdate");
        let value = rolling.and_then(which);
        value
            .and_then(|value| scaled(value, total, true))
            .unwrap_or(0)
    }

    fn allows_surge(&self) -> bool {
        self.limit(|rolling| rolling.max_surge.as_ref(), 1) > 0
    }
}

/// Pods by the nodes that they are on or were made for; without those that are gone but for their
/// record.
fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
    let mut on_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| !(pod.is_terminal() && pod.is_deleted()))
    {
        if let Some(node) = pod.target_node() {
            on_node.entry(node).or_default().push(pod);
        }
    }
    on_node
}

fn bound_and_old_first(a: &Pod, b: &Pod) -> Ordering {
    let unbound = |pod: &Pod| pod.spec.node_name.is_empty();
    unbound(a).cmp(&unbound(b)).then_with(|| a.by_age(b))
}

/// The number of a set's template, in use before revisions.
pub(super) fn template_generation(set: &DaemonSet) -> Option<i64> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations
        .get(TEMPLATE_GENERATION_ANNOTATION)?
        .parse()
        .ok()
}

/// Whether a pod was made from the set's template.
fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let generation = template_generation(set).map(|number| number.to_string());
    let has_generation =
        generation.is_some() && pod.label(TEMPLATE_GENERATION) == generation.as_deref();
    has_generation || (!hash.is_empty() && pod.label(REVISION_HASH) == Some(hash))
}
