//! The allocator: a search over the devices of one node, in the order of requests, that takes a
//! step back where it gets stuck.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, Device, DeviceAllocationConfiguration, DeviceAllocationResult,
    DeviceAttribute, DeviceConstraint, DeviceRequest, DeviceRequestAllocationResult,
    DeviceSelector, DeviceTaint, DeviceToleration, ResourceClaim, ResourceSlice,
};

use crate::filters::volume_binding::node_matches;
use crate::views::{Node, name, namespace, units};

use super::{DeviceId, Devices};

/// The most devices that one claim may get.
const DEVICES_MAX: usize = 32;
/// How many steps a search may take on one node before it gives up.
const STEPS_MAX: usize = 100_000;

/// Why a search ends without devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// This node does not have what is asked for.
    Node,
    /// Nor has any: what is asked for cannot be understood.
    Claim(String),
}

/// One request, or one alternative of one, made plain.
struct Want<'c> {
    /// As results name it: `gpu`, or `gpu/large` for an alternative.
    name: String,
    /// As constraints name it.
    of: &'c str,
    count: usize,
    all: bool,
    admin: bool,
    tolerations: &'c [DeviceToleration],
}

/// A device that a node can use.
struct Candidate<'s> {
    slice: &'s ResourceSlice,
    device: &'s Device,
    id: DeviceId,
}

/// Finds devices for claims on a node: one allocation per claim, in their order.
pub(crate) fn allocate(
    devices: &Devices,
    node: &Node,
    claims: &[&Arc<ResourceClaim>],
) -> Result<Vec<AllocationResult>, Stuck> {
    let candidates = candidates(devices, node)?;
    let mut search = Search {
        counters: Counters::new(devices),
        taken: devices.allocated().collect(),
        candidates,
        steps: 0,
    };
    for id in search.taken.clone() {
        search.counters.take_id(devices, &id);
    }
    let mut results = Vec::new();
    for claim in claims {
        let chosen = search.claim(devices, claim)?;
        let result = result(devices, claim, node, &search.candidates, &chosen);
        results.push(result);
    }
    Ok(results)
}

fn on_node(node: &Node, by_name: Option<&str>, all: bool, selector: Option<&NodeSelector>) -> bool {
    match (by_name, selector) {
        (Some(name), _) if !name.is_empty() => name == node.name(),
        _ if all => true,
        (_, Some(selector)) => node_matches(selector, node),
        _ => false,
    }
}

/// The devices that a node can use, of pools that are complete and current.
fn candidates<'s>(devices: &'s Devices, node: &Node) -> Result<Vec<Candidate<'s>>, Stuck> {
    let mut newest: BTreeMap<(&str, &str), (i64, i64, i64)> = BTreeMap::new();
    for slice in devices.slices() {
        let pool = &slice.spec.pool;
        let entry =
            newest
                .entry((&slice.spec.driver, &pool.name))
                .or_insert((pool.generation, 0, 0));
        if pool.generation > entry.0 {
            *entry = (pool.generation, 0, 0);
        }
        if pool.generation == entry.0 {
            *entry = (entry.0, entry.1 + 1, pool.resource_slice_count);
        }
    }
    let mut found = Vec::new();
    for slice in devices.slices() {
        let spec = &slice.spec;
        let (generation, seen, expected) = newest[&(&*spec.driver, &*spec.pool.name)];
        if spec.pool.generation != generation || seen != expected {
            continue;
        }
        let each_decides = spec.per_device_node_selection == Some(true);
        let all = spec.all_nodes == Some(true);
        let here = on_node(
            node,
            spec.node_name.as_deref(),
            all,
            spec.node_selector.as_ref(),
        );
        for device in spec.devices.iter().flatten() {
            let all = device.all_nodes == Some(true);
            let by_name = device.node_name.as_deref();
            let selected = on_node(node, by_name, all, device.node_selector.as_ref());
            if if each_decides { selected } else { here } {
                let id = (
                    spec.driver.clone(),
                    spec.pool.name.clone(),
                    device.name.clone(),
                );
                found.push(Candidate { slice, device, id });
            }
        }
    }
    Ok(found)
}

/// What is left of counters that devices share, by driver, pool, set and counter.
#[derive(Clone)]
struct Counters(BTreeMap<(String, String, String, String), i64>);

impl Counters {
    fn new(devices: &Devices) -> Self {
        let mut left = BTreeMap::new();
        for slice in devices.slices() {
            let (driver, pool) = (&slice.spec.driver, &slice.spec.pool.name);
            for set in slice.spec.shared_counters.iter().flatten() {
                for (counter, value) in &set.counters {
                    let key = (
                        driver.clone(),
                        pool.clone(),
                        set.name.clone(),
                        counter.clone(),
                    );
                    left.insert(key, units(&value.value));
                }
            }
        }
        Counters(left)
    }

