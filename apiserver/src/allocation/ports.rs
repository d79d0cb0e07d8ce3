//! Ports of nodes: each held by a key of its own in the store.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use api::doc::{Doc, Id};
use api::field::FieldError;
use api::status::Status;

use super::{invalid, kept_for_askers, spec};
use crate::kinds::facts::items_at;
use crate::registry::{Call, Outcome, metadata};
use crate::storage::{Along, Object};
use crate::validation::At;

/// Where ports are held; the port follows.
const ROOT: &str = "/trireme/nodeports/";
/// Of the range so much, and so many at most, is kept for those who ask.
const KEPT_STEP: u128 = 32;
const KEPT_MOST: u128 = 128;

/// The services that were looked at, by their addresses in memory, and their ports.
type Known = HashMap<usize, (Arc<Object>, Vec<i64>)>;

/// The ports that services have.
pub(super) struct Ports {
    range: RangeInclusive<i64>,
    known: Mutex<Known>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<i64>) -> Self {
        Self {
            range,
            known: Mutex::default(),
        }
    }

    /// Ports that services have, as far as the cache knows.
    fn taken(&self, call: &Call<'_>) -> HashSet<i64> {
        let services = call.api.objects().list("", "services", "");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *known);
        for service in services {
            let address = Arc::as_ptr(&service) as usize;
            let entry = old.remove(&address);
            known.insert(
                address,
                entry.unwrap_or_else(|| (service.clone(), of(&service.doc()))),
            );
        }
        known
            .values()
            .flat_map(|(_, ports)| ports.iter().copied())
            .collect()
    }
}

/// The ports that a service holds.
pub(super) fn of(service: &Doc) -> Vec<i64> {
    let spec = spec(service);
    let ports = spec
        .get("ports")
        .items()
        .map(|port| port.get("nodePort").int());
    let all = ports.chain([spec.get("healthCheckNodePort").int()]);
    let mut held: Vec<i64> = all.filter(|port| *port != 0).collect();
    held.sort_unstable();
    held.dedup();
    held
}

/// Takes back ports.
pub(super) fn take_back(ports: &[i64], along: &mut Along) {
    for port in ports {
        along.deletes(format!("{ROOT}{port}"));
    }
}

/// One service's ports while they are given.
struct Giving<'g, 'c> {
    call: &'g Call<'c>,
    range: &'g RangeInclusive<i64>,
    taken: HashSet<i64>,
    before: Vec<i64>,
    now: Vec<i64>,
}

/// Gives a service the ports that it lacks, and takes back those that it has left.
pub(super) fn give(
    call: &Call<'_>,
    ports: &Ports,
    new: &mut Doc,
    old: Option<&Doc>,
    along: &mut Along,
) -> Outcome<()> {
    let before = old.map(of).unwrap_or_default();
    let kind = spec(new).get("type").str();
    let needs_ports = matches!(kind, "NodePort" | "LoadBalancer");
    if !needs_ports && before.is_empty() {
        return Ok(());
    }
    let mut giving = Giving {
        call,
        range: &ports.range,
        taken: if needs_ports {
            ports.taken(call)
        } else {
            HashSet::new()
        },
        before,
        now: Vec::new(),
    };
    if needs_ports {
        giving.each_port(new)?;
    }
    giving.health_check(new, old)?;
    for port in giving
        .now
        .iter()
        .filter(|port| !giving.before.contains(port))
    {
        let holder = format!("{}/{}", call.info.namespace, metadata::text(new, "name"));
        along.needs(format!("{ROOT}{port}"), 0);
        along.puts(format!("{ROOT}{port}"), holder);
    }
    let kept = of(new);
    let left: Vec<i64> = giving
        .before
        .into_iter()
        .filter(|port| !kept.contains(port))
        .collect();
    take_back(&left, along);
    Ok(())
}

