//! A source becomes the data directory of a member of a new cluster.
//!
//! A restore runs once per member, on any machine, with the same backup, the same list of members
//! and the same token; each run makes one directory. All derive the same cluster ID and member
//! IDs, because these are hashes of exactly those inputs: directories restored from different
//! backups or for different lists are different clusters and refuse each other.
//!
//! The past is closed off: the new cluster's revision lies far above the backup's
//! ([`DEFAULT_REVISION_BUMP`]) and history is compacted there, so a client that has seen revisions
//! after the backup was taken gets `compacted` and lists afresh, instead of waiting in silence or
//! reading other data under revisions it knows. Keys keep the revisions they have; leases start
//! with the time they were granted.
//!
//! Order of steps: the engine is built as `db.part/0`, synced, `db.part` renamed to `db`; `wal/` is
//! created empty; `identity.json` comes last. Interrupted at any point, the directory is no member, and a
//! second run refuses it until it is emptied.

use std::path::{Path, PathBuf};

use seams::{Disk, Seams};
use sha2::{Digest, Sha256};

use crate::backup::archive::{Reader, verify};
use crate::backup::boundary::{
    DB_DIR, FIRST_DB, FIRST_POSITION, IDENTITY_FILE, Identity, LOCK_FILE, MemberFormat, MemberInfo,
    Start, States, WAL_DIR,
};
use crate::backup::{BackupError, Meter, OnProgress, Progress, Result, Source};

/// How far a restored cluster starts above its backup: at 1,000 writes a second, a backup would
/// have to be more than eleven days old for its cluster to have issued so many revisions since.
/// etcd's documentation advises the same number.
pub const DEFAULT_REVISION_BUMP: i64 = 1_000_000_000;

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the member to make; one of `cluster`.
    pub name: String,
    /// All members of the new cluster with their peer URLs. IDs are derived, those given here are
    /// ignored.
    pub cluster: Vec<MemberInfo>,
    /// Tells apart clusters that are restored from the same backup with the same members.
    pub token: String,
    /// The member's data directory: empty or not there.
    pub data_dir: PathBuf,
    /// Added to the backup's revision; at least 1 unless nobody ever read from the old cluster.
    pub revision_bump: i64,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Cluster, member and the full list of members, with their new IDs.
    pub identity: Identity,
    /// The revision at which the new cluster starts.
    pub revision: i64,
    /// Keys and bytes restored.
    pub totals: Progress,
}

/// Reads `name=https://host:port,...` as etcd's `--initial-cluster` does: a name that occurs again
/// adds another URL to its member.
pub fn parse_initial_cluster(text: &str) -> Result<Vec<MemberInfo>> {
    let mut members: Vec<MemberInfo> = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (name, url) = match part.split_once('=') {
            Some((name, url)) if !name.is_empty() && !url.is_empty() => (name, url.to_owned()),
            _ => {
                return bad(format!(
                    "`{part}` is not of the form name=https://host:port"
                ));
            }
        };
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url),
            None => {
                let (name, peer_urls) = (name.to_owned(), vec![url]);
                members.push(MemberInfo {
                    id: 0,
                    name,
                    peer_urls,
                });
            }
        }
    }
    match members.is_empty() {
        true => bad("the list of members is empty: give name=https://host:port,...".to_owned()),
        false => Ok(members),
    }
}

/// Restores an archive. It is read and checked in full before anything is written.
pub fn restore_archive(
    path: &Path,
    target: &Target,
    seams: &Seams,
    format: &dyn MemberFormat,
    states: &dyn States,
    report: OnProgress<'_>,
) -> Result<Restored> {
    let summary = verify(&*seams.disk, path, report)?;
    let mut reader = Reader::open(&*seams.disk, path)?;
    let restored = restore(
        &mut reader,
        summary.hash,
        target,
        seams,
        format,
        states,
        report,
    )?;
    Ok(restored)
}

/// Restores a source; `fingerprint` identifies its state and must be the same for every member
/// (an archive's hash, [`crate::backup::import::EtcdSnapshot::fingerprint`]).
pub fn restore(
    source: &mut dyn Source,
    fingerprint: [u8; 32],
    target: &Target,
    seams: &Seams,
    format: &dyn MemberFormat,
    states: &dyn States,
    report: OnProgress<'_>,
) -> Result<Restored> {
    let identity = identify(&fingerprint, target)?;
    let revision = raise(source.header().revision, target.revision_bump)?;
    let (disk, dir) = (&*seams.disk, target.data_dir.as_path());
    disk.create_dir_all(dir)
        .map_err(BackupError::io("create", dir))?;
    let _lock = lock(disk, dir)?;
    require_empty(disk, dir)?;
    let start = Start {
        cluster_id: identity.cluster_id,
        revision,
        compact_revision: revision,
        applied: FIRST_POSITION,
        membership: format.encode_membership(&identity.members),
    };
    let totals = fill(source, &start, dir, disk, states, report)?;
    let identity_file = dir.join(IDENTITY_FILE);
    disk.write_atomic(&identity_file, &format.encode_identity(&identity))
        .map_err(BackupError::io("write", &identity_file))?;
    let parent = seams::disk::parent(dir);
    disk.sync_dir(&parent)
        .map_err(BackupError::io("sync", &parent))?;
    Ok(Restored {
        identity,
        revision,
        totals,
    })
}