    fn each<'d>(
        id: &'d DeviceId,
        device: &'d Device,
    ) -> impl Iterator<Item = ((String, String, String, String), i64)> {
        let consumed = device.consumes_counters.iter().flatten();
        consumed.flat_map(move |of| {
            of.counters.iter().map(move |(counter, value)| {
                let key = (
                    id.0.clone(),
                    id.1.clone(),
                    of.counter_set.clone(),
                    counter.clone(),
                );
                (key, units(&value.value))
            })
        })
    }

    fn allows(&self, id: &DeviceId, device: &Device) -> bool {
        Counters::each(id, device)
            .all(|(key, value)| self.0.get(&key).is_some_and(|left| *left >= value))
    }

    fn shift(&mut self, id: &DeviceId, device: &Device, sign: i64) {
        for (key, value) in Counters::each(id, device) {
            *self.0.entry(key).or_default() -= sign * value;
        }
    }

    fn take_id(&mut self, devices: &Devices, id: &DeviceId) {
        let of_pool =
            |slice: &&Arc<ResourceSlice>| slice.spec.driver == id.0 && slice.spec.pool.name == id.1;
        let mut all = devices
            .slices()
            .filter(of_pool)
            .flat_map(|slice| slice.spec.devices.iter().flatten());
        if let Some(device) = all.find(|device| device.name == id.2) {
            self.shift(id, device, 1);
        }
    }
}

struct Search<'s> {
    counters: Counters,
    taken: BTreeSet<DeviceId>,
    candidates: Vec<Candidate<'s>>,
    steps: usize,
}

/// A chosen device: which request of the claim, and which candidate.
struct Choice {
    want: usize,
    candidate: usize,
}

/// Devices chosen for one claim, with the requests they are for.
struct Chosen<'c> {
    wants: Vec<Want<'c>>,
    choices: Vec<Choice>,
}

impl Search<'_> {
    fn claim<'c>(
        &mut self,
        devices: &Devices,
        claim: &'c ResourceClaim,
    ) -> Result<Chosen<'c>, Stuck> {
        let spec = claim.spec.devices.as_ref();
        let requests: Vec<_> = spec
            .iter()
            .flat_map(|one| one.requests.iter().flatten())
            .collect();
        let mut alternatives = Vec::new();
        for request in &requests {
            alternatives.push(wants(devices, claim, request)?);
        }
        let constraints = spec
            .and_then(|one| one.constraints.as_deref())
            .unwrap_or_default();
        let mut chosen = Chosen {
            wants: Vec::new(),
            choices: Vec::new(),
        };
        match self.request(&mut alternatives, constraints, &mut chosen) {
            true => Ok(chosen),
            false => Err(Stuck::Node),
        }
    }

    /// Serves the first of the remaining requests by its first alternative that leaves enough for
    /// the others.
    fn request<'c>(
        &mut self,
        remaining: &mut Vec<Vec<Want<'c>>>,
        constraints: &[DeviceConstraint],
        chosen: &mut Chosen<'c>,
    ) -> bool {
        if remaining.is_empty() {
            return chosen.choices.len() <= DEVICES_MAX;
        }
        let alternatives = remaining.remove(0);
        let mut tried = Vec::new();
        let mut is_done = false;
        for want in alternatives {
            if is_done {
                continue;
            }
            let want_at = chosen.wants.len();
            chosen.wants.push(want);
            is_done = self.devices(want_at, 0, 0, remaining, constraints, chosen);
            if !is_done {
                tried.extend(chosen.wants.pop());
            }
        }
        if !is_done {
            remaining.insert(0, tried);
        }
        is_done
    }

    /// Chooses the devices of one request from `from` on, of which it has `have`.
    fn devices<'c>(
        &mut self,
        want: usize,
        from: usize,
        have: usize,
        remaining: &mut Vec<Vec<Want<'c>>>,
        constraints: &[DeviceConstraint],
        chosen: &mut Chosen<'c>,
    ) -> bool {
        let (all, count) = (chosen.wants[want].all, chosen.wants[want].count);
        if !all && have == count {
            return self.request(remaining, constraints, chosen);
        }
        for at in from..self.candidates.len() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            if !self.fits(at, &chosen.wants[want], constraints, chosen) {
                // All means every device that the node has, also those that are taken.
                if all && self.is_wanted(at, &chosen.wants[want]) {
                    return false;
                }
                continue;
            }
            self.take(at, want, chosen);
            if self.devices(want, at + 1, have + 1, remaining, constraints, chosen) {
                return true;
            }
            self.put_back(at, want, chosen);
            if all {
                return false;
            }
        }
        all && have > 0 && self.request(remaining, constraints, chosen)
    }

    fn is_wanted(&self, at: usize, want: &Want<'_>) -> bool {
        let taints = self.candidates[at].device.taints.iter().flatten();
        let mut repelling = taints.filter(|taint| taint.effect != "None");
        repelling.all(|taint| want.tolerations.iter().any(|one| tolerates(one, taint)))
    }

    fn fits(
        &self,
        at: usize,
        want: &Want<'_>,
        constraints: &[DeviceConstraint],
        chosen: &Chosen<'_>,
    ) -> bool {
        let candidate = &self.candidates[at];
        let is_free = want.admin
            || (!self.taken.contains(&candidate.id)
                && self.counters.allows(&candidate.id, candidate.device));
        is_free
            && self.is_wanted(at, want)
            && constraints
                .iter()
                .all(|one| self.agrees(at, want, one, chosen))
    }

    /// Whether a device agrees with those chosen before about one constraint.
    fn agrees(
        &self,
        at: usize,
        want: &Want<'_>,
        constraint: &DeviceConstraint,
        chosen: &Chosen<'_>,
    ) -> bool {
        let named = constraint.requests.as_deref().unwrap_or_default();
        let concerns = |want: &Want<'_>| {
            named.is_empty() || named.iter().any(|one| one == want.of || *one == want.name)
        };
        if !concerns(want) {
            return true;
        }
        let others = chosen
            .choices
            .iter()
            .filter(|one| concerns(&chosen.wants[one.want]));
        if let Some(key) = &constraint.match_attribute {
            let value = attribute(&self.candidates[at], key);
            return value.is_some()
                && others
                    .clone()
                    .all(|one| attribute(&self.candidates[one.candidate], key) == value);
        }
        if let Some(key) = &constraint.distinct_attribute {
            let value = attribute(&self.candidates[at], key);
            return value.is_some()
                && others
                    .clone()
                    .all(|one| attribute(&self.candidates[one.candidate], key) != value);
        }
        true
    }

    fn take(&mut self, at: usize, want: usize, chosen: &mut Chosen<'_>) {
        let candidate = &self.candidates[at];
        if !chosen.wants[want].admin {
            self.taken.insert(candidate.id.clone());
            self.counters.shift(&candidate.id, candidate.device, 1);
        }
        let candidate = at;
        chosen.choices.push(Choice { want, candidate });
    }

    fn put_back(&mut self, at: usize, want: usize, chosen: &mut Chosen<'_>) {
        chosen.choices.pop();
        let candidate = &self.candidates[at];
        if !chosen.wants[want].admin {
            self.taken.remove(&candidate.id);
            self.counters.shift(&candidate.id, candidate.device, -1);
        }
    }
}

