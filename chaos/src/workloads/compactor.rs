//! Compacts history all the time, as API servers do every few minutes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Actor;
use crate::ops::Call;

const PAUSE: Duration = Duration::from_millis(300);
/// Revisions left to streams that lag a little: most are told that they came too late only when
/// they really did.
const LEFT: i64 = 10;

/// Compacts up to a little before what the first stream has `seen`, until `stop` is true. That
/// stream sees everything, so what is forgotten here was seen by somebody.
pub async fn compact(mut actor: Actor, seen: watch::Receiver<i64>, stop: watch::Receiver<bool>) {
    let mut compacted = 0;
    while !*stop.borrow() {
        sleep(PAUSE).await;
        let revision = *seen.borrow() - LEFT;
        if revision <= compacted {
            continue;
        }
        let done = actor.perform(&Call::Compact { revision }).await;
        // Whatever became of it, the same revision is not asked for twice.
        compacted = revision;
        if done.is_none() {
            sleep(PAUSE).await;
        }
    }
}
