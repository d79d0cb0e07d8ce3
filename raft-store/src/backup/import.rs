//! Reads the state out of an etcd v3 database: the way over for an existing cluster.
//!
//! Takes the file of `etcdctl snapshot save` (whose last 32 bytes are the sha256 of the rest, and
//! are checked) or the `member/snap/db` of a stopped etcd (which has no hash; what etcd had only
//! in its log at that moment is not in it, nothing if it was stopped gracefully).
//!
//! # What etcd keeps where (facts of the 3.4 to 3.6 layouts)
//!
//! ```text
//! bucket key    17 or 18 bytes: main revision i64 big-endian, '_', sub revision i64 big-endian,
//!               and 't' when it is a deletion  ->  mvccpb.KeyValue (only the key for a deletion)
//! bucket lease  lease ID i64 big-endian  ->  message {1: ID, 2: TTL, 3: remaining TTL}
//! bucket meta   finishedCompactRev, scheduledCompactRev (a revision as above);
//!               consistent_index, term (u64 big-endian)
//! bucket auth   authEnabled (one byte, 1 when on)
//! ```
//!
//! The current revision is the largest of all main revisions and both compaction marks: a
//! compaction may have removed the newest revisions when they were deletions. A restore with
//! `--bump-revision` leaves a record with an empty value behind, which only carries a revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use prost::Message;
use seams::{File, Open, Seams};
use sha2::{Digest, Sha256};

use crate::backup::bbolt::{Bucket, Database, Place};
use crate::backup::{BackupError, Header, Lease, Meter, OnProgress, Progress, Result, Source};
use crate::pb::mvccpb::KeyValue;

/// What an etcd file holds, for the operator to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdReport {
    /// The current revision.
    pub revision: i64,
    /// The compaction watermark; 0 when it was never compacted.
    pub compact_revision: i64,
    /// Keys that exist at the current revision.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// Keys whose lease does not exist: they come over without a lease.
    pub orphans: u64,
    /// The last applied log index (`consistent_index`).
    pub applied_index: u64,
    /// The term of that entry; 0 in files of etcd 3.4 and older.
    pub term: u64,
    /// Whether the file ended with a hash, which was then right.
    pub hash_checked: bool,
    /// Whether etcd's own users and roles were switched on. They do not come over.
    pub auth_enabled: bool,
    /// The size of a database page in bytes.
    pub page_size: u64,
}

/// An etcd database as a source: the newest version of each key that exists at its revision, with
/// revisions, version and lease as they were.
///
/// Keeps every key (not the values) in memory.
pub struct EtcdSnapshot {
    database: Database,
    keys: Bucket,
    header: Header,
    report: EtcdReport,
    fingerprint: [u8; 32],
    leases: std::vec::IntoIter<Lease>,
    /// Ascending, for the lookup of a key's lease.
    lease_ids: Vec<u64>,
    index: std::collections::btree_map::IntoIter<Bytes, Place>,
}

/// The few fields of `leasepb.Lease`.
#[derive(Clone, PartialEq, Message)]
struct EtcdLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

