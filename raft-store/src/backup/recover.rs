//! Recovery from quorum loss: what is left of a cluster becomes a new cluster.
//!
//! When a majority of the members is gone for good, the rest can neither elect nor commit. This
//! looks at the data directories that are left, all stopped, shows where each one's log stands,
//! chooses the one with the newest log, and turns it into the first member of a new cluster.
//!
//! # Why this is as safe as it can be
//!
//! - The choice is that of a Raft election: the log with the highest last (term, index) holds
//!   every committed entry that any of the given members holds. Its whole log is kept, including
//!   entries that it does not know to be committed: one of them may have been acknowledged.
//! - What only the lost majority held cannot be known. Clients may have seen such revisions, so
//!   the new cluster starts far above them with its history compacted, as a restore does, and
//!   nobody resumes into a past that did not happen.
//! - The new cluster has a new ID: an old member that comes back is refused by it, and cannot
//!   form a second leader of it.
//! - Nothing is destroyed. The old files are moved aside as they were, and the state that was
//!   taken over is kept as a checked backup, from which further members can be restored.
//!
//! [`plan`] only looks (and holds the locks); [`execute`] acts. Interrupted, it either left the
//! old member as it was, or no member at all and both the old files and the complete backup.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use seams::{Disk, Seams};

use crate::backup::archive::{self, Reader};
use crate::backup::boundary::{
    DB_DIR, FIRST_POSITION, IDENTITY_FILE, Identity, MemberFormat, MemberInfo, Start, States,
    WAL_DIR,
};
use crate::backup::restore::{self, DEFAULT_REVISION_BUMP, Target};
use crate::backup::{BackupError, Header, OnProgress, Result, Source};
use crate::position::LogPosition;

mod words;

/// Where the old files go, followed by the time.
const ASIDE: &str = "before-recovery-";
/// Work in progress; removed at the end and before a new attempt.
const SCRATCH: &str = "recovery.tmp";

/// Where a stopped member stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last vote: its term, for whom, and whether that member won.
    pub vote: Option<(u64, u64, bool)>,
    /// The last entry in the log.
    pub last: Option<LogPosition>,
    /// The last entry that this member knows to be committed.
    pub committed: Option<LogPosition>,
    /// The last entry that is in the applied state on disk.
    pub applied: Option<LogPosition>,
    /// The revision of the applied state on disk; entries after `applied` add to it.
    pub revision: i64,
    /// The membership in the applied state, encoded.
    pub membership: Option<Bytes>,
}

impl Standing {
    /// The newest entry that this member holds in any form.
    pub fn newest(&self) -> Option<LogPosition> {
        self.last.max(self.applied)
    }

    /// The newest entry that is surely committed: nothing else is ever applied.
    pub fn surely_committed(&self) -> Option<LogPosition> {
        self.committed.max(self.applied)
    }
}

/// Reads stopped members' data directories.
pub trait Stopped: Send + Sync {
    /// Where the member stands. The caller holds the directory's lock.
    fn inspect(&self, dir: &Path) -> Result<Standing>;

    /// The member's state with its whole log applied. Changes nothing but `scratch`, a directory
    /// that does not exist yet and outlives the source. `header` says cluster, member, time and
    /// version; the source's header says the rest too.
    fn replay(&self, dir: &Path, scratch: &Path, header: Header) -> Result<Box<dyn Source>>;
}

/// A member that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its data directory.
    pub dir: PathBuf,
    /// Who it is.
    pub identity: Identity,
    /// Where it stands.
    pub standing: Standing,
}

/// What was found and what would be done. Printed, it is the plan in plain words.
///
/// Holds the locks of all directories, so that nothing changes before [`execute`].
pub struct Plan {
    /// The members that were looked at.
    pub candidates: Vec<Candidate>,
    /// Which of them is chosen.
    pub chosen: usize,
    /// The members of the cluster whose directories were not given.
    pub absent: Vec<MemberInfo>,
    /// The chosen member as its cluster last knew it.
    pub survivor: MemberInfo,
    _locks: Vec<Box<dyn Send + Sync>>,
}

/// What the new cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its members, one of them with the chosen member's name. Empty for the chosen member
    /// alone, which is the simplest: others join afterwards, with empty disks.
    pub cluster: Vec<MemberInfo>,
    /// Tells this recovery apart from others; the same for members restored from its backup.
    pub token: String,
    /// How far the revision is raised.
    pub revision_bump: i64,
}

