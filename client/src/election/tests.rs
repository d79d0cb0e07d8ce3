//! Elections: what a candidate may do, and what becomes of leaders, against real API servers.

use std::sync::Mutex;

use apiserver::testing::Server;
use k8s_openapi::api::core::v1::ConfigMap;
use seams::Seams;
use tokio::sync::watch;

use super::*;
use crate::testing::{Switch, admin, eventually};
use crate::transport::Identity;

fn lease(holder: &str) -> Lease {
    Lease {
        metadata: ObjectMeta::default(),
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_string()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }),
    }
}

#[test]
fn a_lease_is_taken_only_from_those_who_do_not_need_it() {
    let config = Config::new("x", "me");
    let dead = BTreeSet::from(["gone".to_string()]);
    let seconds = Duration::from_secs;
    for (lease, unchanged, wanted) in [
        (None, 0, Verdict::Take),
        (Some(lease("")), 0, Verdict::Take),
        (Some(lease("me_1")), 0, Verdict::Take),
        (Some(lease("gone_1")), 0, Verdict::Take),
        (Some(lease("gone_too_1")), 0, Verdict::Wait(seconds(15))),
        (Some(lease("other_1")), 4, Verdict::Wait(seconds(11))),
        (Some(lease("other_1")), 15, Verdict::Take),
        (Some(lease("stock-hostname")), 14, Verdict::Wait(seconds(1))),
    ] {
        let found = verdict(lease.as_ref(), seconds(unchanged), &config, &dead);
        assert_eq!(found, wanted, "{lease:?}");
    }
}

/// A process that runs for leader, by a way of its own.
struct Process {
    switch: Switch,
    tasks: Tasks,
    /// The terms that it led, each with its scope and a client of its fence.
    terms: Arc<Mutex<Vec<(Tasks, kube::Client)>>>,
}

impl Process {
    fn start(server: &Server, name: &str, durations: [u64; 3], dead: Option<Dead>) -> Self {
        let seams = Seams::real();
        let tasks = seams.tasks();
        let switch = Switch::new(vec![admin(server)]);
        let [lease_duration, renew_deadline, retry_period] = durations.map(Duration::from_millis);
        let config = Config {
            lease_duration,
            renew_deadline,
            retry_period,
            ..Config::new("test", name)
        };
        let elector = Elector::new(config, &switch.client(), dead, &seams, &tasks);
        let terms = Arc::new(Mutex::new(Vec::new()));
        let (into, owner) = (terms.clone(), tasks.clone());
        // Its controllers write on a way that is not stalled: the elector alone is.
        let access = Switch::new(vec![admin(server)]).access();
        tasks.spawn("elector", async move {
            let lead = |term: Leadership| {
                let client = access.client(&Identity::Component, Some(&term.fence));
                into.lock().unwrap().push((term.tasks.clone(), client));
                async move { term.tasks.cancelled().await }
            };
            elector.run(&owner, lead).await;
        });
        Self {
            switch,
            tasks,
            terms,
        }
    }

    fn terms(&self) -> usize {
        self.terms.lock().unwrap().len()
    }

    fn term(&self) -> (Tasks, kube::Client) {
        self.terms.lock().unwrap().last().cloned().unwrap()
    }

    async fn leads(&self, terms: usize) {
        eventually("it leads", || (self.terms() >= terms).then_some(())).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn write(client: &kube::Client, name: &str) -> Result<ConfigMap, kube::Error> {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_string());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &map).await
}

async fn found(server: &Server) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(crate::testing::client(server), "kube-system");
    leases.get("test").await.unwrap().spec.unwrap()
}

/// Short enough for a test; upstream's are 15, 10 and 2 seconds.
const SHORT: [u64; 3] = [2000, 1500, 200];
/// Too long for a test.
const LONG: [u64; 3] = [600_000, 400_000, 100];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_elector_stands_still_is_deposed_and_writes_no_more() {
    let server = Server::start().await;
    let one = Process::start(&server, "one", SHORT, None);
    one.leads(1).await;
    let two = Process::start(&server, "two", SHORT, None);
    let (scope, client) = one.term();
    write(&client, "a").await.unwrap();
    assert_eq!(found(&server).await.lease_transitions, Some(0));
    one.switch.stall(true);
    two.leads(1).await;
    // It does not know yet, and its write comes late.
    let late = write(&client, "b").await.unwrap_err();
    assert!(errors::is_stale_fence(&late), "{late}");
    write(&two.term().1, "b").await.unwrap();
    let spec = found(&server).await;
    assert_eq!(spec.lease_transitions, Some(1));
    assert!(spec.holder_identity.unwrap().starts_with("two_"));
    // It learns of it by its clock at last; once it comes back, it waits like everybody.
    eventually("the term ends", || scope.is_cancelled().then_some(())).await;
    one.switch.stall(false);
    tokio::time::sleep(Duration::from_millis(SHORT[0])).await;
    assert_eq!((one.terms(), two.terms()), (1, 1));
    assert!(!two.term().0.is_cancelled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_given_up_is_taken_at_once() {
    let server = Server::start().await;
    let one = Process::start(&server, "one", LONG, None);
    one.leads(1).await;
    let two = Process::start(&server, "two", LONG, None);
    // Its watch is there once it knows the leader; it cannot be asked, so it is given time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(two.terms(), 0);
    let (_, client) = one.term();
    let start = Instant::now();
    one.tasks.cancel();
    two.leads(1).await;
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1000), "{took:?}");
    let late = write(&client, "b").await.unwrap_err();
    assert!(errors::is_stale_fence(&late), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_a_dead_process_is_taken_early() {
    let server = Server::start().await;
    let one = Process::start(&server, "one", LONG, None);
    one.leads(1).await;
    let (sender, dead) = watch::channel(BTreeSet::new());
    let two = Process::start(&server, "two", LONG, Some(dead));
    tokio::time::sleep(Duration::from_millis(500)).await;
    one.switch.stall(true);
    let start = Instant::now();
    sender.send_replace(BTreeSet::from(["one".to_string()]));
    two.leads(1).await;
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1000), "{took:?}");
    // The hint was wrong: nothing happens but that another leads.
    let late = write(&one.term().1, "b").await.unwrap_err();
    assert!(errors::is_stale_fence(&late), "{late}");
    one.switch.stall(false);
    let (scope, _) = one.term();
    eventually("the term ends", || scope.is_cancelled().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_anew_takes_its_own_lease() {
    let server = Server::start().await;
    let before = Process::start(&server, "one", LONG, None);
    before.leads(1).await;
    before.switch.stall(true);
    let after = Process::start(&server, "one", LONG, None);
    after.leads(1).await;
    let late = write(&before.term().1, "b").await.unwrap_err();
    assert!(errors::is_stale_fence(&late), "{late}");
    write(&after.term().1, "b").await.unwrap();
    assert_eq!(found(&server).await.lease_transitions, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_a_lease_s_labels_deposes_nobody() {
    let server = Server::start().await;
    let one = Process::start(&server, "one", SHORT, None);
    one.leads(1).await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/test";
    for at in 0..5 {
        let labels = format!(r#"{{"metadata":{{"labels":{{"at":"{at}"}}}}}}"#);
        server.ask("PATCH", path, &labels).await.ok();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(!one.term().0.is_cancelled());
    write(&one.term().1, "a").await.unwrap();
    // A Lease that somebody deletes is lost, and made anew.
    server.ask("DELETE", path, "").await.ok();
    one.leads(2).await;
}