impl EtcdSnapshot {
    /// Opens the file, checks its hash when there is one, and reads everything but the values.
    pub fn open(seams: &Seams, path: &Path, report: OnProgress<'_>) -> Result<EtcdSnapshot> {
        let file = seams
            .disk
            .open(path, Open::READ)
            .map_err(BackupError::io("open", path))?;
        let length = file.len().map_err(BackupError::io("read", path))?;
        let hashed = length % 512 == 32;
        let (fingerprint, length) = check_hash(&*file, path, length, hashed, report)?;
        let database = Database::open(file, path, length)?;
        let keys = database
            .bucket(b"key")?
            .ok_or_else(|| BackupError::NotEtcd {
                path: path.to_owned(),
                what: "it has no bucket named `key`".to_owned(),
            })?;
        let leases = read_leases(&database)?;
        let lease_ids: Vec<u64> = leases.iter().map(|lease| lease.id as u64).collect();
        let meta = Meta::read(&database)?;
        let scan = Scan::run(&database, &keys, &lease_ids, report)?;
        let revision = scan.revision.max(meta.compact_revision).max(1);
        let taken_at = seams
            .clock
            .wall()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let header = Header {
            revision,
            compact_revision: meta.compact_revision,
            term: meta.term,
            index: meta.applied_index,
            taken_at_ms: taken_at.as_millis() as i64,
            store_version: "etcd".to_owned(),
            ..Header::default()
        };
        let report = EtcdReport {
            revision,
            compact_revision: meta.compact_revision,
            keys: scan.index.len() as u64,
            leases: leases.len() as u64,
            orphans: scan.orphans.len() as u64,
            applied_index: meta.applied_index,
            term: meta.term,
            hash_checked: hashed,
            auth_enabled: meta.auth_enabled,
            page_size: database.page_size(),
        };
        let (leases, index) = (leases.into_iter(), scan.index.into_iter());
        Ok(EtcdSnapshot {
            database,
            keys,
            header,
            report,
            fingerprint,
            leases,
            lease_ids,
            index,
        })
    }

    /// What the file holds.
    pub fn report(&self) -> &EtcdReport {
        &self.report
    }

    /// The sha256 of the database: identifies the state, as the hash of an archive does.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl Source for EtcdSnapshot {
    fn header(&self) -> Header {
        self.header.clone()
    }

    fn next_lease(&mut self) -> Result<Option<Lease>> {
        Ok(self.leases.next())
    }

    fn next_key(&mut self) -> Result<Option<KeyValue>> {
        let Some((key, place)) = self.index.next() else {
            return Ok(None);
        };
        let item = self.database.item(&self.keys, place)?;
        let mut kv = decode_key(&self.database, &item.value)?;
        if kv.key != key {
            return Err(self
                .database
                .damaged("a key changed while the file was read"));
        }
        if self.lease_ids.binary_search(&(kv.lease as u64)).is_err() {
            kv.lease = 0;
        }
        Ok(Some(kv))
    }
}

/// The first pass over the bucket of revisions.
struct Scan {
    index: BTreeMap<Bytes, Place>,
    revision: i64,
    orphans: std::collections::BTreeSet<Bytes>,
}

impl Scan {
    fn run(
        database: &Database,
        keys: &Bucket,
        lease_ids: &[u64],
        report: OnProgress<'_>,
    ) -> Result<Scan> {
        let mut meter = Meter::new("reading the revisions", report);
        let (index, orphans) = (BTreeMap::new(), std::collections::BTreeSet::new());
        let mut scan = Scan {
            index,
            revision: 0,
            orphans,
        };
        database.walk(keys, |place, item| {
            let (main, deleted) = parse_revision(&item.key)
                .ok_or_else(|| database.damaged("the name of a revision is malformed"))?;
            // Records ascend by revision, so the last one of a key is its newest.
            scan.revision = main;
            let kv = decode_key(database, &item.value)?;
            if kv.key.is_empty() {
                return Ok(());
            }
            meter.key(&kv);
            // Copied: a slice would keep the whole page in memory.
            let key = Bytes::copy_from_slice(&kv.key);
            scan.orphans.remove(&key);
            if deleted {
                scan.index.remove(&key);
                return Ok(());
            }
            if kv.mod_revision != main {
                return Err(database.damaged(format!(
                    "revision {main} holds a value of revision {}",
                    kv.mod_revision
                )));
            }
            if kv.lease != 0 && lease_ids.binary_search(&(kv.lease as u64)).is_err() {
                scan.orphans.insert(key.clone());
            }
            scan.index.insert(key, place);
            Ok(())
        })?;
        meter.done();
        Ok(scan)
    }
}

/// Facts of the buckets `meta` and `auth`.
#[derive(Default)]
struct Meta {
    compact_revision: i64,
    applied_index: u64,
    term: u64,
    auth_enabled: bool,
}

