//! The audit log: who asked for what and what came of it, as far as a policy wants to know.
//!
//! - [`policy`]: what is to be recorded, and how much of it
//! - [`event`]: what is recorded of one request
//! - [`log`]: to files; [`webhook`]: to a server
//!
//! Backends have bounded queues. What does not fit is dropped and counted: requests do not wait for
//! whoever reads about them.

pub mod event;
pub mod log;
pub mod policy;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use seams::{Seams, Tasks};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;
use policy::Policy;

/// Events that wait for a backend.
const QUEUE_MAX: usize = 10_000;
/// After the end, a backend waits this long for what connections that are closing still have to say.
const SILENCE: Duration = Duration::from_millis(300);
const LAST_WORDS: Duration = Duration::from_secs(6);

/// What is recorded, and where.
pub struct Config {
    /// What is recorded.
    pub policy: Policy,
    /// To files.
    pub log: Option<log::Config>,
    /// To a server.
    pub webhook: Option<webhook::Config>,
}

/// Records requests.
pub struct Auditor {
    policy: Policy,
    backends: Vec<Backend>,
}

struct Backend {
    name: &'static str,
    queue: mpsc::Sender<Arc<str>>,
}

impl Auditor {
    /// Starts the backends, which end with the tasks.
    pub fn start(config: Config, metrics: &Arc<Metrics>, seams: &Seams, tasks: &Tasks) -> Self {
        let mut backends = Vec::new();
        if let Some(log) = config.log {
            let (queue, events) = mpsc::channel(QUEUE_MAX);
            backends.push(Backend { name: "log", queue });
            log::start(log, events, metrics, seams, tasks);
        }
        if let Some(webhook) = config.webhook {
            let (queue, events) = mpsc::channel(QUEUE_MAX);
            backends.push(Backend {
                name: "webhook",
                queue,
            });
            webhook::start(webhook, events, metrics, tasks);
        }
        Self {
            policy: config.policy,
            backends,
        }
    }

    /// What is to be recorded.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Hands an event to all backends.
    fn record(&self, event: String, metrics: &Metrics) {
        metrics.audit_events.of(&[]).inc();
        let event: Arc<str> = event.into();
        for backend in &self.backends {
            if backend.queue.try_send(event.clone()).is_err() {
                metrics.audit_errors.of(&[backend.name]).inc();
            }
        }
    }
}

/// The next events: up to `most`, gathered for up to `wait` after the first. None at the end, which
/// comes some silence after the tasks were told to end.
async fn next_batch(
    events: &mut mpsc::Receiver<Arc<str>>,
    most: usize,
    wait: Duration,
    tasks: &Tasks,
) -> Option<Vec<Arc<str>>> {
    let first = tokio::select! {
        first = events.recv() => first?,
        () = tasks.cancelled() => timeout(SILENCE, events.recv()).await.ok()??,
    };
    let mut batch = vec![first];
    let end = Instant::now() + wait;
    while batch.len() < most {
        if let Ok(event) = events.try_recv() {
            batch.push(event);
            continue;
        }
        if wait.is_zero() {
            break;
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => batch.push(event),
                None => break,
            },
            () = tokio::time::sleep_until(end) => break,
            () = tasks.cancelled() => break,
        }
    }
    Some(batch)
}
