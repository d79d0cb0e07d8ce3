//! The applied state as openraft sees it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use seams::{Disk, Tasks};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};

use super::databases::Databases;
use super::snapshot::SnapshotDir;
use super::types::{
    LogId, SnapshotMeta, StoredMembership, TypeConfig, decode_membership, encode_membership,
    log_id, position,
};
use crate::engine::{Engine, EngineError, OpenEngine};
use crate::error::Error;
use crate::metrics::{Metrics, SLOW_APPLY_SECONDS};
use crate::mvcc::{self, Mvcc, Outcome};
use crate::position::LogPosition;

/// Entries applied in one engine batch. Bounds the time until the first of them is answered.
const APPLY_BATCH_MAX: usize = 1024;

/// Between two looks whether a replaced database is still read.
const CLOSE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>;

/// Applies committed entries to the MVCC state, and makes and installs snapshots.
#[derive(Clone)]
pub struct StateMachine {
    mvcc: Mvcc,
    open_engine: OpenEngine,
    disk: Arc<dyn Disk>,
    tasks: Tasks,
    databases: Databases,
    /// Where outgoing snapshots lie.
    snapshots: PathBuf,
    metrics: Arc<Metrics>,
    current: Arc<Mutex<Option<Snapshot>>>,
    serial: Arc<AtomicU64>,
    /// Held for reading while entries are applied, for writing while wrong data is replaced.
    gate: Arc<RwLock<()>>,
    /// A bug to run with.
    #[cfg(feature = "mutants")]
    pub(crate) purges_before_flush: bool,
}

impl StateMachine {
    /// Wraps an open state. `open_engine` opens the database that a snapshot brings.
    pub fn new(
        mvcc: Mvcc,
        open_engine: OpenEngine,
        disk: Arc<dyn Disk>,
        tasks: Tasks,
        databases: Databases,
        snapshots: PathBuf,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            mvcc,
            open_engine,
            disk,
            tasks,
            databases,
            snapshots,
            metrics,
            current: Arc::default(),
            serial: Arc::default(),
            gate: Arc::default(),
            #[cfg(feature = "mutants")]
            purges_before_flush: false,
        }
    }

    fn stored_membership(&self) -> io::Result<StoredMembership> {
        match self.mvcc.membership() {
            None => Ok(StoredMembership::default()),
            Some((at, bytes)) => Ok(StoredMembership::new(
                Some(log_id(at)),
                decode_membership(&bytes)?,
            )),
        }
    }

    /// Applies entries: here, if that is quickly done. Raft and its heartbeats may share the thread.
    async fn apply_batch(
        &self,
        entries: Vec<(LogPosition, mvcc::Entry)>,
    ) -> Result<Vec<Outcome>, EngineError> {
        let entries = mvcc::Decoded::from(entries);
        if !self.mvcc.is_long(&entries) {
            return self.mvcc.apply(entries);
        }
        let mvcc = self.mvcc.clone();
        self.tasks.blocking(move || mvcc.apply(entries)).await
    }

    /// Makes a checkpoint of the state as it is now, and keeps it as the current snapshot.
    pub(crate) fn checkpoint(&self) -> io::Result<Snapshot> {
        self.disk.create_dir_all(&self.snapshots)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.snapshots.join(format!("out-{serial}"));
        if self.disk.exists(&path) {
            self.disk.remove_dir_all(&path)?;
        }
        let made = self.mvcc.checkpoint(&path).map_err(io::Error::other)?;
        // The log is purged up to the checkpoint's position next, and the checkpoint itself does
        // not outlive a restart: the live database must hold as much, durably.
        #[cfg(feature = "mutants")]
        let flushed = !self.purges_before_flush;
        #[cfg(not(feature = "mutants"))]
        let flushed = true;
        if flushed {
            self.mvcc.flush().map_err(io::Error::other)?;
        }
        let membership = match made.membership {
            None => StoredMembership::default(),
            Some((at, bytes)) => {
                StoredMembership::new(Some(log_id(at)), decode_membership(&bytes)?)
            }
        };
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: made.applied.map(log_id),
                last_membership: membership,
            },
            snapshot: SnapshotDir::new(path, self.disk.clone()),
        };
        *lock(&self.current) = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Makes the received database the live one.
    fn install(&self, meta: &SnapshotMeta, incoming: &SnapshotDir) -> io::Result<()> {
        let name = match &meta.last_log_id {
            Some(id) => format!("{}-{}", id.leader_id.term, id.index),
            None => "empty".to_owned(),
        };
        let path = self.databases.adopt(incoming.path(), &name)?;
        let engine = (self.open_engine)(&path).map_err(io::Error::other)?;
        // An incomplete database must not take the place of a whole one.
        let applied = mvcc::applied_of(engine.as_ref()).map_err(io::Error::other)?;
        if applied != meta.last_log_id.as_ref().map(position) {
            return Err(io::Error::other(format!(
                "the database in {} is not the snapshot that was offered",
                path.display()
            )));
        }
        let former = self.databases.live()?;
        self.databases.make_live(&path)?;
        let replaced = self.mvcc.replace(engine).map_err(io::Error::other)?;
        self.tasks.spawn(
            "removal of a database",
            self.clone().remove_once_closed(former, replaced),
        );
        self.checkpoint()?;
        Ok(())
    }

    /// Removes a database that was replaced, once nobody reads it any more. What is left when the
    /// member stops is swept at its next start.
    async fn remove_once_closed(self, path: PathBuf, engine: Weak<dyn Engine>) {
        let mut closed = false;
        // It closes its files after its last reader let go: a pause more.
        while !std::mem::replace(&mut closed, engine.strong_count() == 0) {
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = sleep(CLOSE_PAUSE) => {}
            }
        }
        match self.databases.remove(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed a replaced database"),
            Err(error) => tracing::warn!(%error, "could not remove a replaced database"),
        }
    }

    /// Replaces this member's data by a peer's, which must be at least as new. `fetch` gets the
    /// index that is needed and brings a complete directory; nothing is applied meanwhile, and
    /// what the new data holds already is skipped afterwards.
    pub(crate) async fn resync<F>(&self, fetch: impl FnOnce(u64) -> F) -> io::Result<()>
    where
        F: Future<Output = io::Result<(SnapshotMeta, PathBuf)>>,
    {
        let _nothing_is_applied = self.gate.write().await;
        let needed = self.mvcc.applied().map_or(0, |at| at.index);
        let (meta, path) = fetch(needed).await?;
        if meta.last_log_id.is_none_or(|last| last.index < needed) {
            return Err(io::Error::other(
                "the peer's data is older than this member's",
            ));
        }
        let this = self.clone();
        let incoming = SnapshotDir::new(path, self.disk.clone());
        self.tasks
            .blocking(move || this.install(&meta, &incoming))
            .await
    }
}

