//! Gives up on a watch when the member has been without a leader for too long.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long a watch outlives its leader. Longer than etcd's three election timeouts, so that an
/// election or a short partition does not make every client list everything again.
pub const LEADER_GRACE: Duration = Duration::from_secs(10);

/// Follows whether there is a leader.
#[derive(Debug, Clone)]
pub struct LeaderWatch {
    leader: watch::Receiver<Option<u64>>,
    grace: Duration,
    lost_at: Option<Instant>,
}

impl LeaderWatch {
    /// Gives up after `grace` without a leader.
    pub fn new(leader: watch::Receiver<Option<u64>>, grace: Duration) -> LeaderWatch {
        LeaderWatch {
            leader,
            grace,
            lost_at: None,
        }
    }

    /// Whether there is a leader now.
    pub fn has_leader(&self) -> bool {
        self.leader.borrow().is_some()
    }

    /// Waits until there has been no leader for the whole grace period. Cancel safe: a later call
    /// goes on counting.
    pub async fn lost(&mut self) {
        loop {
            let (led, changed) = {
                let leader = self.leader.borrow_and_update();
                (leader.is_some(), leader.has_changed())
            };
            if led || changed {
                self.lost_at = None;
            }
            let waited = if led {
                Ok(self.leader.changed().await)
            } else {
                let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
                timeout_at(lost_at + self.grace, self.leader.changed()).await
            };
            match waited {
                Ok(Ok(())) => {}
                // The member is gone; the stream ends by other means.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_the_grace_and_not_when_a_leader_returns() {
        let (leader, follow) = watch::channel(Some(1));
        let mut watch = LeaderWatch::new(follow, Duration::from_secs(10));
        let second = Duration::from_secs(1);
        assert!(timeout(60 * second, watch.lost()).await.is_err());

        leader.send_replace(None);
        assert!(timeout(9 * second, watch.lost()).await.is_err());
        leader.send_replace(Some(2));
        assert!(timeout(60 * second, watch.lost()).await.is_err());

        leader.send_replace(None);
        let started = Instant::now();
        // Interrupted calls do not start the count anew.
        while timeout(second, watch.lost()).await.is_err() {
            assert!(started.elapsed() < 15 * second);
        }
        assert!(started.elapsed() >= 10 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_comes_and_goes_unseen_starts_the_count_anew() {
        let (leader, follow) = watch::channel(None);
        let mut watch = LeaderWatch::new(follow, Duration::from_secs(10));
        assert!(timeout(Duration::from_secs(9), watch.lost()).await.is_err());
        leader.send_replace(Some(2));
        leader.send_replace(None);
        assert!(timeout(Duration::from_secs(9), watch.lost()).await.is_err());
        sleep(Duration::from_secs(2)).await;
        assert!(timeout(Duration::ZERO, watch.lost()).await.is_ok());
    }
}
