//! The log, crashes, snapshots, damage, stores from the outside.

use bytes::Bytes;
use raft_store::engine::{Batch, EngineError, Space};
use raft_store::mvcc::{Builder, Entry, LeaseEvent, LeaseInfo, Mvcc, Origin};
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::mvccpb::KeyValue;
use raft_store::watch::{History, RingRead};
use raft_store::{Error, LogPosition};

use crate::support::*;

// === The log ===

#[test]
fn entries_come_in_order_and_make_sense() {
    for (entry, index) in [
        (Entry::Blank, 3),
        (Entry::Blank, 0),
        (Entry::Command("\u{1}nonsense".into()), 1),
        (Entry::Command(Bytes::new()), 1),
    ] {
        on_both(|store| {
            store.put("a", "1");
            let position = LogPosition { term: 1, index };
            let error = store
                .mvcc
                .apply(vec![(position, entry.clone())])
                .unwrap_err();
            match entry {
                Entry::Blank => assert!(matches!(error, EngineError::OutOfOrder { .. })),
                _ => assert!(matches!(error, EngineError::UnknownCommand { .. })),
            }
            let next = LogPosition { term: 1, index: 1 };
            let error = store.mvcc.apply(vec![(next, Entry::Blank)]).unwrap_err();
            assert!(matches!(error, EngineError::Failed), "an error is final");
            assert_eq!(store.dump(0), ["a=1"], "reads go on");
        });
    }
}

#[test]
fn what_is_published_is_visible_in_order() {
    on_both(|store| {
        let applied = store.mvcc.applied_watch();
        let compacted = store.mvcc.compact_watch();
        assert_eq!(*applied.borrow(), 0);
        store.apply([put("a", "1"), delete("a", ""), put("b", "1")]);
        assert_eq!(*applied.borrow(), 2);
        let ring = store.mvcc.ring();
        assert_eq!(ring.head(), 4);
        let RingRead::Revisions(revisions) = ring.read(2, i64::MAX, usize::MAX) else {
            panic!("the ring is empty");
        };
        let stored = store.mvcc.revisions(2, usize::MAX).unwrap();
        assert_eq!(revisions.len(), 3);
        for (one, other) in revisions.iter().zip(&stored) {
            assert_eq!(one.revision, other.revision);
            assert_eq!(one.changes[0].event, other.changes[0].event);
            assert_eq!(one.changes[0].prev_revision, other.changes[0].prev_revision);
        }
        store.compact(3).unwrap();
        assert_eq!(*compacted.borrow(), 3);
        let version = store.mvcc.version_at(b"b", 4).unwrap();
        assert_eq!(show(version.as_slice()), ["b=1"]);
        assert_eq!(store.mvcc.version_at(b"b", 3).unwrap(), None);
        assert_eq!(store.mvcc.version_at(b"a", 3).unwrap(), None, "a tombstone");
    });
}

// === Disk ===

#[test]
fn a_crash_loses_what_was_not_flushed_and_the_log_brings_it_back() {
    on_both(|store| {
        store.put("a", "1");
        store.put("b", "1");
        assert_eq!(store.mvcc.flushed(), None);
        store.mvcc.flush().unwrap();
        assert_eq!(store.mvcc.flushed(), store.mvcc.applied());
        let flushed = store.mvcc.flushed();
        store.put("a", "2");
        store.delete("b", "");
        assert_eq!(store.mvcc.flushed(), flushed);
        let (hash, live) = (store.mvcc.hash(0).unwrap(), store.mvcc.sizes().live_bytes);
        let log = std::mem::take(&mut store.log);
        store.log = log[..2].to_vec();
        store.crash();
        assert_eq!(store.mvcc.applied(), flushed);
        assert_eq!(store.mvcc.flushed(), flushed);
        assert_eq!(store.dump(0), ["a=1", "b=1"]);
        store.mvcc.apply(log[2..].to_vec()).unwrap();
        assert_eq!(store.mvcc.hash(0).unwrap(), hash);
        assert_eq!(store.mvcc.sizes().live_bytes, live);
        assert_eq!(store.dump(0), ["a=2"]);
        assert_eq!(store.dump(3), ["a=1", "b=1"]);
    });
}

