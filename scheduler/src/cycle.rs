//! One scheduling cycle: a pod, a snapshot and a seed in, a decision out.
//!
//! Pure: no clock, no randomness but the seed, no I/O. The same inputs give the same decision.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::filters::{
    self, dynamic_resources, inter_pod_affinity, node_affinity, node_volume_limits,
    pod_topology_spread, volume_binding, volume_restrictions, volume_zone,
};
use crate::framework::{Failure, Plugin, Plugins, Rejection, Verdict};
use crate::intern::{FxMap, Symbol};
use crate::profile::Profile;
use crate::scores;
use crate::snapshot::{NodeInfo, Placed, PodInfo, Snapshot};

/// Fewer nodes than this are all looked at.
const FEASIBLE_MIN: usize = 100;
/// At least this share of a large cluster is.
const PERCENTAGE_MIN: usize = 5;

/// What upstream says where there is no node at all.
pub const NO_NODES: &str = "no nodes available to schedule pods";

/// What pods are nominated for which nodes, of as much priority as the pod to place or more.
#[derive(Debug, Default)]
pub struct Nominated(FxMap<u32, Vec<Arc<Placed>>>);

impl Nominated {
    /// Compiles nominations: pods with the node each is nominated for.
    pub fn new<'p>(
        snapshot: &mut Snapshot,
        nominations: impl IntoIterator<Item = (&'p str, &'p Arc<crate::views::Pod>)>,
    ) -> Self {
        let mut nominated = Nominated::default();
        for (node, pod) in nominations {
            let Some(id) = snapshot.node_named(node).map(|node| node.id) else {
                continue;
            };
            let placed = snapshot.placed(pod);
            nominated.0.entry(id).or_default().push(placed);
        }
        nominated
    }
}

/// What the plugins found out about a pod before they look at nodes.
pub(crate) struct State<'c> {
    pub(crate) snapshot: &'c Snapshot,
    pub(crate) pod: &'c PodInfo,
    pub(crate) profile: &'c Profile,
    /// The filters that have something to say, in order.
    filters: Vec<Plugin>,
    pub(crate) affinity: inter_pod_affinity::Facts<'c>,
    pub(crate) spread: Vec<pod_topology_spread::Facts<'c>>,
    /// How many of the pod's exclusive claims are in use.
    pub(crate) claims_in_use: i64,
    pub(crate) binding: volume_binding::Facts<'c>,
    pub(crate) zones: Vec<volume_zone::Zone>,
    pub(crate) devices: dynamic_resources::Facts<'c>,
}

/// Why no node was looked at.
pub(crate) enum Refusal {
    Rejected(Rejection),
    Error(String),
}

impl<'c> State<'c> {
    /// Runs PreFilter: the state, and the only nodes that come into question if few do.
    fn new(
        snapshot: &'c Snapshot,
        pod: &'c PodInfo,
        profile: &'c Profile,
    ) -> (Self, Result<Option<Vec<Symbol>>, Refusal>) {
        let mut state = State {
            snapshot,
            pod,
            profile,
            filters: Vec::with_capacity(profile.filters.len()),
            affinity: Default::default(),
            spread: Vec::new(),
            claims_in_use: 0,
            binding: Default::default(),
            zones: Vec::new(),
            devices: Default::default(),
        };
        let outcome = state.look();
        (state, outcome)
    }

    fn look(&mut self) -> Result<Option<Vec<Symbol>>, Refusal> {
        let mut skipped = Plugins::default();
        let mut only: Option<Vec<Symbol>> = None;
        for plugin in &self.profile.pre_filters {
            match self.look_with(*plugin, &mut only) {
                Ok(true) => {}
                Ok(false) => skipped.insert(*plugin),
                Err(Failure::Rejected(rejection)) => return Err(Refusal::Rejected(rejection)),
                Err(Failure::Error(error)) => {
                    let error = format!("running PreFilter plugin {:?}: {error}", plugin.name());
                    return Err(Refusal::Error(error));
                }
            }
        }
        let has_a_say = |plugin: &&Plugin| !skipped.contains(**plugin);
        self.filters = self
            .profile
            .filters
            .iter()
            .filter(has_a_say)
            .copied()
            .collect();
        Ok(only)
    }

