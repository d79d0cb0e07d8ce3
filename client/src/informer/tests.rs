//! Informers against real API servers.

use std::sync::Mutex;

use apiserver::testing::Server;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;
use crate::key::Partial;
use crate::testing::{Switch, admin, client, eventually};

struct Told(
    Arc<Mutex<Vec<String>>>,
    #[allow(dead_code, reason = "held")] Subscription,
);

impl Told {
    /// What is told of an informer's objects whose names have two letters at most.
    fn of(informer: &Informer<ConfigMap>) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let into = told.clone();
        let subscription = informer.on_change(move |old, new| {
            let text = |object: Option<&Arc<ConfigMap>>| {
                let data = object.map(|object| object.data.clone().unwrap_or_default());
                data.map_or("-".to_string(), |data| {
                    data.get("x").cloned().unwrap_or_default()
                })
            };
            let name = old.or(new).map(|object| object.name().to_string());
            let name = name.unwrap_or_default();
            if name.len() <= 2 {
                into.lock()
                    .unwrap()
                    .push(format!("{name}:{}>{}", text(old), text(new)));
            }
        });
        Self(told, subscription)
    }

    async fn until(&self, what: &str) -> Vec<String> {
        eventually(what, || {
            let mut told = self.0.lock().unwrap();
            let is_there = told.iter().any(|one| one == what);
            is_there.then(|| std::mem::take(&mut *told))
        })
        .await
    }
}