fn to_mvcc(payload: &EntryPayload<super::types::Command, u64, super::types::Node>) -> mvcc::Entry {
    match payload {
        EntryPayload::Blank => mvcc::Entry::Blank,
        EntryPayload::Normal(command) => mvcc::Entry::Command(command.0.clone()),
        EntryPayload::Membership(membership) => {
            mvcc::Entry::Membership(encode_membership(membership))
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.mvcc.applied().map(log_id), self.stored_membership()?))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            let _data_stays = self.gate.read().await;
            let applied = self.mvcc.applied();
            let mut input = Vec::with_capacity(batch.len());
            let mut responders = Vec::with_capacity(batch.len());
            for item in batch {
                let (entry, responder) = item?;
                if applied.is_some_and(|applied| entry.log_id.index <= applied.index) {
                    // Fetched from a peer after this member's data was found wrong.
                    if let Some(responder) = responder {
                        responder.send(Err(Error::Timeout));
                    }
                    continue;
                }
                input.push((position(&entry.log_id), to_mvcc(&entry.payload)));
                responders.push(responder);
            }
            let begun = Instant::now();
            let outcomes = self.apply_batch(input).await.map_err(io::Error::other)?;
            let took = begun.elapsed();
            self.metrics.apply.observe_duration(took);
            if took.as_secs_f64() > SLOW_APPLY_SECONDS {
                self.metrics.slow_applies.inc();
            }
            for (responder, outcome) in responders.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> Result<(), io::Error> {
        let this = self.clone();
        let wanted = meta.clone();
        let position = |id: LogId| position(&id).to_string();
        let replaced = self.mvcc.applied().map(|at| at.to_string());
        self.metrics.snapshot_applying.inc();
        let installed = self
            .tasks
            .blocking(move || this.install(&wanted, &snapshot))
            .await;
        self.metrics.snapshot_applying.dec();
        installed?;
        let last = meta.last_log_id.map(position);
        tracing::info!(?last, ?replaced, "installed a snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(lock(&self.current).clone())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let this = self.clone();
        self.tasks.blocking(move || this.checkpoint()).await
    }
}

/// Locks a mutex that no panic can poison: its holders only move values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