    /// Whether a plugin has something to say about nodes.
    fn look_with(
        &mut self,
        plugin: Plugin,
        only: &mut Option<Vec<Symbol>>,
    ) -> Result<bool, Failure> {
        let (snapshot, pod) = (self.snapshot, self.pod);
        Ok(match plugin {
            Plugin::NodeAffinity => {
                *only = node_affinity::only_nodes(self)?;
                !node_affinity::is_skipped(self)
            }
            Plugin::NodePorts => !pod.pod.ports.is_empty(),
            Plugin::VolumeRestrictions => {
                self.claims_in_use = volume_restrictions::in_use(snapshot, pod)?;
                self.claims_in_use > 0 || volume_restrictions::has_disks(&pod.pod)
            }
            Plugin::NodeVolumeLimits => node_volume_limits::concerns(&pod.pod),
            Plugin::VolumeBinding => {
                self.binding = volume_binding::Facts::new(snapshot, pod)?;
                !self.binding.is_empty()
            }
            Plugin::VolumeZone => {
                self.zones = volume_zone::zones(snapshot, &pod.pod)?;
                !self.zones.is_empty()
            }
            Plugin::PodTopologySpread => {
                self.spread = pod_topology_spread::Facts::all(snapshot, pod);
                !self.spread.is_empty()
            }
            Plugin::InterPodAffinity => {
                self.affinity = inter_pod_affinity::Facts::new(snapshot, pod);
                !self.affinity.is_skipped()
            }
            Plugin::DynamicResources => {
                self.devices = dynamic_resources::Facts::new(snapshot, pod)?;
                !self.devices.is_empty()
            }
            _ => true,
        })
    }

    /// The filters that have something to say.
    pub(crate) fn filters(&self) -> &[Plugin] {
        &self.filters
    }

    /// Whether all filters agree to a node.
    pub(crate) fn filter(&self, node: &NodeInfo, what_if: &WhatIf) -> Verdict {
        self.filters
            .iter()
            .try_for_each(|plugin| filters::filter(*plugin, self, node, what_if))
    }

    /// Whether they agree with and without the pods that are nominated for the node: those must
    /// find their room, and a pod must not count on them as company.
    pub(crate) fn filter_nominated(
        &self,
        node: &NodeInfo,
        what_if: &WhatIf,
        nominated: &Nominated,
    ) -> Verdict {
        if let Some(pods) = nominated.0.get(&node.id) {
            let mut imagined = Imagined {
                node: node.clone(),
                what_if: what_if.clone(),
            };
            for placed in pods {
                let is_other = placed.pod.uid() != self.pod.pod.uid();
                if is_other && placed.pod.priority >= self.pod.pod.priority {
                    imagined.add(self, placed);
                }
            }
            self.filter(&imagined.node, &imagined.what_if)?;
        }
        self.filter(node, what_if)
    }
}

/// How counts would differ were pods added to, or taken from, the one node that is judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct WhatIf {
    /// Pods that match all required affinity terms.
    pub(crate) needed: i64,
    /// By anti-affinity term.
    repelled: Vec<i64>,
    /// By term of others.
    repelling: Vec<i64>,
    /// By spread constraint.
    spread: Vec<i64>,
    /// Uses of the pod's exclusive claims.
    pub(crate) claims: i64,
}

