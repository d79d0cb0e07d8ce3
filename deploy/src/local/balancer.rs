//! One address for the APIs of all masters: a TCP balancer that passes over masters that are down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seams::Tasks;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// On one machine a master that does not answer at once is down or stopped.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Between attempts to accept after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that are passed on at once.
const CONNECTIONS_MAX: usize = 4096;

/// Listens on an address and passes connections on to one of several others, in turn, until the
/// tasks end.
///
/// # Errors
/// If the address cannot be listened on.
pub(super) async fn run(listen: &str, targets: Vec<String>, tasks: &Tasks) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let owner = tasks.clone();
    let targets: Arc<[String]> = targets.into();
    let next = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tasks.spawn("balancer", async move {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
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
            let (targets, stop) = (targets.clone(), owner.clone());
            let first = next.fetch_add(1, Ordering::Relaxed);
            owner.spawn("balanced", async move {
                tokio::select! {
                    () = pass_on(client, &targets, first) => {}
                    () = stop.cancelled() => {}
                }
                drop(slot);
            });
        }
    });
    Ok(())
}

async fn pass_on(mut client: TcpStream, targets: &[String], first: usize) {
    for at in 0..targets.len() {
        let target = &targets[(first + at) % targets.len()];
        let Ok(Ok(mut server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await else {
            continue;
        };
        // Small frames of watches must not wait for each other.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        // However it ends, both sides see the end.
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
}
