//! Clients and watchers at work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::CLIENTS;
use crate::client::Target;
use crate::dice::Dice;
use crate::history::{Recorder, WatchSpec};
use crate::plants::Plant;
use crate::workloads::watcher::Watcher;
use crate::workloads::{Actor, Shared, Workload, compact, drive};

/// Number of the client that compacts: no other ever gets it.
const COMPACTOR: u64 = 1_000_000;
/// Time a client gives a call.
const CALL_TIME: Duration = Duration::from_millis(1500);

/// Clients and watchers at work.
pub struct Load {
    clients: Vec<JoinHandle<()>>,
    pub(super) watchers: Vec<(Watching, JoinHandle<()>)>,
    targets: watch::Sender<Vec<Target>>,
    stop_clients: watch::Sender<bool>,
    stop_watchers: watch::Sender<bool>,
}

/// A stream as the end of a run sees it.
pub(super) struct Watching {
    pub(super) stream: u64,
    pub(super) spec: WatchSpec,
    pub(super) reached: watch::Receiver<i64>,
}

impl Load {
    /// Starts `count` clients of the workload that pause for `pause` between calls, and the
    /// workload's watchers.
    pub fn start(
        targets: &[Target],
        workload: Workload,
        (count, pause): (u64, Duration),
        recorder: &Recorder,
        shared: &Arc<Shared>,
        dice: &Dice,
    ) -> Load {
        let (stop_clients, stopped) = watch::channel(false);
        let (all, targets) = watch::channel(targets.to_vec());
        let clients = (0..count)
            .map(|number| {
                let actor = Actor::new(
                    number,
                    count,
                    targets.clone(),
                    CALL_TIME,
                    recorder.clone(),
                    shared.clone(),
                    dice.fork(number),
                );
                let (shared, stopped) = (shared.clone(), stopped.clone());
                tokio::spawn(drive(workload, actor, shared, pause, stopped))
            })
            .collect();
        let (stop_watchers, stopped) = watch::channel(false);
        let watchers = specs(workload)
            .into_iter()
            .zip(0..)
            .map(|(spec, stream)| {
                let (sender, reached) = watch::channel(0);
                let watcher = Watcher {
                    stream,
                    spec: spec.clone(),
                    targets: targets.clone(),
                    dice: dice.fork(1000 + stream),
                    recorder: recorder.clone(),
                    reached: sender,
                    late: shared.is_planted(Plant::LateResume),
                };
                let watching = Watching {
                    stream,
                    spec,
                    reached,
                };
                (watching, tokio::spawn(watcher.run(stopped.clone())))
            })
            .collect();
        Load {
            clients,
            watchers,
            targets: all,
            stop_clients,
            stop_watchers,
        }
    }

    /// Sends clients and watchers to these members from now on, wherever they go next.
    pub fn go_to(&self, targets: Vec<Target>) {
        self.targets.send_replace(targets);
    }

    /// Has history compacted meanwhile, behind what the first stream has seen.
    pub(super) fn compact(&mut self, recorder: &Recorder, shared: &Arc<Shared>, dice: &Dice) {
        let Some((first, _)) = self.watchers.first() else {
            return;
        };
        let actor = Actor::new(
            COMPACTOR,
            CLIENTS,
            self.targets.subscribe(),
            CALL_TIME,
            recorder.clone(),
            shared.clone(),
            dice.fork(COMPACTOR),
        );
        let (seen, stop) = (first.reached.clone(), self.stop_clients.subscribe());
        self.clients.push(tokio::spawn(compact(actor, seen, stop)));
    }

    /// Stops the clients and waits for the calls they are in.
    pub async fn stop_clients(&mut self) {
        let _ = self.stop_clients.send(true);
        for client in self.clients.drain(..) {
            // A client is never longer in a call than its deadlines.
            let _ = timeout(CALL_TIME * 4, client).await;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = (self.stop_clients.send(true), self.stop_watchers.send(true));
        self.clients.iter().for_each(JoinHandle::abort);
        self.watchers
            .iter()
            .for_each(|(_, watcher)| watcher.abort());
    }
}

/// What the streams of a run ask for. The first sees everything.
fn specs(workload: Workload) -> Vec<WatchSpec> {
    let spec = |prefix: &str, start| WatchSpec {
        prefix: prefix.into(),
        start,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        progress: true,
    };
    let mut specs = vec![spec("", 1), spec("", 0)];
    match workload {
        Workload::Register => specs.push(spec("reg/", 1)),
        Workload::Append => specs.push(spec("list/", 2)),
        Workload::Watch => {
            specs.extend([
                spec("w/0/", 1),
                spec("w/1/", 0),
                spec("w/", 30),
                spec("w/2/1", 1),
            ]);
            specs.push(WatchSpec {
                no_put: true,
                ..spec("w/", 1)
            });
            specs.push(WatchSpec {
                no_delete: true,
                prev_kv: false,
                ..spec("w/", 1)
            });
        }
        Workload::Set | Workload::Lease => {}
    }
    specs
}
