//! Fan-out: one key, many watchers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::Options;
use crate::cluster::Cluster;
use crate::encode::{Encoder, fields};
use crate::load::{block_on, percentile};
use crate::report::{Better, Results};
use crate::wire::{Connection, Frames, Rpc};

const KEY: &[u8] = b"watched";
const VALUE_BYTES: usize = 256;
/// Writers while delivery is measured at full speed.
const WRITERS: usize = 8;
/// Deliveries may lag this far behind, in events, before writers wait: a writer faster than
/// the slowest watcher measures nothing but the store's memory.
const LAG_MAX: u64 = 200_000;
/// How long the last events may take.
const DRAIN_TIME: Duration = Duration::from_secs(20);

struct Counters {
    epoch: Instant,
    delivered: Cell<u64>,
    /// Latencies in microseconds while they are measured.
    latencies: RefCell<Vec<u32>>,
    timing: Cell<bool>,
}

/// Measures delivery at full speed, then latency at a fixed rate.
pub(crate) fn measure(cluster: &Cluster, options: &Options, results: &mut Results) -> Result<()> {
    let endpoints = crate::throughput::endpoints(cluster, options)?;
    block_on(async {
        let counters = Rc::new(Counters {
            epoch: Instant::now(),
            delivered: Cell::new(0),
            latencies: RefCell::new(Vec::new()),
            timing: Cell::new(false),
        });
        let mut connections = Vec::new();
        for at in 0..options.conns.unwrap_or(10).max(1) {
            connections.push(Connection::open(&endpoints[at % endpoints.len()]).await?);
        }
        let streams = watchers(&connections, options, &counters).await?;
        full_speed(cluster, options, &connections, &counters, results).await?;
        fixed_rate(cluster, options, &connections, &counters, results).await?;
        streams.iter().for_each(|stream| stream.abort());
        anyhow::Ok(())
    })?
}

type Task = tokio::task::JoinHandle<()>;

/// Opens the watchers and waits until all of them are confirmed.
async fn watchers(
    connections: &[Connection],
    options: &Options,
    counters: &Rc<Counters>,
) -> Result<Vec<Task>> {
    let mut encoder = Encoder::default();
    let streams = options.watch_streams.clamp(1, options.watchers.max(1));
    let mut tasks = Vec::new();
    for stream in 0..streams {
        let share = options.watchers / streams + usize::from(stream < options.watchers % streams);
        let requests = (0..share).map(|_| encoder.watch(KEY)).collect();
        let connection = &connections[stream % connections.len()];
        let (sender, mut frames) = connection.watch(requests).await?;
        let mut confirmed = 0;
        while confirmed < share {
            if !frames.next(|_| confirmed += 1).await? {
                bail!("a watch stream ended while it was set up");
            }
        }
        let counters = counters.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let _sender = sender;
            receive(&mut frames, &counters).await;
        }));
    }
    Ok(tasks)
}

async fn receive(frames: &mut Frames, counters: &Counters) {
    loop {
        let more = frames.next(|message| count(message, counters)).await;
        if !matches!(more, Ok(true)) {
            return;
        }
    }
}

/// Counts the events of a response, and times them when asked to.
fn count(response: &[u8], counters: &Counters) {
    let mut events = 0;
    let now_us = counters
        .timing
        .get()
        .then(|| counters.epoch.elapsed().as_micros() as u64);
    let scanned = fields(response, |field, event| {
        if field == 11 {
            events += 1;
            if let (Some(now), Some(sent)) = (now_us, sent_us(event)) {
                let latency = u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX);
                counters.latencies.borrow_mut().push(latency);
            }
        }
    });
    if scanned.is_some() {
        counters.delivered.set(counters.delivered.get() + events);
    }
}

/// When the value of an event was sent: its first 8 bytes.
fn sent_us(event: &[u8]) -> Option<u64> {
    let mut sent = None;
    fields(event, |field, kv| {
        if field == 2 {
            fields(kv, |field, value| {
                if field == 5 {
                    sent = value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                }
            });
        }
    })?;
    sent
}

