//! Compaction: what is forgotten, what stays, and what is refused afterwards.

use raft_store::Error;
use raft_store::pb::etcdserverpb::RangeRequest;
use raft_store::pb::etcdserverpb::request_op::Request as Op;

use crate::harness::{Ctx, Outcome, always, cases, op, put_op, text};

cases! {
    history_below_is_gone_and_above_stays,
    the_latest_version_stays_however_old,
    a_deleted_key_is_gone,
    a_compaction_takes_no_revision,
    a_compaction_goes_forward_only,
    a_txn_cannot_read_below,
    everything_up_to_now_can_be_compacted,
    writing_goes_on,
}

fn at(t: &Ctx, revision: i64) -> RangeRequest {
    RangeRequest {
        revision,
        ..t.all()
    }
}

async fn read(t: &Ctx, revision: i64) -> Result<Vec<String>, Error> {
    let response = t.store.range(at(t, revision)).await?;
    Ok(response.kvs.iter().map(|kv| text(&kv.value)).collect())
}

/// What a read below the watermark answers; the watermark itself does not travel over gRPC.
fn is_compacted<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Compacted { .. }))
}

async fn history_below_is_gone_and_above_stays(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    let second = t.put_revision("a", "2").await;
    let third = t.put_revision("a", "3").await;
    t.compact(second).await.expect("a compaction");
    assert!(is_compacted(&read(t, first).await));
    assert_eq!(
        read(t, second).await,
        Ok(vec!["2".to_owned()]),
        "the watermark itself is readable"
    );
    assert_eq!(read(t, third).await, Ok(vec!["3".to_owned()]));
    assert_eq!(read(t, 0).await, Ok(vec!["3".to_owned()]));
    Ok(())
}

async fn the_latest_version_stays_however_old(t: &Ctx) -> Outcome {
    let old = t.put_revision("old", "x").await;
    for i in 0..5 {
        t.put("busy", &i.to_string()).await;
    }
    let now = t.revision().await;
    t.compact(now).await.expect("a compaction");
    let kv = t.get("old").await.expect("the key");
    assert_eq!((kv.mod_revision, kv.version), (old, 1));
    assert_eq!(read(t, now).await, Ok(vec!["4".to_owned(), "x".to_owned()]));
    Ok(())
}

async fn a_deleted_key_is_gone(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    t.delete("a").await;
    let now = t.put_revision("b", "1").await;
    t.compact(now).await.expect("a compaction");
    assert_eq!(read(t, now).await, Ok(vec!["1".to_owned()]));
    let created = t.put_revision("a", "2").await;
    let kv = t.get("a").await.expect("the key");
    assert_eq!((kv.create_revision, kv.version), (created, 1));
    Ok(())
}

async fn a_compaction_takes_no_revision(t: &Ctx) -> Outcome {
    let now = t.put_revision("a", "1").await;
    t.compact(now).await.expect("a compaction");
    assert_eq!(t.revision().await, now);
    Ok(())
}

async fn a_compaction_goes_forward_only(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let second = t.put_revision("a", "2").await;
    t.compact(second).await.expect("a compaction");
    assert!(is_compacted(&t.compact(second).await));
    assert!(is_compacted(&t.compact(second - 1).await));
    assert_eq!(t.compact(second + 100).await, Err(Error::FutureRevision));
    Ok(())
}

async fn a_txn_cannot_read_below(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    let second = t.put_revision("a", "2").await;
    t.compact(second).await.expect("a compaction");
    let read = op(Op::RequestRange(at(t, first)));
    assert!(is_compacted(&t.try_txn(always(vec![read.clone()])).await));
    let write = always(vec![put_op(t.key("b"), "x"), read]);
    assert!(is_compacted(&t.try_txn(write).await));
    assert_eq!(t.get("b").await, None);
    Ok(())
}

async fn everything_up_to_now_can_be_compacted(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    t.delete("a").await;
    let now = t.revision().await;
    t.compact(now).await.expect("a compaction");
    assert_eq!(read(t, now).await, Ok(vec![]));
    Ok(())
}

async fn writing_goes_on(t: &Ctx) -> Outcome {
    for round in 0..10 {
        let value = round.to_string();
        let put = t.put_revision("a", &value).await;
        t.compact(put).await.expect("a compaction");
        assert_eq!(t.value("a").await, Some(value));
    }
    assert_eq!(t.get("a").await.expect("the key").version, 10);
    Ok(())
}
