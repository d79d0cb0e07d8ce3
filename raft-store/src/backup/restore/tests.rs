//! Restores: identical states, new identities, a closed past, and refusals.

use std::sync::Arc;

use seams::{Disk, FaultDisk, RealDisk, Seams};

use super::*;
use crate::backup::archive;
use crate::backup::fixtures::{FINISHED, MemoryStates, State, TextFormat, quiet};

struct Fixture {
    home: tempfile::TempDir,
    seams: Seams,
    states: MemoryStates,
    backup: PathBuf,
}

impl Fixture {
    fn new(state: &State) -> Fixture {
        let home = tempfile::tempdir().unwrap();
        let backup = home.path().join("x.backup");
        archive::write(state.source(), &RealDisk, &backup, &mut quiet).unwrap();
        Fixture {
            home,
            seams: Seams::real(),
            states: MemoryStates::new(Arc::new(RealDisk)),
            backup,
        }
    }

    fn target(&self, name: &str, cluster: &str) -> Target {
        Target {
            name: name.to_owned(),
            cluster: parse_initial_cluster(cluster).unwrap(),
            token: "t".to_owned(),
            data_dir: self.home.path().join(name),
            revision_bump: DEFAULT_REVISION_BUMP,
        }
    }

    fn restore(&self, target: &Target) -> Result<Restored> {
        restore_archive(
            &self.backup,
            target,
            &self.seams,
            &TextFormat,
            &self.states,
            &mut quiet,
        )
    }
}

const THREE: &str = "a=https://a:2380,b=https://b:2380,c=https://c:2380,c=https://c2:2380";

#[test]
fn members_start_identical_under_one_new_identity() {
    let state = State::example(100, 50);
    let fixture = Fixture::new(&state);
    let made: Vec<Restored> = ["a", "b", "c"]
        .map(|name| fixture.restore(&fixture.target(name, THREE)).unwrap())
        .into();
    let ids: std::collections::BTreeSet<u64> = made
        .iter()
        .map(|restored| restored.identity.member_id)
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(
        made.iter()
            .all(|r| r.identity.cluster_id == made[0].identity.cluster_id)
    );
    assert!(
        made.iter()
            .all(|r| r.identity.members == made[0].identity.members)
    );
    assert_ne!(made[0].identity.cluster_id, state.header.cluster_id);
    assert_eq!(made[2].identity.members[2].peer_urls.len(), 2);

    let states = fixture.states.made.lock().unwrap();
    assert!(
        states.iter().all(|made| *made == states[0]),
        "every member starts with the same state"
    );
    let (start, restored) = &states[0];
    assert_eq!(
        start.revision,
        state.header.revision + DEFAULT_REVISION_BUMP
    );
    assert_eq!(
        start.compact_revision, start.revision,
        "no revision of the past can be resumed"
    );
    assert_eq!(start.applied, FIRST_POSITION);
    assert_eq!(restored.keys, state.keys);
    let ttls: Vec<_> = restored
        .leases
        .iter()
        .map(|l| (l.id, l.ttl, l.remaining_ttl))
        .collect();
    assert_eq!(
        ttls,
        [(7, 67, 0), (9, 69, 0)],
        "leases start with what they were granted"
    );

    let dir = fixture.home.path().join("b");
    assert_eq!(
        RealDisk.read_dir(&dir).unwrap(),
        ["LOCK", "db", "identity.json", "wal"]
    );
    let identity = TextFormat.decode_identity(&RealDisk.read(&dir.join(IDENTITY_FILE)).unwrap());
    assert_eq!(identity.unwrap(), made[1].identity);
}

#[test]
fn other_inputs_make_another_cluster() {
    let fixture = Fixture::new(&State::example(3, 5));
    let base = fixture.target("a", THREE);
    let hash = [1; 32];
    let id = |hash: &[u8; 32], target: &Target| identify(hash, target).unwrap().cluster_id;
    let reordered = Target {
        cluster: parse_initial_cluster(
            "c=https://c2:2380,b=https://b:2380,c=https://c:2380,a=https://a:2380",
        )
        .unwrap(),
        ..base.clone()
    };
    assert_eq!(
        id(&hash, &base),
        id(&hash, &reordered),
        "the order of the list does not matter"
    );
    assert_eq!(
        id(&hash, &base),
        id(
            &hash,
            &Target {
                name: "b".to_owned(),
                ..base.clone()
            }
        )
    );
    assert_ne!(id(&hash, &base), id(&[2; 32], &base));
    assert_ne!(
        id(&hash, &base),
        id(
            &hash,
            &Target {
                token: "u".to_owned(),
                ..base.clone()
            }
        )
    );
    assert_ne!(
        id(&hash, &base),
        id(
            &hash,
            &Target {
                revision_bump: 1,
                ..base.clone()
            }
        )
    );
    let fewer = parse_initial_cluster("a=https://a:2380").unwrap();
    assert_ne!(
        id(&hash, &base),
        id(
            &hash,
            &Target {
                cluster: fewer,
                ..base.clone()
            }
        )
    );
}