fn maps(client: &kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

async fn create(client: &kube::Client, name: &str, x: &str) {
    let map = json!({"metadata": {"name": name}, "data": {"x": x}});
    let map = serde_json::from_value(map).unwrap();
    maps(client)
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
}

async fn change(client: &kube::Client, name: &str, x: &str) {
    let patch = Patch::Merge(json!({"data": {"x": x}}));
    maps(client)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn delete(client: &kube::Client, name: &str) {
    maps(client)
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

fn by_x(map: &ConfigMap) -> Vec<String> {
    let x = map.data.as_ref().and_then(|data| data.get("x"));
    x.cloned().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_come_in_order_and_indexes_follow() {
    let server = Server::start().await;
    let client = client(&server);
    let seams = Seams::real();
    let tasks = seams.tasks();
    create(&client, "a", "1").await;
    let informers = Informers::new(client.clone(), &seams, &tasks);
    let informer = informers.of::<ConfigMap>();
    let index = informer.index("x", by_x);
    informers.synced().await;
    let told = Told::of(&informer);
    assert_eq!(told.until("a:->1").await, ["a:->1"]);
    change(&client, "a", "2").await;
    create(&client, "b", "2").await;
    delete(&client, "a").await;
    create(&client, "a", "3").await;
    let wanted = ["a:1>2", "b:->2", "a:2>-", "a:->3"];
    assert_eq!(told.until("a:->3").await, wanted);
    let names = |x: &str| {
        let found = index.get(x);
        found
            .iter()
            .map(|map| map.name().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names("1"), names("2"), names("3")),
        (vec![], vec!["b".into()], vec!["a".into()])
    );
    let b = informer.get("default", "b").unwrap();
    assert!(b.metadata.managed_fields.is_none());
    // Whoever asks again gets the same.
    assert!(Arc::ptr_eq(
        &informers.of::<ConfigMap>().get("default", "b").unwrap(),
        &b
    ));
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_at_another_server_where_it_was() {
    let one = Server::start().await;
    let two = one.another("two").await;
    let switch = Switch::new(vec![admin(&one), admin(&two)]);
    let seams = Seams::real();
    let tasks = seams.tasks();
    let informers = Informers::new(switch.client(), &seams, &tasks);
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    let told = Told::of(&informer);
    let (first, second) = (client(&one), client(&two));
    create(&first, "a", "1").await;
    told.until("a:->1").await;
    let asked = switch.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
    // The first server goes; what happens meanwhile is told once, and nothing is listed anew.
    switch.turn(1);
    delete(&second, "a").await;
    create(&second, "b", "1").await;
    assert_eq!(told.until("b:->1").await, ["a:1>-", "b:->1"]);
    for asked in switch.asked() {
        assert!(asked.contains("resourceVersion="), "{asked}");
        assert!(!asked.contains("sendInitialEvents"), "{asked}");
    }
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_version_expired_the_difference_is_told() {
    let server = Server::start().await;
    let switch = Switch::new(vec![admin(&server)]);
    let seams = Seams::real();
    let tasks = seams.tasks();
    let client = client(&server);
    for name in ["a", "b", "c"] {
        create(&client, name, "1").await;
    }
    let informers = Informers::new(switch.client(), &seams, &tasks);
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    let told = Told::of(&informer);
    told.until("c:->1").await;
    switch.asked();
    // Nothing is seen while these are written.
    switch.stall(true);
    delete(&client, "a").await;
    change(&client, "b", "2").await;
    create(&client, "d", "1").await;
    switch.refuse_next(410);
    switch.stall(false);
    let mut found = told.until("d:->1").await;
    found.sort();
    assert_eq!(found, ["a:1>-", "b:1>2", "d:->1"]);
    let asked = switch.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.contains("sendInitialEvents")),
        "{asked:?}"
    );
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_streams_are_listed() {
    let server = Server::start().await;
    let switch = Switch::new(vec![admin(&server)]);
    let seams = Seams::real();
    let tasks = seams.tasks();
    let client = client(&server);
    create(&client, "a", "1").await;
    switch.refuse_next(422);
    let informers = Informers::new(switch.client(), &seams, &tasks);
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    let told = Told::of(&informer);
    told.until("a:->1").await;
    change(&client, "a", "2").await;
    told.until("a:1>2").await;
    let asked = switch.asked();
    assert!(
        asked[1].contains("limit=500") && asked[2].contains("watch=true"),
        "{asked:?}"
    );
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_is_all_there_is() {
    let server = Server::start().await;
    let client = client(&server);
    let seams = Seams::real();
    let tasks = seams.tasks();
    create(&client, "a", "1").await;
    create(&client, "b", "1").await;
    let informers = Informers::new(client.clone(), &seams, &tasks);
    let informer = informers.selected::<ConfigMap>(Selection {
        namespace: Some("default".to_string()),
        fields: Some("metadata.name=b".to_string()),
        labels: None,
    });
    let partial = informers.of_resource::<Partial>("", "v1", "configmaps");
    informers.synced().await;
    assert_eq!(informer.list().len(), 1);
    // Only metadata is fetched of resources that are known by name alone.
    let b = partial.get("default", "b").unwrap();
    assert!(b.metadata.uid.is_some());
    informers.stop(&partial);
    assert!(!Arc::ptr_eq(
        &partial.shared,
        &informers
            .of_resource::<Partial>("", "v1", "configmaps")
            .shared
    ));
    tasks.shutdown().await;
}

/// Nothing happens to config maps, so that only the server can tell that nothing is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_knows_what_had_happened_before_its_term() {
    let server = Server::start().await;
    let client = client(&server);
    let seams = Seams::real();
    let tasks = seams.tasks();
    let informers = Informers::new(client.clone(), &seams, &tasks);
    let handle = informers.handle();
    let quiet = handle.of::<ConfigMap>();
    handle.synced().await;
    let namespace = serde_json::from_value(json!({"metadata": {"name": "later"}})).unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &namespace).await;
    let version = made.unwrap().metadata.resource_version.unwrap();
    let version: i64 = version.parse().unwrap();
    assert!(*quiet.shared.progress.version.borrow() < version);
    let caught_up = tokio::time::timeout(CATCH_UP_MAX / 2, handle.caught_up(version));
    caught_up.await.unwrap();
    assert!(*quiet.shared.progress.version.borrow() >= version);
    // A version that is yet to come is waited for.
    let early = tokio::time::timeout(CATCH_UP_RETRY * 3, handle.caught_up(version + 1000));
    assert!(early.await.is_err());
    tasks.shutdown().await;
}
