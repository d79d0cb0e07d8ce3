//! Who runs what: [`Tasks`] owns every task and thread, and ends them.
// The one place that may spawn.
#![allow(clippy::disallowed_methods, reason = "the one place that may spawn")]

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long [`Tasks::shutdown`] waits for tasks to end by themselves.
///
/// Above the longest deadline inside a task (7 s for a proposal), below what service managers
/// grant before they kill (30 s in Kubernetes).
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// On threads of its own.
    Real,
    /// On the one thread of the simulation, as tasks or inline, so that its order is replayed.
    Simulated,
}

/// The owner of tasks: spawns them, tells them to end and waits until they have.
///
/// Clones share one set of tasks. Tasks listen to [`cancelled`](Tasks::cancelled) and end by
/// themselves; what has not ended after [`SHUTDOWN_GRACE`] is named in the log and aborted.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    threads: Threads,
    token: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    /// Why the tasks cannot go on; see [`Tasks::fail`].
    failure: OnceLock<String>,
    /// An owner above waits for these tasks too.
    parent: Option<Arc<Inner>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, Entry>,
}

struct Entry {
    name: &'static str,
    /// None for an OS thread, which cannot be aborted.
    abort: Option<AbortHandle>,
}

impl Tasks {
    /// An owner without tasks.
    pub fn new(threads: Threads) -> Tasks {
        Tasks::build(threads, CancellationToken::new(), None)
    }

    fn build(threads: Threads, token: CancellationToken, parent: Option<Arc<Inner>>) -> Tasks {
        let tracker = TaskTracker::new();
        tracker.close();
        let running = Mutex::default();
        Tasks {
            inner: Arc::new(Inner {
                threads,
                token,
                tracker,
                running,
                failure: OnceLock::new(),
                parent,
            }),
        }
    }

    /// Runs a future as a task. It should end soon after [`cancelled`](Tasks::cancelled).
    ///
    /// The handle may be dropped; a panic is logged either way.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // The entry exists before the task, so that a task which ends at once still removes it.
        let running = self.register(name);
        let id = running.id;
        let handle = tokio::spawn(async move {
            let _running = running;
            log_panic(name, future).await
        });
        if let Some(entry) = self.inner.running().tasks.get_mut(&id) {
            entry.abort = Some(handle.abort_handle());
        }
        handle
    }

    /// As [`spawn`](Tasks::spawn), for a task that the others cannot do without: when it panics,
    /// all of them [`fail`](Tasks::fail).
    pub fn core<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(name, fail_on_panic(self.clone(), name, future))
    }

    /// Runs a loop that blocks (log IO, garbage collection). When it panics, all tasks
    /// [`fail`](Tasks::fail).
    ///
    /// In the real world it has a thread of its own on which the future may block; tokio's timers
    /// and channels work there if this is called inside a runtime. In the simulation it is a task.
    pub fn worker<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let future = fail_on_panic(self.clone(), name, future);
        if self.inner.threads == Threads::Simulated {
            self.spawn(name, future);
            return;
        }
        let running = self.register(name);
        let runtime = Handle::try_current().ok();
        let body = move || {
            let _running = running;
            let _entered = runtime.as_ref().map(Handle::enter);
            block_on(log_panic(name, future));
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
            // Without its workers the process is of no use, and out of threads besides.
            panic!("cannot start the thread {name}: {error}");
        }
    }

    /// Runs a closure that blocks, away from the async threads; inline in the simulation.
    ///
    /// It runs to its end even if the result is dropped.
    pub fn blocking<T, F>(&self, work: F) -> impl Future<Output = T> + Send + use<T, F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        async move {
            if inner.threads == Threads::Simulated {
                return work();
            }
            let tokens = inner.tokens();
            let handle = tokio::task::spawn_blocking(move || {
                let _tokens = tokens;
                work()
            });
            match handle.await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    // The runtime is going down: this future will not be polled again.
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// Resolves when the tasks have been told to end.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.inner.token.cancelled()
    }

    /// Whether the tasks have been told to end.
    pub fn is_cancelled(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// The token behind [`cancelled`](Tasks::cancelled), to move into a task.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// An owner whose tasks end with these, or before them.
    pub fn child(&self) -> Tasks {
        let token = self.inner.token.child_token();
        Tasks::build(self.inner.threads, token, Some(Arc::clone(&self.inner)))
    }

    /// Where blocking work runs.
    pub fn threads(&self) -> Threads {
        self.inner.threads
    }

    /// The names of what runs now, children included, in the order of their start.
    pub fn running(&self) -> Vec<&'static str> {
        self.inner
            .running()
            .tasks
            .values()
            .map(|e| e.name)
            .collect()
    }

    /// Tells the tasks and those of the owners above to end, because they cannot go on. The first
    /// reason counts, and none does once they were told to end.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut level = Some(&self.inner);
        let mut first = true;
        while let Some(inner) = level {
            if !inner.token.is_cancelled() && inner.failure.set(reason.clone()).is_ok() && first {
                tracing::error!("{reason}");
                first = false;
            }
            inner.token.cancel();
            level = inner.parent.as_ref();
        }
    }

    /// Why the tasks ended by themselves, if they did.
    pub fn failure(&self) -> Option<&str> {
        self.inner.failure.get().map(String::as_str)
    }

    /// Tells the tasks to end, without waiting.
    pub fn cancel(&self) {
        self.inner.token.cancel();
    }

    /// Tells the tasks to end and waits until they have, for at most [`SHUTDOWN_GRACE`]; aborts
    /// the rest.
    pub async fn shutdown(&self) {
        self.inner.token.cancel();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.inner.tracker.wait())
            .await
            .is_ok()
        {
            return;
        }
        let running = self.inner.running();
        for entry in running.tasks.values() {
            tracing::error!(task = entry.name, "a task did not end at shutdown");
            if let Some(abort) = &entry.abort {
                abort.abort();
            }
        }
    }

    fn register(&self, name: &'static str) -> Registered {
        let mut at = Vec::new();
        let mut id = 0;
        let mut level = Some(&self.inner);
        // One ID on all levels would need a shared counter; each level has its own.
        while let Some(inner) = level {
            let mut running = inner.running();
            let own = running.next;
            running.next += 1;
            running.tasks.insert(own, Entry { name, abort: None });
            if at.is_empty() {
                id = own;
            }
            at.push((Arc::clone(inner), own));
            level = inner.parent.as_ref();
        }
        Registered {
            id,
            at,
            _tokens: self.inner.tokens(),
        }
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens that make this owner and those above it wait.
    fn tokens(&self) -> Vec<TaskTrackerToken> {
        let mut tokens = vec![self.tracker.token()];
        let mut level = self.parent.as_ref();
        while let Some(inner) = level {
            tokens.push(inner.tracker.token());
            level = inner.parent.as_ref();
        }
        tokens
    }
}

