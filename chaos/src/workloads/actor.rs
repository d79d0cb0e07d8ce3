//! A client that records what it does.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Targets};
use crate::client::{Answer, Client, Failure};
use crate::dice::Dice;
use crate::evidence::Plant;
use crate::history::{Kind, Process, Recorder};
use crate::ops::Call;

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
        }
    }

    /// Makes a call and records it. A process whose call has an unknown outcome is retired.
    pub async fn perform(&mut self, call: &Call) -> Option<Answer> {
        let process = Process::Client(self.process);
        let node = Some(self.client.node());
        self.recorder.invoke(&process, node, call);
        match self.send(call).await {
            Ok(answer) => {
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

    /// Sends a call as it is, unless this run tells a lie.
    async fn send(&mut self, call: &Call) -> Result<Answer, Failure> {
        match (self.shared.plant, call) {
            (Some(Plant::StaleReads), Call::Get { key, revision, .. }) => {
                let (key, revision) = (key.clone(), *revision);
                self.client
                    .call(&Call::Get {
                        key,
                        serializable: true,
                        revision,
                    })
                    .await
            }
            (Some(Plant::BlindRetry), _) => match self.client.call(call).await {
                Err(Failure::Unknown(_)) => {
                    self.move_on();
                    self.client.call(call).await
                }
                answered => answered,
            },
            (Some(Plant::FalseRefusal), Call::Put { .. }) => {
                let answered = self.client.call(call).await;
                if answered.is_ok() && self.shared.number().is_multiple_of(50) {
                    return Err(Failure::Refused("a lie".into()));
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
