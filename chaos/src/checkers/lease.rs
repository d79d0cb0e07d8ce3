//! Nothing renewed expires early; everything abandoned is gone in time.
//!
//! A renewal that was asked for at s and confirmed with t seconds keeps the lease until s + t
//! at least. Whoever saw its key deleted before that saw a violation, whatever the clocks of
//! the members say: all times are of one monotonic clock, the harness's.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::Report;
use super::certificate::EventLog;
use super::set::is_final;
use crate::history::{EventKind, Frame, Operation, Outcome, WatchRecord};
use crate::ops::{Call, Reply};

/// Keys held by leases start with this; the key of lease 7 is `lease/7`.
pub const PREFIX: &str = "lease/";

/// How exact expiry must be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A lease may end this much early: 0 for a store that promises not to.
    pub early: Duration,
    /// An abandoned lease's keys may outlive it by this much.
    pub late: Duration,
}

#[derive(Default)]
struct Lease {
    /// Until when it was certainly alive: the latest of (asked at + confirmed seconds).
    alive_ns: u64,
    /// Record of the renewal that says so.
    renewal: u64,
    /// Latest time at which any renewal may have happened, plus its seconds.
    expires_ns: u64,
    granted: bool,
    revoked: bool,
    ttl: i64,
}

/// Checks every lease of a history.
pub fn check(
    operations: &[Operation],
    watch: &[WatchRecord],
    log: &EventLog,
    bounds: Bounds,
) -> Report {
    let mut report = Report::new("lease");
    let leases = leases(operations);
    early(&leases, operations, watch, log, bounds, &mut report);
    late(&leases, operations, bounds, &mut report);
    let granted = leases.values().filter(|lease| lease.granted).count();
    report.count("leases", i64::try_from(granted).unwrap_or(i64::MAX));
    if granted == 0 {
        report.unknown("no lease was granted");
    }
    report
}

fn leases(operations: &[Operation]) -> BTreeMap<i64, Lease> {
    let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
    for operation in operations {
        let (id, ttl) = match (&operation.call, &operation.reply) {
            (Call::Grant { lease, ttl }, Some(Reply::Ttl(granted))) => {
                (*lease, *(granted.max(ttl)))
            }
            (Call::Grant { lease, ttl }, _) => (*lease, *ttl),
            (Call::KeepAlive { lease }, Some(Reply::Ttl(ttl))) => (*lease, *ttl),
            (Call::KeepAlive { lease }, _) => (*lease, leases.get(lease).map_or(0, |l| l.ttl)),
            (Call::Revoke { lease }, _) => {
                leases.entry(*lease).or_default().revoked |= operation.outcome != Outcome::Fail;
                continue;
            }
            _ => continue,
        };
        if operation.outcome == Outcome::Fail {
            continue;
        }
        let lease = leases.entry(id).or_default();
        let seconds = u64::try_from(ttl).unwrap_or(0) * 1_000_000_000;
        lease.ttl = lease.ttl.max(ttl);
        let asked_end = operation.end_ns.min(operation.start_ns + 60_000_000_000);
        lease.expires_ns = lease.expires_ns.max(asked_end.saturating_add(seconds));
        if operation.outcome == Outcome::Ok && ttl > 0 {
            lease.granted |= matches!(operation.call, Call::Grant { .. });
            if operation.start_ns + seconds > lease.alive_ns {
                lease.alive_ns = operation.start_ns + seconds;
                lease.renewal = operation.start;
            }
        }
    }
    leases
}

/// When a revision was first seen by anyone: pairs of (revision, earliest time of it or a
/// later one), ascending.
fn first_seen(operations: &[Operation], watch: &[WatchRecord]) -> BTreeMap<i64, u64> {
    let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
    let mut see = |revision: i64, time: u64| {
        let earliest = seen.entry(revision).or_insert(u64::MAX);
        *earliest = (*earliest).min(time);
    };
    for operation in operations {
        if let (Outcome::Ok, Some(rev)) = (operation.outcome, operation.rev) {
            see(rev, operation.end_ns);
        }
    }
    for record in watch {
        if let Frame::Events(events) = &record.frame {
            for event in events {
                see(event.revision(), record.time_ns);
            }
        }
    }
    let mut earliest = u64::MAX;
    for time in seen.values_mut().rev() {
        earliest = earliest.min(*time);
        *time = earliest;
    }
    seen
}

fn early(
    leases: &BTreeMap<i64, Lease>,
    operations: &[Operation],
    watch: &[WatchRecord],
    log: &EventLog,
    bounds: Bounds,
    report: &mut Report,
) {
    let seen = first_seen(operations, watch);
    let slack = u64::try_from(bounds.early.as_nanos()).unwrap_or(u64::MAX);
    for event in log.iter().filter(|event| event.kind == EventKind::Delete) {
        let Some(lease) = id_of(&event.item.key).and_then(|id| leases.get(&id)) else {
            continue;
        };
        let Some((_, gone_ns)) = seen.range(event.revision()..).next() else {
            continue;
        };
        report.count("ended", 1);
        if !lease.revoked && lease.alive_ns > gone_ns + slack {
            let early_ms = (lease.alive_ns - gone_ns) / 1_000_000;
            let message = format!(
                "{} was gone at revision {}, {early_ms} ms before its lease could end",
                event.item.key,
                event.revision()
            );
            report.invalid("early-expiry", &[lease.renewal], message);
        }
    }
}

fn late(
    leases: &BTreeMap<i64, Lease>,
    operations: &[Operation],
    bounds: Bounds,
    report: &mut Report,
) {
    let bound = u64::try_from(bounds.late.as_nanos()).unwrap_or(u64::MAX);
    for operation in operations
        .iter()
        .filter(|operation| is_final(&operation.process))
    {
        let (Call::List { .. }, Some(Reply::Items(items))) = (&operation.call, &operation.reply)
        else {
            continue;
        };
        let present: HashSet<i64> = items.iter().filter_map(|item| id_of(&item.key)).collect();
        for (id, lease) in leases {
            let end = lease.expires_ns.saturating_add(bound);
            if present.contains(id)
                && (operation.start_ns > end || lease.revoked_surely(operations, *id))
            {
                let message = format!(
                    "{PREFIX}{id} outlived its lease on member {:?}",
                    operation.node
                );
                report.invalid("late-expiry", &[operation.start], message);
            }
        }
    }
}

impl Lease {
    fn revoked_surely(&self, operations: &[Operation], id: i64) -> bool {
        self.revoked
            && operations.iter().any(|operation| {
                operation.call == Call::Revoke { lease: id } && operation.outcome == Outcome::Ok
            })
    }
}

fn id_of(key: &str) -> Option<i64> {
    key.strip_prefix(PREFIX)?.parse().ok()
}
