//! Recovery: the right choice, honest words, a new cluster, and nothing destroyed.

use std::collections::BTreeMap;
use std::sync::Arc;

use seams::{Disk, FaultDisk, RealDisk};

use super::*;
use crate::backup::boundary::{FIRST_DB, LOCK_FILE};
use crate::backup::fixtures::{FINISHED, MemoryStates, State, TextFormat, quiet};

/// Members on disk, with standings and states in memory.
struct Fixture {
    home: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    seams: Seams,
    states: MemoryStates,
    stopped: Members,
}

#[derive(Default)]
struct Members(BTreeMap<PathBuf, (Standing, State)>);

impl Stopped for Members {
    fn inspect(&self, dir: &Path) -> Result<Standing> {
        Ok(self.0[dir].0.clone())
    }

    fn replay(&self, dir: &Path, _scratch: &Path, header: Header) -> Result<Box<dyn Source>> {
        let mut state = self.0[dir].1.clone();
        if state.header.revision == 0 {
            return Err(BackupError::BadSource("planted".to_owned()));
        }
        state.header.cluster_id = header.cluster_id;
        Ok(Box::new(state.source()))
    }
}

fn at(term: u64, index: u64) -> Option<LogPosition> {
    Some(LogPosition { term, index })
}

fn standing(last: Option<LogPosition>, committed: Option<LogPosition>) -> Standing {
    let applied = committed.map(|p| LogPosition {
        index: p.index - 5,
        ..p
    });
    let vote = Some((9, 2, true));
    Standing {
        vote,
        last,
        committed,
        applied,
        revision: 77,
        membership: None,
    }
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::on(Arc::new(RealDisk))
    }

    fn on(disk: Arc<dyn Disk>) -> Fixture {
        let home = tempfile::tempdir().unwrap();
        disk.create_dir_all(home.path()).unwrap();
        Fixture {
            home,
            disk: Arc::clone(&disk),
            seams: Seams {
                disk: Arc::clone(&disk),
                ..Seams::real()
            },
            states: MemoryStates::new(disk),
            stopped: Members::default(),
        }
    }

    fn founders() -> Vec<MemberInfo> {
        let member = |id| MemberInfo {
            id,
            name: format!("m{id}"),
            peer_urls: vec![format!("https://m{id}:2380")],
        };
        (1..=3).map(member).collect()
    }

    fn member(&mut self, id: u64, cluster_id: u64, standing: Standing, keys: i64) -> PathBuf {
        let name = format!("m{id}");
        let dir = self
            .home
            .path()
            .join(format!("{name}-{cluster_id}-{}", self.stopped.0.len()));
        for sub in [WAL_DIR, DB_DIR] {
            self.disk.create_dir_all(&dir.join(sub)).unwrap();
            self.disk
                .write_atomic(&dir.join(sub).join("OLD"), b"old")
                .unwrap();
        }
        let identity = Identity {
            cluster_id,
            member_id: id,
            name,
            members: Self::founders(),
        };
        let bytes = TextFormat.encode_identity(&identity);
        self.disk
            .write_atomic(&dir.join(IDENTITY_FILE), &bytes)
            .unwrap();
        self.stopped
            .0
            .insert(dir.clone(), (standing, State::example(keys, 20)));
        dir
    }

    fn plan(&self, dirs: &[&PathBuf]) -> Result<Plan> {
        let dirs: Vec<PathBuf> = dirs.iter().map(|dir| (*dir).clone()).collect();
        plan(&dirs, &self.seams, &TextFormat, &self.stopped)
    }

    fn execute(&self, plan: Plan, shape: &Shape) -> Result<Recovered> {
        let (format, stopped) = (&TextFormat, &self.stopped);
        execute(
            plan,
            shape,
            &self.seams,
            format,
            stopped,
            &self.states,
            &mut quiet,
        )
    }
}

