//! The reader on files of our own making, whole and broken.

use seams::{Disk, Open, RealDisk};

use super::testing::{Builder, Entries, meta};
use super::*;

fn open(bytes: &[u8]) -> Result<Database> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    #[allow(clippy::disallowed_methods, reason = "a test's own file needs no sync")]
    std::fs::write(&path, bytes).unwrap();
    // The open file outlives its directory.
    let file = RealDisk.open(&path, Open::READ).unwrap();
    Database::open(file, &path, bytes.len() as u64)
}

/// Keys and values of a bucket.
type Found = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(database: &Database, name: &str) -> Result<Option<Found>> {
    let Some(bucket) = database.bucket(name.as_bytes())? else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    database.walk(&bucket, |place, item| {
        let again = database.item(&bucket, place)?;
        assert_eq!((&again.key, &again.value), (&item.key, &item.value));
        entries.push((item.key.to_vec(), item.value.to_vec()));
        Ok(())
    })?;
    Ok(Some(entries))
}

fn sample() -> Vec<Entries> {
    let many = (0..3000u32).map(|i| {
        // Now and then a value of several pages.
        let length = if i % 500 == 7 {
            50_000
        } else {
            (i % 90) as usize
        };
        (i.to_be_bytes().to_vec(), vec![i as u8; length])
    });
    vec![
        ("empty", Vec::new()),
        ("key", many.collect()),
        (
            "meta",
            vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), Vec::new())],
        ),
    ]
}

#[test]
fn every_page_size_is_read() {
    for page_size in [1024, 4096, 16384, 65536] {
        let database = open(&Builder::database(page_size, &sample())).unwrap();
        assert_eq!(database.page_size(), page_size as u64);
        for (name, expected) in sample() {
            assert_eq!(
                entries(&database, name).unwrap(),
                Some(expected),
                "{page_size} {name}"
            );
        }
        assert_eq!(entries(&database, "other").unwrap(), None);
    }
}

#[test]
fn the_newest_valid_meta_counts() {
    for page_size in [4096, 16384] {
        let mut bytes = Builder::database(page_size, &sample());
        assert_eq!(open(&bytes).unwrap().transaction(), 7, "on page 1");
        bytes[page_size + 60] ^= 1;
        let database = open(&bytes).unwrap();
        assert_eq!(database.transaction(), 6, "page 1 is damaged");
        assert!(entries(&database, "key").unwrap().is_some());
        bytes[page_size + 60] ^= 1;
        bytes[20] ^= 1;
        assert_eq!(open(&bytes).unwrap().transaction(), 7, "page 0 is damaged");
        bytes[page_size + 60] ^= 1;
        assert!(
            matches!(open(&bytes), Err(BackupError::NotEtcd { .. })),
            "both are"
        );
    }
}

#[test]
fn a_cut_file_is_refused() {
    let bytes = Builder::database(4096, &sample());
    assert!(matches!(
        open(&bytes[..bytes.len() - 1]),
        Err(BackupError::EtcdDamaged { .. })
    ));
    for length in [0, 10, 16, 79, 80, 4096] {
        assert!(open(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_tree_that_loops_ends() {
    let mut bytes = Builder::database(4096, &sample());
    // The root of the biggest tree is the last branch page before the root bucket's leaf.
    let branches: Vec<usize> = (2..bytes.len() / 4096)
        .map(|page| page * 4096)
        .filter(|at| {
            let id = u64::from_le_bytes(bytes[*at..at + 8].try_into().unwrap());
            id == (*at / 4096) as u64 && bytes[at + 8] == 1 && bytes[at + 9] == 0
        })
        .collect();
    let top = *branches.last().unwrap();
    let top_id = (top / 4096) as u64;
    bytes[top + 24..top + 32].copy_from_slice(&top_id.to_le_bytes());
    let database = open(&bytes).unwrap();
    let error = entries(&database, "key").unwrap_err().to_string();
    assert!(error.contains("used twice"), "{error}");
}

#[test]
fn absurd_metas_are_refused() {
    for (page_size, root, pages) in [
        (4096, 2, u64::MAX),
        (4096, u64::MAX, 3),
        (0, 2, 3),
        (3, 2, 3),
    ] {
        let mut bytes = vec![0; 3 * 4096];
        let meta = meta(page_size, root, pages, 8);
        bytes[..meta.len()].copy_from_slice(&meta);
        assert!(
            open(&bytes).and_then(|d| entries(&d, "key")).is_err(),
            "{page_size} {root} {pages}"
        );
    }
}
