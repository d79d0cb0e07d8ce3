//! Closed loops: clients that each wait for an answer before they ask again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::encode::Encoder;
use crate::wire::{Connection, Rpc};

/// Runs a future on a thread of its own kind: everything here is single-threaded.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

/// Whether a member answers a read.
pub(crate) fn probe(endpoint: &str, serializable: bool) -> Result<()> {
    block_on(async {
        let asked = async {
            let connection = Connection::open(endpoint).await?;
            let request = Encoder::default().range(b"probe", b"", serializable);
            connection.call(Rpc::Range, request).await
        };
        match tokio::time::timeout(Duration::from_secs(2), asked).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(anyhow!("no answer within 2 s")),
        }
    })?
}

/// Makes the requests of one thread's clients.
pub(crate) type Requests = Box<dyn FnMut(&mut Encoder) -> (Rpc, Bytes)>;

/// A closed loop.
pub(crate) struct Loop<'a> {
    /// Where the connections go, in turn.
    pub(crate) endpoints: &'a [String],
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Measured time, after a fifth of it that is not.
    pub(crate) window: Duration,
    /// Makes the requests of thread `n`.
    pub(crate) requests: &'a (dyn Fn(u64) -> Requests + Sync),
    /// Asked at the beginning and the end of the window.
    pub(crate) cpu: &'a (dyn Fn() -> Duration + Sync),
}

/// What a loop measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Answers within the window.
    pub(crate) operations: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Failed calls, with the first reason.
    pub(crate) errors: u64,
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
    /// Processor time of the servers.
    pub(crate) cpu: Duration,
    /// Latencies in microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
}

impl Measured {
    fn answered(&mut self, bytes: usize, latency: Duration) {
        self.operations += 1;
        self.bytes += bytes as u64;
        self.latencies
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.error.get_or_insert_with(|| format!("{error:#}"));
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    pub(crate) fn cpu_us_per_operation(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations.max(1) as f64
    }

    /// Latency in milliseconds below which this share of the answers came.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        percentile(&self.latencies, share) / 1000.0
    }
}

/// A percentile of sorted numbers; 0 of none.
pub(crate) fn percentile(sorted: &[u32], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .map_or(0.0, |found| f64::from(*found))
}

impl Loop<'_> {
    /// Runs it.
    pub(crate) fn run(&self) -> Result<Measured> {
        let warm_up = self.window.div_f64(5.0);
        let begin = Instant::now() + warm_up;
        let end = begin + self.window;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| scope.spawn(move || self.thread(thread, begin, end)))
                .collect();
            std::thread::sleep(begin.saturating_duration_since(Instant::now()));
            let cpu_before = (self.cpu)();
            let began = Instant::now();
            std::thread::sleep(end.saturating_duration_since(began));
            let cpu = (self.cpu)().saturating_sub(cpu_before);
            let seconds = began.elapsed().as_secs_f64();
            let mut whole = Measured {
                cpu,
                seconds,
                ..Measured::default()
            };
            for thread in threads {
                let part = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
                whole.operations += part.operations;
                whole.bytes += part.bytes;
                whole.errors += part.errors;
                whole.error = whole.error.or(part.error);
                whole.latencies.extend(part.latencies);
            }
            whole.latencies.sort_unstable();
            if whole.operations == 0 {
                let reason = whole.error.unwrap_or_else(|| "no answers".into());
                return Err(anyhow!("nothing was measured: {reason}"));
            }
            Ok(whole)
        })
    }

    fn share(whole: usize, thread: usize, threads: usize) -> usize {
        whole / threads + usize::from(thread < whole % threads)
    }

    fn thread(&self, thread: usize, begin: Instant, end: Instant) -> Result<Measured> {
        let clients = Self::share(self.clients, thread, self.threads);
        let connections = Self::share(self.connections, thread, self.threads).max(1);
        block_on(async {
            let mut open = Vec::new();
            for at in 0..connections.min(clients) {
                let endpoint = &self.endpoints[(thread + at) % self.endpoints.len()];
                open.push(Connection::open(endpoint).await?);
            }
            let shared = Rc::new(Shared {
                encoder: RefCell::new(Encoder::default()),
                requests: RefCell::new((self.requests)(thread as u64)),
                measured: RefCell::new(Measured::default()),
            });
            let mut tasks = Vec::new();
            for client in 0..clients {
                let connection = open[client % open.len()].clone();
                let shared = shared.clone();
                tasks.push(tokio::task::spawn_local(client_loop(
                    connection, shared, begin, end,
                )));
            }
            // A client in the middle of a call at the end is given a moment, then dropped.
            let all = futures::future::join_all(&mut tasks);
            let _ = tokio::time::timeout_at((end + Duration::from_secs(2)).into(), all).await;
            tasks.iter().for_each(|task| task.abort());
            Ok(shared.measured.take())
        })?
    }
}

struct Shared {
    encoder: RefCell<Encoder>,
    requests: RefCell<Requests>,
    measured: RefCell<Measured>,
}

async fn client_loop(connection: Connection, shared: Rc<Shared>, begin: Instant, end: Instant) {
    loop {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        let (rpc, request) = (shared.requests.borrow_mut())(&mut shared.encoder.borrow_mut());
        let answer = connection.call(rpc, request).await;
        let answered = Instant::now();
        if let Err(error) = &answer {
            shared.measured.borrow_mut().failed(error);
            // A broken connection must not turn the loop into a busy one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Ok(bytes) = answer
            && (begin..end).contains(&answered)
        {
            let latency = answered.saturating_duration_since(asked);
            shared.measured.borrow_mut().answered(bytes, latency);
        }
    }
}