impl Meta {
    fn read(database: &Database) -> Result<Meta> {
        let mut meta = Meta::default();
        let malformed = || database.damaged("an entry of its bucket `meta` is malformed");
        if let Some(bucket) = database.bucket(b"meta")? {
            database.walk(&bucket, |_, item| {
                match &*item.key {
                    b"finishedCompactRev" | b"scheduledCompactRev" => {
                        let (revision, _) = parse_revision(&item.value).ok_or_else(malformed)?;
                        meta.compact_revision = meta.compact_revision.max(revision);
                    }
                    b"consistent_index" => {
                        meta.applied_index = parse_u64(&item.value).ok_or_else(malformed)?;
                    }
                    b"term" => meta.term = parse_u64(&item.value).ok_or_else(malformed)?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        if let Some(bucket) = database.bucket(b"auth")? {
            database.walk(&bucket, |_, item| {
                meta.auth_enabled |= item.key == "authEnabled" && *item.value == [1];
                Ok(())
            })?;
        }
        Ok(meta)
    }
}

fn read_leases(database: &Database) -> Result<Vec<Lease>> {
    let mut leases = Vec::new();
    let Some(bucket) = database.bucket(b"lease")? else {
        return Ok(leases);
    };
    database.walk(&bucket, |_, item| {
        let malformed = || database.damaged("a lease is malformed");
        let lease = EtcdLease::decode(item.value).map_err(|_| malformed())?;
        if parse_u64(&item.key) != Some(lease.id as u64) || lease.id == 0 || lease.ttl <= 0 {
            return Err(malformed());
        }
        let EtcdLease {
            id,
            ttl,
            remaining_ttl,
        } = lease;
        leases.push(Lease {
            id,
            ttl,
            remaining_ttl,
        });
        Ok(())
    })?;
    Ok(leases)
}

/// The main revision, and whether the record is a deletion.
fn parse_revision(bytes: &[u8]) -> Option<(i64, bool)> {
    let deleted = match bytes.len() {
        17 => false,
        18 if bytes[17] == b't' => true,
        _ => return None,
    };
    let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
    let sub = i64::from_be_bytes(bytes[9..17].try_into().ok()?);
    (bytes[8] == b'_' && main >= 0 && sub >= 0).then_some((main, deleted))
}

fn parse_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn decode_key(database: &Database, value: &Bytes) -> Result<KeyValue> {
    KeyValue::decode(value.clone())
        .map_err(|e| database.damaged(format!("a value cannot be read ({e})")))
}

/// The sha256 of the database in the file, and the database's length. Where the file ends with a
/// hash, the two must agree.
fn check_hash(
    file: &dyn File,
    path: &Path,
    length: u64,
    hashed: bool,
    report: OnProgress<'_>,
) -> Result<([u8; 32], u64)> {
    let read = |buffer: &mut [u8], offset| {
        file.read_exact_at(buffer, offset)
            .map_err(BackupError::io("read", path))
    };
    let end = if hashed { length - 32 } else { length };
    let (mut hash, mut buffer, mut offset) = (Sha256::new(), vec![0; 1 << 20], 0);
    while offset < end {
        let step = (end - offset).min(buffer.len() as u64);
        let piece = &mut buffer[..step as usize];
        read(piece, offset)?;
        hash.update(piece);
        offset += step;
        if offset % Meter::STEP == 0 {
            report(Progress {
                stage: "checking the file",
                keys: 0,
                bytes: offset,
            });
        }
    }
    let found: [u8; 32] = hash.finalize().into();
    if hashed {
        let mut expected = [0; 32];
        read(&mut expected, end)?;
        if found != expected {
            return Err(BackupError::EtcdDamaged {
                path: PathBuf::from(path),
                what: "its content does not match the hash at its end".to_owned(),
            });
        }
    }
    Ok((found, end))
}

#[cfg(test)]
pub(crate) mod tests;
