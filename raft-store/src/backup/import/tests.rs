//! Imports: databases of our own making, broken ones, and those of a real etcd.

use proptest::prelude::*;
use seams::RealDisk;
use tempfile::TempDir;

use super::*;
use crate::backup::bbolt::testing::{Builder, Entries};
use crate::backup::fixtures::{State, quiet};

mod etcd;

fn open(bytes: &[u8]) -> (TempDir, Result<EtcdSnapshot>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    #[allow(clippy::disallowed_methods, reason = "a test's own file needs no sync")]
    std::fs::write(&path, bytes).unwrap();
    let snapshot = EtcdSnapshot::open(&Seams::real(), &path, &mut quiet);
    (dir, snapshot)
}

fn revision(main: i64, sub: i64, deleted: bool) -> Vec<u8> {
    let mut name = main.to_be_bytes().to_vec();
    name.push(b'_');
    name.extend_from_slice(&sub.to_be_bytes());
    if deleted {
        name.push(b't');
    }
    name
}

fn kv(key: &str, create: i64, modified: i64, version: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: create,
        mod_revision: modified,
        version,
        value: Bytes::from(format!("{key} at {modified}")),
        lease,
    }
}

fn deletion(key: &str) -> Vec<u8> {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..KeyValue::default()
    }
    .encode_to_vec()
}

/// A database with every kind of record that matters.
fn sample() -> Vec<Entries> {
    let put = |kv: KeyValue, sub| (revision(kv.mod_revision, sub, false), kv.encode_to_vec());
    let lease = |id: i64, ttl, remaining_ttl| {
        (
            id.to_be_bytes().to_vec(),
            EtcdLease {
                id,
                ttl,
                remaining_ttl,
            }
            .encode_to_vec(),
        )
    };
    let mut keys = vec![
        put(kv("kept", 2, 3, 2, 0), 0),
        put(kv("overwritten", 4, 4, 1, 5), 0),
        put(kv("gone", 5, 5, 1, 0), 0),
        put(kv("leased", 6, 6, 1, 9), 0),
        put(kv("orphan", 6, 6, 1, 77), 1),
        put(kv("overwritten", 4, 7, 2, 0), 0),
        (revision(8, 0, true), deletion("gone")),
        (revision(8, 1, true), deletion("again")),
        put(kv("again", 9, 9, 1, 0), 0),
        // What a restore with `--bump-revision` leaves.
        (revision(20, 0, false), Vec::new()),
        put(kv("newer", 21, 21, 1, 0), 0),
        (revision(22, 0, true), deletion("unknown")),
    ];
    keys.sort();
    let index = 1234u64.to_be_bytes().to_vec();
    vec![
        ("auth", vec![(b"authEnabled".to_vec(), vec![1])]),
        ("key", keys),
        (
            "lease",
            vec![lease(5, 60, 0), lease(9, 3600, 100), lease(-4, 30, 0)],
        ),
        (
            "meta",
            vec![
                (b"consistent_index".to_vec(), index),
                (b"finishedCompactRev".to_vec(), revision(3, 0, false)),
                (b"scheduledCompactRev".to_vec(), revision(4, 0, false)),
                (b"term".to_vec(), 7u64.to_be_bytes().to_vec()),
            ],
        ),
    ]
}

/// [`sample`] as a file.
pub(crate) fn sample_database() -> Vec<u8> {
    Builder::database(4096, &sample())
}

#[test]
fn the_newest_version_of_each_living_key_comes_over() {
    for page_size in [4096, 16384] {
        let (_dir, snapshot) = open(&Builder::database(page_size, &sample()));
        let mut snapshot = snapshot.unwrap();
        let expected = EtcdReport {
            revision: 22,
            compact_revision: 4,
            keys: 6,
            leases: 3,
            orphans: 1,
            applied_index: 1234,
            term: 7,
            hash_checked: false,
            auth_enabled: true,
            page_size: page_size as u64,
        };
        assert_eq!(*snapshot.report(), expected);
        let state = State::read(&mut snapshot).unwrap();
        assert_eq!(
            (state.header.revision, state.header.compact_revision),
            (22, 4)
        );
        let leases = [(5, 60, 0), (9, 3600, 100), (-4, 30, 0)];
        assert_eq!(
            state.leases,
            leases.map(|(id, ttl, remaining_ttl)| Lease {
                id,
                ttl,
                remaining_ttl
            })
        );
        let keys = [
            kv("again", 9, 9, 1, 0),
            kv("kept", 2, 3, 2, 0),
            kv("leased", 6, 6, 1, 9),
            kv("newer", 21, 21, 1, 0),
            kv("orphan", 6, 6, 1, 0),
            kv("overwritten", 4, 7, 2, 0),
        ];
        assert_eq!(state.keys, keys);
    }
}

#[test]
fn a_compaction_mark_above_the_records_is_the_revision() {
    let mark = vec![(b"scheduledCompactRev".to_vec(), revision(500, 0, false))];
    let (_dir, snapshot) = open(&Builder::database(
        4096,
        &[("key", Vec::new()), ("meta", mark)],
    ));
    assert_eq!(snapshot.unwrap().report().revision, 500);
}

#[test]
fn the_hash_at_the_end_is_checked_when_there_is_one() {
    let database = Builder::database(4096, &sample());
    let mut bytes = [database.clone(), Sha256::digest(&database).to_vec()].concat();
    let (_dir, snapshot) = open(&bytes);
    let snapshot = snapshot.unwrap();
    assert!(snapshot.report().hash_checked);
    assert_eq!(snapshot.fingerprint()[..], bytes[bytes.len() - 32..]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let (_dir, snapshot) = open(&bytes);
    assert!(matches!(snapshot, Err(BackupError::EtcdDamaged { .. })));
}

#[test]
fn files_that_are_no_etcd_say_so() {
    let (_dir, other) = open(&Builder::database(4096, &[("bucket", Vec::new())]));
    let error = other.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("no bucket named `key`"), "{error}");
    let (_dir, junk) = open(&[1; 5000]);
    assert!(matches!(junk, Err(BackupError::NotEtcd { .. })));
}

#[test]
fn an_import_can_be_kept_as_an_archive() {
    let (dir, snapshot) = open(&Builder::database(4096, &sample()));
    let path = dir.path().join("x.backup");
    let summary =
        crate::backup::archive::write(snapshot.unwrap(), &RealDisk, &path, &mut quiet).unwrap();
    assert_eq!(
        (summary.keys, summary.leases, summary.header.revision),
        (6, 3, 22)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Damage gives an error or other content, never a panic, a hang or a huge allocation.
    #[test]
    fn no_damage_makes_it_panic(
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        near_heads in any::<bool>(),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Builder::database(1024, &sample());
        for (at, byte) in &hits {
            // The metas have checksums: damage behind them gets further.
            let mut at = 2048 + at.index(bytes.len() - 2048);
            if near_heads {
                at = at / 1024 * 1024 + at % 64;
            }
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (_dir, snapshot) = open(&bytes);
        if let Ok(mut snapshot) = snapshot {
            let _ = State::read(&mut snapshot);
        }
    }
}