impl Default for Shape {
    fn default() -> Self {
        let (cluster, token) = (Vec::new(), "recovery".to_owned());
        Shape {
            cluster,
            token,
            revision_bump: DEFAULT_REVISION_BUMP,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The chosen member's new identity.
    pub identity: Identity,
    /// The revision at which the new cluster starts.
    pub revision: i64,
    /// The state that was taken over, as a backup.
    pub backup: PathBuf,
    /// What that backup holds.
    pub summary: archive::Summary,
    /// Where the old files are.
    pub aside: PathBuf,
}

/// Looks at the given data directories (of stopped members of one cluster) and chooses.
pub fn plan(
    dirs: &[PathBuf],
    seams: &Seams,
    format: &dyn MemberFormat,
    stopped: &dyn Stopped,
) -> Result<Plan> {
    let mut locks = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    for dir in dirs {
        let identity = read_identity(dir, seams, format)?;
        locks.push(restore::lock(&*seams.disk, dir)?);
        if let Some(other) = candidates.first() {
            check_related(&other.identity, &identity, dir)?;
        }
        let twice = |c: &&Candidate| c.identity.member_id == identity.member_id;
        if let Some(other) = candidates.iter().find(twice) {
            return Err(BackupError::CannotRecover(format!(
                "{} and {} are both member {}. Two copies of one member cannot both count: give \
                 the newer one only",
                other.dir.display(),
                dir.display(),
                identity.name
            )));
        }
        let standing = stopped.inspect(dir)?;
        candidates.push(Candidate {
            dir: dir.clone(),
            identity,
            standing,
        });
    }
    let chosen = choose(&candidates).ok_or_else(|| {
        BackupError::CannotRecover("give the data directory of at least one member".to_owned())
    })?;
    let best = &candidates[chosen];
    if best.standing.newest().is_none() {
        return Err(BackupError::CannotRecover(format!(
            "none of the given members has any data, {} included. Restore a backup instead",
            best.dir.display()
        )));
    }
    let known = known_members(best, format)?;
    let survivor = known
        .iter()
        .find(|member| member.id == best.identity.member_id)
        .cloned();
    let survivor = survivor.unwrap_or_else(|| MemberInfo {
        id: best.identity.member_id,
        name: best.identity.name.clone(),
        peer_urls: Vec::new(),
    });
    let given = |member: &MemberInfo| {
        candidates
            .iter()
            .any(|candidate| candidate.identity.member_id == member.id)
    };
    let absent = known.into_iter().filter(|member| !given(member)).collect();
    Ok(Plan {
        candidates,
        chosen,
        absent,
        survivor,
        _locks: locks,
    })
}

/// The newest log wins, as in an election; then the one with more known to be committed.
fn choose(candidates: &[Candidate]) -> Option<usize> {
    let rank = |candidate: &Candidate| {
        (
            candidate.standing.newest(),
            candidate.standing.surely_committed(),
        )
    };
    // `max_by_key` takes the last of equals; the first one given is the better surprise.
    (0..candidates.len())
        .rev()
        .max_by_key(|i| rank(&candidates[*i]))
}

/// Turns the chosen member into the first of a new cluster. See the module's description for
/// what becomes of the old files.
pub fn execute(
    plan: Plan,
    shape: &Shape,
    seams: &Seams,
    format: &dyn MemberFormat,
    stopped: &dyn Stopped,
    states: &dyn States,
    report: OnProgress<'_>,
) -> Result<Recovered> {
    let disk = &*seams.disk;
    let best = &plan.candidates[plan.chosen];
    let (dir, scratch) = (best.dir.as_path(), best.dir.join(SCRATCH));
    let cluster = match shape.cluster.is_empty() {
        true => vec![plan.survivor.clone()],
        false => shape.cluster.clone(),
    };
    let target = Target {
        name: best.identity.name.clone(),
        cluster,
        token: shape.token.clone(),
        data_dir: scratch.clone(),
        revision_bump: shape.revision_bump,
    };
    // Refused before any work is done.
    restore::identify(&[0; 32], &target)?;

    let remove_scratch = || {
        disk.remove_dir_all(&scratch)
            .map_err(BackupError::io("remove", &scratch))
    };
    if disk.exists(&scratch) {
        remove_scratch()?;
    }
    disk.create_dir_all(&scratch)
        .map_err(BackupError::io("create", &scratch))?;
    let prepared = prepare(best, &target, seams, format, stopped, states, report);
    let (identity, revision, backup, summary, time) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // The first error is the one to tell; the next attempt removes the rest.
            let _ = remove_scratch();
            return Err(error);
        }
    };

    let aside = dir.join(format!("{ASIDE}{time}"));
    swap(dir, &scratch.join("new"), &aside, disk)?;
    let identity_file = dir.join(IDENTITY_FILE);
    disk.write_atomic(&identity_file, &format.encode_identity(&identity))
        .map_err(BackupError::io("write", &identity_file))?;
    remove_scratch()?;
    Ok(Recovered {
        identity,
        revision,
        backup,
        summary,
        aside,
    })
}

