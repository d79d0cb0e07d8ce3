//! The cluster as the cycle looks at it: nodes, what runs on them, and who counts whom.
//!
//! Affinity and spreading ask "how many pods that a selector matches run in each zone?". Answering
//! that by looking at all pods would cost nodes × pods for every pod scheduled. Instead:
//!
//! - pods with equal labels in one namespace are one *class*; most pods share theirs with siblings;
//! - a selector that some pod uses is a *matcher*, which knows how many pods of the classes it
//!   matches run on each node, and in each domain of the topologies it is asked about;
//! - a term that placed pods carry ("nobody like this in my zone") is a *holder*, which knows how
//!   often it applies in each domain.
//!
//! Placing a pod updates just the counts of the matchers of its class and of its own terms, so a
//! cycle finds every count ready. The loop that owns the snapshot changes it only between cycles,
//! which is why no copy is made; preemption asks "what if" through [`crate::cycle::WhatIf`].

pub(crate) mod counts;
pub(crate) mod nodes;
pub(crate) mod pods;

use std::sync::Arc;

use crate::devices::Devices;
use crate::intern::{FxMap, Interner, Labels, Symbol};
use crate::views::{Namespace, Node, Pod, name};
use crate::volumes::Volumes;
use crate::workloads::Workloads;
use counts::{Class, ClassKey, Counts, Holder, HolderKey, Matcher, MatcherKey, Topology};
pub(crate) use nodes::NodeInfo;
pub use pods::PodInfo;
pub(crate) use pods::{Placed, Spread};

/// No domain: the node lacks the label.
pub(crate) const NONE: u32 = u32::MAX;
/// A region and a zone, as far as nodes name them.
type Zone = (Option<Symbol>, Option<Symbol>);

/// The cluster between two changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(crate) interner: Interner,
    /// Nodes by number. A number is used again only after its node and its pods are gone.
    slots: Vec<NodeInfo>,
    by_name: FxMap<Symbol, u32>,
    free: Vec<u32>,
    /// The nodes that exist, zones taking turns.
    order: Vec<u32>,
    is_order_stale: bool,
    topologies: Vec<Topology>,
    topology_of: FxMap<Symbol, u32>,
    classes: Vec<Class>,
    class_of: FxMap<ClassKey, u32>,
    matchers: Vec<Matcher>,
    matcher_of: FxMap<MatcherKey, u32>,
    /// Matchers that can only match what has this label; the rest under None.
    matchers_by_label: FxMap<Option<(Symbol, Symbol)>, Vec<u32>>,
    holders: Vec<Holder>,
    holder_of: FxMap<HolderKey, u32>,
    namespaces: FxMap<Symbol, Labels>,
    /// On how many nodes an image is.
    images: FxMap<Symbol, i64>,
    /// How many placed pods use a claim: (namespace, claim).
    claims: FxMap<(Symbol, Symbol), i64>,
    pods: usize,
    pub(crate) workloads: Workloads,
    pub(crate) volumes: Volumes,
    pub(crate) devices: Devices,
}

// === nodes ===

impl Snapshot {
    /// The nodes in the order in which cycles take them.
    pub(crate) fn order(&self) -> &[u32] {
        debug_assert!(!self.is_order_stale, "settle() comes first");
        &self.order
    }

    /// How many nodes exist.
    pub fn node_count(&self) -> usize {
        self.order.len()
    }

    /// How many pods are placed.
    pub fn pod_count(&self) -> usize {
        self.pods
    }

    pub(crate) fn node(&self, id: u32) -> &NodeInfo {
        &self.slots[id as usize]
    }

    /// The node of a name, if it exists.
    pub(crate) fn node_named(&self, name: &str) -> Option<&NodeInfo> {
        self.node_of(self.interner.find(name)?)
    }

    pub(crate) fn node_of(&self, name: Symbol) -> Option<&NodeInfo> {
        let id = *self.by_name.get(&name)?;
        Some(self.node(id)).filter(|node| node.exists)
    }

    /// On how many nodes an image is.
    pub(crate) fn nodes_with_image(&self, image: Symbol) -> i64 {
        self.images.get(&image).copied().unwrap_or(0)
    }

    /// How many placed pods use a claim.
    pub(crate) fn claim_uses(&self, namespace: Symbol, claim: &str) -> i64 {
        let claim = self.interner.find(claim);
        claim
            .and_then(|claim| self.claims.get(&(namespace, claim)))
            .copied()
            .unwrap_or(0)
    }