impl WhatIf {
    pub(crate) fn repelled(&self, at: usize) -> i64 {
        self.repelled.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn repelling(&self, at: usize) -> i64 {
        self.repelling.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn spread(&self, at: usize) -> i64 {
        self.spread.get(at).copied().unwrap_or(0)
    }
}

/// A node as it would be with some pods more or fewer.
pub(crate) struct Imagined {
    pub(crate) node: NodeInfo,
    pub(crate) what_if: WhatIf,
}

impl Imagined {
    pub(crate) fn new(node: &NodeInfo) -> Self {
        Imagined {
            node: node.clone(),
            what_if: WhatIf::default(),
        }
    }

    pub(crate) fn add(&mut self, state: &State<'_>, placed: &Arc<Placed>) {
        self.node.add(placed);
        self.shift(state, placed, 1);
    }

    pub(crate) fn remove(&mut self, state: &State<'_>, placed: &Placed) {
        if self.node.remove(placed) {
            self.shift(state, placed, -1);
        }
    }

    fn shift(&mut self, state: &State<'_>, placed: &Placed, sign: i64) {
        let (snapshot, pod) = (state.snapshot, state.pod);
        let (facts, what_if) = (&state.affinity, &mut self.what_if);
        if let Some((matcher, _)) = &pod.needed
            && snapshot.matches(*matcher, placed.class)
        {
            what_if.needed += sign;
        }
        what_if.repelled.resize(pod.repelled.len(), 0);
        for (delta, (matcher, _)) in what_if.repelled.iter_mut().zip(&pod.repelled) {
            if snapshot.matches(*matcher, placed.class) {
                *delta += sign;
            }
        }
        what_if.repelling.resize(facts.repelling.len(), 0);
        for (delta, (holder, _, _)) in what_if.repelling.iter_mut().zip(&facts.repelling) {
            let held = placed.holders.iter().filter(|(one, _)| one == holder);
            *delta += sign * held.map(|(_, weight)| weight).sum::<i64>();
        }
        what_if.spread.resize(pod.hard_spread.len(), 0);
        if pod_topology_spread::has_all_labels(&pod.hard_spread, &self.node) {
            for (delta, spread) in what_if.spread.iter_mut().zip(&pod.hard_spread) {
                let counts = spread
                    .matcher
                    .is_some_and(|one| snapshot.matches(one, placed.class))
                    && pod_topology_spread::counts_node(spread, snapshot, pod, &self.node);
                *delta += sign * i64::from(counts);
            }
        }
        what_if.claims += sign * volume_restrictions::shared(snapshot, pod, &placed.pod);
    }
}

/// What the rejections of one attempt add up to.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// By node that was judged: its number and why not.
    rejections: Vec<(u32, Rejection)>,
    /// Why not, for all others.
    others: Option<Rejection>,
    /// Whose word it was.
    pub plugins: Plugins,
    /// What PreFilter said, if it was enough.
    pre_filter: String,
    /// What PostFilter said.
    pub post_filter: String,
}

impl Diagnosis {
    /// A diagnosis of preemption.
    pub(crate) fn of(
        nodes: usize,
        rejections: Vec<(u32, Rejection)>,
        others: Option<Rejection>,
    ) -> Self {
        Diagnosis {
            nodes,
            rejections,
            others,
            ..Default::default()
        }
    }

    fn reject(&mut self, node: u32, rejection: Rejection) {
        self.plugins.insert(rejection.plugin);
        self.rejections.push((node, rejection));
    }

    /// Why a node was rejected, if it was judged or all were.
    pub(crate) fn rejection(&self, node: u32) -> Option<&Rejection> {
        let own = self.rejections.iter().find(|(one, _)| *one == node);
        own.map(|(_, rejection)| rejection).or(self.others.as_ref())
    }

    /// Nodes where evicting pods may help, in the order in which they were judged.
    pub(crate) fn resolvable<'d>(&'d self, snapshot: &'d Snapshot) -> Vec<u32> {
        if let Some(others) = &self.others
            && !others.is_final
        {
            let fits = |id: &&u32| self.rejection(**id).is_none_or(|one| !one.is_final);
            return snapshot.order().iter().filter(fits).copied().collect();
        }
        let judged = self.rejections.iter();
        judged
            .filter(|(_, rejection)| !rejection.is_final)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The reasons with how many nodes each holds for, as upstream words them.
    pub fn message(&self) -> String {
        let mut message = format!("0/{} nodes are available:", self.nodes);
        if self.pre_filter.is_empty() {
            let reasons = self.histogram();
            if !reasons.is_empty() {
                let _ = write!(message, " {}.", reasons.join(", "));
            }
        } else {
            let _ = write!(message, " {}.", self.pre_filter);
        }
        if !self.post_filter.is_empty() {
            let _ = write!(message, " {}", self.post_filter);
        }
        message
    }

