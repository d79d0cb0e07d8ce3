//! PodTopologySpread, hard constraints: no domain gets too far ahead of the emptiest.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use crate::cycle::{State, WhatIf};
use crate::framework::{Action, Change, Event, Object, Plugin, Rejection, Verdict};
use crate::selector::selects;
use crate::snapshot::counts::Counts;
use crate::snapshot::{NONE, NodeInfo, PodInfo, Snapshot, Spread};
use crate::views::{Node, Pod};

use super::taint_toleration::tolerates_all;

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// What decides about one constraint.
#[derive(Debug)]
pub(crate) struct Facts<'s> {
    counts: Tally<'s>,
    /// The domain with the fewest pods and how many it has; and how many the next one has. With
    /// both, pods of any one domain can be imagined away.
    fewest: (u32, i64),
    next_fewest: i64,
    /// Domains that count.
    domains: i64,
}

/// Pods by domain.
#[derive(Debug)]
enum Tally<'s> {
    /// All nodes count: the snapshot's numbers.
    Kept(&'s Counts),
    /// Only some do: summed for this pod. None where the domain does not count.
    Summed(Vec<Option<i64>>),
    /// Nobody is counted.
    Nobody,
}

impl Tally<'_> {
    fn get(&self, domain: u32) -> i64 {
        match self {
            Tally::Kept(counts) => counts.get(domain),
            Tally::Summed(sums) => sums[domain as usize].unwrap_or(0),
            Tally::Nobody => 0,
        }
    }
}

/// Whether a node counts for a constraint.
pub(crate) fn counts_node(
    spread: &Spread,
    snapshot: &Snapshot,
    pod: &PodInfo,
    node: &NodeInfo,
) -> bool {
    let honors = !spread.honors_affinity
        || pod.node.is_empty()
        || pod
            .node
            .matches(node.name, &node.labels, &snapshot.interner);
    honors
        && (!spread.honors_taints
            || !node.repels
            || tolerates_all(&pod.pod.tolerations, &node.node.taints))
}

/// Whether a node has all labels of some constraints.
pub(crate) fn has_all_labels(spreads: &[Spread], node: &NodeInfo) -> bool {
    spreads
        .iter()
        .all(|spread| node.domains[spread.topology as usize] != NONE)
}

/// Whether every node counts for a constraint, so that kept numbers are the answer.
fn counts_all(spread: &Spread, spreads: &[Spread], snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let nodes = snapshot.node_count();
    (!spread.honors_affinity || pod.node.is_empty())
        && !spread.honors_taints
        && spreads
            .iter()
            .all(|one| snapshot.topology(one.topology).labelled() == nodes)
}

/// Pods by domain over the nodes that count, None for domains without such nodes.
pub(crate) fn sum(
    spread: &Spread,
    spreads: &[Spread],
    snapshot: &Snapshot,
    pod: &PodInfo,
    needs_all_labels: bool,
) -> Vec<Option<i64>> {
    let mut sums = vec![None; snapshot.topology(spread.topology).size()];
    let per_node = spread
        .matcher
        .map(|matcher| &snapshot.matcher(matcher).per_node);
    for id in snapshot.order() {
        let node = snapshot.node(*id);
        let domain = node.domains[spread.topology as usize];
        if domain == NONE
            || (needs_all_labels && !has_all_labels(spreads, node))
            || !counts_node(spread, snapshot, pod, node)
        {
            continue;
        }
        let pods = per_node.map_or(0, |counts| counts.get(*id));
        *sums[domain as usize].get_or_insert(0) += pods;
    }
    sums
}

