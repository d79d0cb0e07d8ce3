//! Rates: puts, reads, transactions and lists in closed loops.

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::encode::{Encoder, key};
use crate::load::{Loop, Measured, Requests, block_on};
use crate::report::{Better, Results};
use crate::wire::{Connection, Rpc};
use crate::{Options, Target};

const VALUE_BYTES: usize = 256;
/// Keys that puts and reads are spread over.
const KEYS: u64 = 10_000;
const LIST_KEYS: u64 = 10_000;
const LIST_VALUE_BYTES: usize = 1024;
/// Puts per loading transaction: below etcd's limit of 128 operations.
const LOAD_BATCH: u64 = 100;

/// Runs the measurement called `name`.
pub(crate) fn measure(
    cluster: &Cluster,
    options: &Options,
    name: &str,
    results: &mut Results,
) -> Result<()> {
    let (kind, clients) = match name.split_once('-') {
        Some(("list", _)) => ("list", 2),
        Some(("txn", _)) => ("txn", 100),
        Some((kind, clients)) => (kind, clients.parse()?),
        None => bail!("no measurement is called {name}"),
    };
    match kind {
        "range" | "serial" => load(cluster, b'k', KEYS, VALUE_BYTES)?,
        "list" => load(cluster, b'l', LIST_KEYS, LIST_VALUE_BYTES)?,
        _ => {}
    }
    let endpoints = endpoints(cluster, options)?;
    let connections = options
        .conns
        .unwrap_or((clients / 10).clamp(1, 100))
        .min(clients);
    let measured = Loop {
        endpoints: &endpoints,
        clients,
        connections,
        threads: options.threads,
        window: options.window(),
        requests: &|thread| requests(kind, thread),
        cpu: &|| cluster.cpu(),
    }
    .run()?;
    if kind == "list" && measured.bytes < measured.operations * LIST_KEYS * 1024 {
        bail!(
            "the lists were short: {} bytes in {}",
            measured.bytes,
            measured.operations
        );
    }
    record(cluster, name, &measured, results);
    Ok(())
}

fn record(cluster: &Cluster, name: &str, measured: &Measured, results: &mut Results) {
    let system = cluster.system.name();
    results.add(
        system,
        name,
        "rate",
        "op/s",
        Better::Higher,
        measured.rate(),
    );
    let cpu = measured.cpu_us_per_operation();
    results.add(system, name, "server CPU", "us/op", Better::Lower, cpu);
    let p50 = measured.percentile_ms(0.5);
    results.add(system, name, "p50", "ms", Better::Lower, p50);
    results.add(
        system,
        name,
        "p99",
        "ms",
        Better::Lower,
        measured.percentile_ms(0.99),
    );
    if measured.errors > 0 {
        results.add(
            system,
            name,
            "errors",
            "calls",
            Better::Lower,
            measured.errors as f64,
        );
        eprintln!(
            "  {name}: {} errors, first: {:?}",
            measured.errors, measured.error
        );
    }
    eprintln!(
        "  {name}: {:.0} op/s, {cpu:.1} us CPU/op, p50 {p50:.2} ms",
        measured.rate()
    );
}

/// All members or the leader alone.
pub(crate) fn endpoints(cluster: &Cluster, options: &Options) -> Result<Vec<String>> {
    Ok(match options.target {
        Target::All => cluster.endpoints.clone(),
        Target::Leader => vec![cluster.endpoints[crate::failover::leader(cluster)?].clone()],
    })
}

/// A small generator of pseudo-random numbers (xorshift*), one per thread.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(mixed) * u128::from(limit)) >> 64) as u64
    }
}

fn requests(kind: &str, thread: u64) -> Requests {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (thread + 1));
    // Not compressible: neither store may win by compression.
    let value: Vec<u8> = (0..VALUE_BYTES).map(|_| random.below(256) as u8).collect();
    match kind {
        "put" => Box::new(move |encoder| {
            (
                Rpc::Put,
                encoder.put(&key(b'k', random.below(KEYS)), &value),
            )
        }),
        "range" => Box::new(move |encoder| {
            (
                Rpc::Range,
                encoder.range(&key(b'k', random.below(KEYS)), b"", false),
            )
        }),
        "serial" => Box::new(move |encoder| {
            (
                Rpc::Range,
                encoder.range(&key(b'k', random.below(KEYS)), b"", true),
            )
        }),
        "txn" => Box::new(move |encoder| {
            let key = key(b'k', random.below(KEYS));
            let write = random.below(2) == 0;
            let request = if write {
                encoder.write_txn(&key, &value)
            } else {
                encoder.read_txn(&key)
            };
            (Rpc::Txn, request)
        }),
        _ => Box::new(move |encoder| (Rpc::Range, encoder.range(b"l", b"m", false))),
    }
}

/// Writes keys `0..keys` of a space, many per transaction, a few transactions at a time.
pub(crate) fn load(cluster: &Cluster, space: u8, keys: u64, value_bytes: usize) -> Result<()> {
    const IN_FLIGHT: usize = 8;
    block_on(async {
        let mut connections = Vec::new();
        for endpoint in &cluster.endpoints {
            connections.push(Connection::open(endpoint).await?);
        }
        let mut random = Random(7);
        let mut encoder = Encoder::default();
        let mut flying = std::collections::VecDeque::new();
        let mut from = 0;
        while from < keys || !flying.is_empty() {
            if from < keys && flying.len() < IN_FLIGHT {
                let to = (from + LOAD_BATCH).min(keys);
                let value: Vec<u8> = (0..value_bytes).map(|_| random.below(256) as u8).collect();
                let request = encoder.put_many(space, from, to, &value);
                let connection = connections[(from / LOAD_BATCH) as usize % 3].clone();
                flying.push_back(tokio::task::spawn_local(async move {
                    connection.call(Rpc::Txn, request).await
                }));
                from = to;
            } else if let Some(first) = flying.pop_front() {
                first.await??;
            }
        }
        anyhow::Ok(())
    })?
}
