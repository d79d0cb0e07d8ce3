//! Compaction, collection, and how much is held.

use raft_store::Error;
use raft_store::watch::History;

use crate::support::*;

#[test]
fn a_watch_may_start_at_the_compact_revision() {
    on_both(|store| {
        store.put("a", "1"); // 2
        store.put("b", "1"); // 3
        store.delete("a", ""); // 4
        store.put("b", "2"); // 5
        store.compact(4).unwrap();
        store.collect_all();
        let events = store.mvcc.revisions(4, usize::MAX).unwrap();
        let seen: Vec<_> = events
            .iter()
            .map(|r| (r.revision, r.changes[0].is_delete()))
            .collect();
        assert_eq!(seen, [(4, true), (5, false)]);
        let early = store.mvcc.revisions(3, usize::MAX);
        assert!(matches!(
            early,
            Err(Error::Compacted {
                compact_revision: 4
            })
        ));
        assert!(store.mvcc.revisions(6, usize::MAX).unwrap().is_empty());
        // The next compaction collects the tombstone that this one had to keep.
        store.compact(5).unwrap();
        store.collect_all();
        assert_eq!(
            versions(store),
            2,
            "b's two, of which the older goes next time"
        );
        store.put("c", "1");
        store.compact(6).unwrap();
        store.collect_all();
        assert_eq!(versions(store), 2);
        assert_eq!(store.dump(0), ["b=2", "c=1"]);
    });
}

#[test]
fn collection_is_bounded_and_goes_on_after_a_crash() {
    on_both(|store| {
        let many: Vec<_> = (0..50).map(|n| op_put(&format!("k{n:02}"), "1")).collect();
        for _ in 0..4 {
            store.txn(txn(vec![], many.clone(), vec![])).unwrap();
        }
        store.delete("k", "l"); // 6: fifty tombstones
        let last = store.put("z", "1"); // 7
        store.compact(last).unwrap();
        assert_eq!(versions(store), 251);
        assert!(store.mvcc.gc_step(75).unwrap());
        // Fifty creates free nothing; of the second transaction half is done.
        assert_eq!(versions(store), 226);
        assert_eq!(store.mvcc.collected_revision(), 3);
        store.reopen();
        assert_eq!(versions(store), 226);
        assert_eq!(store.mvcc.collected_revision(), 3);
        store.collect_all();
        assert_eq!(versions(store), 1);
        assert_eq!(store.mvcc.collected_revision(), last);
        assert_eq!(store.dump(0), ["z=1"]);
        assert!(!store.mvcc.gc_step(1).unwrap());
    });
}

#[test]
fn collection_waits_for_readers() {
    on_both(|store| {
        for n in 0..30 {
            store.put(&format!("k{n:02}"), "old");
        }
        let at = store.mvcc.revision();
        let mut chunks = store.mvcc.range_chunks(range("k", "l"), 1).unwrap();
        let mut export = store.mvcc.export(0, 1).unwrap();
        let mut seen = chunks.next().unwrap().unwrap().kvs;
        store.apply(
            (0..30)
                .map(|n| put(&format!("k{n:02}"), "new"))
                .collect::<Vec<_>>(),
        );
        store.compact(store.mvcc.revision()).unwrap();
        store.collect_all();
        assert_eq!(store.mvcc.collected_revision(), at);
        while let Some(chunk) = chunks.next().unwrap() {
            seen.extend(chunk.kvs);
        }
        assert!(seen.len() == 30 && seen.iter().all(|kv| kv.value == "old"));
        drop(chunks);
        store.collect_all();
        assert_eq!(
            store.mvcc.collected_revision(),
            at,
            "the export still reads"
        );
        let mut exported = Vec::new();
        while let Some(kvs) = export.next().unwrap() {
            exported.extend(kvs);
        }
        assert_eq!(exported, seen);
        drop(export);
        store.collect_all();
        assert_eq!(store.mvcc.collected_revision(), store.mvcc.revision());
        assert_eq!(
            versions(store),
            31,
            "one was superseded at the watermark itself"
        );
    });
}

#[test]
fn live_bytes_follow_what_is_kept() {
    on_both(|store| {
        let value = "x".repeat(1000);
        for _ in 0..10 {
            store.put("a", &value);
        }
        let full = store.mvcc.sizes().live_bytes;
        assert!((10_000..11_500).contains(&full), "{full}");
        let last = store.put("b", "");
        store.compact(last).unwrap();
        assert!(store.mvcc.sizes().live_bytes >= full);
        store.collect_all();
        let kept = store.mvcc.sizes().live_bytes;
        assert!((1000..1300).contains(&kept), "{kept}");
        store.reopen();
        assert_eq!(store.mvcc.sizes().live_bytes, kept);
        store.delete("a", "c");
        let last = store.put("c", "");
        store.compact(last).unwrap();
        store.collect_all();
        assert!(store.mvcc.sizes().live_bytes < 100, "only c is left");
        assert_eq!(store.mvcc.sizes().keys, 1);
    });
}

#[test]
fn the_quota_warns_before_it_is_used_up() {
    on_both(|store| {
        let value = "x".repeat(1 << 10);
        let mut warned = 0;
        while !store.mvcc.sizes().is_full() {
            warned += u64::from(store.mvcc.sizes().is_nearly_full());
            store.apply((0..10).map(|_| put("a", &value)).collect::<Vec<_>>());
        }
        assert!(warned > 5);
        assert!(store.mvcc.sizes().is_nearly_full());
    });
}
