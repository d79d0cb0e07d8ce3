//! The life of one pod on a hollow node, as a pure function: from what the API server shows and the
//! time to what is reported next, and when to look again.
//!
//! Everything but the moment since which the node knows the pod is in the pod's own status, so that a
//! node that restarts goes on where it was. Times of containers have whole seconds there.
//!
//! A report is made when something happens to a container, and at no other time: what others write
//! into a pod's status stays.

mod containers;
mod report;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::behaviour::Behaviour;
use super::pod::Pod;
use containers::Containers;

/// Where a pod stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) pod: &'a Pod,
    /// Since when the node knows it.
    pub(super) known: Timestamp,
    /// Since when the node knows that it is to be deleted.
    pub(super) told: Option<Timestamp>,
    /// The addresses of the node; the first one is the main one.
    pub(super) host_ips: &'a [IpAddr],
    /// The addresses set aside for the pod.
    pub(super) pod_ips: &'a [IpAddr],
    pub(super) behaviour: &'a Behaviour,
    /// By how much the node is late with everything.
    pub(super) slow: Duration,
    /// Whether the node starts containers.
    pub(super) starts: bool,
    pub(super) now: Timestamp,
}

/// What to do about a pod: first report, then remove.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// A strategic merge patch of its status subresource.
    pub(super) report: Option<Value>,
    /// Whether its object goes away, for its containers are gone.
    pub(super) remove: bool,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<Timestamp>,
}

/// The plan for a pod.
pub(super) fn plan(at: &Situation<'_>) -> Plan {
    let mut alarm = Alarm::new(at.now);
    let deleted = at.pod.metadata.deletion_timestamp.is_some();
    if at.pod.is_finished() {
        return Plan {
            remove: deleted && !is_removed(at.pod),
            ..Plan::default()
        };
    }
    if is_foreign(at.pod) && !deleted {
        return Plan::default();
    }
    let mut containers = Containers::observe(at.pod);
    if alarm.due(killed_at(at, &containers)) {
        containers.kill(at);
        return Plan {
            report: report::of(at, &containers, report::Ending::Deleted),
            remove: !is_removed(at.pod),
            wake: None,
        };
    }
    if alarm.due(deadline(at)) {
        containers.kill(at);
        return Plan {
            report: report::of(at, &containers, report::Ending::Late),
            ..Plan::default()
        };
    }
    containers.advance(at, &mut alarm);
    Plan {
        report: report::of(at, &containers, report::Ending::No),
        remove: false,
        wake: alarm.next,
    }
}

/// Whether others have given it a status in which there are no containers.
fn is_foreign(pod: &Pod) -> bool {
    pod.phase() != "Pending" && pod.status.container_statuses.is_empty()
}

/// Whether the node has let go of it already, and others hold it.
fn is_removed(pod: &Pod) -> bool {
    pod.metadata.deletion_grace_period_seconds == Some(0) && pod.is_finished()
}

/// When the containers of a pod that is being deleted are gone.
fn killed_at(at: &Situation<'_>, containers: &Containers<'_>) -> Option<Timestamp> {
    let end = at.pod.metadata.deletion_timestamp.as_ref()?.0;
    if !containers.any_runs() {
        return Some(at.now);
    }
    let grace = at.pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    // The object tells only the second in which it was asked for.
    let second = earlier(end, grace);
    let asked = at.told.unwrap_or(at.now);
    let asked = asked.clamp(second, later(second, Duration::from_secs(1)));
    let stops = at.behaviour.stop_after(at.pod).unwrap_or(grace).min(grace);
    Some(later(later(asked, stops), at.slow))
}

/// When it has run for as long as it may.
fn deadline(at: &Situation<'_>) -> Option<Timestamp> {
    let started = at.pod.status.start_time.as_ref()?.0;
    let seconds = at.pod.spec.active_deadline_seconds?;
    started.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// A moment some time after another one; the end of all times if it is too far away.
fn later(from: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    from.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// A moment some time before another one.
fn earlier(from: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    from.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Moments that are waited for.
struct Alarm {
    now: Timestamp,
    /// The next one.
    next: Option<Timestamp>,
}

impl Alarm {
    fn new(now: Timestamp) -> Alarm {
        Alarm { now, next: None }
    }

    /// Whether a moment has come; if not, it is waited for.
    fn due(&mut self, moment: Option<Timestamp>) -> bool {
        let Some(moment) = moment else { return false };
        if moment <= self.now {
            return true;
        }
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
        false
    }
}
