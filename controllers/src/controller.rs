//! A controller: what it watches wakes keys, workers bring what a key names to what it should be.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::{Queue, errors};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use tokio::time::timeout;

use crate::context::Context;

/// How long one sync may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Keys that are synced at a time, as most controllers of upstream do.
const WORKERS: usize = 5;

/// What becomes of a key after it was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Nothing until something wakes it.
    Done,
    /// It is synced again after a while.
    After(Duration),
}

impl Again {
    /// It is synced again after a while; at once if that has passed.
    pub fn after(delay: SignedDuration) -> Self {
        Self::After(delay.try_into().unwrap_or_default())
    }
}

/// Why a sync failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the API server answered, or that it did not.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An error by its message.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// What the API server answered, if that is what it is.
    pub fn api(&self) -> Option<&kube::Error> {
        match self {
            Self::Api(error) => Some(error),
            Self::Other(_) => None,
        }
    }

    /// The text for events and conditions: a server's own words.
    pub fn message(&self) -> String {
        match self {
            Self::Api(error) => errors::message(error),
            Self::Other(message) => message.clone(),
        }
    }

    /// Somebody else leads: whatever this term still does is refused.
    pub fn is_stale_fence(&self) -> bool {
        self.api().is_some_and(errors::is_stale_fence)
    }
}

/// A controller of one term of leadership.
#[async_trait]
pub trait Controller: Sized + Send + Sync + 'static {
    /// What it syncs.
    type Key: Clone + Ord + Debug + Send + Sync + 'static;

    /// Gets its informers from the context, and makes their changes add keys to the queue. It does nothing
    /// besides, and keeps the subscriptions: it is also called, and dropped, where nobody leads, so that
    /// informers are warm.
    fn start(context: &Context, queue: &Queue<Self::Key>) -> Self;

    /// Keys that are synced at a time.
    fn workers(&self) -> usize {
        WORKERS
    }

    /// How long one sync may take.
    fn deadline(&self) -> Duration {
        DEADLINE
    }

    /// After so many failures in a row a key waits for its next change; none: it is tried for ever.
    fn failures_max(&self) -> Option<u32> {
        None
    }

    /// Brings what a key names to what it should be. Informers have their objects by then.
    ///
    /// # Errors
    ///
    /// Whatever kept it from that; the key is tried again after a wait that grows.
    async fn sync(&self, key: &Self::Key) -> Result<Again, Error>;

    /// What it does besides syncing keys, such as adding keys by the clock. Informers have their objects by
    /// then; dropped when the term ends.
    async fn background(&self, queue: &Queue<Self::Key>) {
        let _ = queue;
    }
}

/// A row of the table of controllers.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name, as upstream's `--controllers` knows it.
    pub name: &'static str,
    /// The service account in `kube-system` in whose name it acts.
    pub identity: &'static str,
    /// It runs unless it is switched off.
    pub is_on_by_default: bool,
    pub(crate) warm: fn(&Context),
    pub(crate) run: fn(Context) -> BoxFuture<'static, ()>,
}

impl Row {
    /// A controller that runs unless it is switched off.
    pub const fn of<C: Controller>(name: &'static str, identity: &'static str) -> Self {
        Self {
            name,
            identity,
            is_on_by_default: true,
            warm: warm::<C>,
            run: |context| Box::pin(run::<C>(context)),
        }
    }

    /// The same, running only where it is switched on.
    pub const fn off_by_default(mut self) -> Self {
        self.is_on_by_default = false;
        self
    }
}

/// Makes the informers of a controller fetch their objects.
fn warm<C: Controller>(context: &Context) {
    let queue = Queue::new(context.name, context.seams.rng.clone());
    drop(C::start(context, &queue));
}

/// Runs a controller until the context's tasks end.
pub async fn run<C: Controller>(context: Context) {
    let queue: Queue<C::Key> = Queue::new(context.name, context.seams.rng.clone());
    let controller = Arc::new(C::start(&context, &queue));
    context.informers.caught_up(context.since).await;
    for _ in 0..controller.workers().max(1) {
        let (controller, queue) = (controller.clone(), queue.clone());
        let name = context.name;
        context.tasks.spawn(name, async move {
            while let Some(key) = queue.next().await {
                work(name, &*controller, &queue, key).await;
            }
        });
    }
    tokio::select! {
        () = async {
            controller.background(&queue).await;
            std::future::pending::<()>().await;
        } => {}
        () = context.tasks.cancelled() => {}
    }
    queue.close();
}

/// Syncs one key, and says when it is synced again.
async fn work<C: Controller>(
    name: &'static str,
    controller: &C,
    queue: &Queue<C::Key>,
    key: C::Key,
) {
    let synced = timeout(controller.deadline(), controller.sync(&key)).await;
    let synced = synced.unwrap_or_else(|_| Err(Error::other("it took too long")));
    match synced {
        Ok(again) => {
            queue.forget(&key);
            if let Again::After(delay) = again {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) if error.is_stale_fence() => {
            tracing::debug!(controller = name, ?key, "leads no more");
        }
        Err(error) => {
            let message = error.message();
            let most = controller.failures_max();
            let is_given_up = most.is_some_and(|most| queue.failures(&key) >= most);
            // Conflicts are how two writers of one object learn of each other.
            if error.api().is_some_and(errors::is_conflict) {
                tracing::debug!(controller = name, ?key, message, "tried again");
            } else {
                tracing::warn!(
                    controller = name,
                    ?key,
                    message,
                    is_given_up,
                    "a sync failed"
                );
            }
            match is_given_up {
                true => queue.forget(&key),
                false => queue.retry(key.clone()),
            }
        }
    }
    queue.done(&key);
}

/// Which controllers run, as upstream's `--controllers` says it: names, `-name` for not, `*` for all that
/// are on by default. The first that says something of a controller decides.
pub fn is_wanted(row: &Row, wanted: &[String]) -> bool {
    for word in wanted {
        if word == row.name {
            return true;
        }
        if word.strip_prefix('-') == Some(row.name) {
            return false;
        }
    }
    row.is_on_by_default && wanted.iter().any(|word| word == "*")
}

/// Words of `--controllers` that name no controller.
pub fn unknown<'a>(rows: &[Row], wanted: &'a [String]) -> Vec<&'a str> {
    let known: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    let names = wanted
        .iter()
        .map(|word| word.strip_prefix('-').unwrap_or(word));
    names
        .filter(|name| *name != "*" && !known.contains(name))
        .collect()
}