/// The value of an attribute; names without a domain are in the driver's.
fn attribute<'s>(candidate: &Candidate<'s>, key: &str) -> Option<&'s DeviceAttribute> {
    let attributes = candidate.device.attributes.as_ref()?;
    let local = key.strip_prefix(&*candidate.slice.spec.driver);
    let local = local.and_then(|rest| rest.strip_prefix('/'));
    attributes.get(key).or_else(|| attributes.get(local?))
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let value = toleration.value.as_deref().unwrap_or_default();
    toleration
        .effect
        .as_deref()
        .is_none_or(|one| one.is_empty() || one == taint.effect)
        && toleration
            .key
            .as_deref()
            .is_none_or(|one| one.is_empty() || one == taint.key)
        && match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            _ => value == taint.value.as_deref().unwrap_or_default(),
        }
}

/// The alternatives of a request, best first; mostly one.
fn wants<'c>(
    devices: &Devices,
    claim: &ResourceClaim,
    request: &'c DeviceRequest,
) -> Result<Vec<Want<'c>>, Stuck> {
    let of = &*request.name;
    let plain = |name: String, class: &str, selectors: Option<&Vec<DeviceSelector>>| {
        let class_selectors = devices
            .class(class)
            .and_then(|class| class.spec.selectors.as_ref());
        let mut all = class_selectors.into_iter().chain(selectors).flatten();
        if all.next().is_some() {
            let (namespace, claim) = (namespace(&claim.metadata), name_of(claim));
            return Err(Stuck::Claim(format!(
                "claim {namespace}/{claim}, request {name}: CEL selectors cannot be evaluated yet"
            )));
        }
        Ok(name)
    };
    if let Some(exact) = &request.exactly {
        let selectors = exact.selectors.as_ref();
        return Ok(vec![Want {
            name: plain(of.to_string(), &exact.device_class_name, selectors)?,
            of,
            count: exact.count.unwrap_or(1).max(0) as usize,
            all: exact.allocation_mode.as_deref() == Some("All"),
            admin: exact.admin_access == Some(true),
            tolerations: exact.tolerations.as_deref().unwrap_or_default(),
        }]);
    }
    let alternatives = request.first_available.iter().flatten();
    alternatives
        .map(|one| {
            let name = format!("{of}/{}", one.name);
            Ok(Want {
                name: plain(name, &one.device_class_name, one.selectors.as_ref())?,
                of,
                count: one.count.unwrap_or(1).max(0) as usize,
                all: one.allocation_mode.as_deref() == Some("All"),
                admin: false,
                tolerations: one.tolerations.as_deref().unwrap_or_default(),
            })
        })
        .collect()
}