fn value(counters: &Counters) -> [u8; VALUE_BYTES] {
    let mut value = [0x5a; VALUE_BYTES];
    let now = counters.epoch.elapsed().as_micros() as u64;
    value[..8].copy_from_slice(&now.to_le_bytes());
    value
}

/// Waits until so many events were delivered in all.
async fn drained(counters: &Counters, target: u64) -> Result<()> {
    let end = Instant::now() + DRAIN_TIME;
    while counters.delivered.get() < target {
        if Instant::now() > end {
            bail!(
                "{} of {target} events were delivered in time",
                counters.delivered.get()
            );
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn full_speed(
    cluster: &Cluster,
    options: &Options,
    connections: &[Connection],
    counters: &Rc<Counters>,
    results: &mut Results,
) -> Result<()> {
    let watchers = options.watchers as u64;
    let already = counters.delivered.get();
    let cpu = cluster.cpu();
    let began = Instant::now();
    let end = began + options.window();
    let puts = Rc::new(Cell::new(0_u64));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let connection = connections[writer % connections.len()].clone();
            let (counters, puts) = (counters.clone(), puts.clone());
            tokio::task::spawn_local(async move {
                let mut encoder = Encoder::default();
                while Instant::now() < end {
                    let delivered = counters.delivered.get() - already;
                    if (puts.get() * watchers).saturating_sub(delivered) > LAG_MAX {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let put = encoder.put(KEY, &value(&counters));
                    connection.call(Rpc::Put, put).await?;
                    puts.set(puts.get() + 1);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    drained(counters, already + puts.get() * watchers).await?;
    let seconds = began.elapsed().as_secs_f64();
    let events = (counters.delivered.get() - already) as f64;
    let cpu = cluster.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / events.max(1.0);
    let system = cluster.system.name();
    results.add(
        system,
        "watch",
        "delivered",
        "event/s",
        Better::Higher,
        events / seconds,
    );
    results.add(
        system,
        "watch",
        "server CPU",
        "us/event",
        Better::Lower,
        cpu,
    );
    eprintln!(
        "  watch: {:.0} events/s, {cpu:.2} us CPU/event",
        events / seconds
    );
    Ok(())
}

async fn fixed_rate(
    cluster: &Cluster,
    options: &Options,
    connections: &[Connection],
    counters: &Rc<Counters>,
    results: &mut Results,
) -> Result<()> {
    let watchers = options.watchers as u64;
    let already = counters.delivered.get();
    counters.timing.set(true);
    let cpu = cluster.cpu();
    let mut encoder = Encoder::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / options.watch_rate.max(1));
    let end = Instant::now() + options.window();
    let mut puts = 0;
    while Instant::now() < end {
        tick.tick().await;
        let put = encoder.put(KEY, &value(counters));
        connections[puts as usize % connections.len()]
            .call(Rpc::Put, put)
            .await?;
        puts += 1;
    }
    drained(counters, already + puts * watchers).await?;
    counters.timing.set(false);
    let mut latencies = counters.latencies.take();
    latencies.sort_unstable();
    let events = latencies.len().max(1) as f64;
    let cpu = cluster.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / events;
    let system = cluster.system.name();
    let (p50, p99) = (
        percentile(&latencies, 0.5) / 1e3,
        percentile(&latencies, 0.99) / 1e3,
    );
    let test = "watch-fixed";
    results.add(system, test, "p50", "ms", Better::Lower, p50);
    results.add(system, test, "p99", "ms", Better::Lower, p99);
    results.add(system, test, "server CPU", "us/event", Better::Lower, cpu);
    eprintln!(
        "  watch at {}/s: p50 {p50:.1} ms, p99 {p99:.1} ms",
        options.watch_rate
    );
    Ok(())
}
