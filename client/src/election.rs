//! Leader election by a Lease, compatible with client-go's: who holds the Lease leads, renews it, and
//! others take it over once it was not renewed for its duration.
//!
//! Beyond client-go:
//!
//! - Every term has a [`Fence`]: a write of a former leader is refused, however late it notices that it
//!   is one. Safety rests on this alone; durations only say how long nobody leads.
//! - Candidates watch the Lease: one that is given up is taken over at once. A hint on which processes
//!   are dead lets it be taken over before it expires.
//! - The holder's identity is new with every term, so that every term begins with a change of holder,
//!   which is what moves the fence, even if the answer to the write that began a term was lost.
//! - Losing the Lease cancels the term's tasks, never the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use seams::{Seams, Tasks};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::informer::{Informer, Informers, Selection, Subscription};
use crate::metrics::metrics;
use crate::{clock, errors};
use api::fence::Fence;

/// Between attempts to take a Lease that can be taken, after errors.
const TAKE_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// For giving up a Lease at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// For one attempt to take a Lease.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is elected, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease, such as `kube-scheduler`.
    pub name: String,
    /// The name of this process, which no other candidate has. It must not run two electors of one Lease.
    pub process: String,
    /// For so long after its last renewal others leave the Lease alone.
    pub lease_duration: Duration,
    /// A leader that could not renew for so long is none.
    pub renew_deadline: Duration,
    /// Between renewals.
    pub retry_period: Duration,
}