#[test]
fn a_snapshot_is_swapped_in_under_the_readers() {
    on_both(|store| {
        // A member that is ahead.
        let mut ahead = Store::new(store.kind);
        for n in 0..20 {
            ahead.put(&format!("k{n:02}"), "ahead");
        }
        ahead.one(grant(3, 9)).unwrap();
        ahead.apply_entries(vec![Entry::Membership("m".into())]);
        ahead.compact(11).unwrap();
        let dir = ahead.fresh_dir();
        let checkpoint = ahead.mvcc.checkpoint(&dir).unwrap();
        ahead.put("later", "1");
        assert_eq!(checkpoint.revision, 21);
        assert_eq!(checkpoint.membership, ahead.mvcc.membership());
        let names = std::fs::read_dir(&dir).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name());
        assert!(names.all(|name| !name.to_string_lossy().starts_with("LOG")));

        for n in 0..5 {
            store.put(&format!("k{n:02}"), "behind");
        }
        let mut events = store.mvcc.lease_events();
        let mut reading = store.mvcc.range_chunks(range("k", "l"), 1).unwrap();
        reading.next().unwrap();
        store.mvcc.replace(open_engine(store.kind, &dir)).unwrap();
        assert_eq!(store.mvcc.applied(), checkpoint.applied);
        assert_eq!(store.mvcc.flushed(), checkpoint.applied);
        assert_eq!(store.mvcc.membership(), checkpoint.membership);
        assert_eq!(*store.mvcc.applied_watch().borrow(), 22);
        assert_eq!(store.mvcc.revision(), 21);
        assert_eq!(store.mvcc.compact_revision(), 11);
        assert_eq!(events.try_recv(), Ok(LeaseEvent::Replaced));
        assert_eq!(store.mvcc.leases(), [3]);
        assert_eq!(store.mvcc.ring().head(), 21);
        assert!(matches!(
            store.mvcc.ring().read(12, i64::MAX, 1),
            RingRead::Behind
        ));
        assert_eq!(store.mvcc.revisions(12, usize::MAX).unwrap().len(), 10);
        assert_eq!(store.mvcc.hash(0), ahead.mvcc.hash(21));
        // The reader from before finishes with what it began.
        while let Some(chunk) = reading.next().unwrap() {
            assert!(chunk.kvs.iter().all(|kv| kv.value == "behind"));
        }
        let next = ahead.log[checkpoint.applied.unwrap().index as usize + 1..].to_vec();
        store.mvcc.apply(next).unwrap();
        assert_eq!(store.mvcc.hash(0), ahead.mvcc.hash(0));
    });
}

#[test]
fn a_checkpoint_beside_apply_says_what_it_holds() {
    on_both(|store| {
        store.put("a", "0");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let dirs: Vec<_> = (0..5).map(|_| store.fresh_dir()).collect();
        let (kind, mvcc) = (store.kind, store.mvcc.clone());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut n = 1;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    store.put("a", &n.to_string());
                    n += 1;
                }
            });
            for dir in dirs {
                let checkpoint = mvcc.checkpoint(&dir).unwrap();
                let copy = Mvcc::open(open_engine(kind, &dir), config()).unwrap();
                assert_eq!(copy.applied(), checkpoint.applied);
                assert_eq!(copy.revision(), checkpoint.revision);
                assert_eq!(copy.hash(0), mvcc.hash(checkpoint.revision));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap();
        });
    });
}

#[test]
fn readers_see_whole_transactions_beside_apply_and_collection() {
    on_both(|store| {
        let both = |value: &str| {
            let puts = (0..20)
                .map(|n| op_put(&format!("k{n:02}"), value))
                .collect();
            txn(vec![], puts, vec![])
        };
        store.txn(both("0")).unwrap();
        let mvcc = store.mvcc.clone();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut reads = 0;
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let kvs = mvcc.range(&range("k", "l")).unwrap().kvs;
                            assert_eq!(kvs.len(), 20);
                            assert!(kvs.iter().all(|kv| kv.value == kvs[0].value));
                            let one = mvcc.range(&range("k07", "")).unwrap().kvs;
                            assert!(one[0].mod_revision >= kvs[0].mod_revision);
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            let collector = scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    mvcc.gc_step(7).unwrap();
                }
            });
            for n in 1..400 {
                store.txn(both(&n.to_string())).unwrap();
                store.compact(store.mvcc.revision()).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            collector.join().unwrap();
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
        store.collect_all();
        assert_eq!(versions(store), 40);
    });
}

#[test]
fn a_damaged_value_is_never_returned() {
    on_both(|store| {
        store.put("a", "1");
        store.put("b", "1");
        let mut cursor = store.engine.cursor(Space::Kv);
        cursor.seek(&[]);
        let (key, record) = cursor.entry().unwrap().unwrap();
        let (key, mut record) = (key.to_vec(), record.to_vec());
        drop(cursor);
        record[4] ^= 1;
        let mut batch = Batch::default();
        batch.put(Space::Kv, &key, &record);
        store.engine.write(&batch).unwrap();
        let error = store.mvcc.range(&range("a", "")).unwrap_err();
        assert!(
            matches!(&error, Error::Internal(text) if text.contains("checksum")),
            "{error}"
        );
        assert!(store.mvcc.range(&range("a", "c")).is_err());
        assert!(store.mvcc.range(&range("b", "")).is_ok());
    });
}