#[test]
fn the_newest_log_is_chosen() {
    let cases = [
        // A higher term beats a longer log.
        (
            standing(at(3, 100), at(3, 90)),
            standing(at(4, 50), at(4, 40)),
            1,
        ),
        (
            standing(at(4, 101), at(4, 90)),
            standing(at(4, 100), at(4, 100)),
            0,
        ),
        // Equal logs: more known to be committed.
        (
            standing(at(4, 100), at(4, 90)),
            standing(at(4, 100), at(4, 95)),
            1,
        ),
        // Equal in everything: the first.
        (
            standing(at(4, 100), at(4, 90)),
            standing(at(4, 100), at(4, 90)),
            0,
        ),
        // A log purged after a snapshot: what is applied counts.
        (
            standing(None, at(5, 100)),
            standing(at(4, 300), at(4, 90)),
            0,
        ),
    ];
    for (i, (first, second, expected)) in cases.into_iter().enumerate() {
        let mut fixture = Fixture::new();
        let a = fixture.member(1, 0xC1, first, 3);
        let b = fixture.member(2, 0xC1, second, 3);
        assert_eq!(
            fixture.plan(&[&a, &b]).unwrap().chosen,
            expected,
            "case {i}"
        );
    }
}

#[test]
fn the_plan_says_what_matters() {
    let mut fixture = Fixture::new();
    let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 3);
    let b = fixture.member(2, 0xC1, standing(at(4, 110), at(4, 105)), 3);
    let text = fixture.plan(&[&a, &b]).unwrap().to_string();
    for part in [
        "* member m1",
        "last log entry    120 (term 4)",
        "known committed   100 (term 4)",
        "applied on disk   95 (term 4), revision 77",
        "  member m2",
        "Its entries 101 to 120 are not known to be committed. They are kept",
        "Not looked at: member m3 (https://m3:2380)",
        "Nothing is deleted",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn the_survivor_becomes_a_new_cluster_and_nothing_is_destroyed() {
    let mut fixture = Fixture::new();
    let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 50);
    let b = fixture.member(2, 0xC1, standing(at(4, 110), at(4, 100)), 40);
    let plan = fixture.plan(&[&a, &b]).unwrap();
    let done = fixture.execute(plan, &Shape::default()).unwrap();

    let identity = TextFormat.decode_identity(&RealDisk.read(&a.join(IDENTITY_FILE)).unwrap());
    assert_eq!(identity.unwrap(), done.identity);
    assert_ne!(done.identity.cluster_id, 0xC1, "the old members are fenced");
    assert_ne!(done.identity.member_id, 1);
    let names: Vec<_> = done
        .identity
        .members
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(names, ["m1"]);
    let expected = State::example(50, 20);
    assert_eq!(
        done.revision,
        expected.header.revision + DEFAULT_REVISION_BUMP
    );
    {
        let made = fixture.states.made.lock().unwrap();
        let (start, state) = &made[0];
        assert_eq!(
            (start.revision, start.compact_revision),
            (done.revision, done.revision)
        );
        assert_eq!(state.keys, expected.keys);
    }

    assert!(!RealDisk.exists(&a.join(SCRATCH)));
    assert!(RealDisk.exists(&a.join(DB_DIR).join("0/FINISHED")));
    assert!(RealDisk.read_dir(&a.join(WAL_DIR)).unwrap().is_empty());
    for name in ["wal/OLD", "db/OLD", IDENTITY_FILE] {
        assert!(RealDisk.exists(&done.aside.join(name)), "{name} was kept");
    }
    assert_eq!(
        RealDisk.read_dir(&b).unwrap().len(),
        4,
        "the others are left as they are"
    );

    // The backup makes further members of the same cluster.
    let target = Target {
        name: "m1".to_owned(),
        cluster: vec![Fixture::founders()[0].clone()],
        token: Shape::default().token,
        data_dir: fixture.home.path().join("again"),
        revision_bump: DEFAULT_REVISION_BUMP,
    };
    let (seams, states) = (&fixture.seams, &fixture.states);
    let again = restore::restore_archive(
        &done.backup,
        &target,
        seams,
        &TextFormat,
        states,
        &mut quiet,
    );
    assert_eq!(again.unwrap().identity, done.identity);
}

#[test]
fn a_cluster_of_several_can_be_made() {
    let mut fixture = Fixture::new();
    let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 5);
    let plan = fixture.plan(&[&a]).unwrap();
    let shape = Shape {
        cluster: Fixture::founders(),
        ..Shape::default()
    };
    let done = fixture.execute(plan, &shape).unwrap();
    assert_eq!(done.identity.members.len(), 3);
    assert_eq!(done.identity.name, "m1");
}