impl Config {
    /// With upstream's durations.
    pub fn new(name: &str, process: &str) -> Self {
        Self {
            namespace: "kube-system".to_string(),
            name: name.to_string(),
            process: process.to_string(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// A term of leadership.
pub struct Leadership {
    /// The scope of everything that the leader does: cancelled when the term ends.
    pub tasks: Tasks,
    /// What writes of this term name.
    pub fence: Fence,
    /// Who leads, as the Lease says it.
    pub identity: String,
}

/// The processes of which somebody knows that they are dead; a hint and no more.
pub type Dead = watch::Receiver<BTreeSet<String>>;

/// A candidate.
pub struct Elector {
    config: Config,
    leases: Api<Lease>,
    seen: Informer<Lease>,
    changed: Arc<Notify>,
    dead: Option<Dead>,
    seams: Seams,
    _subscription: Subscription,
}

/// The Lease as it was taken or renewed last.
struct Held {
    lease: Lease,
    identity: String,
    /// Before the request that renewed it.
    renewed: Instant,
}

/// The Lease of others, and since when it is as it is.
struct Observed {
    version: Option<String>,
    since: Instant,
}

/// What a candidate may do now.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Take the Lease.
    Take,
    /// Leave it alone for a while.
    Wait(Duration),
}

impl Elector {
    /// A candidate that asks by a client without a fence. It watches the Lease until the tasks end.
    pub fn new(
        config: Config,
        client: &kube::Client,
        dead: Option<Dead>,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Self {
        let informers = Informers::new(client.clone(), seams, tasks);
        let seen = informers.selected::<Lease>(Selection {
            namespace: Some(config.namespace.clone()),
            fields: Some(format!("metadata.name={}", config.name)),
            labels: None,
        });
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        let subscription = seen.on_change(move |_, _| wake.notify_one());
        Self {
            leases: Api::namespaced(client.clone(), &config.namespace),
            config,
            seen,
            changed,
            dead,
            seams: seams.clone(),
            _subscription: subscription,
        }
    }

    /// Who leads now, as far as this candidate knows: the name of its process.
    pub fn leader(&self) -> Option<String> {
        let lease = self.lease()?;
        let holder = holder(&lease);
        (!holder.is_empty()).then(|| process_of(holder).to_string())
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        self.seen.get(&self.config.namespace, &self.config.name)
    }

    /// Runs for leader, again and again, until the tasks end; `lead` is what a leader does. It is given up
    /// when the term ends; whatever it spawned in the term's tasks is awaited before the next term.
    pub async fn run<F>(&self, tasks: &Tasks, mut lead: impl FnMut(Leadership) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let held = tokio::select! {
                held = self.acquire() => held,
                () = tasks.cancelled() => return,
            };
            let scope = tasks.child();
            let Some(fence) = self.fence(&held.lease) else {
                tracing::error!(lease = self.config.name, "the Lease has no resourceVersion");
                sleep(self.config.retry_period).await;
                continue;
            };
            tracing::info!(lease = self.config.name, %fence, identity = held.identity, "leads");
            metrics().leads(&self.config.name, true);
            let leading = lead(Leadership {
                tasks: scope.clone(),
                fence,
                identity: held.identity.clone(),
            });
            let ends = scope.token();
            scope.spawn("leader", async move {
                tokio::select! {
                    () = leading => ends.cancel(),
                    () = ends.cancelled() => {}
                }
            });
            let held = self.renew(held, &scope).await;
            scope.cancel();
            metrics().leads(&self.config.name, false);
            let is_by_itself = held.is_some() && !tasks.is_cancelled();
            if let Some(held) = held {
                self.release(held).await;
            }
            scope.shutdown().await;
            tracing::info!(lease = self.config.name, "leads no more");
            if is_by_itself {
                // Whoever stopped leading may not be fit to: others go first.
                sleep(self.seams.rng.jitter(self.config.retry_period)).await;
            }
            if tasks.is_cancelled() {
                return;
            }
        }
    }

    fn fence(&self, lease: &Lease) -> Option<Fence> {
        let revision = lease.metadata.resource_version.as_ref()?.parse().ok()?;
        let Config {
            namespace, name, ..
        } = &self.config;
        Some(Fence::of_lease(namespace, name, revision))
    }

    /// Waits until the Lease is this process's.
    async fn acquire(&self) -> Held {
        self.seen.synced().await;
        let mut backoff = Backoff::new(TAKE_BACKOFF.0, TAKE_BACKOFF.1);
        let mut dead = self.dead.clone();
        let mut observed = Observed {
            version: None,
            since: Instant::now(),
        };
        loop {
            let lease = self.lease();
            observed.update(lease.as_deref(), Instant::now());
            let known_dead = dead.as_ref().map(|dead| dead.borrow().clone());
            let mut wait = match verdict(
                lease.as_deref(),
                observed.since.elapsed(),
                &self.config,
                &known_dead.unwrap_or_default(),
            ) {
                Verdict::Wait(wait) => wait,
                Verdict::Take => match self.take(lease.as_deref()).await {
                    Ok(held) => return held,
                    Err(error) => {
                        tracing::debug!(lease = self.config.name, error, "could not be taken");
                        backoff.next(&*self.seams.rng)
                    }
                },
            };
            // Time may have been observed a moment too early.
            wait += Duration::from_millis(1);
            tokio::select! {
                () = self.changed.notified() => backoff.reset(),
                () = next(&mut dead) => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn take(&self, old: Option<&Lease>) -> Result<Held, String> {
        let renewed = Instant::now();
        let identity = format!("{}_{}", self.config.process, self.uuid());
        let mut lease = old.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                namespace: Some(self.config.namespace.clone()),
                name: Some(self.config.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_default();
        let now = self.now();
        spec.lease_transitions = match old {
            Some(_) => Some(spec.lease_transitions.unwrap_or_default() + 1),
            None => Some(0),
        };
        spec.acquire_time = Some(now.clone());
        self.hold(spec, &identity, now);
        let options = PostParams::default();
        let written = async {
            match old {
                Some(_) => {
                    self.leases
                        .replace(&self.config.name, &options, &lease)
                        .await
                }
                None => self.leases.create(&options, &lease).await,
            }
        };
        let written = timeout(TAKE_TIMEOUT, written).await;
        let written = written.map_err(|_| "no answer in time".to_string())?;
        Ok(Held {
            lease: written.map_err(|error| error.to_string())?,
            identity,
            renewed,
        })
    }

    fn hold(&self, spec: &mut LeaseSpec, identity: &str, now: MicroTime) {
        let seconds = self.config.lease_duration.as_secs().max(1);
        spec.holder_identity = Some(identity.to_string());
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
    }

    /// Renews the Lease until it is lost, which yields nothing, or the term is to end.
    async fn renew(&self, mut held: Held, scope: &Tasks) -> Option<Held> {
        let mut next = self.config.retry_period;
        loop {
            tokio::select! {
                () = scope.cancelled() => return Some(held),
                () = self.changed.notified() => {
                    if self.is_deposed(&held) {
                        return None;
                    }
                    continue;
                }
                () = sleep(next) => {}
            }
            let left = self
                .config
                .renew_deadline
                .checked_sub(held.renewed.elapsed())?;
            let started = Instant::now();
            let renewed = tokio::select! {
                renewed = timeout(left, self.renew_once(&held)) => renewed.ok()?,
                () = scope.cancelled() => return Some(held),
            };
            next = self.config.retry_period;
            match renewed {
                Ok(lease) => {
                    held.lease = lease;
                    held.renewed = started;
                }
                Err(error) if errors::is_conflict(&error) => {
                    // Somebody wrote the Lease: perhaps only its labels.
                    let current = timeout(left, self.leases.get(&self.config.name)).await;
                    match current.ok()? {
                        Ok(lease) if holder(&lease) == held.identity => {
                            held.lease = lease;
                            next = Duration::ZERO;
                        }
                        Ok(_) => return None,
                        Err(error) => tracing::debug!(%error, "the Lease cannot be read"),
                    }
                }
                Err(error) if errors::is_not_found(&error) => return None,
                Err(error) => tracing::debug!(%error, "the Lease was not renewed"),
            }
        }
    }

    /// Whether the watch shows that somebody else took the Lease.
    fn is_deposed(&self, held: &Held) -> bool {
        let transitions = |lease: &Lease| {
            let spec = lease.spec.as_ref();
            spec.and_then(|spec| spec.lease_transitions)
                .unwrap_or_default()
        };
        self.lease().is_some_and(|seen| {
            holder(&seen) != held.identity && transitions(&seen) > transitions(&held.lease)
        })
    }

    async fn renew_once(&self, held: &Held) -> Result<Lease, kube::Error> {
        let mut lease = held.lease.clone();
        let spec = lease.spec.get_or_insert_default();
        self.hold(spec, &held.identity, self.now());
        let options = PostParams::default();
        self.leases
            .replace(&self.config.name, &options, &lease)
            .await
    }

    /// Gives the Lease up, so that others need not wait.
    async fn release(&self, held: Held) {
        match timeout(RELEASE_TIMEOUT, self.try_release(held)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the Lease was not given up"),
            Err(_) => tracing::debug!("the Lease was not given up in time"),
        }
    }

    async fn try_release(&self, held: Held) -> Result<(), kube::Error> {
        let Held {
            mut lease,
            identity,
            ..
        } = held;
        while holder(&lease) == identity {
            let now = self.now();
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.acquire_time = Some(now.clone());
            spec.renew_time = Some(now);
            let options = PostParams::default();
            let written = self.leases.replace(&self.config.name, &options, &lease);
            match written.await {
                // Its last renewal was perhaps still under way.
                Err(error) if errors::is_conflict(&error) => {
                    lease = self.leases.get(&self.config.name).await?;
                }
                other => return other.map(drop),
            }
        }
        Ok(())
    }

    fn now(&self) -> MicroTime {
        MicroTime(clock::now(&*self.seams.clock))
    }

    fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.seams.rng.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    }
}

impl Observed {
    fn update(&mut self, lease: Option<&Lease>, now: Instant) {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        if version != self.version {
            self.version = version;
            self.since = now;
        }
    }
}

fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    holder.unwrap_or_default()
}

/// The process that an identity is of.
fn process_of(identity: &str) -> &str {
    identity
        .rsplit_once('_')
        .map_or(identity, |(process, _)| process)
}

/// What a candidate may do about a Lease that is as it is for some time.
fn verdict(
    lease: Option<&Lease>,
    unchanged: Duration,
    config: &Config,
    dead: &BTreeSet<String>,
) -> Verdict {
    let Some(lease) = lease else {
        return Verdict::Take;
    };
    let process = process_of(holder(lease));
    // A term of this process's own is over, or it would not be a candidate.
    if process.is_empty() || process == config.process || dead.contains(process) {
        return Verdict::Take;
    }
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let duration = Duration::from_secs(seconds.unwrap_or_default().max(0).unsigned_abs().into());
    match duration.checked_sub(unchanged) {
        Some(left) if !left.is_zero() => Verdict::Wait(left),
        _ => Verdict::Take,
    }
}

async fn next(dead: &mut Option<Dead>) {
    if let Some(dead) = dead
        && dead.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