    /// A node that is new or has changed.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let id = self.slot(node.name());
        let labels = self.interner.labels(node.labels());
        let zone = zone_of(&mut self.interner, &labels);
        let info = &mut self.slots[id as usize];
        self.is_order_stale |= !info.exists || info.zone != zone;
        info.exists = true;
        info.zone = zone;
        self.count_images(id, -1);
        self.slots[id as usize].describe(node, &mut self.interner);
        self.count_images(id, 1);
        self.relabel(id, labels);
    }

    /// A node that is gone. Its pods stay counted on it until they are gone too.
    pub fn remove_node(&mut self, node: &str) {
        let found = self.interner.find(node);
        let Some(id) = found.and_then(|name| self.by_name.get(&name).copied()) else {
            return;
        };
        self.count_images(id, -1);
        self.relabel(id, Labels::default());
        self.slots[id as usize].forget();
        self.is_order_stale = true;
        self.release(id);
    }

    /// Makes the order of nodes current: before cycles, after changes.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.is_order_stale) {
            return;
        }
        let mut zones: Vec<(Zone, Vec<u32>)> = Vec::new();
        for node in self.slots.iter().filter(|node| node.exists) {
            match zones.iter_mut().find(|(zone, _)| *zone == node.zone) {
                Some((_, members)) => members.push(node.id),
                None => zones.push((node.zone, vec![node.id])),
            }
        }
        let longest = zones.iter().map(|(_, members)| members.len()).max();
        self.order.clear();
        for turn in 0..longest.unwrap_or(0) {
            self.order
                .extend(zones.iter().filter_map(|(_, members)| members.get(turn)));
        }
    }

    fn slot(&mut self, name: &str) -> u32 {
        let name = self.interner.intern(name);
        if let Some(id) = self.by_name.get(&name) {
            return *id;
        }
        let id = self.free.pop().unwrap_or(self.slots.len() as u32);
        let info = NodeInfo::new(id, name, self.topologies.len());
        match self.slots.get_mut(id as usize) {
            Some(slot) => *slot = info,
            None => self.slots.push(info),
        }
        self.by_name.insert(name, id);
        id
    }

    /// Frees a slot that nothing needs any more.
    fn release(&mut self, id: u32) {
        let node = self.node(id);
        if !node.exists && node.pods.is_empty() {
            let name = node.name;
            self.by_name.remove(&name);
            self.free.push(id);
        }
    }

    fn count_images(&mut self, id: u32, sign: i64) {
        for image in self.slots[id as usize].images.keys() {
            let count = self.images.entry(*image).or_default();
            *count += sign;
            if *count == 0 {
                self.images.remove(image);
            }
        }
    }

    /// Gives a node other labels, and its pods other domains with them.
    fn relabel(&mut self, id: u32, labels: Labels) {
        let mut domains = Vec::with_capacity(self.topologies.len());
        for topology in &mut self.topologies {
            domains.push(topology.domain(&labels));
        }
        if domains != self.node(id).domains {
            let pods = self.node(id).pods.clone();
            pods.iter().for_each(|pod| self.count(id, pod, -1));
            let before = std::mem::replace(&mut self.slots[id as usize].domains, domains);
            for (at, topology) in self.topologies.iter_mut().enumerate() {
                topology.leave(before[at]);
                topology.enter(self.slots[id as usize].domains[at]);
            }
            pods.iter().for_each(|pod| self.count(id, pod, 1));
        }
        self.slots[id as usize].labels = labels;
    }
}

fn zone_of(
    interner: &mut Interner,
    labels: &[(Symbol, Symbol)],
) -> (Option<Symbol>, Option<Symbol>) {
    let mut of = |keys: [&str; 2]| {
        keys.into_iter()
            .find_map(|key| crate::intern::label(labels, interner.intern(key)))
    };
    (
        of([
            "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/region",
        ]),
        of([
            "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/zone",
        ]),
    )
}

// === pods ===

impl Snapshot {
    /// Places a pod on a node, which need not exist (yet, or any more).
    pub(crate) fn add_pod(&mut self, node: &str, placed: &Arc<Placed>) {
        let id = self.slot(node);
        self.count(id, placed, 1);
        self.count_claims(placed, 1);
        self.slots[id as usize].add(placed);
        self.pods += 1;
    }

