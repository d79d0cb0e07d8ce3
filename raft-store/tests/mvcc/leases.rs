//! Leases, alarms, member IDs, membership.

use bytes::Bytes;
use raft_store::mvcc::{Entry, LeaseEvent, LeaseInfo, Response};
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::log::command::Op;
use raft_store::pb::log::lease_checkpoint::Remaining;
use raft_store::pb::log::{AllocateMemberId, LeaseCheckpoint};
use raft_store::watch::History;
use raft_store::{Error, LogPosition};

use crate::support::*;

// === Leases ===

#[test]
fn revoking_deletes_the_keys_in_one_revision_in_order() {
    on_both(|store| {
        let mut events = store.mvcc.lease_events();
        store.one(grant(7, 60)).unwrap();
        assert_eq!(store.one(grant(7, 60)), Err(Error::LeaseExists));
        assert_eq!(store.one(grant(0, 60)), Err(Error::LeaseNotFound));
        let long = store.one(grant(8, 9_000_000_001));
        assert_eq!(long, Err(Error::LeaseTtlTooLarge));
        for key in ["c", "a", "b", "kept"] {
            store.one(put_leased(key, "1", 7)).unwrap();
        }
        store.put("kept", "2");
        assert_eq!(store.mvcc.lease_keys(7), ["a", "b", "c"]);
        assert_eq!(
            store.one(put_leased("x", "1", 9)),
            Err(Error::LeaseNotFound)
        );
        store.one(grant(8, 5)).unwrap();
        let Response::LeaseRevoke(response) = store.one(revoke(&[7, 99, 8])).unwrap() else {
            panic!("not a revocation");
        };
        assert_eq!(revision(&response.header), 7);
        let last = store.mvcc.revisions(7, usize::MAX).unwrap().remove(0);
        let deleted: Vec<_> = last.changes.iter().map(|c| c.key().clone()).collect();
        assert_eq!(deleted, ["a", "b", "c"]);
        assert!(last.changes.iter().all(|change| change.is_delete()));
        assert_eq!(store.dump(0), ["kept=2"]);
        assert!(store.mvcc.leases().is_empty());
        assert_eq!(store.one(revoke(&[7])), Err(Error::LeaseNotFound));
        assert_eq!(
            store.mvcc.revision(),
            7,
            "a lease without keys takes no revision"
        );
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push(event);
        }
        let granted = |id, ttl| LeaseEvent::Granted { id, ttl };
        let revoked = |id| LeaseEvent::Revoked { id };
        assert_eq!(
            seen,
            [granted(7, 60), granted(8, 5), revoked(7), revoked(8)]
        );
    });
}

#[test]
fn each_of_many_revoked_leases_takes_a_revision() {
    on_both(|store| {
        for id in [1, 2] {
            store.one(grant(id, 60)).unwrap();
            store.one(put_leased(&format!("k{id}"), "1", id)).unwrap();
        }
        store.one(revoke(&[2, 1])).unwrap();
        assert_eq!(store.mvcc.revision(), 5);
        assert_eq!(store.dump(4), ["k1=1"]);
    });
}

#[test]
fn leases_survive_with_what_is_left_of_them() {
    on_both(|store| {
        store.one(grant(7, 60)).unwrap();
        store.one(put_leased("a", "1", 7)).unwrap();
        let leases = [(7, 25), (99, 1)]
            .map(|(id, remaining_ttl)| Remaining { id, remaining_ttl })
            .to_vec();
        store
            .one(Op::LeaseCheckpoint(LeaseCheckpoint { leases }))
            .unwrap();
        let lease = LeaseInfo {
            granted_ttl: 60,
            remaining_ttl: 25,
        };
        for _ in 0..2 {
            assert_eq!(store.mvcc.lease(7), Some(lease));
            assert_eq!(store.mvcc.leases(), [7]);
            assert_eq!(store.mvcc.lease_keys(7), ["a"]);
            store.reopen();
        }
        store.one(revoke(&[7])).unwrap();
        store.reopen();
        assert!(store.mvcc.leases().is_empty() && store.dump(0).is_empty());
    });
}

