//! What the archive must not get wrong: what goes in comes out, and nothing else passes for it.

use std::path::PathBuf;

use futures::StreamExt;
use proptest::prelude::*;
use seams::{Disk, RealDisk, Seams};
use tempfile::TempDir;

use super::*;
use crate::backup::fixtures::{State, quiet};
use crate::backup::{BackupError, Result, Source};

fn bytes_of(state: &State) -> Vec<u8> {
    let chunks: Result<Vec<Bytes>> = Writer::new(state.source()).collect();
    chunks.unwrap().concat()
}

fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.backup");
    #[allow(clippy::disallowed_methods, reason = "thousands of files need no sync")]
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn check(bytes: &[u8]) -> Result<Summary> {
    let (_dir, path) = file_of(bytes);
    verify(&RealDisk, &path, &mut quiet)
}

#[test]
fn what_goes_in_comes_out() {
    for state in [
        State::example(0, 0),
        State::example(1, 10),
        State::example(5000, 1000),
    ] {
        let bytes = bytes_of(&state);
        assert_eq!(bytes.len() % 512, 32, "the length that etcdctl checks");
        let (_dir, path) = file_of(&bytes);
        let summary = verify(&RealDisk, &path, &mut quiet).unwrap();
        assert_eq!(summary.header, state.header);
        assert_eq!((summary.keys, summary.leases), (state.keys.len() as u64, 2));
        assert_eq!(summary.hash[..], bytes[bytes.len() - 32..]);
        let mut reader = Reader::open(&RealDisk, &path).unwrap();
        assert_eq!(State::read(&mut reader).unwrap(), state);
    }
}

#[test]
fn a_summary_reads_well() {
    let text = check(&bytes_of(&State::example(3, 20)))
        .unwrap()
        .to_string();
    for line in [
        "revision       13\n",
        "keys           3 (114 bytes of keys and values)",
        "taken at       2026-09-21T14:13:20Z",
        "cluster 00000000000000c1, member 00000000000000a1, version 0.1.0",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn chunks_are_bounded_and_a_large_value_has_its_own() {
    let mut state = State::example(40, 300_000);
    state.keys[20].value = Bytes::from(vec![1; 5 << 20]);
    let sizes: Vec<usize> = Writer::new(state.source())
        .map(|chunk| chunk.unwrap().len())
        .collect();
    assert!(sizes.len() > 10);
    let large = sizes
        .iter()
        .filter(|size| **size > FRAME_TARGET + 400_000)
        .count();
    assert_eq!(large, 1, "{sizes:?}");
    assert_eq!(check(&bytes_of(&state)).unwrap().keys, 40);
}

#[test]
fn flipped_bits_are_noticed_everywhere() {
    let bytes = bytes_of(&State::example(3, 20));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.backup");
    // Each bit of magic, format and the first frame; one bit of every byte after that.
    for bit in (0..1024).chain((128..bytes.len()).map(|byte| byte * 8 + byte % 8)) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        #[allow(clippy::disallowed_methods, reason = "thousands of files need no sync")]
        std::fs::write(&path, &flipped).unwrap();
        assert!(verify(&RealDisk, &path, &mut quiet).is_err(), "bit {bit}");
    }
}

#[test]
fn every_shorter_file_is_incomplete() {
    let bytes = bytes_of(&State::example(30, 100));
    for length in (0..bytes.len())
        .step_by(13)
        .chain([bytes.len() - 512, bytes.len() - 1])
    {
        match check(&bytes[..length]) {
            Err(BackupError::Truncated { .. }) => {}
            other => panic!("{length} of {} bytes: {other:?}", bytes.len()),
        }
    }
}

#[test]
fn a_file_that_goes_on_is_noticed() {
    let mut bytes = bytes_of(&State::example(3, 20));
    bytes.extend_from_slice(&[0; 512]);
    assert!(matches!(check(&bytes), Err(BackupError::Damaged { .. })));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    assert!(matches!(
        check(&[7; 4096 + 32]),
        Err(BackupError::NotABackup { .. })
    ));
    let mut etcd = vec![0; 4096 + 32];
    etcd[16..20].copy_from_slice(&0xED0C_DAEDu32.to_le_bytes());
    let error = check(&etcd).unwrap_err().to_string();
    assert!(error.contains("trireme backup import"), "{error}");
}

#[test]
fn a_newer_format_is_told_from_damage() {
    use sha2::{Digest, Sha256};
    let mut bytes = bytes_of(&State::example(3, 20));
    bytes[16] = 9;
    assert!(matches!(check(&bytes), Err(BackupError::Damaged { .. })));
    let end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    let error = check(&bytes).unwrap_err().to_string();
    assert!(
        error.contains("format 9") && error.contains("up to 1"),
        "{error}"
    );
}

#[test]
fn a_source_that_contradicts_itself_is_refused() {
    let broken: [fn(&mut State); 5] = [
        |s| s.keys.swap(0, 1),
        |s| s.keys[0].mod_revision = s.header.revision + 1,
        |s| s.keys[0].key = Bytes::new(),
        |s| s.leases.swap(0, 1),
        |s| s.header.revision = 0,
    ];
    for (i, breakage) in broken.into_iter().enumerate() {
        let mut state = State::example(3, 20);
        breakage(&mut state);
        let chunks: Result<Vec<Bytes>> = Writer::new(state.source()).collect();
        assert!(matches!(chunks, Err(BackupError::BadSource(_))), "{i}");
    }
}

#[test]
fn a_file_appears_only_when_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.backup");
    let bytes = bytes_of(&State::example(30, 100));
    {
        let mut download = Download::create(&RealDisk, &path).unwrap();
        download.push(&bytes[..1000]).unwrap();
        assert!(download.finish(&mut quiet).is_err());
    }
    assert!(
        RealDisk.read_dir(dir.path()).unwrap().is_empty(),
        "nothing is left behind"
    );
    let summary = write(
        State::example(30, 100).source(),
        &RealDisk,
        &path,
        &mut quiet,
    )
    .unwrap();
    assert_eq!(RealDisk.read_dir(dir.path()).unwrap(), ["x.backup"]);
    assert_eq!(RealDisk.read(&path).unwrap(), bytes);
    assert_eq!(summary.file_bytes, bytes.len() as u64);
}

#[tokio::test]
async fn the_stream_is_the_file() {
    let state = State::example(3000, 1000);
    let seams = Seams::real();
    let chunks: Vec<Bytes> = stream(state.source(), seams.tasks())
        .map(|chunk| chunk.unwrap())
        .collect()
        .await;
    assert!(chunks.len() > 3);
    assert_eq!(chunks.concat(), bytes_of(&state));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_of_any_shape_is_an_error(
        from in 0usize..8000, length in 1usize..600, byte: u8, cut in any::<bool>(),
    ) {
        let bytes = bytes_of(&State::example(60, 100));
        let from = from % bytes.len();
        let to = (from + length).min(bytes.len());
        let mut damaged = bytes.clone();
        if cut {
            damaged.drain(from..to);
        } else {
            damaged[from..to].fill(byte);
        }
        prop_assume!(damaged != bytes);
        prop_assert!(check(&damaged).is_err());
    }

    #[test]
    fn any_bytes_behind_the_magic_are_an_error(mut junk in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        junk.resize(junk.len().next_multiple_of(512) + 12, 3);
        bytes.extend_from_slice(&junk);
        let (_dir, path) = file_of(&bytes);
        let read = Reader::open(&RealDisk, &path).and_then(|mut r| {
            while r.next_lease()?.is_some() {}
            r.next_key()
        });
        prop_assert!(read.is_err());
    }
}