/// A running task's entries; dropped when it ends, however it ends.
struct Registered {
    id: u64,
    at: Vec<(Arc<Inner>, u64)>,
    // Below `at`, so that the entries are gone when the wait ends.
    _tokens: Vec<TaskTrackerToken>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        for (inner, id) in &self.at {
            inner.running().tasks.remove(id);
        }
    }
}

/// Panics in `future` fail the owner before they go on.
async fn fail_on_panic<F: Future>(tasks: Tasks, name: &'static str, future: F) -> F::Output {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => output,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            tasks.fail(format!(
                "the task `{name}` panicked, which is a bug: {}. Start the process again, and \
                 report it with the log",
                text.unwrap_or("no message")
            ));
            resume_unwind(panic)
        }
    }
}

async fn log_panic<F: Future>(name: &'static str, future: F) -> F::Output {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => output,
        Err(panic) => {
            tracing::error!(task = name, "a task panicked");
            resume_unwind(panic)
        }
    }
}

/// Polls a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_workers_and_children() {
        let tasks = Tasks::new(Threads::Real);
        let child = tasks.child();
        let ended = Arc::new(AtomicUsize::new(0));
        let until_cancelled = |tasks: &Tasks| {
            let (token, ended) = (tasks.token(), Arc::clone(&ended));
            async move {
                token.cancelled().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                ended.fetch_add(1, Ordering::SeqCst);
            }
        };
        tasks.spawn("task", until_cancelled(&tasks));
        tasks.worker("worker", until_cancelled(&tasks));
        child.spawn("grandchild", until_cancelled(&child));
        assert_eq!(tasks.running(), ["task", "worker", "grandchild"]);
        tasks.shutdown().await;
        assert_eq!(ended.load(Ordering::SeqCst), 3);
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn a_child_ends_alone() {
        let tasks = Tasks::new(Threads::Real);
        let child = tasks.child();
        let token = child.token();
        child.spawn("child", async move { token.cancelled().await });
        child.shutdown().await;
        assert!(!tasks.is_cancelled());
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn a_panic_in_a_core_task_fails_everything_above() {
        let tasks = Tasks::new(Threads::Real);
        let child = tasks.child();
        let harmless = tasks.spawn("harmless", async { panic!("no matter") });
        assert!(harmless.await.is_err_and(|error| error.is_panic()));
        assert!(!tasks.is_cancelled() && tasks.failure().is_none());
        child.worker("vital", async { panic!("number {}", 7) });
        tasks.cancelled().await;
        let reason = tasks.failure().unwrap();
        assert!(
            reason.contains("`vital`") && reason.contains("number 7"),
            "{reason}"
        );
        tasks.fail("too late");
        assert!(!tasks.failure().unwrap().contains("late"));
    }

    #[tokio::test]
    async fn what_is_told_to_end_does_not_fail() {
        let tasks = Tasks::new(Threads::Real);
        tasks.shutdown().await;
        tasks.fail("it was stopped on purpose");
        assert_eq!(tasks.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_aborted() {
        let tasks = Tasks::new(Threads::Simulated);
        let stuck = tasks.spawn("stuck", std::future::pending::<()>());
        tasks.shutdown().await;
        assert!(stuck.await.is_err_and(|error| error.is_cancelled()));
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn a_real_worker_has_its_own_thread_and_timers() {
        let tasks = Tasks::new(Threads::Real);
        let (send, receive) = mpsc::channel();
        tasks.worker("named", async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = send.send(thread::current().name().map(str::to_owned));
        });
        let name = tasks.blocking(move || receive.recv()).await;
        assert_eq!(name, Ok(Some("named".to_owned())));
    }

    #[tokio::test]
    async fn a_simulated_worker_stays_on_the_thread() {
        let tasks = Tasks::new(Threads::Simulated);
        let here = thread::current().id();
        let (send, receive) = tokio::sync::oneshot::channel();
        tasks.worker("worker", async move {
            let _ = send.send(thread::current().id());
        });
        assert_eq!(receive.await, Ok(here));
        assert_eq!(tasks.blocking(|| thread::current().id()).await, here);
    }
}
