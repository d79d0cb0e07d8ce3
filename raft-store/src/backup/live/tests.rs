//! The whole way, on both engines: a member's state saved, restored, opened; a stopped member
//! recovered with what only its log holds; an etcd moved over.

use proptest::prelude::*;
use prost::Message;
use seams::{Disk, RealDisk};
use tempfile::TempDir;

use super::*;
use crate::backup::archive;
use crate::backup::boundary::{FIRST_POSITION, IDENTITY_FILE, Identity, MemberInfo};
use crate::backup::fixtures::{State, TextFormat, quiet};
use crate::backup::recover::{self, Shape};
use crate::backup::restore::{
    DEFAULT_REVISION_BUMP, Target, parse_initial_cluster, restore, restore_archive,
};
use crate::engine::{MemoryEngine, RocksConfig, RocksEngine};
use crate::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use crate::pb::log::{Command, LeaseGrant, command::Op};
use crate::wal::Vote;

fn directories(rocks: bool) -> Directories {
    let open_engine: OpenEngine = match rocks {
        true => Arc::new(|dir| Ok(Arc::new(RocksEngine::open(dir, &RocksConfig::default())?))),
        false => Arc::new(|dir| Ok(Arc::new(MemoryEngine::open(Arc::new(RealDisk), dir)?))),
    };
    Directories {
        seams: Seams::real(),
        open_engine,
        format: Arc::new(TextFormat),
    }
}

fn command(op: Op) -> Entry {
    Entry::Command(
        Command {
            op: Some(op),
            ..Command::default()
        }
        .encode_to_vec()
        .into(),
    )
}

fn put(key: &str, value: &str, lease: i64) -> Entry {
    command(Op::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..PutRequest::default()
    }))
}

fn delete(key: &str) -> Entry {
    let key = key.to_owned().into();
    command(Op::DeleteRange(DeleteRangeRequest {
        key,
        ..DeleteRangeRequest::default()
    }))
}

fn grant(id: i64, ttl: i64) -> Entry {
    command(Op::LeaseGrant(LeaseGrant { id, ttl }))
}

/// Some work with everything that a backup must keep.
fn work() -> Vec<Entry> {
    let mut entries = vec![
        Entry::Membership("1 m1 https://m1:2380\n".into()),
        grant(70, 600),
    ];
    for i in 0..300 {
        entries.push(put(&format!("/k/{:03}", i % 100), &"v".repeat(i * 20), 0));
    }
    entries.push(put("/leased", "x", 70));
    entries.push(delete("/k/050"));
    entries.push(Entry::Blank);
    entries
}

fn at(index: usize) -> LogPosition {
    LogPosition {
        term: 3,
        index: index as u64,
    }
}

fn positioned(entries: Vec<Entry>, from: usize) -> Vec<(LogPosition, Entry)> {
    entries
        .into_iter()
        .enumerate()
        .map(|(i, entry)| (at(from + i), entry))
        .collect()
}

fn state_of(mvcc: &Mvcc) -> State {
    State::read(&mut LiveSource::open(mvcc, Header::default()).unwrap()).unwrap()
}

fn target(dir: &Path) -> Target {
    Target {
        name: "m1".to_owned(),
        cluster: parse_initial_cluster("m1=https://m1:2380,m2=https://m2:2380").unwrap(),
        token: "t".to_owned(),
        data_dir: dir.to_owned(),
        revision_bump: DEFAULT_REVISION_BUMP,
    }
}