#[test]
fn a_directory_with_content_is_refused_and_left_alone() {
    let fixture = Fixture::new(&State::example(3, 5));
    let target = fixture.target("a", THREE);
    fixture.restore(&target).unwrap();
    let before = RealDisk.read_dir(&target.data_dir).unwrap();
    assert!(matches!(
        fixture.restore(&target),
        Err(BackupError::NotEmpty { .. })
    ));
    assert_eq!(RealDisk.read_dir(&target.data_dir).unwrap(), before);

    let fresh = fixture.target("b", THREE);
    RealDisk
        .create_dir_all(&fresh.data_dir.join("lost+found"))
        .unwrap();
    fixture.restore(&fresh).unwrap();
}

#[test]
fn a_locked_directory_is_refused() {
    let fixture = Fixture::new(&State::example(3, 5));
    let target = fixture.target("a", THREE);
    RealDisk.create_dir_all(&target.data_dir).unwrap();
    let held = RealDisk.lock(&target.data_dir.join(LOCK_FILE)).unwrap();
    assert!(matches!(
        fixture.restore(&target),
        Err(BackupError::InUse { .. })
    ));
    drop(held);
    fixture.restore(&target).unwrap();
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let fixture = Fixture::new(&State::example(3000, 500));
    let mut bytes = RealDisk.read(&fixture.backup).unwrap();
    let late = bytes.len() - 4000;
    bytes[late] ^= 1;
    RealDisk.write_atomic(&fixture.backup, &bytes).unwrap();
    let target = fixture.target("a", THREE);
    assert!(matches!(
        fixture.restore(&target),
        Err(BackupError::Damaged { .. })
    ));
    assert!(!RealDisk.exists(&target.data_dir));
}

#[test]
fn senseless_clusters_are_refused() {
    for text in ["", "a", "a=", "=https://a:1"] {
        assert!(parse_initial_cluster(text).is_err(), "{text:?}");
    }
    let fixture = Fixture::new(&State::example(3, 5));
    for (name, cluster) in [
        ("z", THREE),
        ("a", "a=https://a:2380,b=https://a:2380"),
        ("a", "a=a:2380"),
        ("a", "a=https://a:2380,a=https://a:2380"),
    ] {
        let target = fixture.target(name, cluster);
        assert!(
            matches!(fixture.restore(&target), Err(BackupError::BadCluster(_))),
            "{cluster}"
        );
    }
    let target = Target {
        revision_bump: i64::MAX,
        ..fixture.target("a", THREE)
    };
    assert!(matches!(
        fixture.restore(&target),
        Err(BackupError::BadCluster(_))
    ));
}

/// The power fails at every single operation of a restore: afterwards the directory is a whole
/// member or none, and it is a whole one if the restore said so.
#[test]
fn a_power_cut_leaves_a_whole_member_or_none() {
    let (home, backup) = (Path::new("/home"), Path::new("/home/x.backup"));
    let target = Target {
        data_dir: home.join("a"),
        ..Fixture::new(&State::example(3, 5)).target("a", THREE)
    };
    let (mut whole, mut none) = (0, 0);
    for cut in 0.. {
        let disk = FaultDisk::new(cut);
        let seams = Seams {
            disk: Arc::new(disk.clone()),
            ..Seams::real()
        };
        let states = MemoryStates::new(Arc::new(disk.clone()));
        disk.create_dir_all(home).unwrap();
        archive::write(State::example(3, 5).source(), &disk, backup, &mut quiet).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.crash_after(cut);
        let done = restore_archive(backup, &target, &seams, &TextFormat, &states, &mut quiet);
        let finished = done.is_ok() && !disk.is_down();
        disk.crash();
        let dir = &target.data_dir;
        if disk.exists(&dir.join(IDENTITY_FILE)) {
            whole += 1;
            assert!(
                disk.exists(&dir.join(DB_DIR).join(FIRST_DB).join(FINISHED)),
                "cut {cut}"
            );
            assert!(disk.exists(&dir.join(WAL_DIR)), "cut {cut}");
        } else {
            none += 1;
            assert!(
                done.is_err(),
                "cut {cut}: restored, and gone after a power cut"
            );
        }
        if finished {
            break;
        }
    }
    assert!(whole > 0 && none > 5, "{whole} whole, {none} none");
}
