//! Leaders are fenced: a write that names a fence happens only while the fence holds, on whatever server.

use api::fence::{self, Fence};

use crate::bootstrap::myself;
use crate::testing::Server;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Code and cause of the answer to a request that names a fence.
async fn fenced(server: &Server, fence: &str, method: &str, path: &str, body: &str) -> String {
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let headers = [(fence::HEADER, fence), ("content-type", content_type)];
    let user = myself();
    let (parts, body) = server
        .send(&user, method, path, &headers, body.as_bytes())
        .await;
    let doc = api::codec::json::parse(body.to_vec()).unwrap();
    let causes = doc.root().path(&["details", "causes"]);
    let cause = causes.and_then(|causes| causes.children().next());
    let cause = cause.map_or("", |cause| cause.text(&["reason"]));
    format!("{} {cause}", parts.status.as_u16())
        .trim_end()
        .to_string()
}

fn fence_of(lease: &api::doc::Doc) -> String {
    let version = lease.root().text(&["metadata", "resourceVersion"]);
    Fence::of_lease("default", "l", version.parse().unwrap()).to_string()
}

fn held_by(holder: &str) -> String {
    format!(r#"{{"spec":{{"holderIdentity":"{holder}"}}}}"#)
}

async fn map(server: &Server, name: &str) {
    let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
    server.create(MAPS, &body).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_writes_no_more() {
    let one = Server::start().await;
    let two = one.another("two").await;
    let lease = r#"{"metadata":{"name":"l"},"spec":{"holderIdentity":"a"}}"#;
    let first = fence_of(&one.create(LEASES, lease).await.ok());
    let path = format!("{LEASES}/l");
    map(&one, "m").await;
    let m = format!("{MAPS}/m");
    // The leader writes, on both servers, also after it renewed its Lease.
    let renewal = r#"{"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}"#;
    two.ask("PATCH", &path, renewal).await.ok();
    for (at, server) in [&one, &two].into_iter().enumerate() {
        let body = format!(r#"{{"data":{{"at":"{at}"}}}}"#);
        assert_eq!(fenced(server, &first, "PATCH", &m, &body).await, "200");
    }
    // Another leads now.
    let second = fence_of(&two.ask("PATCH", &path, &held_by("b")).await.ok());
    let stale = "409 StaleFence";
    for server in [&one, &two] {
        let new = r#"{"metadata":{"name":"n"}}"#;
        assert_eq!(fenced(server, &first, "POST", MAPS, new).await, stale);
        let whole = r#"{"metadata":{"name":"m"},"data":{"x":"late"}}"#;
        assert_eq!(fenced(server, &first, "PUT", &m, whole).await, stale);
        let part = r#"{"data":{"x":"late"}}"#;
        assert_eq!(fenced(server, &first, "PATCH", &m, part).await, stale);
        assert_eq!(fenced(server, &first, "DELETE", &m, "").await, stale);
        assert_eq!(
            fenced(server, &first, "PATCH", &path, &held_by("a")).await,
            stale
        );
    }
    let part = r#"{"data":{"x":"new"}}"#;
    assert_eq!(fenced(&one, &second, "PATCH", &m, part).await, "200");
    let found = one.ask("GET", &m, "").await.ok();
    assert_eq!(found.root().text(&["data", "x"]), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_goes_with_its_lease() {
    let server = Server::start().await;
    let path = format!("{LEASES}/l");
    map(&server, "m").await;
    let m = format!("{MAPS}/m");
    // PUT of what is not there makes it.
    let lease = r#"{"metadata":{"name":"l"},"spec":{"holderIdentity":"a"}}"#;
    let first = fence_of(&server.ask("PUT", &path, lease).await.ok());
    assert_eq!(
        fenced(&server, &first, "PATCH", &m, r#"{"data":{"x":"1"}}"#).await,
        "200"
    );
    // Given up, nobody leads.
    server.ask("PATCH", &path, &held_by("")).await.ok();
    let late = r#"{"data":{"x":"2"}}"#;
    assert_eq!(
        fenced(&server, &first, "PATCH", &m, late).await,
        "409 StaleFence"
    );
    let second = fence_of(&server.ask("PATCH", &path, &held_by("a")).await.ok());
    assert_eq!(fenced(&server, &second, "PATCH", &m, late).await, "200");
    server.ask("DELETE", &path, "").await.ok();
    let late = r#"{"data":{"x":"3"}}"#;
    assert_eq!(
        fenced(&server, &second, "PATCH", &m, late).await,
        "409 StaleFence"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_is_no_way_to_look_at_other_keys() {
    let server = Server::start().await;
    let body = r#"{"metadata":{"name":"n"}}"#;
    for fence in ["/registry/secrets/default/s@3", "x", ""] {
        assert_eq!(
            fenced(&server, fence, "POST", MAPS, body).await,
            "400",
            "{fence}"
        );
    }
}