impl<'s> Facts<'s> {
    pub(crate) fn all(snapshot: &'s Snapshot, pod: &PodInfo) -> Vec<Facts<'s>> {
        let spreads = &pod.hard_spread;
        spreads
            .iter()
            .map(|spread| Facts::new(spread, spreads, snapshot, pod))
            .collect()
    }

    fn new(spread: &Spread, spreads: &[Spread], snapshot: &'s Snapshot, pod: &PodInfo) -> Self {
        if !counts_all(spread, spreads, snapshot, pod) {
            return Facts::summed(sum(spread, spreads, snapshot, pod, true));
        }
        let topology = snapshot.topology(spread.topology);
        let populated = topology.populated();
        let Some(matcher) = spread.matcher else {
            return Facts::uniform(Tally::Nobody, populated);
        };
        let counts = snapshot.counts(matcher, spread.topology);
        if counts.is_empty() {
            return Facts::uniform(Tally::Kept(counts), populated);
        }
        let mut lowest = Lowest::default();
        counts.each(|domain, count| lowest.see(domain, count));
        // Domains that nobody is in are the lowest of all; any of them stands for them.
        let empty = populated - counts.len();
        if empty > 0 {
            let some = (0..topology.size() as u32)
                .find(|domain| topology.is_populated(*domain) && counts.get(*domain) == 0);
            lowest.see(some.unwrap_or(NONE), 0);
            if empty > 1 {
                lowest.next = 0;
            }
        }
        Facts {
            counts: Tally::Kept(counts),
            fewest: lowest.first,
            next_fewest: lowest.next,
            domains: populated as i64,
        }
    }

    /// All domains are empty.
    fn uniform(counts: Tally<'s>, domains: usize) -> Self {
        Facts {
            counts,
            fewest: (NONE, if domains == 0 { i64::from(i32::MAX) } else { 0 }),
            next_fewest: if domains < 2 { i64::from(i32::MAX) } else { 0 },
            domains: domains as i64,
        }
    }

    fn summed(sums: Vec<Option<i64>>) -> Self {
        let mut lowest = Lowest::default();
        for (domain, count) in sums.iter().enumerate() {
            if let Some(count) = count {
                lowest.see(domain as u32, *count);
            }
        }
        Facts {
            fewest: lowest.first,
            next_fewest: lowest.next,
            domains: sums.iter().flatten().count() as i64,
            counts: Tally::Summed(sums),
        }
    }

    /// The fewest pods in any domain, were there `delta` more in one.
    fn fewest(&self, domain: u32, delta: i64, min_domains: i64) -> i64 {
        if self.domains < min_domains {
            return 0;
        }
        if delta == 0 {
            return self.fewest.1;
        }
        let here = self.counts.get(domain) + delta;
        let is_here = self.fewest.0 == domain || (self.fewest.0 == NONE && self.domains < 2);
        here.min(if is_here {
            self.next_fewest
        } else {
            self.fewest.1
        })
    }
}

/// The two lowest numbers seen, ties settled by domain so that no order shows.
struct Lowest {
    first: (u32, i64),
    next: i64,
}

impl Default for Lowest {
    fn default() -> Self {
        let none = i64::from(i32::MAX);
        Lowest {
            first: (NONE, none),
            next: none,
        }
    }
}

impl Lowest {
    fn see(&mut self, domain: u32, count: i64) {
        if (count, domain) < (self.first.1, self.first.0) {
            self.next = self.first.1;
            self.first = (domain, count);
        } else {
            self.next = self.next.min(count);
        }
    }
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo, what_if: &WhatIf) -> Verdict {
    let constraints = state.pod.hard_spread.iter().zip(&state.spread);
    for (at, (spread, facts)) in constraints.enumerate() {
        let domain = node.domains[spread.topology as usize];
        if domain == NONE {
            return Err(Rejection::last(Plugin::PodTopologySpread, UNLABELLED).into());
        }
        let delta = what_if.spread(at);
        let here = facts.counts.get(domain) + delta + i64::from(spread.counts_self);
        if here - facts.fewest(domain, delta, spread.min_domains) > spread.max_skew {
            return Err(Rejection::new(Plugin::PodTopologySpread, SKEWED).into());
        }
    }
    Ok(())
}

fn hard(pod: &Pod) -> impl Iterator<Item = &TopologySpreadConstraint> {
    pod.spread
        .iter()
        .filter(|one| one.when_unsatisfiable == "DoNotSchedule")
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    // Hard constraints that come from the profile select by owners: any change may matter.
    let own = !pod.spread.is_empty();
    let of_pods = Action::ADD
        .or(Action::DELETE)
        .or(Action::POD_LABEL)
        .or(Action::POD_TOLERATION);
    let of_nodes = Action::ADD
        .or(Action::DELETE)
        .or(Action::NODE_LABEL)
        .or(Action::NODE_TAINT);
    match event.object {
        Object::Pod(change) => event.action.is_in(of_pods) && (!own || pod_hint(pod, change)),
        Object::Node(change) => event.action.is_in(of_nodes) && (!own || node_hint(pod, change)),
        _ => false,
    }
}

fn pod_hint(pod: &Pod, change: Change<'_, Pod>) -> bool {
    let is_involved = |one: &Pod| {
        one.uid() == pod.uid() || (one.occupies_node() && one.namespace() == pod.namespace())
    };
    if !change.old.is_none_or(is_involved) || !change.new.is_none_or(is_involved) {
        return false;
    }
    let is_counted = |one: &TopologySpreadConstraint, of: &Pod| {
        selects(one.label_selector.as_ref(), of.metadata.labels.as_ref())
    };
    match (change.old, change.new) {
        (Some(old), Some(new)) => {
            let tolerates_more = new.uid() == pod.uid()
                && old.tolerations != new.tolerations
                && hard(pod).any(|one| one.node_taints_policy.as_deref() == Some("Honor"));
            tolerates_more || hard(pod).any(|one| is_counted(one, old) != is_counted(one, new))
        }
        (Some(one), None) | (None, Some(one)) => hard(pod).any(|of| is_counted(of, one)),
        (None, None) => false,
    }
}

fn node_hint(pod: &Pod, change: Change<'_, Node>) -> bool {
    let matches = |node: &Node| hard(pod).all(|one| node.label(&one.topology_key).is_some());
    let (was, is) = (
        change.old.is_some_and(matches),
        change.new.is_some_and(matches),
    );
    match (change.old, change.new) {
        (Some(old), Some(new)) => {
            let moved = || {
                hard(pod).any(|one| old.label(&one.topology_key) != new.label(&one.topology_key))
            };
            was != is || (is && (moved() || old.taints != new.taints))
        }
        _ => was || is,
    }
}
