//! A server with schemas and levels of its own.

use futures::FutureExt;

use super::*;
use crate::testing::{Server, until};
use crate::user::AUTHENTICATED;

const LEVEL: &str = r#"{"metadata":{"name":"narrow"},"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":1,"limitResponse":{"type":"Queue","queuing":{"queues":4,"handSize":1,"queueLengthLimit":1}}}}}"#;
const SCHEMA: &str = r#"{"metadata":{"name":"narrow"},"spec":{"priorityLevelConfiguration":{"name":"narrow"},"matchingPrecedence":2,"rules":[{"subjects":[{"kind":"User","user":{"name":"anna"}}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}}"#;

fn path(resource: &str) -> String {
    format!("/apis/{GROUP}/v1/{resource}")
}

async fn dangling(server: &Server, want: &str) {
    let one = format!("{}/narrow", path(SCHEMAS));
    until("the condition is right", || async {
        let found = server.ask("GET", &one, "").await.ok();
        let conditions = found.root().path(&["status", "conditions"]);
        conditions.is_some_and(|list| {
            list.children()
                .any(|one| one.text(&["type"]) == "Dangling" && one.text(&["status"]) == want)
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_each_other_on_their_level() {
    let server = Server::start().await;
    server.create(&path(SCHEMAS), SCHEMA).await.ok();
    dangling(&server, "True").await;
    server.create(&path(LEVELS), LEVEL).await.ok();
    dangling(&server, "False").await;
    let api = &server.api;
    let anna = User::new("anna", &[AUTHENTICATED]);
    let info = RequestInfo {
        verb: "get".to_string(),
        path: "/version".to_string(),
        ..RequestInfo::default()
    };
    let (class, flow, _) = api.flow.classify(&info, &anna).unwrap();
    assert_eq!((&*class.level, &*class.schema), ("narrow", "narrow"));
    assert!(!class.schema_uid.is_empty() && !class.level_uid.is_empty());
    let limit = api.flow.state().levels["narrow"].set.limit();
    let soon = || Instant::now() + Duration::from_millis(200);
    let enter = |deadline| {
        let of = (&class, flow);
        api.flow
            .enter(api, of, Work::seats(1), "readOnly", deadline)
    };
    let mut permits = Vec::new();
    for _ in 0..limit {
        permits.push(enter(soon()).await.unwrap());
    }
    // Nobody leaves in time.
    assert!(enter(soon()).await.is_err());
    let mut waiting = Box::pin(enter(Instant::now() + Duration::from_secs(20)));
    assert!((&mut waiting).now_or_never().is_none());
    // The queue has one place.
    assert!(enter(soon()).now_or_never().unwrap().is_err());
    permits.pop();
    let permit = waiting.await.unwrap();
    drop((permit, permits));
    assert!(api.flow.state().levels["narrow"].set.is_idle());
    // A request that is given up leaves its place to others.
    let _held: Vec<_> = futures::future::join_all((0..limit).map(|_| enter(soon()))).await;
    let mut given_up = Box::pin(enter(soon()));
    assert!((&mut given_up).now_or_never().is_none());
    drop(given_up);
    let mut next = Box::pin(enter(soon()));
    assert!((&mut next).now_or_never().is_none());
    drop(next);
    server.tasks.shutdown().await;
}
