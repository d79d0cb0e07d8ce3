//! One address for the APIs of all masters: a TCP balancer that passes over masters that do not serve.
//!
//! Each master is asked for its health all the time. One that is not ready gets new connections last; one
//! that does not answer at all, which is how a process that is stopped or a hung one looks, loses those
//! that it has: their clients come back, to another.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seams::Tasks;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::health::Probe;
use crate::config::values::Url;

/// On one machine a master that does not answer at once is down or stopped.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Between attempts to accept after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that are passed on at once.
const CONNECTIONS_MAX: usize = 4096;
/// Between two questions to a master, and how long an answer may take: each is a handshake, and a busy
/// machine is no reason to lose connections.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The balancer of a cluster.
#[derive(Clone)]
pub(super) struct Balancer {
    targets: Arc<[Target]>,
    next: Arc<AtomicUsize>,
    slots: Arc<Semaphore>,
}

/// A master as the balancer sees it.
struct Target {
    url: Url,
    state: Mutex<State>,
}

struct State {
    is_ready: bool,
    /// Ends the connections that there are.
    connections: CancellationToken,
}

impl Balancer {
    /// Balances between the APIs at some URLs and asks for their health, until the tasks end.
    pub(super) fn start(urls: impl Iterator<Item = Url>, probe: &Probe, tasks: &Tasks) -> Self {
        let target = |url| Target {
            url,
            state: Mutex::new(State {
                is_ready: true,
                connections: CancellationToken::new(),
            }),
        };
        let balancer = Balancer {
            targets: urls.map(target).collect(),
            next: Arc::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        for at in 0..balancer.targets.len() {
            let (targets, probe, owner) = (balancer.targets.clone(), probe.clone(), tasks.clone());
            tasks.spawn("balancer-check", async move {
                loop {
                    tokio::select! {
                        () = targets[at].check(&probe) => {}
                        () = owner.cancelled() => return,
                    }
                    tokio::select! {
                        () = sleep(CHECK_INTERVAL) => {}
                        () = owner.cancelled() => return,
                    }
                }
            });
        }
        balancer
    }

    /// Passes on what connects to an address, until the tasks end.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(super) async fn listen(&self, address: &str, tasks: &Tasks) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        let (balancer, owner) = (self.clone(), tasks.clone());
        tasks.spawn("balancer", async move {
            loop {
                let Ok(slot) = balancer.slots.clone().acquire_owned().await else {
                    return;
                };
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = owner.cancelled() => return,
                };
                let Ok((client, _)) = accepted else {
                    sleep(ACCEPT_RETRY).await;
                    continue;
                };
                let (balancer, stop) = (balancer.clone(), owner.clone());
                owner.spawn("balanced", async move {
                    tokio::select! {
                        () = balancer.pass_on(client) => {}
                        () = stop.cancelled() => {}
                    }
                    drop(slot);
                });
            }
        });
        Ok(())
    }

    async fn pass_on(&self, mut client: TcpStream) {
        for target in self.in_turn() {
            let connections = target.state().connections.clone();
            let connecting = TcpStream::connect(target.url.authority());
            let Ok(Ok(mut server)) = timeout(CONNECT_TIMEOUT, connecting).await else {
                continue;
            };
            // Small frames of watches must not wait for each other.
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // However it ends, both sides see the end.
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                () = connections.cancelled() => {}
            }
            return;
        }
    }

    /// All masters, another one first each time; those that are not ready come last.
    fn in_turn(&self) -> impl Iterator<Item = &Target> {
        let all = self.targets.iter().cycle();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.targets.len().max(1);
        let turn = all.skip(first).take(self.targets.len());
        let (ready, others): (Vec<_>, Vec<_>) = turn.partition(|target| target.state().is_ready);
        ready.into_iter().chain(others)
    }
}

impl Target {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self, probe: &Probe) {
        let answer = timeout(CHECK_TIMEOUT, probe.check_api(&self.url)).await;
        let mut state = self.state();
        state.is_ready = matches!(answer, Ok(Ok(())));
        if answer.is_err() {
            std::mem::take(&mut state.connections).cancel();
        }
    }
}
