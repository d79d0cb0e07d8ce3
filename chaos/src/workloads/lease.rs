//! Leases: granted, given a key, renewed some times, then abandoned or revoked.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Actor, Shared};
use crate::checkers::lease::PREFIX;
use crate::ops::{Call, Reply};

/// Seconds a lease lives: short, but above the least that stores grant.
pub(crate) const TTL_SECONDS: i64 = 3;

pub(super) async fn drive(actor: &mut Actor, shared: &Shared, stop: &watch::Receiver<bool>) {
    while !*stop.borrow() {
        let lease = i64::try_from(shared.number()).unwrap_or(i64::MAX);
        let granted = actor
            .perform(&Call::Grant {
                lease,
                ttl: TTL_SECONDS,
            })
            .await;
        if granted.is_none() {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        let put = Call::Put {
            key: format!("{PREFIX}{lease}"),
            value: shared.value(),
            lease,
        };
        actor.perform(&put).await;
        live(actor, lease, stop).await;
    }
}

/// Renews a lease a few times, then ends or forgets it.
async fn live(actor: &mut Actor, lease: i64, stop: &watch::Receiver<bool>) {
    for _ in 0..actor.dice.below(5) {
        sleep(Duration::from_millis(600 + actor.dice.below(600) as u64)).await;
        let answer = actor.perform(&Call::KeepAlive { lease }).await;
        let gone = answer.is_some_and(|answer| matches!(answer.reply, Reply::Ttl(..=0)));
        if gone || *stop.borrow() {
            return;
        }
    }
    if actor.dice.chance(40) {
        actor.perform(&Call::Revoke { lease }).await;
    }
}
