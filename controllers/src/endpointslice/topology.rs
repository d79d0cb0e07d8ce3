//! Topology aware hints (`service.kubernetes.io/topology-mode: Auto`): endpoints are dealt out to
//! zones in proportion to their CPUs.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};

use crate::node::{Node, ZONE_LABEL};
use crate::note::Note;

/// By how much a zone's endpoints may be overloaded.
const OVERLOAD_THRESHOLD: f64 = 0.2;

const DISABLED: &str = "TopologyAwareHintsDisabled";
const ENABLED: &str = "TopologyAwareHintsEnabled";
const NO_ZONE: &str = "One or more endpoints do not have a zone specified";
const NO_HINTS: &str = "No hints allocated for zones";
const NODE_INFO: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const TOO_FEW: &str = "Insufficient number of endpoints";
const OVERLOADED: &str = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";

/// How many endpoints each zone has hints for.
pub type ZoneCounts = BTreeMap<String, i64>;

/// Each zone's share of the CPUs of ready nodes; at least two zones.
#[derive(Debug, Clone, PartialEq)]
pub struct Zones(BTreeMap<String, f64>);

impl Zones {
    /// The zones of nodes; none if any node does not tell enough, or all are in one.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Option<Zones> {
        let mut cpus = BTreeMap::<String, i64>::new();
        for node in nodes {
            let is_master = node.has_label("node-role.kubernetes.io/control-plane")
                || node.has_label("node-role.kubernetes.io/master");
            if is_master || !node.is_ready() {
                continue;
            }
            let cpu = node.status.allocatable.get("cpu");
            let cpu = cpu.and_then(|cpu| api::values::quantity::Quantity::parse(&cpu.0).ok());
            let cpu = cpu.filter(|cpu| !cpu.is_zero())?;
            *cpus.entry(node.label(ZONE_LABEL)?.to_owned()).or_default() += cpu.millis();
        }
        let total: i64 = cpus.values().sum();
        if total == 0 || cpus.len() < 2 {
            return None;
        }
        let share = |cpu: i64| cpu as f64 / total as f64;
        Some(Zones(
            cpus.into_iter()
                .map(|(zone, cpu)| (zone, share(cpu)))
                .collect(),
        ))
    }

    /// How many of so many endpoints each zone shall have.
    fn allocations(&self, endpoints: i64) -> Result<BTreeMap<&str, Allocation>, Note> {
        let refused = |why: &str| {
            let message = format!("{why} ({endpoints} endpoints, {} zones)", self.0.len());
            Note::warning(DISABLED, message)
        };
        if self.0.len() as i64 > endpoints {
            return Err(refused(TOO_FEW));
        }
        let mut allocations = BTreeMap::new();
        let mut least_total = 0;
        for (zone, share) in &self.0 {
            let desired = share * endpoints as f64;
            let least = (desired / (1.0 + OVERLOAD_THRESHOLD)).ceil() as i64;
            least_total += least;
            let desired = desired.max(least as f64);
            allocations.insert(
                zone.as_str(),
                Allocation {
                    least,
                    most: 0,
                    desired,
                },
            );
        }
        if least_total > endpoints {
            return Err(refused(OVERLOADED));
        }
        for allocation in allocations.values_mut() {
            allocation.most = allocation.least + endpoints - least_total;
        }
        Ok(allocations)
    }
}

/// How many endpoints a zone shall have.
#[derive(Debug, Clone, Copy)]
struct Allocation {
    least: i64,
    most: i64,
    desired: f64,
}

/// Whether hints given out before leave a zone with too few endpoints.
pub fn is_overloaded(counts: &ZoneCounts, zones: Option<&Zones>) -> bool {
    if counts.is_empty() {
        return false;
    }
    let Some(zones) = zones else { return true };
    let total = counts.values().sum::<i64>() as f64;
    zones.0.iter().any(|(zone, share)| {
        let least = (total * share / (1.0 + OVERLOAD_THRESHOLD)).ceil() as i64;
        counts.get(zone).is_none_or(|count| *count < least)
    })
}

/// The slices of one Service and family on their way to be written.
#[derive(Debug, Default)]
pub struct Slices {
    /// New ones.
    pub create: Vec<EndpointSlice>,
    /// Changed ones.
    pub update: Vec<EndpointSlice>,
    /// Those that would stay as they are.
    pub unchanged: Vec<EndpointSlice>,
}

impl Slices {
    /// Moves those unchanged slices to the changed ones that have to be rewritten.
    pub fn touch(&mut self, mut is_touched: impl FnMut(&EndpointSlice) -> bool) {
        let (touched, unchanged) = self
            .unchanged
            .drain(..)
            .partition(|slice| is_touched(slice));
        self.unchanged = unchanged;
        self.update.extend::<Vec<_>>(touched);
    }

    /// The endpoints that are going to be written.
    pub fn written(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        let slices = self.create.iter_mut().chain(&mut self.update);
        slices.flat_map(|slice| slice.endpoints.iter_mut().flatten())
    }

    /// Takes all hints back.
    pub fn remove_hints(&mut self) {
        self.touch(|slice| slice.endpoints.iter().flatten().any(|e| e.hints.is_some()));
        self.written().for_each(|endpoint| endpoint.hints = None);
    }

