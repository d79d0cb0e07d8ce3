//! Planted faults: what must be found for green runs to mean something.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::sandbox::system;

/// Faults planted into a run, each of which must be found: that proves the whole way from the
/// processes to the verdict, not only the checkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Every fifth read of a client is answered with the state of some revisions ago.
    StaleReads,
    /// Members sync nothing to their disks.
    NoSync,
    /// A write is sent again whenever its answer is lost, which some are; only the second try is
    /// recorded.
    BlindRetry,
    /// A resumed watch starts one revision late.
    LateResume,
    /// Every tenth acknowledged write of a client is recorded as refused.
    FalseRefusal,
    /// Renewals of leases are answered by the client and never sent.
    DeafLessor,
    /// Every other lease lives for a minute, whatever was asked for.
    LongLeases,
    /// One member tells the hash of an earlier revision.
    OldHash,
    /// One member forgets an event of its history.
    Amnesia,
    /// A member ends although nobody asked it to.
    SuddenDeath,
    /// No fault strikes.
    IdleNemesis,
}

impl Plant {
    /// The plant of this name.
    pub fn find(name: &str) -> Option<Plant> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

/// Syncs nothing and says that all is well.
const NO_SYNC: &str = "
int fsync(int fd) { return fd < 0 ? -1 : 0; }
int fdatasync(int fd) { return fd < 0 ? -1 : 0; }
int sync_file_range(int fd) { return fd < 0 ? -1 : 0; }
int msync(void *at) { return at ? 0 : -1; }
";

/// The library that members must load for these plants, compiled into `dir`.
///
/// # Errors
///
/// When there is no C compiler.
pub fn library(plants: &[Plant], dir: &Path) -> Result<Option<PathBuf>> {
    if !plants.contains(&Plant::NoSync) {
        return Ok(None);
    }
    let dir = std::fs::canonicalize(dir)?;
    let (source, library) = (dir.join("no-sync.c"), dir.join("no-sync.so"));
    std::fs::write(&source, NO_SYNC)?;
    let (from, to) = (source.to_string_lossy(), library.to_string_lossy());
    system("cc", &["-shared", "-fPIC", "-o", &to, &from])?;
    Ok(Some(library))
}