// === Alarms, member IDs, membership ===

#[test]
fn a_full_store_takes_no_more_but_can_be_emptied() {
    use alarm_request::AlarmAction::*;
    on_both(|store| {
        store.one(grant(1, 10)).unwrap();
        store.put("a", "1");
        store.put("b", "1");
        store.one(alarm(Activate, 5, AlarmType::Nospace)).unwrap();
        store.reopen();
        let raised = AlarmMember {
            member_id: 5,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(store.mvcc.alarms(), [raised]);
        assert_eq!(store.one(put("c", "1")), Err(Error::NoSpace));
        assert_eq!(store.one(grant(2, 10)), Err(Error::NoSpace));
        let putting = txn(vec![], vec![], vec![op_put("c", "1")]);
        assert_eq!(store.txn(putting), Err(Error::NoSpace), "on either branch");
        let deleting = txn(vec![], vec![op_delete("a", "")], vec![]);
        assert!(store.txn(deleting).is_ok());
        assert_eq!(store.delete("b", ""), 1);
        store.compact(store.mvcc.revision()).unwrap();
        store.one(revoke(&[1])).unwrap();
        store.one(alarm(Deactivate, 6, AlarmType::Nospace)).unwrap();
        assert_eq!(
            store.one(put("c", "1")),
            Err(Error::NoSpace),
            "another member's"
        );
        store.one(alarm(Deactivate, 5, AlarmType::Nospace)).unwrap();
        assert!(store.one(put("c", "1")).is_ok());
        assert!(store.mvcc.alarms().is_empty());
    });
}

#[test]
fn a_corrupt_cluster_changes_nothing() {
    use alarm_request::AlarmAction::*;
    on_both(|store| {
        store.put("a", "1");
        store.one(alarm(Activate, 5, AlarmType::Corrupt)).unwrap();
        store.one(alarm(Activate, 4, AlarmType::Nospace)).unwrap();
        for op in [
            put("a", "2"),
            delete("a", ""),
            compact(2),
            grant(1, 1),
            revoke(&[1]),
        ] {
            assert_eq!(store.one(op), Err(Error::Corrupt));
        }
        let read = txn(vec![], vec![op_get("a", "")], vec![]);
        assert_eq!(store.txn(read), Err(Error::Corrupt));
        let told = |store: &mut Store, kind| match store.one(alarm(Get, 0, kind)).unwrap() {
            Response::Alarm(response) => response.alarms.len(),
            other => panic!("not alarms: {other:?}"),
        };
        assert_eq!(told(store, AlarmType::None), 2);
        assert_eq!(told(store, AlarmType::Corrupt), 1);
        store.one(alarm(Deactivate, 5, AlarmType::Corrupt)).unwrap();
        assert_eq!(store.one(put("a", "2")), Err(Error::NoSpace));
    });
}

#[test]
fn member_ids_are_never_given_twice() {
    on_both(|store| {
        let ids = store.apply((0..100).map(|_| Op::AllocateMemberId(AllocateMemberId {})));
        let mut ids: Vec<u64> = ids
            .into_iter()
            .map(|outcome| match outcome {
                Ok(Response::MemberId(id)) => id,
                other => panic!("no ID: {other:?}"),
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100);
        assert_ne!(ids[0], 0);
    });
}

#[test]
fn the_membership_is_kept_with_its_entry() {
    on_both(|store| {
        assert_eq!(store.mvcc.membership(), None);
        store.put("a", "1");
        store.apply_entries(vec![Entry::Membership("one".into()), Entry::Blank]);
        let position = LogPosition { term: 1, index: 1 };
        let expected = Some((position, Bytes::from("one")));
        assert_eq!(store.mvcc.membership(), expected);
        store.reopen();
        assert_eq!(store.mvcc.membership(), expected);
        assert_eq!(store.mvcc.applied().unwrap().index, 2);
    });
}
