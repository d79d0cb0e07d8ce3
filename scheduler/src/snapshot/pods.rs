//! Pods compiled for the snapshot: what is counted of a placed pod, and what a pod to place wants.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::framework::Defaults;
use crate::intern::Symbol;
use crate::selector::{NodeRequirement, NodeTerm, Selector};
use crate::views::Pod;

use super::Snapshot;
use super::counts::{ClassKey, Hold, HolderKey, MatcherKey, Part};

/// The label that every node has to itself.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A pod on a node, with the counts it is part of.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) pod: Arc<Pod>,
    pub(crate) namespace: Symbol,
    pub(crate) class: u32,
    /// Its terms and their weights.
    pub(crate) holders: Box<[(u32, i64)]>,
    pub(crate) scalars: Box<[(Symbol, i64)]>,
}

impl Placed {
    pub(super) fn new(pod: &Arc<Pod>, snapshot: &mut Snapshot) -> Self {
        let namespace = snapshot.interner.intern(pod.namespace());
        let labels = snapshot.interner.labels(pod.labels());
        let class = snapshot.class_for(ClassKey {
            namespace,
            labels,
            is_terminating: pod.is_terminating(),
        });
        let scalars = pod.requests.scalars.iter();
        Placed {
            scalars: scalars
                .map(|(name, amount)| (snapshot.interner.intern(name), *amount))
                .collect(),
            holders: holders(pod, namespace, snapshot),
            pod: Arc::clone(pod),
            namespace,
            class,
        }
    }
}