impl Giving<'_, '_> {
    fn each_port(&mut self, new: &mut Doc) -> Outcome<()> {
        let allocates = spec(new).get("type").str() == "NodePort"
            || spec(new).get("allocateLoadBalancerNodePorts").opt_flag() != Some(false);
        // What the same port gets for another protocol.
        let mut given: HashMap<i64, i64> = HashMap::new();
        for (at, port) in items_at(new, &["spec", "ports"]).into_iter().enumerate() {
            let of = |key| At::of(new.node(port)).get(key).int();
            let (number, asked) = (of("port"), of("nodePort"));
            if asked == 0 && !allocates {
                continue;
            }
            let asked = match asked {
                0 => given
                    .get(&number)
                    .copied()
                    .unwrap_or_else(|| self.asked_for(new, number)),
                asked => asked,
            };
            let got = match asked {
                0 => self.next().map_err(|why| {
                    Status::internal(format!("failed to allocate a nodePort: {why}"))
                })?,
                asked => {
                    let judged = self.take(asked);
                    judged.or_else(|why| {
                        let field = format!("spec.ports[{at}].nodePort");
                        invalid(new, &[FieldError::invalid(field, asked, why)])
                    })?;
                    asked
                }
            };
            given.insert(number, got);
            set_port(new, port, got);
        }
        Ok(())
    }

    /// What a service asks for at this port, whatever the protocol.
    fn asked_for(&self, new: &Doc, number: i64) -> i64 {
        let ports = spec(new).get("ports").items();
        let mut same = ports.filter(|port| port.get("port").int() == number);
        let asked =
            same.find_map(|port| Some(port.get("nodePort").int()).filter(|port| *port != 0));
        asked
            .filter(|asked| !self.before.contains(asked))
            .unwrap_or(0)
    }

    fn health_check(&mut self, new: &mut Doc, old: Option<&Doc>) -> Outcome<()> {
        if !needs_health_check(new) || old.is_some_and(needs_health_check) {
            return Ok(());
        }
        let asked = spec(new).get("healthCheckNodePort").int();
        if asked != 0 {
            let judged = self.take(asked).map_err(|why| {
                format!("failed to allocate requested HealthCheck NodePort {asked}: {why}")
            });
            return Ok(judged.map_err(Status::internal)?);
        }
        let got = self.next().map_err(|why| {
            Status::internal(format!(
                "failed to allocate a HealthCheck NodePort 0: {why}"
            ))
        })?;
        new.set_path(&["spec", "healthCheckNodePort"], got);
        Ok(())
    }

    /// Takes a port that is asked for.
    fn take(&mut self, port: i64) -> Result<(), String> {
        if self.before.contains(&port) || self.now.contains(&port) {
            return Ok(());
        }
        if !self.range.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.range.start(),
                self.range.end()
            ));
        }
        if self.taken.contains(&port) {
            return Err("provided port is already allocated".to_string());
        }
        self.now.push(port);
        Ok(())
    }

    /// Takes a port that nobody has.
    fn next(&mut self) -> Result<i64, &'static str> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let size = u128::try_from(last - first + 1).unwrap_or_default();
        let kept = i64::try_from(kept_for_askers(size, KEPT_STEP, KEPT_MOST)).unwrap_or_default();
        for (from, to) in [(first + kept, last), (first, first + kept - 1)] {
            let Ok(size) = u64::try_from(to - from + 1) else {
                continue;
            };
            let start = self.call.api.seams.rng.next_u64().checked_rem(size);
            let start = from + i64::try_from(start.unwrap_or_default()).unwrap_or_default();
            let is_free = |port: &i64| {
                let held = [&self.before, &self.now];
                !self.taken.contains(port) && held.iter().all(|held| !held.contains(port))
            };
            if let Some(port) = (start..=to).chain(from..start).find(is_free) {
                self.now.push(port);
                return Ok(port);
            }
        }
        Err("range is full")
    }
}

fn set_port(new: &mut Doc, port: Id, number: i64) {
    new.set(port, "nodePort", number);
}

fn needs_health_check(service: &Doc) -> bool {
    let spec = spec(service);
    spec.get("type").str() == "LoadBalancer" && spec.get("externalTrafficPolicy").str() == "Local"
}