/// What a restored state must be, given what it was made from.
fn assert_restored(mvcc: &Mvcc, from: &State, membership: &[MemberInfo]) {
    let revision = from.header.revision + DEFAULT_REVISION_BUMP;
    assert_eq!(
        (mvcc.revision(), mvcc.compact_revision()),
        (revision, revision)
    );
    assert_eq!(mvcc.applied(), Some(FIRST_POSITION));
    let expected = (FIRST_POSITION, TextFormat.encode_membership(membership));
    assert_eq!(mvcc.membership(), Some(expected));
    let state = state_of(mvcc);
    assert_eq!(state.keys, from.keys);
    let ttls = |state: &State| {
        state
            .leases
            .iter()
            .map(|l| (l.id, l.ttl))
            .collect::<Vec<_>>()
    };
    assert_eq!(ttls(&state), ttls(from));
    for kv in from.keys.iter().filter(|kv| kv.lease != 0) {
        assert!(
            mvcc.lease_keys(kv.lease).contains(&kv.key),
            "leases know their keys"
        );
    }
    // The past is closed: a reader that resumes is told so.
    let past = RangeRequest {
        key: "a".into(),
        revision: from.header.revision,
        ..RangeRequest::default()
    };
    assert!(matches!(
        mvcc.range(&past),
        Err(crate::Error::Compacted { .. })
    ));
    // And the future begins.
    mvcc.apply(vec![(
        LogPosition { term: 1, index: 1 },
        put("new", "x", 0),
    )])
    .unwrap();
    assert_eq!(mvcc.revision(), revision + 1);
}

#[test]
fn a_running_member_is_saved_and_restored() {
    for rocks in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (archive, first, second) = (
            home.path().join("x.backup"),
            home.path().join("1"),
            home.path().join("2"),
        );
        let here = directories(rocks);
        let mvcc = here.open(&home.path().join("db")).unwrap();
        mvcc.apply(positioned(work(), 0)).unwrap();
        let before = state_of(&mvcc);
        assert_eq!((before.keys.len(), before.leases.len()), (100, 1));
        let source = LiveSource::open(&mvcc, Header::default()).unwrap();
        // Writes and compactions go on; the backup does not see them.
        let next = positioned(vec![put("/later", "x", 0), delete("/k/001")], work().len());
        mvcc.apply(next).unwrap();
        let summary = archive::write(source, &RealDisk, &archive, &mut quiet).unwrap();
        assert_eq!(
            (summary.keys, summary.header.revision),
            (100, before.header.revision)
        );
        assert_eq!(summary.header.index, work().len() as u64 - 1);

        let seams = Seams::real();
        let mut hashes = Vec::new();
        for (name, dir) in [("m1", &first), ("m2", &second)] {
            let target = Target {
                name: name.to_owned(),
                ..target(dir)
            };
            let done =
                restore_archive(&archive, &target, &seams, &TextFormat, &here, &mut quiet).unwrap();
            let restored = here.open(&here.database(dir).unwrap()).unwrap();
            hashes.push(restored.hash(0).unwrap());
            assert_restored(&restored, &before, &done.identity.members);
        }
        assert_eq!(hashes[0], hashes[1], "members start identical");
    }
}

/// A member's directory whose log goes further than the state that it flushed.
fn stopped_member(here: &Directories, home: &TempDir, flushed: usize) -> (PathBuf, State) {
    let dir = home.path().join("data");
    let entries = positioned(work(), 0);
    RealDisk.create_dir_all(&dir.join("db")).unwrap();
    let records = entries.iter().map(|(position, entry)| {
        let (kind, payload) = match entry {
            Entry::Blank => (0, bytes::Bytes::new()),
            Entry::Command(bytes) => (1, bytes.clone()),
            Entry::Membership(bytes) => (2, bytes.clone()),
        };
        LogRecord {
            position: *position,
            kind,
            payload,
        }
    });
    let records = records.collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks = here.seams.tasks();
        let wal = Wal::open(
            &dir.join(WAL_DIR),
            &here.seams,
            &tasks,
            WalConfig::default(),
        );
        let (wal, _) = wal.unwrap();
        wal.save_vote(
            Vote {
                term: 3,
                node: 1,
                committed: true,
            },
            Box::new(|r| r.unwrap()),
        );
        wal.append(records, Box::new(|r| r.unwrap()));
        wal.save_committed(at(200));
        tasks.shutdown().await;
    });
    {
        let mvcc = here.open(&dir.join("db/0")).unwrap();
        mvcc.apply(entries[..flushed].to_vec()).unwrap();
        mvcc.flush().unwrap();
    }
    let member = |id: u64| MemberInfo {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("https://m{id}:2380")],
    };
    let identity = Identity {
        cluster_id: 0xC1,
        member_id: 1,
        name: "m1".to_owned(),
        members: vec![member(1), member(2)],
    };
    let bytes = TextFormat.encode_identity(&identity);
    RealDisk
        .write_atomic(&dir.join(IDENTITY_FILE), &bytes)
        .unwrap();
    let whole = here.open(&home.path().join("reference")).unwrap();
    whole.apply(entries).unwrap();
    (dir, state_of(&whole))
}

