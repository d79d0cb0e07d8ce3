//! Lists, pages and watches: which state they show, and that nothing is lost or seen twice.

use api::doc::{Doc, Node};
use api::page::Continue;

use crate::bootstrap::myself;
use crate::testing::Server;

const MAPS: &str = "/api/v1/namespaces/n/configmaps";

async fn with_maps(count: usize) -> Server {
    let server = Server::start().await;
    server.namespace("n").await;
    for at in 0..count {
        let body = format!(
            r#"{{"metadata":{{"name":"m{at:03}","labels":{{"odd":"{}"}}}}}}"#,
            at % 2
        );
        server.create(MAPS, &body).await.ok();
    }
    server
}

fn names(list: &Doc) -> Vec<String> {
    let items = list.root().get("items").unwrap();
    let name = |item: Node<'_>| item.text(&["metadata", "name"]).to_string();
    items.children().map(name).collect()
}

fn meta(list: &Doc, key: &str) -> String {
    list.root().text(&["metadata", key]).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_one_state() {
    let server = with_maps(10).await;
    let first = server.ask("GET", &format!("{MAPS}?limit=4"), "").await.ok();
    assert_eq!(names(&first), ["m000", "m001", "m002", "m003"]);
    let remaining = first.root().path(&["metadata", "remainingItemCount"]);
    assert_eq!(remaining.and_then(Node::as_i64), Some(6));
    // What happens meanwhile is not in the next pages.
    server.ask("DELETE", &format!("{MAPS}/m005"), "").await.ok();
    server
        .create(MAPS, r#"{"metadata":{"name":"m0045"}}"#)
        .await
        .ok();
    let next = format!("{MAPS}?limit=4&continue={}", meta(&first, "continue"));
    let second = server.ask("GET", &next, "").await.ok();
    assert_eq!(names(&second), ["m004", "m005", "m006", "m007"]);
    assert_eq!(
        meta(&second, "resourceVersion"),
        meta(&first, "resourceVersion")
    );
    let next = format!("{MAPS}?limit=4&continue={}", meta(&second, "continue"));
    let third = server.ask("GET", &next, "").await.ok();
    assert_eq!(names(&third), ["m008", "m009"]);
    assert_eq!(meta(&third, "continue"), "");
    // Who goes on without consistency stays with the state that the next page shows.
    let token = Continue {
        resource_version: None,
        start: "m006".to_string(),
    };
    let present = format!("{MAPS}?limit=2&continue={}", token.encode());
    let present = server.ask("GET", &present, "").await.ok();
    assert_eq!(names(&present), ["m006", "m007"]);
    server.ask("DELETE", &format!("{MAPS}/m008"), "").await.ok();
    let next = format!("{MAPS}?limit=2&continue={}", meta(&present, "continue"));
    let rest = server.ask("GET", &next, "").await.ok();
    assert_eq!(names(&rest), ["m008", "m009"]);
    assert_eq!(
        meta(&rest, "resourceVersion"),
        meta(&present, "resourceVersion")
    );
    let exact = format!(
        "{MAPS}?resourceVersionMatch=Exact&resourceVersion={}",
        meta(&first, "resourceVersion")
    );
    assert_eq!(names(&server.ask("GET", &exact, "").await.ok()).len(), 10);
    let selected = server
        .ask("GET", &format!("{MAPS}?labelSelector=odd%3D1&limit=2"), "")
        .await
        .ok();
    assert_eq!(names(&selected), ["m001", "m003"]);
    assert!(
        selected
            .root()
            .path(&["metadata", "remainingItemCount"])
            .is_none()
    );
}

/// The two APIs of events name a field of the same object differently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_of_every_version_find_what_is_stored() {
    const CORE: &str = "/api/v1/namespaces/default/events";
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
    let server = Server::start().await;
    for (name, asked) in [
        ("a", [(EVENTS, "reportingController"), (CORE, "source")]),
        (
            "b",
            [
                (CORE, "reportingComponent"),
                (EVENTS, "reportingController"),
            ],
        ),
    ] {
        let body = format!(
            r#"{{"metadata":{{"name":"{name}"}},"eventTime":"2026-01-01T00:00:00.000000Z","action":"Do","reason":"R",
            "type":"Normal","reportingController":"by-{name}","reportingInstance":"i","regarding":{{"namespace":"default"}}}}"#
        );
        server.create(EVENTS, &body).await.ok();
        for (path, field) in asked {
            let path = format!("{path}?fieldSelector={field}%3Dby-{name}");
            let found = server.ask("GET", &path, "").await.ok();
            assert_eq!(names(&found), [name], "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_that_make_no_sense_are_refused() {
    let server = with_maps(1).await;
    for (query, code, want) in [
        (
            "resourceVersion=x",
            400,
            "strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            422,
            "is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=No",
            422,
            "supported values: \"Exact\", \"NotOlderThan\"",
        ),
        ("continue=nonsense", 400, "continue key is not valid"),
        ("labelSelector=a+in+(", 400, "unable to parse requirement"),
        (
            "fieldSelector=spec.x%3D1",
            400,
            "is not a known field selector",
        ),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    ] {
        let answer = server.ask("GET", &format!("{MAPS}?{query}"), "").await;
        let (found, message) = answer.refusal();
        assert_eq!(found, code, "{query}: {message}");
        assert!(message.contains(want), "{query}: {message}");
    }
    let answer = server
        .ask("GET", &format!("{MAPS}?resourceVersion=99999999"), "")
        .await;
    let (code, message) = answer.refusal();
    assert!(
        code == 504 && message.contains("Too large resource version: 99999999"),
        "{message}"
    );
}

/// Type, name and resourceVersion of each event.
async fn watched(server: &Server, query: &str) -> Vec<(String, String, u64)> {
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&{query}");
    let (parts, body) = server.send(&myself(), "GET", &path, &[], b"").await;
    assert_eq!(parts.status, 200);
    let text = String::from_utf8_lossy(&body).into_owned();
    let event = |line: &str| {
        let doc = api::codec::json::parse(line.as_bytes().to_vec()).unwrap();
        let metadata = |key| doc.root().text(&["object", "metadata", key]).to_string();
        let version = metadata("resourceVersion").parse().unwrap_or_default();
        (
            doc.root().text(&["type"]).to_string(),
            metadata("name"),
            version,
        )
    };
    text.lines().map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_list_begins_with_what_there_is() {
    let server = with_maps(3).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let seen = watched(&server, query).await;
    let kinds: Vec<&str> = seen.iter().map(|event| &*event.0).collect();
    assert_eq!(kinds[..4], ["ADDED", "ADDED", "ADDED", "BOOKMARK"]);
    // Whoever goes on from the bookmark misses nothing.
    let version = seen[3].2;
    server
        .create(MAPS, r#"{"metadata":{"name":"z"}}"#)
        .await
        .ok();
    let later = watched(&server, &format!("resourceVersion={version}")).await;
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&*later[0].0, &*later[0].1), ("ADDED", "z"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_selection_is_deleted_from_it() {
    let server = with_maps(1).await;
    let list = server.ask("GET", MAPS, "").await.ok();
    let version = meta(&list, "resourceVersion");
    let one = format!("{MAPS}/m000");
    let set = |value: &str| format!(r#"{{"metadata":{{"labels":{{"odd":"{value}"}}}}}}"#);
    server.ask("PATCH", &one, &set("1")).await.ok();
    server.ask("PATCH", &one, &set("0")).await.ok();
    server.ask("DELETE", &one, "").await.ok();
    let seen = watched(
        &server,
        &format!("resourceVersion={version}&labelSelector=odd%3D1"),
    )
    .await;
    let kinds: Vec<&str> = seen.iter().map(|event| &*event.0).collect();
    assert_eq!(kinds, ["ADDED", "DELETED"]);
    assert!(
        seen[1].2 > seen[0].2,
        "a deletion has its own version: {seen:?}"
    );
    let seen = watched(
        &server,
        &format!("resourceVersion={version}&fieldSelector=metadata.name%3Dm000"),
    )
    .await;
    let kinds: Vec<&str> = seen.iter().map(|event| &*event.0).collect();
    assert_eq!(kinds, ["MODIFIED", "MODIFIED", "DELETED"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_reads_what_another_has_written() {
    let server = with_maps(1).await;
    let other = server.another("two").await;
    for at in 0..50 {
        let body = format!(r#"{{"data":{{"n":"{at}"}}}}"#);
        let made = server
            .ask("PATCH", &format!("{MAPS}/m000"), &body)
            .await
            .ok();
        let read = other.ask("GET", &format!("{MAPS}/m000"), "").await.ok();
        assert_eq!(
            meta(&read, "resourceVersion"),
            meta(&made, "resourceVersion")
        );
    }
    // A watch that was open at one goes on at the other.
    let version = meta(&other.ask("GET", MAPS, "").await.ok(), "resourceVersion");
    server
        .create(MAPS, r#"{"metadata":{"name":"late"}}"#)
        .await
        .ok();
    let seen = watched(&other, &format!("resourceVersion={version}")).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
}
