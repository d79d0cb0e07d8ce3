//! Leases that end early or late.

use std::time::Duration;

use super::*;
use chaos::checkers::lease;
use chaos::checkers::lease::Bounds;
use chaos::history::{Frame, WatchRecord};

fn lease_history(renewals: &[u64]) -> Vec<Operation> {
    let mut history = vec![
        ok(
            0,
            (1, 2),
            Call::Grant { lease: 7, ttl: 3 },
            Reply::Ttl(3),
            1,
        ),
        ok(
            0,
            (2, 3),
            Call::Put {
                key: "lease/7".into(),
                value: "v".into(),
                lease: 7,
            },
            Reply::Done,
            2,
        ),
    ];
    for at in renewals {
        history.push(ok(
            0,
            (*at, at + 1),
            Call::KeepAlive { lease: 7 },
            Reply::Ttl(3),
            2,
        ));
    }
    history
}

/// The key's deletion is seen at second `gone`; members are read at second 900.
fn lease_check(history: &[Operation], gone: Option<u64>, early: Duration) -> Report {
    let put = vec![Change::Put("lease/7".into(), "v".into(), 7)];
    let delete = vec![Change::Delete("lease/7".into())];
    let log = log_of(&if gone.is_some() {
        vec![put, delete]
    } else {
        vec![put]
    });
    let seen = gone.map(|second| WatchRecord {
        index: second,
        time_ns: second * 1_000_000_000,
        stream: 0,
        node: 0,
        frame: Frame::Events(log.events[&3].clone()),
    });
    let items = state_at(&log, log.to).items.into_values().collect();
    let list = Call::List {
        prefix: String::new(),
        serializable: true,
        revision: 0,
    };
    let read = ok(0, (900, 901), list, Reply::Items(items), log.to);
    let read = Operation {
        process: Process::Named("final-0".into()),
        ..read
    };
    let seen: Vec<WatchRecord> = seen.into_iter().collect();
    let bounds = Bounds {
        early,
        late: Duration::from_secs(10),
    };
    lease::check(&[history, &[read]].concat(), &seen, &log, bounds)
}

#[test]
fn leases_end_neither_early_nor_late() {
    valid(&lease_check(&lease_history(&[]), Some(5), Duration::ZERO));
    valid(&lease_check(
        &lease_history(&[3, 5]),
        Some(8),
        Duration::ZERO,
    ));
    caught(
        &lease_check(&lease_history(&[3, 5]), Some(7), Duration::ZERO),
        "early-expiry",
    );
    valid(&lease_check(
        &lease_history(&[3, 5]),
        Some(7),
        Duration::from_secs(2),
    ));
    caught(
        &lease_check(&lease_history(&[]), None, Duration::ZERO),
        "late-expiry",
    );
    valid(&lease_check(&lease_history(&[890]), None, Duration::ZERO));
    // A renewal confirmed after the end was seen.
    caught(
        &lease_check(&lease_history(&[20]), Some(8), Duration::ZERO),
        "early-expiry",
    );
    let revoke = ok(0, (4, 5), Call::Revoke { lease: 7 }, Reply::Done, 3);
    let revoked = [lease_history(&[3]), vec![revoke]].concat();
    valid(&lease_check(&revoked, Some(5), Duration::ZERO));
    caught(
        &lease_check(
            &[revoked, lease_history(&[890])[2..].to_vec()].concat(),
            None,
            Duration::ZERO,
        ),
        "late-expiry",
    );
}
