//! Members as sources, and engines as sinks: where backups meet `mvcc`, `wal` and `engine`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seams::Seams;

use crate::backup::boundary::{MemberFormat, Start, States, WAL_DIR};
use crate::backup::recover::{Standing, Stopped};
use crate::backup::{BackupError, Header, Lease, Result, Sink, Source};
use crate::engine::{EngineError, OpenEngine};
use crate::mvcc::{Builder, Entry, Export, LeaseInfo, Mvcc, MvccConfig, Origin};
use crate::pb::mvccpb::KeyValue;
use crate::position::LogPosition;
use crate::wal::{LogRecord, Wal, WalConfig};

/// Bytes of values read from the engine at a time; what an archive writes at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of log replayed in one batch.
const REPLAY_BYTES: usize = 4 << 20;

// === Running members ===

/// A state at its current revision. Writes go on meanwhile; the revision stays readable as long
/// as this lives, even if it is compacted.
pub struct LiveSource {
    header: Header,
    leases: std::vec::IntoIter<Lease>,
    keys: std::vec::IntoIter<KeyValue>,
    export: Export,
}

impl LiveSource {
    /// Pins the current revision. `header` names cluster, member, time and version; revisions and
    /// log position are filled in here.
    pub fn open(mvcc: &Mvcc, header: Header) -> Result<LiveSource> {
        // Read before the state is pinned: the state holds at least this entry.
        let applied = mvcc.applied().unwrap_or_default();
        let export = mvcc.export(0, CHUNK_BYTES).map_err(unreadable)?;
        let lease = |(id, info): &(i64, LeaseInfo)| Lease {
            id: *id,
            ttl: info.granted_ttl,
            remaining_ttl: info.remaining_ttl,
        };
        let leases: Vec<Lease> = export.leases.iter().map(lease).collect();
        let header = Header {
            revision: export.revision,
            compact_revision: export.compact_revision,
            term: applied.term,
            index: applied.index,
            ..header
        };
        Ok(LiveSource {
            header,
            leases: leases.into_iter(),
            keys: Vec::new().into_iter(),
            export,
        })
    }
}

impl Source for LiveSource {
    fn header(&self) -> Header {
        self.header.clone()
    }

    fn next_lease(&mut self) -> Result<Option<Lease>> {
        Ok(self.leases.next())
    }

