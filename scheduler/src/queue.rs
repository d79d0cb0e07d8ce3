//! Which pod is next.
//!
//! Pods wait in one of four places: *active*, by priority and then by age; *backing off* after a
//! failure, 1 to 10 s; *unschedulable*, until something happens that may help (each plugin that
//! said no is asked, see [`crate::filters`]), at most five minutes; and *gated*, until what gates
//! them is gone. Pure: time comes as a parameter, and nothing here wakes up by itself.

mod nominations;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::filters;
use crate::framework::{Action, Change, Event, Object, Plugin, Plugins};
use crate::views::Pod;
pub use nominations::Nominations;

/// After this long a pod is tried again though nothing happened: a hint may be wrong.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);
/// Backoff ends at whole seconds, so that pods of one second are ordered by priority.
const WINDOW: Duration = Duration::from_secs(1);

/// A pod with the history of its attempts.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The pod as last seen.
    pub pod: Arc<Pod>,
    /// When it was first active.
    pub first_seen: Instant,
    /// When it entered the queue, or last failed.
    pub since: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// The plugins that said no to the last attempt.
    pub rejectors: Plugins,
    /// Tried again only because time had passed.
    pub was_flushed: bool,
    unschedulable: u32,
    errors: u32,
}

/// Where a pod waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(Rank),
    /// Until then; after an error rather than a no.
    Backoff(Instant, Rank, bool),
    Unschedulable,
    Gated(Plugin),
}

/// The order of active pods: priority, age, arrival.
type Rank = (Reverse<i32>, Instant, u64);

/// Numbers of waiting pods, by upstream's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Ready to be tried.
    pub active: usize,
    /// Backing off.
    pub backoff: usize,
    /// Waiting for something to happen.
    pub unschedulable: usize,
    /// Waiting for gates.
    pub gated: usize,
}

/// What gates a pod, if anything does.
pub type Gate<'g> = &'g dyn Fn(&Pod) -> Option<Plugin>;

/// The pods that wait.
#[derive(Debug)]
pub struct Queue {
    epoch: Instant,
    backoff_initial: Duration,
    backoff_max: Duration,
    /// By uid.
    pods: HashMap<Arc<str>, (Queued, Place)>,
    active: BTreeMap<Rank, Arc<str>>,
    backoff: BTreeMap<(Instant, Rank), Arc<str>>,
    errors: BTreeMap<(Instant, Rank), Arc<str>>,
    unschedulable: BTreeSet<Arc<str>>,
    gated: BTreeSet<Arc<str>>,
    arrivals: u64,
    /// Pods that are nominated for nodes.
    pub nominations: Nominations,
}

impl Queue {
    /// An empty queue. `epoch` is where the seconds of backoff are counted from.
    pub fn new(epoch: Instant, backoff_initial: Duration, backoff_max: Duration) -> Self {
        Queue {
            epoch,
            backoff_initial,
            backoff_max,
            pods: HashMap::new(),
            active: BTreeMap::new(),
            backoff: BTreeMap::new(),
            errors: BTreeMap::new(),
            unschedulable: BTreeSet::new(),
            gated: BTreeSet::new(),
            arrivals: 0,
            nominations: Nominations::default(),
        }
    }

