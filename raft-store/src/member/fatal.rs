//! Why a member stops by itself.
//!
//! When Raft, the log or the applied state cannot go on, nothing that this member says can be
//! trusted: it stops serving at once, and whoever runs it learns why and what to do.

use std::io;
use std::path::Path;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use seams::Tasks;

use super::Member;
use super::identity::{Identity, Retired};
use crate::consensus::raft::Consensus;
use crate::consensus::types::TypeConfig;
use crate::wal::Wal;

/// What kind of trouble keeps a member from running: what a service manager may do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It may pass: another start may succeed.
    Passing,
    /// The settings cannot work.
    Settings,
    /// The data directory cannot be used as it is: it is damaged, of another cluster, or of a
    /// format that this program does not know.
    Directory,
    /// The cluster has removed the member.
    Removed,
}

impl Member {
    /// What kind of trouble made the member stop by itself.
    pub fn failure_kind(&self) -> FailureKind {
        *self.0.failure_kind.get().unwrap_or(&FailureKind::Passing)
    }

    /// Ends this member's identity: it stops now, and its directory refuses to start again.
    pub(super) fn retire(&self, why: Retired) {
        let kind = match why {
            Retired::Removed => FailureKind::Removed,
            Retired::LostLog { .. } => FailureKind::Directory,
        };
        if self.0.failure_kind.set(kind).is_err() {
            return;
        }
        let identity = Identity {
            retired: Some(why),
            ..self.0.identity.clone()
        };
        let dir = &self.config().data_dir;
        if let Err(error) = identity.save(self.seams().disk.as_ref(), dir) {
            tracing::warn!(%error, "could not note that this member's identity has ended");
        }
        self.tasks().fail(identity.ended(dir).unwrap_or_default());
    }

    /// Stops, because the peers belong to another cluster now.
    pub(super) fn is_foreign(&self, cluster: u64) {
        if self.0.failure_kind.set(FailureKind::Directory).is_err() {
            return;
        }
        self.tasks().fail(self.foreign(cluster));
    }

    /// That a peer is of another cluster, and what to do.
    pub(super) fn foreign(&self, cluster: u64) -> String {
        let (dir, own) = (self.config().data_dir.display(), self.cluster_id());
        format!(
            "member {} belongs to another cluster ({own:x}) than those at its peers' addresses now \
             ({cluster:x}). If the cluster was recovered without it, empty {dir} and start it with \
             --join",
            self.name()
        )
    }
}

/// Fails the tasks once Raft or the writer of the log has stopped although nobody asked it to.
pub(super) fn watch(
    consensus: &Consensus,
    wal: &Wal,
    data_dir: &Path,
    tasks: &Tasks,
    log_tasks: &Tasks,
) {
    let raft = consensus.raft.metrics();
    // Changes rarely, unlike the whole metrics, and closes with them.
    let mut signs = consensus.raft.server_metrics();
    let (wal, data_dir, owner) = (wal.clone(), data_dir.to_owned(), tasks.clone());
    let (id, log_tasks) = (consensus.id, log_tasks.clone());
    tasks.core("raft's health", async move {
        let mut ended = false;
        loop {
            if let Some(reason) = log_tasks.failure() {
                return owner.fail(reason);
            }
            let fatal = match raft.borrow_watched().running_state.clone() {
                // It ended without a word.
                Ok(()) if ended => Some(Fatal::Panicked),
                Ok(()) => None,
                // The end of an orderly shutdown.
                Err(Fatal::Stopped) => return,
                Err(fatal) => Some(fatal),
            };
            if let Some(fatal) = fatal {
                return owner.fail(reason(&fatal, wal.failed(), &data_dir, id));
            }
            tokio::select! {
                biased;
                () = owner.cancelled() => return,
                () = log_tasks.cancelled(), if !log_tasks.is_cancelled() => {}
                changed = signs.changed() => ended = changed.is_err(),
            }
        }
    });
}

/// What happened and what to do, in one line.
fn reason(fatal: &Fatal<TypeConfig>, log: Option<io::Error>, data_dir: &Path, id: u64) -> String {
    let dir = data_dir.display();
    let again = format!(
        "if that happens again, remove it with `trireme member remove {id:x}`, empty the \
         directory and start it with --join"
    );
    let what = log.map_or_else(|| fatal.to_string(), |error| error.to_string());
    if is_full(&what) {
        return format!(
            "the disk under {dir} is full: {what}. Nothing that was acknowledged is lost. Make \
             room (`df -h {dir}`) and start the member again"
        );
    }
    match fatal {
        Fatal::Panicked => format!(
            "Raft panicked, which is a bug: please report it with the log above. Nothing that was \
             acknowledged is lost: start the member again; {again}"
        ),
        _ => format!(
            "the storage under {dir} failed: {what}. Nothing that was acknowledged is lost while a \
             majority of the members runs. Look for disk errors (`dmesg`), start the member again \
             on a sound disk; {again}"
        ),
    }
}

/// Whether an error's text is that of a full disk; RocksDB's errors are text only.
fn is_full(error: &str) -> bool {
    let text = error.to_ascii_lowercase();
    [
        "no space left",
        "no storage space",
        "storage full",
        "enospc",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_what_to_do() {
        let dir = Path::new("/data");
        let full = io::Error::from_raw_os_error(28);
        let text = reason(&Fatal::Panicked, Some(full), dir, 0xab);
        assert!(
            text.contains("is full") && text.contains("df -h /data"),
            "{text}"
        );
        let broken = io::Error::from_raw_os_error(5);
        let text = reason(&Fatal::Stopped, Some(broken), dir, 0xab);
        assert!(
            text.contains("dmesg") && text.contains("member remove ab"),
            "{text}"
        );
        let text = reason(&Fatal::Panicked, None, dir, 0xab);
        assert!(text.contains("a bug"), "{text}");
    }

    #[test]
    fn full_disks_are_recognised_in_all_their_words() {
        for text in [
            "IO error: No space left on device: While appending to file",
            "no storage space",
        ] {
            assert!(is_full(text), "{text}");
        }
        assert!(!is_full("Input/output error"));
    }
}