#[test]
fn a_failure_leaves_the_member_as_it_was() {
    let mut fixture = Fixture::new();
    let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 5);
    let listing = || RealDisk.read_dir(&a).unwrap();
    fixture.plan(&[&a]).unwrap();
    let before = listing();
    let shape = Shape {
        cluster: vec![Fixture::founders()[1].clone()],
        ..Shape::default()
    };
    let refused = fixture.execute(fixture.plan(&[&a]).unwrap(), &shape);
    assert!(
        matches!(refused, Err(BackupError::BadCluster(_))),
        "m1 is not in the new cluster"
    );
    assert_eq!(listing(), before);
    fixture.stopped.0.get_mut(&a).unwrap().1.header.revision = 0;
    let failed = fixture.execute(fixture.plan(&[&a]).unwrap(), &Shape::default());
    assert!(failed.is_err());
    assert_eq!(listing(), before);
}

#[test]
fn what_cannot_be_recovered_is_refused() {
    let mut fixture = Fixture::new();
    let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 5);
    let copy = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 5);
    let foreign = fixture.member(2, 0xC2, standing(at(4, 120), at(4, 100)), 5);
    let empty = fixture.member(3, 0xC1, Standing::default(), 5);
    let message = |dirs: &[&PathBuf]| fixture.plan(dirs).err().unwrap().to_string();
    assert!(message(&[]).contains("at least one"));
    assert!(message(&[&a, &copy]).contains("both member m1"));
    assert!(message(&[&a, &foreign]).contains("one cluster"));
    assert!(message(&[&empty]).contains("Restore a backup instead"));
    assert!(message(&[&fixture.home.path().to_owned()]).contains("no identity.json"));

    let held = RealDisk.lock(&a.join(LOCK_FILE)).unwrap();
    assert!(matches!(
        fixture.plan(&[&a]),
        Err(BackupError::InUse { .. })
    ));
    drop(held);

    // Interrupted between the old identity and the new one.
    RealDisk
        .create_dir_all(&a.join("before-recovery-12"))
        .unwrap();
    RealDisk.remove_file(&a.join(IDENTITY_FILE)).unwrap();
    assert!(message(&[&a]).contains("interrupted"));
}

/// The power fails at every single operation of a recovery.
#[test]
fn a_power_cut_loses_nothing() {
    let mut seen = [0; 3];
    for cut in 0.. {
        let disk = FaultDisk::new(cut);
        let mut fixture = Fixture::on(Arc::new(disk.clone()));
        let a = fixture.member(1, 0xC1, standing(at(4, 120), at(4, 100)), 5);
        for dir in a.ancestors() {
            disk.sync_dir(dir).unwrap();
        }
        let plan = fixture.plan(&[&a]).unwrap();
        disk.crash_after(cut);
        let done = fixture.execute(plan, &Shape::default());
        let finished = done.is_ok() && !disk.is_down();
        disk.crash();

        let names = disk.read_dir(&a).unwrap();
        let starting = |prefix: &str| names.iter().find(|name| name.starts_with(prefix));
        let identity = disk.read(&a.join(IDENTITY_FILE)).ok();
        let identity = identity.map(|bytes| TextFormat.decode_identity(&bytes).unwrap());
        let state = match &identity {
            Some(identity) if identity.cluster_id == 0xC1 => 0,
            None => 1,
            Some(_) => 2,
        };
        seen[state] += 1;
        // Before: untouched. Between: everything old somewhere, and the backup. After: the new
        // state, everything old aside, and the backup.
        if state > 0 {
            let backup = a.join(starting("recovered-").unwrap());
            archive::verify(&disk, &backup, &mut quiet).unwrap();
        }
        for name in ["wal/OLD", "db/OLD"] {
            let kept = disk.exists(&a.join(name));
            let aside = starting(ASIDE).is_some_and(|aside| disk.exists(&a.join(aside).join(name)));
            match state {
                0 => assert!(kept, "cut {cut}: {name}"),
                1 => assert!(kept != aside, "cut {cut}: {name}"),
                _ => assert!(!kept && aside, "cut {cut}: {name}"),
            }
        }
        match state {
            0 => {
                // The next attempt is not in the way of the last.
                fixture
                    .execute(fixture.plan(&[&a]).unwrap(), &Shape::default())
                    .unwrap();
            }
            1 => {
                let message = fixture.plan(&[&a]).err().unwrap().to_string();
                assert!(message.contains("interrupted"), "cut {cut}: {message}");
            }
            _ => {
                let db = a.join(DB_DIR).join(FIRST_DB).join(FINISHED);
                assert!(
                    disk.exists(&db) && disk.exists(&a.join(WAL_DIR)),
                    "cut {cut}"
                );
            }
        }
        if finished {
            assert_eq!(state, 2);
            break;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
