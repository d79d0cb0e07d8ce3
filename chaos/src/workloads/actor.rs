//! A client that records what it does.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Targets, lease};
use crate::client::{Answer, Client, Failure};
use crate::dice::Dice;
use crate::history::{Kind, Process, Recorder};
use crate::ops::{Call, Reply};
use crate::plants::Plant;

/// How many revisions ago a planted stale read looks.
const STALE_BY: i64 = 20;

/// One client. It stays with a member while that answers, so that stale members are noticed,
/// and mostly goes elsewhere when it does not.
pub struct Actor {
    /// Its choices.
    pub dice: Dice,
    process: u64,
    stride: u64,
    client: Client,
    targets: Targets,
    deadline: Duration,
    recorder: Recorder,
    shared: Arc<Shared>,
    /// The highest revision that it was told.
    told: i64,
    /// What planted faults may strike.
    reads: Turns,
    writes: Turns,
}

/// Counts, so that planted faults strike for certain, and not by chance.
#[derive(Default)]
struct Turns(u32);

impl Turns {
    /// Whether this is one of every so many.
    fn is_nth(&mut self, every: u32) -> bool {
        self.0 += 1;
        self.0.is_multiple_of(every)
    }
}

impl Actor {
    /// Client `number` of `clients`.
    pub fn new(
        number: u64,
        clients: u64,
        targets: Targets,
        deadline: Duration,
        recorder: Recorder,
        shared: Arc<Shared>,
        dice: Dice,
    ) -> Actor {
        let at = usize::try_from(number).unwrap_or(0) % targets.borrow().len();
        let client = Client::new(targets.borrow()[at].clone(), deadline);
        Actor {
            dice,
            process: number,
            stride: clients,
            client,
            targets,
            deadline,
            recorder,
            shared,
            told: 0,
            reads: Turns::default(),
            writes: Turns::default(),
        }
    }

    /// Makes a call and records it. A process whose call has an unknown outcome is retired.
    pub async fn perform(&mut self, call: &Call) -> Option<Answer> {
        let process = Process::Client(self.process);
        let node = Some(self.client.node());
        self.recorder.invoke(&process, node, call);
        match self.send(call).await {
            Ok(answer) => {
                self.told = self.told.max(answer.rev.unwrap_or(0));
                self.recorder
                    .ok(&process, call, node, &answer.reply, answer.rev);
                Some(answer)
            }
            Err(Failure::Refused(reason)) => {
                self.recorder
                    .failed(Kind::Fail, &process, call, node, &reason);
                if reason != "guard" {
                    self.move_on();
                }
                None
            }
            Err(Failure::Unknown(reason)) => {
                self.recorder
                    .failed(Kind::Info, &process, call, node, &reason);
                self.process += self.stride;
                self.move_on();
                None
            }
        }
    }

    /// Sends a call as it is, unless a fault was planted here.
    async fn send(&mut self, call: &Call) -> Result<Answer, Failure> {
        let planted = |plant| self.shared.is_planted(plant);
        match call {
            Call::Get { key, .. }
                if planted(Plant::StaleReads) && self.told > STALE_BY && self.reads.is_nth(5) =>
            {
                let revision = self.told - STALE_BY;
                let stale = Call::Get {
                    key: key.clone(),
                    serializable: true,
                    revision,
                };
                let answered = self.client.call(&stale).await?;
                let rev = Some(revision);
                Ok(Answer { rev, ..answered })
            }
            Call::KeepAlive { .. } if planted(Plant::DeafLessor) => Ok(Answer {
                reply: Reply::Ttl(lease::TTL_SECONDS),
                rev: None,
            }),
            Call::Grant { lease, ttl } if planted(Plant::LongLeases) && lease % 2 == 0 => {
                let (lease, asked) = (*lease, *ttl);
                let granted = self.client.call(&Call::Grant { lease, ttl: 60 }).await?;
                let reply = Reply::Ttl(asked);
                Ok(Answer { reply, ..granted })
            }
            Call::Put { .. } if planted(Plant::FalseRefusal) => {
                let answered = self.client.call(call).await;
                if answered.is_ok() && self.writes.is_nth(10) {
                    return Err(Failure::Refused("a lie".into()));
                }
                answered
            }
            _ if planted(Plant::BlindRetry) && call.may_write() => {
                let answered = self.client.call(call).await;
                let lost = self.shared.number().is_multiple_of(20);
                if lost || matches!(answered, Err(Failure::Unknown(_))) {
                    self.move_on();
                    return self.client.call(call).await;
                }
                answered
            }
            _ => self.client.call(call).await,
        }
    }

    fn move_on(&mut self) {
        if self.dice.chance(60)
            && let Some(target) = self.dice.pick(&self.targets.borrow())
        {
            self.client = Client::new(target.clone(), self.deadline);
        }
    }
}