    fn next_key(&mut self) -> Result<Option<KeyValue>> {
        loop {
            if let Some(key) = self.keys.next() {
                return Ok(Some(key));
            }
            match self.export.next().map_err(unreadable)? {
                Some(keys) => self.keys = keys.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

fn unreadable(error: crate::Error) -> BackupError {
    BackupError::BadSource(error.to_string())
}

// === Directories of stopped and new members ===

/// The data directories of members on this machine, none of them running.
#[derive(Clone)]
pub struct Directories {
    /// Disk, clock, randomness.
    pub seams: Seams,
    /// Opens the engine that members use.
    pub open_engine: OpenEngine,
    /// The files that `member` owns.
    pub format: Arc<dyn MemberFormat>,
}

impl States for Directories {
    fn create(&self, dir: &Path, start: &Start) -> Result<Box<dyn Sink>> {
        let action = "create the state in";
        let engine = (self.open_engine)(dir).map_err(BackupError::engine(action, dir))?;
        let builder = Builder::new(engine).map_err(BackupError::engine(action, dir))?;
        Ok(Box::new(EngineSink {
            builder,
            start: start.clone(),
            dir: dir.to_owned(),
        }))
    }
}

/// A state that is being built.
struct EngineSink {
    builder: Builder,
    start: Start,
    dir: PathBuf,
}

impl Sink for EngineSink {
    fn lease(&mut self, lease: Lease) -> Result<()> {
        let info = LeaseInfo {
            granted_ttl: lease.ttl,
            remaining_ttl: lease.remaining_ttl,
        };
        self.builder
            .lease(lease.id, info)
            .map_err(BackupError::engine("write the state in", &self.dir))
    }

    fn key(&mut self, key: KeyValue) -> Result<()> {
        self.builder
            .put(&key)
            .map_err(BackupError::engine("write the state in", &self.dir))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let EngineSink {
            builder,
            start,
            dir,
        } = *self;
        let origin = Origin {
            revision: start.revision,
            compact_revision: start.compact_revision,
            applied: Some(start.applied),
            membership: Some((start.applied, start.membership)),
            seed: start.cluster_id,
            // One over the keys: the same for every member that is made from the same source.
            hash: None,
        };
        builder
            .finish(origin)
            .map_err(BackupError::engine("complete the state in", &dir))
    }
}

impl Directories {
    /// The live database of a data directory.
    fn database(&self, dir: &Path) -> Result<PathBuf> {
        let found = self.format.live_database(&*self.seams.disk, dir);
        let database = found.map_err(BackupError::io("find the database of", dir))?;
        match self.seams.disk.exists(&database) {
            true => Ok(database),
            false => Err(missing(dir, "its database is missing")),
        }
    }

    fn log(&self, dir: &Path) -> Result<Wal> {
        let path = dir.join(WAL_DIR);
        if !self.seams.disk.exists(&path) {
            return Err(missing(dir, "its Raft log is missing"));
        }
        let opened = Wal::open_to_read(&path, &self.seams, WalConfig::default());
        let (wal, _) = opened.map_err(BackupError::store("read the Raft log in", &path))?;
        Ok(wal)
    }

    fn open(&self, database: &Path) -> Result<Mvcc> {
        let open = |path: &Path| Mvcc::open((self.open_engine)(path)?, MvccConfig::default());
        open(database).map_err(BackupError::engine("open the state in", database))
    }
}

impl Stopped for Directories {
    fn inspect(&self, dir: &Path) -> Result<Standing> {
        let wal = self.log(dir)?;
        let mvcc = self.open(&self.database(dir)?)?;
        let vote = wal
            .vote()
            .map(|vote| (vote.term, vote.node, vote.committed));
        Ok(Standing {
            vote,
            last: wal.last(),
            committed: wal.committed(),
            applied: mvcc.applied(),
            revision: mvcc.revision(),
            membership: mvcc.membership().map(|(_, membership)| membership),
        })
    }

    fn replay(&self, dir: &Path, scratch: &Path, header: Header) -> Result<Box<dyn Source>> {
        let wal = self.log(dir)?;
        let database = self.database(dir)?;
        {
            let engine = (self.open_engine)(&database)
                .map_err(BackupError::engine("open the state in", &database))?;
            engine
                .checkpoint(scratch, &[])
                .map_err(BackupError::engine("copy the state in", &database))?;
        }
        let mvcc = self.open(scratch)?;
        replay(&wal, &mvcc, dir)?;
        Ok(Box::new(LiveSource::open(&mvcc, header)?))
    }
}

/// Applies the rest of a log to a state.
fn replay(wal: &Wal, mvcc: &Mvcc, dir: &Path) -> Result<()> {
    let Some(last) = wal.last() else {
        return Ok(());
    };
    let mut next = mvcc.applied().map_or(0, |applied| applied.index + 1);
    while next <= last.index {
        let records = wal
            .read(next, last.index + 1, REPLAY_BYTES)
            .map_err(BackupError::io("read the Raft log of", dir))?;
        if records.first().map(|record| record.position.index) != Some(next) {
            return Err(BackupError::CannotRecover(format!(
                "the log of {} does not reach back to entry {next}, where its state ends: the \
                 state is older than the log, as after a partly restored disk. Recover another \
                 member, or restore a backup",
                dir.display()
            )));
        }
        next += records.len() as u64;
        let entries: Result<Vec<(LogPosition, Entry)>> = records
            .into_iter()
            .map(|record| entry(record, dir))
            .collect();
        // What came of each request is of no interest any more; failing to apply is.
        mvcc.apply(entries?)
            .map_err(BackupError::engine("replay the Raft log of", dir))?;
    }
    Ok(())
}

fn entry(record: LogRecord, dir: &Path) -> Result<(LogPosition, Entry)> {
    let entry = match record.kind {
        0 => Entry::Blank,
        1 => Entry::Command(record.payload),
        2 => Entry::Membership(record.payload),
        kind => {
            return Err(BackupError::CannotRecover(format!(
                "the log of {} holds an entry of the unknown kind {kind}: a newer trireme wrote \
                 it. Recover with that version",
                dir.display()
            )));
        }
    };
    Ok((record.position, entry))
}

fn missing(dir: &Path, what: &str) -> BackupError {
    BackupError::NotAMember {
        path: dir.to_owned(),
        what: what.to_owned(),
    }
}

impl BackupError {
    /// For `map_err`: a failure of the engine, with its cause.
    fn engine(action: &'static str, path: &Path) -> impl FnOnce(EngineError) -> BackupError {
        let wrap = BackupError::store(action, path);
        move |error| {
            wrap(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
