//! InterPodAffinity: near to the pods a pod needs, away from those it or they cannot stand.

use k8s_openapi::api::core::v1::PodAffinityTerm;

use crate::cycle::{State, WhatIf};
use crate::framework::{Action, Change, Event, Object, Plugin, Rejection, Verdict};
use crate::selector::selects;
use crate::snapshot::counts::{Counts, Hold};
use crate::snapshot::{NONE, NodeInfo, PodInfo, Snapshot};
use crate::views::{Node, Pod};

const UNWELCOME: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const ALONE: &str = "node(s) didn't match pod affinity rules";
const REPELLED: &str = "node(s) didn't match pod anti-affinity rules";

/// The counts that decide about a pod. They are the snapshot's own: nothing is summed here.
#[derive(Debug, Default)]
pub(crate) struct Facts<'s> {
    /// By required affinity term: the topology, and pods matching all terms by domain.
    pub(crate) needed: Vec<(u32, &'s Counts)>,
    /// By anti-affinity term: the topology, and pods that match by domain.
    pub(crate) repelled: Vec<(u32, &'s Counts)>,
    /// Terms of others that repel the pod: the holder, its topology and counts by domain.
    pub(crate) repelling: Vec<(u32, u32, &'s Counts)>,
}

impl<'s> Facts<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, pod: &PodInfo) -> Self {
        let needed = pod.needed.iter().flat_map(|(matcher, topologies)| {
            let of = |topology: &u32| (*topology, snapshot.counts(*matcher, *topology));
            topologies.iter().map(of)
        });
        let repelled = pod
            .repelled
            .iter()
            .map(|(matcher, topology)| (*topology, snapshot.counts(*matcher, *topology)));
        let mut repelling = Vec::new();
        for matcher in &snapshot.class(pod.placed.class).matchers {
            for id in &snapshot.matcher(*matcher).holders {
                let holder = snapshot.holder(*id);
                if holder.key.hold == Hold::Repels {
                    repelling.push((*id, holder.key.topology, &holder.counts));
                }
            }
        }
        Facts {
            needed: needed.collect(),
            repelled: repelled.collect(),
            repelling,
        }
    }

    pub(crate) fn is_skipped(&self) -> bool {
        self.needed.is_empty()
            && self.repelled.is_empty()
            && self
                .repelling
                .iter()
                .all(|(_, _, counts)| counts.is_empty())
    }
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo, what_if: &WhatIf) -> Verdict {
    let facts = &state.affinity;
    if !is_near(state, node, what_if) {
        return Err(Rejection::last(Plugin::InterPodAffinity, ALONE).into());
    }
    let domain = |topology: u32| node.domains[topology as usize];
    for (at, (topology, counts)) in facts.repelled.iter().enumerate() {
        let domain = domain(*topology);
        if domain != NONE && counts.get(domain) + what_if.repelled(at) > 0 {
            return Err(Rejection::new(Plugin::InterPodAffinity, REPELLED).into());
        }
    }
    for (at, (_, topology, counts)) in facts.repelling.iter().enumerate() {
        let domain = domain(*topology);
        if domain != NONE && counts.get(domain) + what_if.repelling(at) > 0 {
            return Err(Rejection::new(Plugin::InterPodAffinity, UNWELCOME).into());
        }
    }
    Ok(())
}

/// Whether each required affinity term finds somebody in the node's domain. The first pod of a
/// group that needs itself may go anywhere with the labels.
fn is_near(state: &State<'_>, node: &NodeInfo, what_if: &WhatIf) -> bool {
    let needed = &state.affinity.needed;
    let mut all_found = true;
    for (topology, counts) in needed {
        let domain = node.domains[*topology as usize];
        if domain == NONE {
            return false;
        }
        all_found &= counts.get(domain) + what_if.needed > 0;
    }
    if all_found {
        return true;
    }
    // Taking pods off this node may leave nobody anywhere.
    let is_anybody_anywhere = needed.iter().any(|(topology, counts)| {
        let here = node.domains[*topology as usize];
        match counts.len() {
            0 => what_if.needed > 0,
            1 => counts.get(here) == 0 || counts.get(here) + what_if.needed > 0,
            _ => true,
        }
    });
    !is_anybody_anywhere && state.pod.needs_itself
}

/// Whether a pod matches all terms of another; with a namespace selector namespaces are taken to
/// match, for a hint may err on the side of trying.
fn matches_all(terms: &[PodAffinityTerm], of: &Pod, pod: &Pod) -> bool {
    !terms.is_empty()
        && terms.iter().all(|term| {
            let listed = term.namespaces.as_deref().unwrap_or_default();
            let in_namespace = match (&term.namespace_selector, listed) {
                (Some(_), _) => true,
                (None, []) => pod.namespace() == of.namespace(),
                (None, listed) => listed.iter().any(|one| one == pod.namespace()),
            };
            in_namespace && selects(term.label_selector.as_ref(), pod.metadata.labels.as_ref())
        })
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    let of_pods = Action::ADD.or(Action::POD_LABEL).or(Action::DELETE);
    match event.object {
        Object::Pod(change) if event.action.is_in(of_pods) => pod_hint(pod, change),
        Object::Node(change) if event.action.is_in(Action::ADD.or(Action::NODE_LABEL)) => {
            node_hint(pod, change)
        }
        _ => false,
    }
}

fn pod_hint(pod: &Pod, change: Change<'_, Pod>) -> bool {
    if let (Some(_), Some(new)) = (change.old, change.new)
        && new.uid() == pod.uid()
    {
        return true;
    }
    let is_nowhere = |one: &Pod| !one.occupies_node();
    if change.old.is_some_and(is_nowhere) || change.new.is_some_and(is_nowhere) {
        return false;
    }
    let (needs, avoids) = (pod.required_affinity(), pod.required_anti_affinity());
    match (change.old, change.new) {
        (Some(old), Some(new)) => {
            (!matches_all(needs, pod, old) && matches_all(needs, pod, new))
                || (matches_all(avoids, pod, old) && !matches_all(avoids, pod, new))
        }
        (None, Some(new)) => matches_all(needs, pod, new),
        (Some(old), None) => {
            matches_all(avoids, pod, old) || matches_all(old.required_anti_affinity(), old, pod)
        }
        (None, None) => false,
    }
}

fn node_hint(pod: &Pod, change: Change<'_, Node>) -> bool {
    let Some(new) = change.new else {
        return false;
    };
    let label =
        |node: &Node, term: &PodAffinityTerm| node.label(&term.topology_key).map(str::to_string);
    let needs = pod.required_affinity().iter().any(|term| {
        let now = label(new, term);
        now.is_some() && change.old.is_none_or(|old| label(old, term) != now)
    });
    let avoids = pod.required_anti_affinity().iter().any(|term| {
        change.old.is_none_or(|old| {
            let before = label(old, term);
            before.is_some() && before != label(new, term)
        })
    });
    needs || avoids
}