/// The revision at which a new cluster starts.
pub(super) fn raise(revision: i64, bump: i64) -> Result<i64> {
    match revision.checked_add(bump) {
        Some(raised) if bump >= 0 => Ok(raised),
        _ => bad(format!("revision {revision} cannot be raised by {bump}")),
    }
}

/// Makes `db/` and `wal/` in a data directory that has neither.
pub(super) fn fill(
    source: &mut dyn Source,
    start: &Start,
    dir: &Path,
    disk: &dyn Disk,
    states: &dyn States,
    report: OnProgress<'_>,
) -> Result<Progress> {
    let (part, db, wal) = (dir.join("db.part"), dir.join(DB_DIR), dir.join(WAL_DIR));
    let mut meter = Meter::new("writing the new state", report);
    disk.create_dir_all(&part)
        .map_err(BackupError::io("create", &part))?;
    let mut sink = states.create(&part.join(FIRST_DB), start)?;
    while let Some(mut lease) = source.next_lease()? {
        lease.remaining_ttl = 0;
        sink.lease(lease)?;
    }
    while let Some(key) = source.next_key()? {
        meter.key(&key);
        sink.key(key)?;
    }
    sink.finish()?;
    disk.sync_dir(&part)
        .map_err(BackupError::io("sync", &part))?;
    disk.rename(&part, &db)
        .map_err(BackupError::io("rename", &part))?;
    disk.create_dir_all(&wal)
        .map_err(BackupError::io("create", &wal))?;
    disk.sync_dir(dir).map_err(BackupError::io("sync", dir))?;
    Ok(meter.done())
}

/// The IDs of the new cluster and its members.
pub(super) fn identify(fingerprint: &[u8; 32], target: &Target) -> Result<Identity> {
    let mut members = target.cluster.clone();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    check_members(&members, &target.name)?;
    let mut hash = Sha256::new();
    hash.update(b"trireme restored cluster 1");
    hash.update(fingerprint);
    hash.update(target.revision_bump.to_be_bytes());
    put(&mut hash, &target.token);
    for member in &mut members {
        member.peer_urls.sort();
        put(&mut hash, &member.name);
        hash.update((member.peer_urls.len() as u64).to_be_bytes());
        member.peer_urls.iter().for_each(|url| put(&mut hash, url));
    }
    let cluster_id = id(hash);
    for member in &mut members {
        let mut hash = Sha256::new();
        hash.update(b"trireme restored member 1");
        hash.update(cluster_id.to_be_bytes());
        put(&mut hash, &member.name);
        member.id = id(hash);
    }
    let Some(me) = members.iter().find(|member| member.name == target.name) else {
        return bad(format!("{} is not in the list of members", target.name));
    };
    let (member_id, name) = (me.id, me.name.clone());
    Ok(Identity {
        cluster_id,
        member_id,
        name,
        members,
    })
}

fn check_members(members: &[MemberInfo], name: &str) -> Result<()> {
    for (i, member) in members.iter().enumerate() {
        let MemberInfo {
            name, peer_urls, ..
        } = member;
        if name.is_empty() || peer_urls.is_empty() {
            return bad(format!("member `{name}` needs a name and a peer URL"));
        }
        if (1..peer_urls.len()).any(|i| peer_urls[..i].contains(&peer_urls[i])) {
            return bad(format!("member {name} lists the same peer URL twice"));
        }
        for other in &members[i + 1..] {
            if other.name == *name {
                return bad(format!("two members are named {name}"));
            }
            if let Some(url) = peer_urls.iter().find(|url| other.peer_urls.contains(url)) {
                return bad(format!(
                    "{name} and {} have the same peer URL {url}",
                    other.name
                ));
            }
        }
        let scheme = |url: &&String| !url.starts_with("https://") && !url.starts_with("http://");
        if let Some(url) = peer_urls.iter().find(scheme) {
            return bad(format!(
                "`{url}` of {name} is not an https:// or http:// URL"
            ));
        }
    }
    if !members.iter().any(|member| member.name == name) {
        let names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
        let names = names.join(", ");
        return bad(format!(
            "there is no member `{name}` in the new cluster, only {names}"
        ));
    }
    Ok(())
}

/// Hashes a text so that no two lists of texts look alike.
fn put(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

/// The first 8 bytes of a hash; 0 means "none" elsewhere and is left out.
fn id(hash: Sha256) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).max(1)
}

/// Takes a data directory's lock, or says that a member runs there.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>> {
    let path = dir.join(LOCK_FILE);
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => BackupError::InUse {
            path: dir.to_owned(),
        },
        _ => BackupError::io("lock", &path)(error),
    })
}

/// A fresh file system may have its `lost+found`; our own lock file is there by now.
fn require_empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.read_dir(dir).map_err(BackupError::io("list", dir))?;
    match names
        .into_iter()
        .find(|name| name != LOCK_FILE && name != "lost+found")
    {
        Some(found) => Err(BackupError::NotEmpty {
            path: dir.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

fn bad<T>(message: String) -> Result<T> {
    Err(BackupError::BadCluster(message))
}

#[cfg(test)]
mod tests;