fn name_of(claim: &ResourceClaim) -> &str {
    name(&claim.metadata)
}

/// The allocation as it is written into the claim's status.
fn result(
    devices: &Devices,
    claim: &ResourceClaim,
    node: &Node,
    candidates: &[Candidate<'_>],
    chosen: &Chosen<'_>,
) -> AllocationResult {
    let results = chosen.choices.iter().map(|choice| {
        let (want, candidate) = (&chosen.wants[choice.want], &candidates[choice.candidate]);
        DeviceRequestAllocationResult {
            request: want.name.clone(),
            driver: candidate.id.0.clone(),
            pool: candidate.id.1.clone(),
            device: candidate.id.2.clone(),
            admin_access: want.admin.then_some(true),
            tolerations: (!want.tolerations.is_empty()).then(|| want.tolerations.to_vec()),
            ..Default::default()
        }
    });
    let results: Vec<_> = results.collect();
    let used: Vec<_> = chosen
        .choices
        .iter()
        .map(|choice| &candidates[choice.candidate])
        .collect();
    AllocationResult {
        devices: Some(DeviceAllocationResult {
            config: Some(configs(devices, claim, chosen)).filter(|all| !all.is_empty()),
            results: Some(results),
        }),
        node_selector: selector(node, &used),
        allocation_timestamp: None,
    }
}

/// Configuration of the classes in use, then of the claim.
fn configs(
    devices: &Devices,
    claim: &ResourceClaim,
    chosen: &Chosen<'_>,
) -> Vec<DeviceAllocationConfiguration> {
    let spec = claim.spec.devices.as_ref();
    let mut configs = Vec::new();
    for want in &chosen.wants {
        let mut requests = spec.iter().flat_map(|one| one.requests.iter().flatten());
        let request = requests.find(|one| one.name == want.of);
        let class = request.and_then(|request| class_of(request, &want.name));
        let class = class.and_then(|class| devices.class(class));
        for config in class
            .into_iter()
            .flat_map(|class| class.spec.config.iter().flatten())
        {
            configs.push(DeviceAllocationConfiguration {
                source: "FromClass".to_string(),
                requests: Some(vec![want.name.clone()]),
                opaque: config.opaque.clone(),
            });
        }
    }
    for config in spec.iter().flat_map(|one| one.config.iter().flatten()) {
        let named = config.requests.as_deref().unwrap_or_default();
        let is_used = |want: &Want<'_>| named.iter().any(|one| one == want.of || *one == want.name);
        if named.is_empty() || chosen.wants.iter().any(is_used) {
            configs.push(DeviceAllocationConfiguration {
                source: "FromClaim".to_string(),
                requests: config.requests.clone(),
                opaque: config.opaque.clone(),
            });
        }
    }
    configs
}

fn class_of<'r>(request: &'r DeviceRequest, name: &str) -> Option<&'r str> {
    if let Some(exact) = &request.exactly {
        return Some(&exact.device_class_name);
    }
    let mut alternatives = request.first_available.iter().flatten();
    let found = alternatives.find(|one| name == format!("{}/{}", request.name, one.name))?;
    Some(&found.device_class_name)
}

/// From which nodes the devices can be used: None if from all.
fn selector(node: &Node, used: &[&Candidate<'_>]) -> Option<NodeSelector> {
    let mut requirements: Vec<NodeSelectorRequirement> = Vec::new();
    for candidate in used {
        let (spec, device) = (&candidate.slice.spec, candidate.device);
        let (name, selector) = match spec.per_device_node_selection == Some(true) {
            true => (&device.node_name, &device.node_selector),
            false => (&spec.node_name, &spec.node_selector),
        };
        if name.as_deref().is_some_and(|name| !name.is_empty()) {
            return Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![NodeSelectorRequirement {
                        key: "metadata.name".to_string(),
                        operator: "In".to_string(),
                        values: Some(vec![node.name().to_string()]),
                    }]),
                    match_expressions: None,
                }],
            });
        }
        let terms = selector.iter().flat_map(|one| &one.node_selector_terms);
        for one in terms.flat_map(|term| term.match_expressions.iter().flatten()) {
            if !requirements.contains(one) {
                requirements.push(one.clone());
            }
        }
    }
    (!requirements.is_empty()).then(|| NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: Some(requirements),
            match_fields: None,
        }],
    })
}