/// Preferred terms of a pod, dislikes with negative weight.
fn preferred(pod: &Pod) -> impl Iterator<Item = (&core::PodAffinityTerm, i64)> {
    let affinity = pod.affinity.as_ref();
    let likes = affinity.and_then(|one| one.pod_affinity.as_ref());
    let likes = likes.and_then(|one| {
        one.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let dislikes = affinity.and_then(|one| one.pod_anti_affinity.as_ref());
    let dislikes = dislikes.and_then(|one| {
        one.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let likes = likes.into_iter().flatten();
    let dislikes = dislikes.into_iter().flatten();
    likes
        .map(|one| (&one.pod_affinity_term, i64::from(one.weight)))
        .chain(dislikes.map(|one| (&one.pod_affinity_term, -i64::from(one.weight))))
}

fn holders(pod: &Pod, namespace: Symbol, snapshot: &mut Snapshot) -> Box<[(u32, i64)]> {
    let mut found = Vec::new();
    let mut hold = |hold, term: &core::PodAffinityTerm, weight, snapshot: &mut Snapshot| {
        let (matcher, topology) = compile(term, namespace, snapshot);
        let key = HolderKey {
            hold,
            matcher,
            topology,
        };
        found.push((snapshot.holder_for(key), weight));
    };
    for term in pod.required_anti_affinity() {
        hold(Hold::Repels, term, 1, snapshot);
    }
    for term in pod.required_affinity() {
        hold(Hold::Needs, term, 1, snapshot);
    }
    for (term, weight) in preferred(pod) {
        hold(Hold::Prefers, term, weight, snapshot);
    }
    found.into()
}

fn part(term: &core::PodAffinityTerm, namespace: Symbol, snapshot: &mut Snapshot) -> Part {
    let interner = &mut snapshot.interner;
    let mut namespaces: Vec<_> = term
        .namespaces
        .iter()
        .flatten()
        .map(|name| interner.intern(name))
        .collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(namespace);
    }
    namespaces.sort_unstable();
    Part {
        namespaces: namespaces.into(),
        namespace_selector: Selector::of_labels(term.namespace_selector.as_ref(), interner),
        selector: Selector::of_labels(term.label_selector.as_ref(), interner),
    }
}

/// The matcher and the topology of a term.
fn compile(term: &core::PodAffinityTerm, namespace: Symbol, snapshot: &mut Snapshot) -> (u32, u32) {
    let parts = Box::new([part(term, namespace, snapshot)]);
    let matcher = snapshot.matcher_for(MatcherKey {
        parts,
        only_staying: false,
    });
    (matcher, snapshot.topology_for(&term.topology_key))
}

/// One constraint on how pods spread.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    /// Whom to count; None counts nobody.
    pub(crate) matcher: Option<u32>,
    pub(crate) topology: u32,
    pub(crate) is_hostname: bool,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: i64,
    /// Only nodes that the pod's node affinity allows are looked at.
    pub(crate) honors_affinity: bool,
    /// Only nodes whose taints the pod tolerates are.
    pub(crate) honors_taints: bool,
    /// The pod counts itself.
    pub(crate) counts_self: bool,
}

/// A pod to place, compiled.
#[derive(Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    pub(crate) placed: Arc<Placed>,
    pub(crate) node: NodeRequirement,
    /// What the profile adds to it.
    pub(crate) enforced: Option<NodeRequirement>,
    pub(crate) preferred_nodes: Vec<(NodeTerm, i64)>,
    /// The matcher of all required affinity terms together, and their topologies.
    pub(crate) needed: Option<(u32, Vec<u32>)>,
    /// It fulfils its own required affinity.
    pub(crate) needs_itself: bool,
    /// Matcher and topology of required anti-affinity.
    pub(crate) repelled: Vec<(u32, u32)>,
    /// Matcher, topology and weight of preferred terms.
    pub(crate) preferred: Vec<(u32, u32, i64)>,
    pub(crate) hard_spread: Vec<Spread>,
    pub(crate) soft_spread: Vec<Spread>,
    /// Nodes without all labels of the soft constraints are not scored by them.
    pub(crate) needs_all_topologies: bool,
    pub(crate) images: Vec<Symbol>,
}

impl Snapshot {
    /// Compiles a pod that is to be placed.
    pub fn prepare(&mut self, pod: &Arc<Pod>, defaults: &Defaults) -> PodInfo {
        self.settle();
        let placed = self.placed(pod);
        let (namespace, class) = (placed.namespace, placed.class);
        let node_affinity = pod
            .affinity
            .as_ref()
            .and_then(|one| one.node_affinity.as_ref());
        let required = node_affinity.and_then(|one| {
            one.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let node = NodeRequirement::new(&pod.node_selector, required, &mut self.interner);
        let added = defaults.added.as_ref();
        let enforced = added
            .and_then(|one| {
                one.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .map(|required| NodeRequirement::new([], Some(required), &mut self.interner));
        let preferred_nodes = added
            .into_iter()
            .chain(node_affinity)
            .filter_map(|one| {
                one.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .flatten()
            .filter(|one| one.weight != 0)
            .filter_map(|one| {
                let term = NodeTerm::new(&one.preference, &mut self.interner)?;
                Some((term, i64::from(one.weight)))
            })
            .collect();
        let needed = self.needed(pod, namespace);
        let repelled = pod
            .required_anti_affinity()
            .iter()
            .map(|term| self.counted(term, namespace))
            .collect();
        let preferred = preferred(pod)
            .map(|(term, weight)| {
                let (matcher, topology) = self.counted(term, namespace);
                (matcher, topology, weight)
            })
            .collect();
        let (hard_spread, soft_spread) = self.spreads(pod, &placed, defaults);
        let images = pod.images.iter();
        PodInfo {
            needs_itself: needed
                .as_ref()
                .is_some_and(|(matcher, _)| self.matches(*matcher, class)),
            images: images
                .map(|image| self.interner.intern(&with_tag(image)))
                .collect(),
            needs_all_topologies: !pod.spread.is_empty() || !defaults.is_system,
            pod: Arc::clone(pod),
            placed,
            node,
            enforced,
            preferred_nodes,
            needed,
            repelled,
            preferred,
            hard_spread,
            soft_spread,
        }
    }

    /// The matcher and topology of a term, with counts.
    fn counted(&mut self, term: &core::PodAffinityTerm, namespace: Symbol) -> (u32, u32) {
        let (matcher, topology) = compile(term, namespace, self);
        self.count_by(matcher, topology);
        (matcher, topology)
    }

    /// A pod is near those that it needs if it is near pods that match all its terms.
    fn needed(&mut self, pod: &Pod, namespace: Symbol) -> Option<(u32, Vec<u32>)> {
        let terms = pod.required_affinity();
        if terms.is_empty() {
            return None;
        }
        let parts = terms
            .iter()
            .map(|term| part(term, namespace, self))
            .collect();
        let matcher = self.matcher_for(MatcherKey {
            parts,
            only_staying: false,
        });
        let mut topologies = Vec::new();
        for term in terms {
            let topology = self.topology_for(&term.topology_key);
            self.count_by(matcher, topology);
            topologies.push(topology);
        }
        Some((matcher, topologies))
    }

    /// Hard and soft spread constraints: the pod's own, or else the defaults for its siblings.
    fn spreads(
        &mut self,
        pod: &Pod,
        placed: &Placed,
        defaults: &Defaults,
    ) -> (Vec<Spread>, Vec<Spread>) {
        let (mut hard, mut soft) = (Vec::new(), Vec::new());
        let constraints = if pod.spread.is_empty() {
            &defaults.constraints[..]
        } else {
            &pod.spread[..]
        };
        if constraints.is_empty() {
            return (hard, soft);
        }
        let siblings = if pod.spread.is_empty() {
            match self.siblings(pod, placed) {
                Some(selector) => Some(selector),
                None => return (hard, soft),
            }
        } else {
            None
        };
        for one in constraints {
            let selector = match &siblings {
                Some(selector) => selector.clone(),
                None => self.spread_selector(one, pod),
            };
            let spread = self.spread(one, selector, placed);
            match &*one.when_unsatisfiable {
                "DoNotSchedule" => hard.push(spread),
                _ => soft.push(spread),
            }
        }
        (hard, soft)
    }

    fn spread_selector(&mut self, one: &core::TopologySpreadConstraint, pod: &Pod) -> Selector {
        let selector = Selector::of_labels(one.label_selector.as_ref(), &mut self.interner);
        let Some(keys) = &one.match_label_keys else {
            return selector;
        };
        let known = pod.labels().filter(|(key, _)| keys.contains(key));
        let more = Selector::of_map(known, &mut self.interner);
        selector.and(more)
    }

    fn spread(
        &mut self,
        one: &core::TopologySpreadConstraint,
        selector: Selector,
        placed: &Placed,
    ) -> Spread {
        let labels = &self.classes[placed.class as usize].key.labels;
        let counts_self = selector.matches(labels, &self.interner);
        let topology = self.topology_for(&one.topology_key);
        // A selector of everything counts nobody: upstream's way to say that it was left out.
        let counts_any = !selector.is_everything() && selector != Selector::Nothing;
        let matcher = counts_any.then(|| {
            let part = Part {
                namespaces: Box::new([placed.namespace]),
                namespace_selector: Selector::Nothing,
                selector,
            };
            let matcher = self.matcher_for(MatcherKey {
                parts: Box::new([part]),
                only_staying: true,
            });
            self.count_by(matcher, topology);
            matcher
        });
        Spread {
            matcher,
            topology,
            is_hostname: one.topology_key == HOSTNAME,
            max_skew: i64::from(one.max_skew),
            min_domains: i64::from(one.min_domains.unwrap_or(1)),
            honors_affinity: one.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: one.node_taints_policy.as_deref() == Some("Honor"),
            counts_self,
        }
    }
}

/// An image without a tag is `latest`.
fn with_tag(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') {
        format!("{image}:latest")
    } else {
        image.to_string()
    }
}