/// Moves the old files aside and the new ones in. From here until the new identity is written the
/// directory is no member. Each step is on disk before the next, so that a power cut leaves one of
/// a few known states.
fn swap(dir: &Path, new: &Path, aside: &Path, disk: &dyn Disk) -> Result<()> {
    let move_to = |from: PathBuf, to: PathBuf| {
        disk.rename(&from, &to)
            .map_err(BackupError::io("move", &from))
    };
    let sync = |path: &Path| disk.sync_dir(path).map_err(BackupError::io("sync", path));
    disk.create_dir_all(aside)
        .map_err(BackupError::io("create", aside))?;
    for name in [IDENTITY_FILE, WAL_DIR, DB_DIR] {
        move_to(dir.join(name), aside.join(name))?;
        sync(aside)?;
        sync(dir)?;
    }
    for name in [DB_DIR, WAL_DIR] {
        move_to(new.join(name), dir.join(name))?;
    }
    sync(dir)
}

type Prepared = (Identity, i64, PathBuf, archive::Summary, u128);

/// Makes the backup and the new state beside the old one, which stays as it is.
fn prepare(
    best: &Candidate,
    target: &Target,
    seams: &Seams,
    format: &dyn MemberFormat,
    stopped: &dyn Stopped,
    states: &dyn States,
    report: OnProgress<'_>,
) -> Result<Prepared> {
    let disk = &*seams.disk;
    let time = seams
        .clock
        .wall()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let header = Header {
        cluster_id: best.identity.cluster_id,
        member_id: best.identity.member_id,
        taken_at_ms: time as i64,
        store_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Header::default()
    };
    let backup = best.dir.join(format!("recovered-{time}.backup"));
    let summary = {
        let source = stopped.replay(&best.dir, &target.data_dir.join("replay"), header)?;
        archive::write(source, disk, &backup, report)?
    };
    let identity = restore::identify(&summary.hash, target)?;
    let revision = restore::raise(summary.header.revision, target.revision_bump)?;
    let start = Start {
        cluster_id: identity.cluster_id,
        revision,
        compact_revision: revision,
        applied: FIRST_POSITION,
        membership: format.encode_membership(&identity.members),
    };
    let new = target.data_dir.join("new");
    disk.create_dir_all(&new)
        .map_err(BackupError::io("create", &new))?;
    let mut reader = Reader::open(disk, &backup)?;
    restore::fill(&mut reader, &start, &new, disk, states, report)?;
    Ok((identity, revision, backup, summary, time))
}

fn read_identity(dir: &Path, seams: &Seams, format: &dyn MemberFormat) -> Result<Identity> {
    let disk = &*seams.disk;
    let not_a_member = |what: String| BackupError::NotAMember {
        path: dir.to_owned(),
        what,
    };
    let path = dir.join(IDENTITY_FILE);
    if !disk.exists(&path) {
        let names = disk.read_dir(dir).map_err(BackupError::io("list", dir))?;
        return Err(not_a_member(
            match names.iter().rfind(|name| name.starts_with(ASIDE)) {
                Some(aside) => format!(
                    "a recovery was interrupted here. The old files are in `{aside}`: remove `{DB_DIR}`, \
                 `{WAL_DIR}` and `{SCRATCH}` here if they exist, move what is in `{aside}` back \
                 (`{IDENTITY_FILE}` last), and recover again"
                ),
                None => format!("it has no {IDENTITY_FILE}"),
            },
        ));
    }
    let bytes = disk.read(&path).map_err(BackupError::io("read", &path))?;
    format
        .decode_identity(&bytes)
        .map_err(|reason| not_a_member(format!("its {IDENTITY_FILE} cannot be read ({reason})")))
}

fn check_related(first: &Identity, other: &Identity, dir: &Path) -> Result<()> {
    if first.cluster_id == other.cluster_id {
        return Ok(());
    }
    Err(BackupError::CannotRecover(format!(
        "{} belongs to cluster {:016x}, and the first directory to cluster {:016x}. Give only \
         directories of one cluster",
        dir.display(),
        other.cluster_id,
        first.cluster_id
    )))
}

/// The cluster's members as the applied state knows them, or else the founders.
fn known_members(candidate: &Candidate, format: &dyn MemberFormat) -> Result<Vec<MemberInfo>> {
    match &candidate.standing.membership {
        None => Ok(candidate.identity.members.clone()),
        Some(bytes) => format
            .decode_membership(bytes)
            .map_err(BackupError::store("read the membership of", &candidate.dir)),
    }
}

#[cfg(test)]
mod tests;