    /// Takes a placed pod away.
    pub(crate) fn remove_pod(&mut self, node: &str, placed: &Arc<Placed>) {
        let found = self.interner.find(node);
        let Some(id) = found.and_then(|name| self.by_name.get(&name).copied()) else {
            return;
        };
        if !self.slots[id as usize].remove(placed) {
            return;
        }
        self.count(id, placed, -1);
        self.count_claims(placed, -1);
        self.pods -= 1;
        self.release(id);
    }

    /// What of a pod is counted while it is on a node.
    pub(crate) fn placed(&mut self, pod: &Arc<Pod>) -> Arc<Placed> {
        Arc::new(Placed::new(pod, self))
    }

    fn count_claims(&mut self, placed: &Placed, sign: i64) {
        let namespace = placed.namespace;
        for volume in &placed.pod.volumes {
            if let Some((claim, false)) = volume.claim() {
                let claim = self.interner.intern(claim);
                let uses = self.claims.entry((namespace, claim)).or_default();
                *uses += sign;
                if *uses == 0 {
                    self.claims.remove(&(namespace, claim));
                }
            }
        }
    }

    /// Adds a pod to, or takes it from, every count that it is part of.
    fn count(&mut self, node: u32, placed: &Placed, sign: i64) {
        let domains = &self.slots[node as usize].domains;
        let class = &mut self.classes[placed.class as usize];
        class.per_node.add(node, sign);
        for matcher in &class.matchers {
            let matcher = &mut self.matchers[*matcher as usize];
            matcher.per_node.add(node, sign);
            for (topology, counts) in &mut matcher.per_domain {
                counts.add(domains[*topology as usize], sign);
            }
        }
        for (holder, weight) in &placed.holders {
            let holder = &mut self.holders[*holder as usize];
            holder
                .counts
                .add(domains[holder.key.topology as usize], sign * weight);
        }
    }
}

// === who counts whom ===

impl Snapshot {
    pub(crate) fn class(&self, class: u32) -> &Class {
        &self.classes[class as usize]
    }

    pub(crate) fn matcher(&self, matcher: u32) -> &Matcher {
        &self.matchers[matcher as usize]
    }

    pub(crate) fn holder(&self, holder: u32) -> &Holder {
        &self.holders[holder as usize]
    }

    pub(crate) fn topology(&self, topology: u32) -> &Topology {
        &self.topologies[topology as usize]
    }

    /// The pods that a matcher matches, by domain of a topology it was made for.
    pub(crate) fn counts(&self, matcher: u32, topology: u32) -> &Counts {
        static NOTHING: std::sync::LazyLock<Counts> = std::sync::LazyLock::new(Counts::default);
        let mut known = self.matcher(matcher).per_domain.iter();
        known
            .find(|(one, _)| *one == topology)
            .map_or(&NOTHING, |(_, counts)| counts)
    }

    /// Whether a matcher matches pods of a class.
    pub(crate) fn matches(&self, matcher: u32, class: u32) -> bool {
        self.class(class).matchers.contains(&matcher)
    }

    /// The topology of a node label, new if need be.
    pub(crate) fn topology_for(&mut self, key: &str) -> u32 {
        let key = self.interner.intern(key);
        if let Some(id) = self.topology_of.get(&key) {
            return *id;
        }
        let id = self.topologies.len() as u32;
        let mut topology = Topology::new(key);
        for node in &mut self.slots {
            let domain = topology.domain(&node.labels);
            topology.enter(domain);
            node.domains.push(domain);
        }
        self.topologies.push(topology);
        self.topology_of.insert(key, id);
        id
    }

    pub(crate) fn class_for(&mut self, key: ClassKey) -> u32 {
        if let Some(id) = self.class_of.get(&key) {
            return *id;
        }
        let id = self.classes.len() as u32;
        let mut class = Class::new(key.clone());
        let labels = key.labels.iter().map(|pair| Some(*pair)).chain([None]);
        for matcher in labels
            .filter_map(|pair| self.matchers_by_label.get(&pair))
            .flatten()
        {
            let known = &self.matchers[*matcher as usize];
            if known.matches(&class.key, &self.namespaces, &self.interner) {
                class.matchers.push(*matcher);
            }
        }
        self.classes.push(class);
        self.class_of.insert(key, id);
        id
    }

