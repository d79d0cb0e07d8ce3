//! How fast nodes that are not ready may be tainted, and so their pods evicted: slowly, and not at
//! all if it looks as if the trouble is not the nodes'.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

/// Rates and limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Nodes per second in a healthy zone.
    pub normal: f64,
    /// Nodes per second in a large zone of which much is unhealthy.
    pub reduced: f64,
    /// The most nodes of a zone that is not large.
    pub small_zone_max: usize,
    /// The part of a zone from which on much of it is unhealthy.
    pub unhealthy_part: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            normal: 0.1,
            reduced: 0.01,
            small_zone_max: 50,
            unhealthy_part: 0.55,
        }
    }
}

/// How a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Just seen.
    Initial,
    /// Most of its nodes are ready.
    Normal,
    /// Much of it is not ready.
    Partial,
    /// None of its nodes is ready.
    Full,
}

/// Whether nodes of a zone are ready: how many are, and how many are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Ready nodes.
    pub ready: usize,
    /// The others.
    pub unready: usize,
}

impl Count {
    fn state(self, rates: &Rates) -> State {
        let all = (self.ready + self.unready) as f64;
        if self.ready == 0 && self.unready > 0 {
            State::Full
        } else if self.unready > 2 && self.unready as f64 / all >= rates.unhealthy_part {
            State::Partial
        } else {
            State::Normal
        }
    }
}

/// A token bucket of one token.
#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Timestamp,
}

impl Bucket {
    fn new(per_second: f64, now: Timestamp) -> Bucket {
        Bucket {
            per_second,
            tokens: 1.0,
            filled: now,
        }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        let since = now.duration_since(self.filled).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + since * self.per_second).min(1.0);
        self.filled = now;
        let has_one = self.per_second > 0.0 && self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }

    /// Changes the rate; a token that was used up stays so.
    fn set_rate(&mut self, per_second: f64, now: Timestamp) {
        if per_second != self.per_second {
            let was_full = self.take(now) || self.per_second == 0.0;
            *self = Bucket::new(per_second, now);
            if !was_full {
                self.tokens = 0.0;
            }
        }
    }
}

#[derive(Debug)]
struct Zone {
    state: State,
    bucket: Bucket,
    queue: VecDeque<String>,
}

/// The zones of a cluster and the nodes in them that wait to be tainted.
#[derive(Debug, Default)]
pub struct Zones {
    rates: Rates,
    zones: BTreeMap<String, Zone>,
    /// The zone in whose queue a node is.
    queued: HashMap<String, String>,
}

/// What a change of the zones means to all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// Nothing is ready any more: it is more likely that this place is cut off, so that all taints
    /// are taken back.
    EveryoneIsLost,
    /// Something is ready again: all nodes get their grace period anew.
    SomeoneIsBack,
}

impl Zones {
    /// Whether no node is in a queue.
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty()
    }

    /// No zones yet.
    pub fn new(rates: Rates) -> Zones {
        Zones {
            rates,
            ..Zones::default()
        }
    }

    /// Takes note of a zone.
    pub fn see(&mut self, zone: &str, now: Timestamp) {
        let rate = self.rates.normal;
        self.zones.entry(zone.to_owned()).or_insert_with(|| Zone {
            state: State::Initial,
            bucket: Bucket::new(rate, now),
            queue: VecDeque::new(),
        });
    }

    /// Lets a node wait to be tainted; true if it did not wait before.
    pub fn queue(&mut self, zone: &str, node: &str, now: Timestamp) -> bool {
        if self.queued.get(node).is_some_and(|queued| queued == zone) {
            return false;
        }
        self.unqueue(node);
        self.see(zone, now);
        if let Some(entry) = self.zones.get_mut(zone) {
            entry.queue.push_back(node.to_owned());
            self.queued.insert(node.to_owned(), zone.to_owned());
        }
        true
    }

    /// Takes a node out of its queue, since it was tainted, is ready or gone.
    pub fn unqueue(&mut self, node: &str) {
        if let Some(zone) = self.queued.remove(node)
            && let Some(zone) = self.zones.get_mut(&zone)
        {
            zone.queue.retain(|queued| queued != node);
        }
    }

    /// The nodes that may be tainted now. They stay in their queues until they are taken out.
    pub fn due(&mut self, now: Timestamp) -> Vec<String> {
        let mut due = Vec::new();
        for zone in self.zones.values_mut() {
            let ready = zone.queue.iter().take_while(|_| zone.bucket.take(now));
            due.extend(ready.cloned());
        }
        due
    }

    /// Takes note of how the nodes of all zones are.
    pub fn update(&mut self, counts: &BTreeMap<String, Count>, now: Timestamp) -> Verdict {
        for zone in counts.keys() {
            self.see(zone, now);
        }
        let states = |rates: &Rates| -> BTreeMap<&str, State> {
            let states = counts
                .iter()
                .map(|(zone, count)| (zone.as_str(), count.state(rates)));
            states.collect()
        };
        let after = states(&self.rates);
        // Nodes that are left out of the counts may still wait.
        self.zones
            .retain(|name, zone| counts.contains_key(name) || !zone.queue.is_empty());
        let all_are_lost = after.values().all(|state| *state == State::Full);
        let mut counted = self
            .zones
            .iter()
            .filter(|(name, _)| counts.contains_key(*name));
        let all_were_lost = counted.all(|(_, zone)| zone.state == State::Full);
        if all_are_lost && all_were_lost {
            return Verdict::Nothing;
        }
        if all_are_lost {
            for zone in self.zones.values_mut() {
                zone.bucket.set_rate(0.0, now);
                zone.state = State::Full;
                zone.queue.clear();
            }
            self.queued.clear();
            return Verdict::EveryoneIsLost;
        }
        for (name, zone) in &mut self.zones {
            let state = after.get(name.as_str()).copied().unwrap_or(State::Initial);
            if all_were_lost || zone.state != state {
                let count = counts.get(name).copied().unwrap_or_default();
                let rate = self.rates.of(state, count.ready + count.unready);
                zone.bucket.set_rate(rate, now);
                zone.state = state;
            }
        }
        if all_were_lost {
            Verdict::SomeoneIsBack
        } else {
            Verdict::Nothing
        }
    }
}

impl Rates {
    fn of(&self, state: State, nodes: usize) -> f64 {
        match state {
            State::Partial if nodes > self.small_zone_max => self.reduced,
            State::Partial => 0.0,
            // A zone that is lost while others are not is given up at the usual rate.
            State::Initial | State::Normal | State::Full => self.normal,
        }
    }
}
