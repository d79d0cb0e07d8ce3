//! Stories and properties of the queue.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use seams::SeededRng;
use tokio::time::{advance, timeout};

use super::*;

fn queue() -> Queue<u8> {
    Queue::new("test", Arc::new(SeededRng::new(1)))
}

/// The key that can be had without waiting.
fn now(queue: &Queue<u8>) -> Option<u8> {
    queue.next().now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_once_and_has_one_worker() {
    let queue = queue();
    for key in [1, 2, 1, 3] {
        queue.add(key);
    }
    assert_eq!((now(&queue), now(&queue)), (Some(1), Some(2)));
    queue.add(1);
    assert_eq!((now(&queue), now(&queue)), (Some(3), None));
    queue.done(&1);
    assert_eq!(now(&queue), Some(1));
    queue.done(&1);
    assert_eq!(now(&queue), None);
}

#[tokio::test(start_paused = true)]
async fn later_is_later_and_the_earliest_counts() {
    let queue = queue();
    let second = Duration::from_secs(1);
    queue.add_after(1, 10 * second);
    queue.add_after(1, 2 * second);
    queue.add_after(1, 5 * second);
    assert_eq!(now(&queue), None);
    let start = Instant::now();
    assert_eq!(queue.next().await, Some(1));
    assert!((2 * second..3 * second).contains(&start.elapsed()));
    queue.done(&1);
    assert!(timeout(60 * second, queue.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn failures_wait_ever_longer() {
    let queue = queue();
    let mut waits = Vec::new();
    for _ in 0..25 {
        queue.retry(1);
        let start = Instant::now();
        assert_eq!(queue.next().await, Some(1));
        waits.push(start.elapsed().as_millis());
        queue.done(&1);
    }
    assert!((5..=8).contains(&waits[0]), "{waits:?}");
    assert!(
        (5 << 10..=(5 << 10) * 3 / 2).contains(&waits[10]),
        "{waits:?}"
    );
    assert!((1_000_000..=1_500_000).contains(&waits[24]), "{waits:?}");
    queue.forget(&1);
    assert_eq!(queue.failures(&1), 0);
}

#[tokio::test(start_paused = true)]
async fn many_failures_at_once_pass_one_by_one() {
    let queue = queue();
    for key in 0..150 {
        queue.retry(key);
    }
    advance(Duration::from_secs(1)).await;
    let mut soon = 0;
    while now(&queue).is_some() {
        soon += 1;
    }
    assert!((105..=115).contains(&soon), "{soon}");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_it_ends() {
    let queue = queue();
    let waiting = queue.next();
    tokio::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    queue.close();
    assert_eq!(waiting.await, None);
    queue.add(1);
    queue.add_after(1, Duration::from_secs(1));
    assert_eq!(queue.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "workers of a test")]
async fn workers_get_everything_that_was_added() {
    let queue = queue();
    let worked = Arc::new(Mutex::new(BTreeMap::new()));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (queue, worked) = (queue.clone(), worked.clone());
            tokio::spawn(async move {
                while let Some(key) = queue.next().await {
                    *worked.lock().unwrap().entry(key).or_insert(0) += 1;
                    tokio::task::yield_now().await;
                    queue.done(&key);
                }
            })
        })
        .collect();
    for key in 0..200 {
        match key % 2 {
            0 => queue.add(key),
            _ => queue.add_after(key, Duration::from_micros(u64::from(key))),
        }
    }
    let all = async {
        while worked.lock().unwrap().len() < 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all).await.unwrap();
    queue.close();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    AddAfter(u8, u64),
    Retry(u8),
    Take,
    Done(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0u8..4;
    let step = prop_oneof![
        key.clone().prop_map(Step::Add),
        (key.clone(), 1..2000u64).prop_map(|(key, millis)| Step::AddAfter(key, millis)),
        key.prop_map(Step::Retry),
        Just(Step::Take),
        any::<usize>().prop_map(Step::Done),
        (1..3000u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever happens in whatever order: nobody gets a key that another has, and what was added is
    /// worked on afterwards.
    #[test]
    fn nothing_is_lost_and_nothing_is_shared(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let queue = queue();
            let mut held: Vec<u8> = Vec::new();
            let mut owed: BTreeSet<u8> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Add(key) => {
                        queue.add(key);
                        owed.insert(key);
                    }
                    Step::AddAfter(key, millis) => {
                        queue.add_after(key, Duration::from_millis(millis));
                        owed.insert(key);
                    }
                    Step::Retry(key) => {
                        queue.retry(key);
                        owed.insert(key);
                    }
                    Step::Take => {
                        if let Some(key) = now(&queue) {
                            assert!(!held.contains(&key), "{key} has two workers");
                            assert!(owed.contains(&key), "nobody added {key}");
                            held.push(key);
                        }
                    }
                    Step::Done(at) if !held.is_empty() => {
                        let key = held.swap_remove(at % held.len());
                        queue.done(&key);
                    }
                    Step::Done(_) => {}
                    Step::Wait(millis) => advance(Duration::from_millis(millis)).await,
                }
            }
            let mut worked: BTreeSet<u8> = held.iter().copied().collect();
            for key in held {
                queue.done(&key);
            }
            while let Ok(Some(key)) = timeout(Duration::from_secs(3000), queue.next()).await {
                worked.insert(key);
                queue.done(&key);
            }
            assert!(queue.is_empty());
            assert!(worked.is_subset(&owed));
        });
    }
}