    pub(crate) fn matcher_for(&mut self, key: MatcherKey) -> u32 {
        if let Some(id) = self.matcher_of.get(&key) {
            return *id;
        }
        let id = self.matchers.len() as u32;
        let mut matcher = Matcher::new(key.clone());
        for class in &mut self.classes {
            if matcher.matches(&class.key, &self.namespaces, &self.interner) {
                class.matchers.push(id);
                class
                    .per_node
                    .each(|node, count| matcher.per_node.add(node, count));
            }
        }
        let label = key.exact();
        self.matchers_by_label.entry(label).or_default().push(id);
        self.matchers.push(matcher);
        self.matcher_of.insert(key, id);
        id
    }

    /// Makes a matcher count by the domains of a topology, too.
    pub(crate) fn count_by(&mut self, matcher: u32, topology: u32) {
        let known = &mut self.matchers[matcher as usize];
        if known.per_domain.iter().any(|(one, _)| *one == topology) {
            return;
        }
        let mut counts = Counts::default();
        let slots = &self.slots;
        known.per_node.each(|node, count| {
            counts.add(slots[node as usize].domains[topology as usize], count);
        });
        known.per_domain.push((topology, counts));
    }

    pub(crate) fn holder_for(&mut self, key: HolderKey) -> u32 {
        if let Some(id) = self.holder_of.get(&key) {
            return *id;
        }
        let id = self.holders.len() as u32;
        self.matchers[key.matcher as usize].holders.push(id);
        self.holder_of.insert(key.clone(), id);
        self.holders.push(Holder::new(key));
        id
    }

    /// A namespace that is new or has changed.
    pub fn set_namespace(&mut self, namespace: &Namespace) {
        let labels = namespace.metadata.labels.iter().flatten();
        let labels = self.interner.labels(labels);
        let name = self.interner.intern(name(&namespace.metadata));
        if self.namespaces.get(&name) == Some(&labels) {
            return;
        }
        self.namespaces.insert(name, labels);
        self.rematch(name);
    }

    /// A namespace that is gone.
    pub fn remove_namespace(&mut self, namespace: &str) {
        if let Some(name) = self.interner.find(namespace) {
            self.namespaces.remove(&name);
            self.rematch(name);
        }
    }

    /// Asks the matchers that look at namespaces again about all classes of one.
    fn rematch(&mut self, namespace: Symbol) {
        for (id, matcher) in self.matchers.iter_mut().enumerate() {
            let id = id as u32;
            if !matcher.key.looks_at_namespaces() {
                continue;
            }
            let of_namespace = self
                .classes
                .iter_mut()
                .filter(|class| class.key.namespace == namespace);
            for class in of_namespace {
                let was = class.matchers.contains(&id);
                let is = matcher.matches(&class.key, &self.namespaces, &self.interner);
                if was == is {
                    continue;
                }
                let sign = if is { 1 } else { -1 };
                if is {
                    class.matchers.push(id);
                } else {
                    class.matchers.retain(|one| *one != id);
                }
                class.per_node.each(|node, count| {
                    matcher.per_node.add(node, sign * count);
                    for (topology, counts) in &mut matcher.per_domain {
                        let domains = &self.slots[node as usize].domains;
                        counts.add(domains[*topology as usize], sign * count);
                    }
                });
            }
        }
    }

    /// How much is remembered: strings, classes and selectors, of which nothing is freed singly.
    pub(crate) fn remembered(&self) -> usize {
        self.interner.len() + self.classes.len() + 4 * (self.matchers.len() + self.holders.len())
    }

    /// A snapshot without nodes and pods, and with everything else that is known.
    pub(crate) fn emptied(self) -> Snapshot {
        let mut fresh = Snapshot::default();
        for (name, labels) in &self.namespaces {
            let text = |symbol| self.interner.text(symbol);
            let labels = labels.iter().map(|(key, value)| {
                (
                    fresh.interner.intern(text(*key)),
                    fresh.interner.intern(text(*value)),
                )
            });
            let mut labels: Vec<_> = labels.collect();
            labels.sort_unstable();
            let name = fresh.interner.intern(text(*name));
            fresh.namespaces.insert(name, labels.into());
        }
        fresh.workloads = self.workloads.moved();
        fresh.volumes = self.volumes;
        fresh.devices = self.devices;
        fresh
    }
}