    fn ready(&self) -> i64 {
        let slices = self
            .create
            .iter()
            .chain(&self.update)
            .chain(&self.unchanged);
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.filter(|endpoint| is_ready(endpoint)).count() as i64
    }

    /// Gives hints in proportion to the zones' CPUs; the counts of each zone are those to keep.
    /// An error says why there can be none, and all are taken back.
    pub fn add_hints(&mut self, zones: Option<&Zones>) -> Result<ZoneCounts, Note> {
        let given = self.try_add_hints(zones);
        if given.is_err() {
            self.remove_hints();
        }
        given
    }

    fn try_add_hints(&mut self, zones: Option<&Zones>) -> Result<ZoneCounts, Note> {
        let zones = zones.ok_or_else(|| Note::warning(DISABLED, NODE_INFO))?;
        let allocations = zones.allocations(self.ready())?;
        let mut counts = ZoneCounts::new();
        self.touch(|slice| match hinted(slice, &counts, &allocations) {
            None => true,
            Some(hinted) => {
                for (zone, count) in hinted {
                    *counts.entry(zone).or_default() += count;
                }
                false
            }
        });
        // To begin with, every endpoint is for its own zone.
        for endpoint in self.written().filter(|endpoint| is_ready(endpoint)) {
            let zone = endpoint.zone.clone().filter(|zone| !zone.is_empty());
            let zone = zone.ok_or_else(|| Note::warning(DISABLED, NO_ZONE))?;
            endpoint.hints = Some(for_zone(&zone));
            *counts.entry(zone).or_default() += 1;
        }
        let (mut giving, mut receiving) = exchange(&allocations, &counts);
        for endpoint in self.written().filter(|endpoint| is_ready(endpoint)) {
            let Some(mut receiver) = receiving.first_entry() else {
                break;
            };
            let from = endpoint.zone.clone().unwrap_or_default();
            let Some(left) = giving.get_mut(&from).filter(|left| **left > 0) else {
                continue;
            };
            *left -= 1;
            *receiver.get_mut() -= 1;
            let to = receiver.key().clone();
            if *receiver.get() == 0 {
                receiver.remove();
            }
            endpoint.hints = Some(for_zone(&to));
            *counts.entry(to).or_default() += 1;
            *counts.entry(from).or_default() -= 1;
        }
        if counts.is_empty() {
            return Err(Note::warning(DISABLED, NO_HINTS));
        }
        Ok(counts)
    }
}

/// Says that hints are given from now on.
pub fn enabled() -> Note {
    Note::normal(ENABLED, "Topology Aware Hints has been enabled")
}

/// Says that hints are no longer asked for.
pub fn disabled() -> Note {
    Note::warning(DISABLED, "Topology Aware Hints has been disabled")
}

/// Whether an endpoint is ready.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true)
}

fn for_zone(zone: &str) -> EndpointHints {
    EndpointHints {
        for_zones: Some(vec![ForZone {
            name: zone.to_owned(),
        }]),
        for_nodes: None,
    }
}

/// The hints of a slice that can stay; none if they have to be given anew.
fn hinted(
    slice: &EndpointSlice,
    given: &ZoneCounts,
    allocations: &BTreeMap<&str, Allocation>,
) -> Option<ZoneCounts> {
    let mut counts = ZoneCounts::new();
    for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
        if zones.is_empty()
            || zones
                .iter()
                .any(|z| !allocations.contains_key(z.name.as_str()))
        {
            return None;
        }
        for zone in zones {
            *counts.entry(zone.name.clone()).or_default() += 1;
        }
    }
    let fits = counts.iter().all(|(zone, count)| {
        let given = given.get(zone).copied().unwrap_or_default();
        allocations
            .get(zone.as_str())
            .is_some_and(|a| count + given <= a.most)
    });
    fits.then_some(counts)
}

/// How many endpoints each zone has to give to, or get from, others.
fn exchange(
    allocations: &BTreeMap<&str, Allocation>,
    counts: &ZoneCounts,
) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let mut surplus = BTreeMap::new();
    let mut need = BTreeMap::new();
    for (zone, allocation) in allocations {
        let count = counts.get(*zone).copied().unwrap_or_default() as f64;
        if count > allocation.desired {
            surplus.insert(*zone, count - allocation.desired);
        } else if count < allocation.desired {
            need.insert(*zone, allocation.desired - count);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((giver, gives)), Some((taker, takes))) = (most(&surplus), most(&need)) {
        if (gives < 1.0 && takes < 1.0) || gives < 0.5 || takes < 0.5 {
            break;
        }
        *giving.entry(giver.to_owned()).or_default() += 1;
        *receiving.entry(taker.to_owned()).or_default() += 1;
        surplus.insert(giver, gives - 1.0);
        need.insert(taker, takes - 1.0);
    }
    (giving, receiving)
}

fn most<'z>(zones: &BTreeMap<&'z str, f64>) -> Option<(&'z str, f64)> {
    let positive = zones.iter().filter(|(_, n)| **n > 0.0);
    positive
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(zone, n)| (*zone, *n))
}
