//! When Raft is woken although nobody calls it.
//!
//! openraft's own clock strikes five times per heartbeat interval, on every member, whether or not there is
//! something to do: that was a third of what an idle member cost. Here it stands still as long as nothing can
//! be due. A leader is woken for each round of heartbeats. A follower is woken once its leader's lease has run
//! out: it then stands for election, at a moment of its own so that votes are rarely split, and with a
//! pre-vote, which disturbs nobody who still hears the leader. openraft by itself would wait for an election
//! timeout after the lease. Whatever follows is timed by its clock again, until a leader is heard.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{AsyncRuntime, WatchReceiver};
use rand::RngExt;
use seams::Tasks;
use tokio::time::sleep;

use super::raft::Consensus;
use super::runtime::Runtime;

/// Wakes Raft until the tasks end.
pub(super) async fn run(consensus: Consensus, tasks: Tasks) {
    let mut metrics = consensus.raft.server_metrics();
    let mut pace = Pace {
        stands: false,
        delay: delay(consensus.timings.election_max),
        consensus,
    };
    loop {
        let state = {
            let metrics = metrics.borrow_watched();
            metrics.current_leader.map(|_| metrics.state)
        };
        let pause = pace.turn(state).await;
        tokio::select! {
            () = tasks.cancelled() => return,
            changed = metrics.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep(pause) => {}
        }
    }
}

struct Pace {
    consensus: Consensus,
    /// Whether it stood for election since it heard a leader.
    stands: bool,
    /// After a lease, before it stands.
    delay: Duration,
}

impl Pace {
    /// Does what is due of a member that knows a leader, or else lets the clock run; yields for how long.
    async fn turn(&mut self, state: Option<ServerState>) -> Duration {
        let timings = &self.consensus.timings;
        let clock = self.consensus.raft.runtime_config();
        let trigger = self.consensus.raft.trigger();
        // What is triggered fails once Raft has stopped: then the tasks end as well.
        match state {
            Some(ServerState::Leader) => {
                clock.tick(false);
                let _ = trigger.heartbeat().await;
                return timings.heartbeat;
            }
            Some(ServerState::Follower | ServerState::Learner) => {
                let lease = timings.election_max;
                let patience = (lease + self.delay).saturating_sub(self.consensus.silence());
                if !patience.is_zero() {
                    clock.tick(false);
                    if self.stands {
                        self.stands = false;
                        self.delay = delay(lease);
                    }
                    return patience;
                }
                if !self.stands {
                    self.stands = true;
                    let _ = trigger.elect(true).await;
                }
            }
            _ => {}
        }
        clock.tick(true);
        timings.heartbeat
    }
}

/// Members heard their leader at about the same time: far enough apart for one to be elected before the next
/// one stands, most of the time.
fn delay(lease: Duration) -> Duration {
    lease / 16 + (lease / 4).mul_f64(Runtime::thread_rng().random::<f64>())
}