    /// How many pods wait where.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            active: self.active.len(),
            backoff: self.backoff.len() + self.errors.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated.len(),
        }
    }

    /// Whether a pod waits.
    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A pod that is to be scheduled.
    pub fn add(&mut self, pod: &Arc<Pod>, now: Instant, gate: Gate<'_>) {
        self.delete(pod.uid());
        self.nominations.add(pod, None);
        let queued = Queued {
            pod: Arc::clone(pod),
            first_seen: now,
            since: now,
            attempts: 0,
            rejectors: Plugins::default(),
            was_flushed: false,
            unschedulable: 0,
            errors: 0,
        };
        self.activate(queued, gate);
    }

    /// The next pod. If none is active one is taken out of backoff: there is nothing better to do.
    pub fn pop(&mut self) -> Option<Queued> {
        let uid = match self.active.pop_first() {
            Some((_, uid)) => uid,
            None => self.backoff.pop_first()?.1,
        };
        let (mut queued, _) = self.pods.remove(&uid)?;
        queued.attempts += 1;
        Some(queued)
    }

    /// A pod whose attempt failed: for the plugins named, or by an error if none is.
    pub fn reject(&mut self, mut queued: Queued, rejectors: Plugins, now: Instant, gate: Gate<'_>) {
        queued.rejectors = rejectors;
        queued.since = now;
        queued.was_flushed = false;
        if rejectors.is_empty() {
            queued.errors += 1;
            self.back_off(queued, now, gate);
        } else {
            queued.unschedulable += 1;
            queued.errors = 0;
            match gate(&queued.pod) {
                Some(plugin) => self.insert(queued, Place::Gated(plugin)),
                None => self.insert(queued, Place::Unschedulable),
            }
        }
    }

    /// A waiting pod that has changed; one that does not wait is added.
    pub fn update(&mut self, old: &Pod, new: &Arc<Pod>, now: Instant, gate: Gate<'_>) {
        self.nominations.update(old, new);
        let Some((mut queued, place)) = self.take(new.uid()) else {
            self.add(new, now, gate);
            return;
        };
        queued.pod = Arc::clone(new);
        match place {
            Place::Active(_) => self.activate(queued, gate),
            Place::Backoff(..) => self.insert(queued, place),
            Place::Gated(_) if gate(new).is_none() => self.retry(queued, now, gate),
            Place::Gated(_) => self.insert(queued, place),
            Place::Unschedulable => {
                let change = Change {
                    old: Some(old),
                    new: Some(&**new),
                };
                let helps = pod_actions(old, new).into_iter().any(|action| {
                    let object = Object::Pod(change);
                    helps(&queued, &Event { action, object })
                });
                match helps {
                    true => self.retry(queued, now, gate),
                    false => self.insert(queued, place),
                }
            }
        }
    }

    /// A pod that needs no node any more.
    pub fn delete(&mut self, uid: &str) -> Option<Queued> {
        self.nominations.remove(uid);
        self.take(uid).map(|(queued, _)| queued)
    }

    /// Something happened: pods that it may help are tried again, if `concerns` them.
    pub fn happened(
        &mut self,
        event: &Event<'_>,
        concerns: impl Fn(&Pod) -> bool,
        now: Instant,
        gate: Gate<'_>,
    ) -> usize {
        let helped = |uid: &&Arc<str>| {
            let (queued, _) = &self.pods[&***uid];
            concerns(&queued.pod) && helps(queued, event)
        };
        let moved: Vec<_> = self
            .unschedulable
            .iter()
            .filter(helped)
            .map(Arc::clone)
            .collect();
        for uid in &moved {
            if let Some((queued, _)) = self.take(uid) {
                self.retry(queued, now, gate);
            }
        }
        moved.len()
    }

    /// Looks again at pods that a plugin gates.
    pub fn ungate(&mut self, by: Plugin, now: Instant, gate: Gate<'_>) {
        let is_by = |uid: &&Arc<str>| self.pods[&***uid].1 == Place::Gated(by);
        let gated: Vec<_> = self.gated.iter().filter(is_by).map(Arc::clone).collect();
        for uid in gated {
            let (queued, _) = &self.pods[&*uid];
            if gate(&queued.pod).is_none()
                && let Some((queued, _)) = self.take(&uid)
            {
                self.retry(queued, now, gate);
            }
        }
    }

    /// Tries a waiting pod now, whatever it waits for but gates.
    pub fn force(&mut self, uid: &str, gate: Gate<'_>) {
        if let Some((queued, _)) = self.take(uid) {
            self.activate(queued, gate);
        }
    }

    /// Moves pods whose time has come.
    pub fn flush(&mut self, now: Instant, gate: Gate<'_>) {
        for queue in [Queue::pop_backoff, Queue::pop_error] {
            while let Some(queued) = queue(self, now) {
                self.activate(queued, gate);
            }
        }
        let is_late = |uid: &&Arc<str>| {
            let (queued, _) = &self.pods[&***uid];
            now.duration_since(queued.since) > UNSCHEDULABLE_MAX
        };
        let late: Vec<_> = self
            .unschedulable
            .iter()
            .filter(is_late)
            .map(Arc::clone)
            .collect();
        for uid in late {
            if let Some((mut queued, _)) = self.take(&uid) {
                queued.was_flushed = true;
                self.retry(queued, now, gate);
            }
        }
    }

    /// When flush has something to do, if nothing happens before.
    pub fn next_flush(&self) -> Option<Instant> {
        let backoff = self.backoff.first_key_value().map(|((until, _), _)| *until);
        let errors = self.errors.first_key_value().map(|((until, _), _)| *until);
        [backoff, errors].into_iter().flatten().min()
    }

    fn pop_backoff(&mut self, now: Instant) -> Option<Queued> {
        let ((until, _), uid) = self.backoff.first_key_value()?;
        let uid = Arc::clone(uid);
        (*until <= now)
            .then(|| self.take(&uid))
            .flatten()
            .map(|(queued, _)| queued)
    }

    fn pop_error(&mut self, now: Instant) -> Option<Queued> {
        let ((until, _), uid) = self.errors.first_key_value()?;
        let uid = Arc::clone(uid);
        (*until <= now)
            .then(|| self.take(&uid))
            .flatten()
            .map(|(queued, _)| queued)
    }

    /// Active, unless gated.
    fn activate(&mut self, queued: Queued, gate: Gate<'_>) {
        match gate(&queued.pod) {
            Some(plugin) => self.insert(queued, Place::Gated(plugin)),
            None => {
                let rank = self.rank(&queued);
                self.insert(queued, Place::Active(rank));
            }
        }
    }

    /// Active, or backing off if the last failure is recent.
    fn retry(&mut self, queued: Queued, now: Instant, gate: Gate<'_>) {
        match self.backs_off_until(&queued) {
            Some(until) if until > now => self.back_off(queued, now, gate),
            _ => self.activate(queued, gate),
        }
    }

    fn back_off(&mut self, queued: Queued, now: Instant, gate: Gate<'_>) {
        if let Some(plugin) = gate(&queued.pod) {
            self.insert(queued, Place::Gated(plugin));
            return;
        }
        let until = self.backs_off_until(&queued).unwrap_or(now);
        let is_error = queued.rejectors.is_empty();
        let rank = self.rank(&queued);
        self.insert(queued, Place::Backoff(until, rank, is_error));
    }

    /// Twice as long with each failure, rounded to the end of a whole second.
    fn backs_off_until(&self, queued: &Queued) -> Option<Instant> {
        let count = if queued.errors > 0 {
            queued.errors
        } else {
            queued.unschedulable
        };
        if count == 0 || self.backoff_max.is_zero() {
            return None;
        }
        let factor = 1_u32.checked_shl(count - 1).unwrap_or(u32::MAX);
        let wait = self
            .backoff_initial
            .saturating_mul(factor)
            .min(self.backoff_max);
        let until = (queued.since + wait).duration_since(self.epoch);
        Some(self.epoch + Duration::from_secs(until.as_secs()) + WINDOW)
    }

    fn rank(&mut self, queued: &Queued) -> Rank {
        self.arrivals += 1;
        (Reverse(queued.pod.priority), queued.since, self.arrivals)
    }

    fn insert(&mut self, queued: Queued, place: Place) {
        let uid: Arc<str> = queued.pod.uid().into();
        match place {
            Place::Active(rank) => {
                self.active.insert(rank, Arc::clone(&uid));
            }
            Place::Backoff(until, rank, false) => {
                self.backoff.insert((until, rank), Arc::clone(&uid));
            }
            Place::Backoff(until, rank, true) => {
                self.errors.insert((until, rank), Arc::clone(&uid));
            }
            Place::Unschedulable => {
                self.unschedulable.insert(Arc::clone(&uid));
            }
            Place::Gated(_) => {
                self.gated.insert(Arc::clone(&uid));
            }
        }
        self.pods.insert(uid, (queued, place));
    }

    fn take(&mut self, uid: &str) -> Option<(Queued, Place)> {
        let (queued, place) = self.pods.remove(uid)?;
        match place {
            Place::Active(rank) => {
                self.active.remove(&rank);
            }
            Place::Backoff(until, rank, false) => {
                self.backoff.remove(&(until, rank));
            }
            Place::Backoff(until, rank, true) => {
                self.errors.remove(&(until, rank));
            }
            Place::Unschedulable => {
                self.unschedulable.remove(uid);
            }
            Place::Gated(_) => {
                self.gated.remove(uid);
            }
        }
        Some((queued, place))
    }
}

/// Whether one of the plugins that said no may say yes now.
fn helps(queued: &Queued, event: &Event<'_>) -> bool {
    queued
        .rejectors
        .iter()
        .any(|plugin| filters::hint(plugin, &queued.pod, event))
}

/// What of a pod changed that may matter to somebody.
pub fn pod_actions(old: &Pod, new: &Pod) -> Vec<Action> {
    let is_less = |(name, amount): (&str, i64)| new.requests.get(name) < amount;
    let known = [
        (
            old.metadata.labels != new.metadata.labels,
            Action::POD_LABEL,
        ),
        (old.requests.each().any(is_less), Action::POD_SCALE_DOWN),
        (
            !old.gates.is_empty() && new.gates.is_empty(),
            Action::POD_GATES,
        ),
        (
            old.tolerations.len() != new.tolerations.len(),
            Action::POD_TOLERATION,
        ),
        (old.claims != new.claims, Action::POD_CLAIMS),
    ];
    let changed = known.into_iter().filter(|(changed, _)| *changed);
    let actions: Vec<_> = changed.map(|(_, action)| action).collect();
    if actions.is_empty() {
        vec![Action::UPDATE]
    } else {
        actions
    }
}

#[cfg(test)]
mod tests;