// === Stores from the outside ===

fn exported() -> (Vec<KeyValue>, Vec<(i64, LeaseInfo)>) {
    let mut store = Store::new(Kind::Memory);
    store.one(grant(4, 60)).unwrap();
    store.one(put_leased("b", "1", 4)).unwrap();
    store.put("a", "1");
    store.put("a", "2");
    let mut export = store.mvcc.export(0, 1 << 20).unwrap();
    assert_eq!(export.revision, 4);
    assert_eq!(export.hash, Some(store.mvcc.hash(0).unwrap().hash));
    let kvs = export.next().unwrap().unwrap();
    assert_eq!(export.next().unwrap(), None);
    (kvs, export.leases)
}

#[test]
fn a_built_store_continues_where_it_was_told() {
    let (kvs, leases) = exported();
    on_both(|store| {
        let dir = store.fresh_dir();
        let mut builder = Builder::new(open_engine(store.kind, &dir)).unwrap();
        for (id, lease) in &leases {
            builder.lease(*id, *lease).unwrap();
        }
        for kv in &kvs {
            builder.put(kv).unwrap();
        }
        let position = LogPosition { term: 3, index: 9 };
        builder
            .finish(Origin {
                revision: 1000,
                compact_revision: 1000,
                applied: Some(position),
                membership: Some((position, "m".into())),
                seed: 5,
                hash: None,
            })
            .unwrap();
        store.open_at(dir);
        assert_eq!(store.mvcc.applied(), Some(position));
        assert_eq!(store.mvcc.membership(), Some((position, "m".into())));
        assert_eq!(store.mvcc.revision(), 1000);
        assert_eq!(store.mvcc.range(&range("a", "z")).unwrap().kvs, kvs);
        assert_eq!(store.mvcc.lease_keys(4), ["b"]);
        let early = RangeRequest {
            revision: 4,
            ..range("a", "")
        };
        let compacted = Err(Error::Compacted {
            compact_revision: 1000,
        });
        assert_eq!(store.mvcc.range(&early), compacted);
        assert!(store.mvcc.revisions(1000, 1).unwrap().is_empty());
        let before = store.mvcc.hash(0).unwrap();
        assert_ne!(before.hash, 0);

        let next = LogPosition { term: 4, index: 10 };
        let outcome = store
            .mvcc
            .apply(vec![(next, command(put("a", "3")))])
            .unwrap();
        assert!(outcome[0].is_ok());
        let kv = store.get("a").unwrap();
        assert_eq!(
            (kv.create_revision, kv.mod_revision, kv.version),
            (3, 1001, 3)
        );
        assert_eq!(store.mvcc.hash(1000).unwrap().hash, before.hash);
        assert_eq!(store.mvcc.revisions(1000, 1).unwrap().len(), 1);
        let last = LogPosition { term: 4, index: 11 };
        store
            .mvcc
            .apply(vec![(last, command(put("c", "1")))])
            .unwrap();
        let last = LogPosition { term: 4, index: 12 };
        store
            .mvcc
            .apply(vec![(last, command(compact(1002)))])
            .unwrap();
        store.collect_all();
        assert_eq!(versions(store), 3);
        assert_eq!(store.dump(0), ["a=3", "b=1", "c=1"]);
    });
}

#[test]
fn a_store_that_contradicts_itself_is_not_built() {
    let (kvs, leases) = exported();
    let at = |revision, compact_revision| Origin {
        revision,
        compact_revision,
        ..Origin::default()
    };
    on_both(|store| {
        assert!(Builder::new(store.engine.clone()).is_ok());
        store.put("a", "1");
        assert!(Builder::new(store.engine.clone()).is_err(), "not empty");
        let fresh = |store: &mut Store| {
            let dir = store.fresh_dir();
            Builder::new(open_engine(store.kind, &dir)).unwrap()
        };
        let mut builder = fresh(store);
        assert!(builder.put(&kvs[1]).is_err(), "its lease is missing");
        assert!(builder.put(&KeyValue::default()).is_err());
        for origin in [at(4, 3), at(3, 3), at(4, 5)] {
            let mut builder = fresh(store);
            builder.lease(leases[0].0, leases[0].1).unwrap();
            kvs.iter().for_each(|kv| builder.put(kv).unwrap());
            assert!(builder.finish(origin).is_err());
        }
    });
}