#[test]
fn a_stopped_member_is_recovered_with_what_only_its_log_holds() {
    for rocks in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let here = directories(rocks);
        let (dir, whole) = stopped_member(&here, &home, 120);
        let plan =
            recover::plan(std::slice::from_ref(&dir), &here.seams, &TextFormat, &here).unwrap();
        let standing = &plan.candidates[0].standing;
        assert_eq!(standing.last, Some(at(work().len() - 1)));
        assert_eq!(
            (standing.committed, standing.applied),
            (Some(at(200)), Some(at(119)))
        );
        assert_eq!(standing.vote, Some((3, 1, true)));
        assert_eq!(plan.survivor.name, "m1");

        let shape = Shape::default();
        let done = recover::execute(
            plan,
            &shape,
            &here.seams,
            &TextFormat,
            &here,
            &here,
            &mut quiet,
        );
        let done = done.unwrap();
        let recovered = here.open(&here.database(&dir).unwrap()).unwrap();
        assert_restored(&recovered, &whole, &done.identity.members);
        drop(recovered);
        // The old files are as they were: the state set aside was not replayed into.
        let aside = here.open(&done.aside.join("db/0")).unwrap();
        assert_eq!(aside.applied(), Some(at(119)));
        // The new directory can be looked at like any other.
        recover::plan(&[dir], &here.seams, &TextFormat, &here).unwrap();
    }
}

#[test]
fn directories_that_lack_something_are_named() {
    let home = tempfile::tempdir().unwrap();
    let here = directories(false);
    let (dir, _) = stopped_member(&here, &home, 120);
    let message = || {
        let plan = recover::plan(std::slice::from_ref(&dir), &here.seams, &TextFormat, &here);
        plan.err().unwrap().to_string()
    };
    RealDisk
        .rename(&dir.join("db/0"), &dir.join("db/gone"))
        .unwrap();
    assert!(message().contains("database is missing"));
    RealDisk
        .rename(&dir.join("wal"), &dir.join("gone"))
        .unwrap();
    assert!(message().contains("log is missing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the flush fell, the same state comes out.
    #[test]
    fn the_flush_does_not_matter(flushed in 0usize..300) {
        let home = tempfile::tempdir().unwrap();
        let here = directories(false);
        let (dir, whole) = stopped_member(&here, &home, flushed);
        let scratch = home.path().join("scratch");
        let mut source = here.replay(&dir, &scratch, Header::default()).unwrap();
        let state = State::read(&mut *source).unwrap();
        prop_assert_eq!(state.keys, whole.keys);
        prop_assert_eq!(state.header, whole.header);
    }
}

#[test]
fn an_etcd_becomes_a_new_cluster() {
    use crate::backup::import::EtcdSnapshot;
    use crate::backup::import::tests::sample_database;
    let home = tempfile::tempdir().unwrap();
    let (path, dir) = (home.path().join("db"), home.path().join("data"));
    RealDisk.write_atomic(&path, &sample_database()).unwrap();
    let here = directories(false);
    let open = || EtcdSnapshot::open(&here.seams, &path, &mut quiet).unwrap();
    let expected = State::read(&mut open()).unwrap();
    let mut source = open();
    let fingerprint = source.fingerprint();
    let (target, format) = (target(&dir), &TextFormat);
    let done = restore(
        &mut source,
        fingerprint,
        &target,
        &here.seams,
        format,
        &here,
        &mut quiet,
    )
    .unwrap();
    let mvcc = here.open(&here.database(&dir).unwrap()).unwrap();
    assert_restored(&mvcc, &expected, &done.identity.members);
}