    fn histogram(&self) -> Vec<String> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        let mut add = |reason, number| match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += number,
            None => counts.push((reason, number)),
        };
        for (_, rejection) in &self.rejections {
            rejection.reasons.iter().for_each(|reason| add(reason, 1));
        }
        let rest = self.nodes.saturating_sub(self.rejections.len());
        if let Some(others) = self.others.as_ref().filter(|_| rest > 0) {
            others.reasons.iter().for_each(|reason| add(reason, rest));
        }
        let mut lines: Vec<_> = counts
            .into_iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        lines.sort();
        lines
    }
}

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub(crate) id: u32,
    /// The node.
    pub node: String,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many would have done.
    pub feasible: usize,
}

/// The result of a cycle.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The pod goes there.
    Place(Placement),
    /// No node will do.
    Unfit(Diagnosis),
    /// A plugin could not tell.
    Error(String),
}

/// The result of a cycle, and where the next one starts.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What to do.
    pub decision: Decision,
    /// The place in the order of nodes at which the next cycle starts, so that all get their turn.
    pub next_start: usize,
}

/// Decides where a pod goes.
pub fn schedule(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    nominated: &Nominated,
    start: usize,
    seed: u64,
) -> Attempt {
    let all = snapshot.node_count();
    let attempt = |decision, next_start| Attempt {
        decision,
        next_start,
    };
    if all == 0 {
        return attempt(Decision::Error(NO_NODES.to_string()), 0);
    }
    let (state, only) = State::new(snapshot, pod, profile);
    let only = match only {
        Ok(only) => only,
        Err(Refusal::Error(error)) => return attempt(Decision::Error(error), start),
        Err(Refusal::Rejected(rejection)) => {
            return attempt(Decision::Unfit(refused(all, rejection)), start);
        }
    };
    let mut search = Search {
        state: &state,
        nominated,
        feasible: Vec::new(),
        diagnosis: Diagnosis {
            nodes: all,
            ..Default::default()
        },
    };
    let (searched, next_start) = match search.run(only, start) {
        Ok(next_start) => (search, next_start),
        Err(error) => return attempt(Decision::Error(error), start),
    };
    if searched.feasible.is_empty() {
        return attempt(Decision::Unfit(searched.diagnosis), next_start);
    }
    let id = choose(&state, &searched.feasible, seed);
    let placement = Placement {
        id,
        node: snapshot.interner.text(snapshot.node(id).name).to_string(),
        evaluated: searched.feasible.len() + searched.diagnosis.rejections.len(),
        feasible: searched.feasible.len(),
    };
    attempt(Decision::Place(placement), next_start)
}

fn refused(nodes: usize, rejection: Rejection) -> Diagnosis {
    Diagnosis {
        nodes,
        plugins: [rejection.plugin].into_iter().collect(),
        pre_filter: rejection.message(),
        others: Some(rejection),
        ..Default::default()
    }
}

/// The search for nodes that will do.
struct Search<'s, 'c> {
    state: &'s State<'c>,
    nominated: &'s Nominated,
    feasible: Vec<u32>,
    diagnosis: Diagnosis,
}

