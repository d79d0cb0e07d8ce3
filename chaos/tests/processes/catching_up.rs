//! A new member gets a database of a gigabyte while clients write.

use std::time::Duration;

use chaos::client::{Client, Failure};
use chaos::cluster::{Cluster, Disks, Plan, System};
use chaos::dice::Dice;
use chaos::faults::membership;
use chaos::ops::{Call, Reply, Step};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::trireme;

/// 4096 transactions of 64 values of 4 KiB are 1 GiB.
const TRANSACTIONS: usize = 4096;
const VALUES: usize = 64;
const VALUE_BYTES: usize = 4 << 10;
const FILLERS: usize = 8;
const CALL_TIME: Duration = Duration::from_secs(10);
/// A machine with one slow disk for four members.
const CATCH_UP_TIME: Duration = Duration::from_secs(600);
/// Neither side may hold much of the database in memory to pass it on.
const MEMORY_MAX_BYTES: u64 = 512 << 20;
/// No write may wait this long while the database is passed on.
const GAP_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some minutes: make soak"]
async fn soak_a_learner_catches_up_with_a_gigabyte_while_clients_write() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        system: System::new(None, Some(&trireme()), None).unwrap(),
        members: 3,
        spares: 1,
        networks: false,
        disks: Disks::Shared,
        preload: None,
        dir: dir.path().to_owned(),
    };
    let mut cluster = Cluster::start(plan).await.unwrap();
    let begun = Instant::now();
    let fillers: Vec<_> = (0..FILLERS).map(|at| fill(&cluster, at)).collect();
    futures::future::try_join_all(fillers).await.unwrap();
    let filled = begun.elapsed();
    let before = memory(&cluster);

    let (stop, stopped) = watch::channel(false);
    let writer = write(&cluster, stopped);
    let begun = Instant::now();
    let place = cluster.spare().unwrap();
    membership::join(&mut cluster, place, &[0, 1, 2], CATCH_UP_TIME)
        .await
        .unwrap();
    let caught_up = begun.elapsed();
    cluster.wait_serving().await.unwrap();
    stop.send(true).unwrap();
    let (writes, gap) = writer.await.unwrap();
    let after = memory(&cluster);
    println!(
        "filled in {filled:?}, caught up in {caught_up:?} beside {writes} writes (longest gap \
         {gap:?}); peak memory in MiB, by member: {before:?} before, {after:?} after"
    );

    let mut facts = Vec::new();
    for target in cluster.targets() {
        facts.push(state(&mut Client::new(target, CATCH_UP_TIME)).await);
    }
    assert!(facts.iter().all(|fact| *fact == facts[0]));
    assert!(writes > 0 && gap < GAP_MAX, "{writes} writes, gap {gap:?}");
    let limit = MEMORY_MAX_BYTES >> 20;
    assert!(after.iter().all(|mib| *mib < limit), "{after:?} MiB");
    cluster.destroy();
}

/// Puts one part of the database. Values cannot be compressed.
fn fill(cluster: &Cluster, filler: usize) -> JoinHandle<()> {
    let target = cluster.target(filler % 3);
    let mut dice = Dice::new(filler as u64);
    tokio::spawn(async move {
        let mut client = Client::new(target, CALL_TIME);
        for number in (filler..TRANSACTIONS).step_by(FILLERS) {
            let then = (0..VALUES).map(|at| {
                let words = (0..VALUE_BYTES / 16).map(|_| format!("{:016x}", dice.bits()));
                Step::Put(format!("fill/{number:05}/{at:02}"), words.collect())
            });
            let call = Call::Txn {
                compare: vec![],
                then: then.collect(),
                otherwise: vec![],
            };
            while let Err(failure) = client.call(&call).await {
                assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
            }
        }
    })
}

/// Writes until it is stopped; says how often, and the longest time without an acknowledgement.
fn write(cluster: &Cluster, stopped: watch::Receiver<bool>) -> JoinHandle<(u64, Duration)> {
    let target = cluster.target(0);
    tokio::spawn(async move {
        let mut client = Client::new(target, CALL_TIME);
        let (mut writes, mut gap, mut last) = (0, Duration::ZERO, Instant::now());
        while !*stopped.borrow() {
            let put = Call::Put {
                key: format!("write/{}", writes % 100),
                value: writes.to_string(),
                lease: 0,
            };
            if client.call(&put).await.is_ok() {
                writes += 1;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            sleep(Duration::from_millis(10)).await;
        }
        (writes, gap.max(last.elapsed()))
    })
}

/// Peak memory of every member in MiB.
fn memory(cluster: &Cluster) -> Vec<u64> {
    let members = cluster.members().into_iter();
    members
        .filter_map(|member| cluster.peak_memory_bytes(member))
        .map(|bytes| bytes >> 20)
        .collect()
}

/// What a member has: its revision, its hash of everything, and samples read from its own state.
async fn state(client: &mut Client) -> (Option<i64>, Reply, Vec<Reply>) {
    let probe = Call::Get {
        key: "write/0".into(),
        serializable: false,
        revision: 0,
    };
    client.call(&probe).await.unwrap();
    let mut samples = Vec::new();
    for number in (0..TRANSACTIONS).step_by(100) {
        let list = Call::List {
            prefix: format!("fill/{number:05}/"),
            serializable: true,
            revision: 0,
        };
        let found = client.call(&list).await.unwrap().reply;
        assert!(matches!(&found, Reply::Items(items) if items.len() == VALUES));
        samples.push(found);
    }
    let answer = client.call(&Call::Hash { revision: 0 }).await.unwrap();
    (answer.rev, answer.reply, samples)
}
