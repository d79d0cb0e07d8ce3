//! What delivering costs: run by hand with
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo nextest run -p raft-store --run-ignored only --no-capture bench`.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::*;

/// The processor time of this process, both user and system.
#[allow(clippy::disallowed_methods, reason = "a test on real threads and time")]
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a name")
        .split(' ')
        .collect();
    let ticks: u64 =
        fields[12].parse::<u64>().expect("utime") + fields[13].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}

/// Delivers `events` to `streams` × `watchers` and reports the rate. Clients only count bytes.
async fn deliver(streams: usize, watchers: usize, events: usize, at_once: usize) {
    let server = Server::with(512 << 20, WatchConfig::default()).await;
    let done = Arc::new(tokio::sync::Semaphore::new(0));
    for _ in 0..streams {
        let mut client = server.open().await;
        for _ in 0..watchers {
            client.create(on("a", "z")).await;
        }
        let done = done.clone();
        server.tasks.spawn("client", async move {
            let mut seen = 0;
            while let Some(Ok(response)) = client.responses.next().await {
                seen += response.events.len();
                if seen == watchers * events {
                    done.add_permits(1);
                    break;
                }
            }
        });
    }
    let (started, cpu_before) = (Instant::now(), cpu());
    let value = "x".repeat(256);
    for n in 0..events {
        server.store.put("b", &value);
        if n % at_once == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let all = done.acquire_many(streams as u32).await.expect("open");
    drop(all);
    let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_before);
    let total = (streams * watchers * events) as f64;
    println!(
        "{streams} streams x {watchers} watchers x {events} events, {at_once} at once: \
         {:.0}/s, {:.2} us cpu each (client included)",
        total / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / total,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn bench_delivery() {
    deliver(1, 1000, 500, 1).await;
    deliver(1, 1000, 500, 10).await;
    deliver(1000, 1, 500, 1).await;
    deliver(1000, 1, 500, 10).await;
}