impl Search<'_, '_> {
    /// Fills `feasible`; returns where the next cycle starts.
    fn run(&mut self, only: Option<Vec<Symbol>>, start: usize) -> Result<usize, String> {
        let snapshot = self.state.snapshot;
        // Where a pod has made room for itself it goes, if it still fits.
        let nominated = &*self.state.pod.pod.nominated_node;
        if !nominated.is_empty()
            && let Some(node) = snapshot.node_named(nominated)
        {
            self.judge(node)?;
            if !self.feasible.is_empty() {
                return Ok(start);
            }
            // It is judged again in its turn.
            self.diagnosis.rejections.clear();
        }
        let order = snapshot.order();
        let named: Vec<u32>;
        let nodes = match only {
            None => order,
            Some(names) => {
                let found = names.iter().filter_map(|name| snapshot.node_of(*name));
                named = found.map(|node| node.id).collect();
                self.diagnosis.plugins.insert(Plugin::NodeAffinity);
                let reason = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
                self.diagnosis.others = Some(Rejection::last(Plugin::NodeAffinity, reason));
                &named
            }
        };
        if nodes.is_empty() {
            return Ok(start);
        }
        let wanted = self.wanted(nodes.len());
        let first = start % nodes.len();
        for id in nodes[first..].iter().chain(&nodes[..first]) {
            self.judge(snapshot.node(*id))?;
            if self.feasible.len() >= wanted {
                break;
            }
        }
        let judged = self.feasible.len() + self.diagnosis.rejections.len();
        Ok((start + judged) % order.len())
    }

    fn judge(&mut self, node: &NodeInfo) -> Result<(), String> {
        let what_if = WhatIf::default();
        match self.state.filter_nominated(node, &what_if, self.nominated) {
            Ok(()) => self.feasible.push(node.id),
            Err(Failure::Rejected(rejection)) => self.diagnosis.reject(node.id, rejection),
            Err(Failure::Error(error)) => return Err(error),
        }
        Ok(())
    }

    /// How many feasible nodes are enough: in a large cluster a good one of some is as good as the
    /// best of all.
    fn wanted(&self, nodes: usize) -> usize {
        let profile = self.state.profile;
        if profile.scores.is_empty() {
            return 1;
        }
        if nodes < FEASIBLE_MIN {
            return nodes;
        }
        let percentage = match profile.percentage {
            0 => 50_usize.saturating_sub(nodes / 125).max(PERCENTAGE_MIN),
            percentage => percentage as usize,
        };
        (nodes * percentage / 100).max(FEASIBLE_MIN)
    }
}

/// The best of the feasible nodes; among equals the seed decides.
fn choose(state: &State<'_>, feasible: &[u32], seed: u64) -> u32 {
    if let [only] = feasible {
        return *only;
    }
    let totals = scores::totals(state, feasible);
    let (mut best, mut ties, mut seed) = (0, 0_u64, seed);
    for at in 0..totals.len() {
        if ties == 0 || totals[at] > totals[best] {
            (best, ties) = (at, 1);
        } else if totals[at] == totals[best] {
            ties += 1;
            seed = mix(seed);
            if seed % ties == 0 {
                best = at;
            }
        }
    }
    feasible[best]
}

/// One step of splitmix64.
fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What must be written before a pod can be bound to the node that was chosen for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservation {
    pub(crate) volumes: volume_binding::VolumePlan,
    pub(crate) devices: dynamic_resources::DevicePlan,
}

/// Runs Reserve: what giving the pod its volumes and devices on a node takes.
pub(crate) fn reserve(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    node: u32,
) -> Result<Reservation, Failure> {
    if pod.pod.volumes.is_empty() && pod.pod.claims.is_empty() {
        return Ok(Reservation::default());
    }
    let state = look(snapshot, pod, profile).map_err(|refusal| match refusal {
        Refusal::Rejected(rejection) => Failure::Rejected(rejection),
        Refusal::Error(error) => Failure::Error(error),
    })?;
    let node = snapshot.node(node);
    Ok(Reservation {
        volumes: volume_binding::plan(&state, node)?,
        devices: dynamic_resources::plan(&state, node)?,
    })
}

/// Runs PreFilter for those who look at nodes themselves: preemption, and the explanation.
pub(crate) fn look<'c>(
    snapshot: &'c Snapshot,
    pod: &'c PodInfo,
    profile: &'c Profile,
) -> Result<State<'c>, Refusal> {
    let (state, outcome) = State::new(snapshot, pod, profile);
    outcome.map(|_| state)
}

#[cfg(test)]
mod tests;
