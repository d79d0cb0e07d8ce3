//! What can go wrong with backups, in words that say what to do next.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The result of a backup operation.
pub type Result<T, E = BackupError> = std::result::Result<T, E>;

/// Why a backup, restore, import or recovery was refused or failed.
///
/// The messages are for the person at the terminal: what is wrong, with what, and the next step.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The operating system refused an access.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// A verb that fits before the path, such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    // Archives.
    /// The file is something else.
    #[error("{} is not a Trireme backup. Check the path", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// The file is an etcd database where an archive was expected.
    #[error(
        "{} is an etcd snapshot, not a Trireme backup. Bring it in with `trireme backup import`",
        path.display()
    )]
    IsEtcd {
        /// The file.
        path: PathBuf,
    },
    /// The archive's format is newer than this program.
    #[error(
        "{} is a backup in format {found}, and this program reads formats up to {supported}. \
         Use the version of trireme that wrote it, or a newer one",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format in the file.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// The file ends early.
    #[error(
        "{} is incomplete: {what}. Its transfer or copy was cut short. Fetch it again, or use \
         another backup",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The file's content contradicts its checksums or itself.
    #[error(
        "{} is damaged near byte {offset}: {what}. Nothing was restored from it. Use another \
         copy of it, or another backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it was noticed.
        offset: u64,
        /// What was noticed.
        what: String,
    },
    /// The state to be saved broke the contract of a source: a bug or corruption in the store.
    #[error(
        "the backup was stopped because the store's state contradicts itself: {0}. Take the \
         backup from another member, and compare the members' hashes (`etcdctl endpoint hashkv`)"
    )]
    BadSource(String),

    // etcd's files.
    /// The file is not a bbolt database.
    #[error(
        "{} is not an etcd database: {what}. Give the file written by `etcdctl snapshot save`, \
         or `member/snap/db` of a stopped etcd",
        path.display()
    )]
    NotEtcd {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: String,
    },
    /// The database contradicts itself.
    #[error(
        "{} is a damaged etcd database: {what}. Take a new snapshot (`etcdctl snapshot save`), \
         if need be from another member",
        path.display()
    )]
    EtcdDamaged {
        /// The file.
        path: PathBuf,
        /// What was noticed.
        what: String,
    },

    // New data directories.
    /// The target directory holds something.
    #[error(
        "{} is not empty (it holds {found}). A restore only writes into an empty directory: \
         give another one, or move the old content away first",
        path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The first entry found.
        found: String,
    },
    /// Another process holds the directory's lock.
    #[error(
        "{} is in use: a member is running on it. Stop that member first",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The new cluster's description makes no sense.
    #[error("{0}")]
    BadCluster(String),
    /// The engine or the state machine failed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Store {
        /// A verb that fits before the path.
        action: &'static str,
        /// The engine's or log's directory.
        path: PathBuf,
        /// The reason as the component gave it.
        reason: String,
    },

    // Recovery.
    /// A directory is not a member's data directory.
    #[error("{} is not a member's data directory: {what}", path.display())]
    NotAMember {
        /// The directory.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// The given directories cannot be recovered as they are.
    #[error("{0}")]
    CannotRecover(String),
}

/// One more sentence where the system's own words leave a person helpless.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => ". The disk is full: free some space or use another disk",
        io::ErrorKind::PermissionDenied => ". Run it as the user that owns the file, or as root",
        _ => "",
    }
}

impl BackupError {
    /// For `map_err`: an IO error with what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
        let path = path.to_owned();
        move |source| BackupError::Io {
            action,
            path,
            source,
        }
    }

    /// For `map_err`: a failure of the engine, the log or the state machine.
    pub(crate) fn store<E: std::fmt::Display>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> BackupError {
        let path = path.to_owned();
        move |reason| BackupError::Store {
            action,
            path,
            reason: reason.to_string(),
        }
    }
}
