//! What is handed on to a node double, through the whole handler.

mod node;
mod spdy;
mod store;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use seams::{Seams, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use super::backend::{Backends, KubeletFiles};
use crate::authentication;
use crate::discovery::{Addresses, Build};
use crate::handler;
use crate::instance::{Api, Parts};
use crate::server::Peer;
use node::{NodeNet, Pki};
use store::Still;

/// An API server, its node and the pods on it.
struct World {
    api: Arc<Api>,
    tasks: Tasks,
    port: u16,
    _pki: Pki,
}

impl World {
    async fn new() -> Self {
        Self::with_features("").await
    }

    async fn with_features(features: &str) -> Self {
        let seams = Seams {
            net: Arc::new(NodeNet),
            ..Seams::real()
        };
        let tasks = seams.tasks();
        let pki = Pki::new();
        let kubelet = node::serve(Some(&pki), &tasks).await;
        let port = node::serve(None, &tasks).await;
        let address = node::ADDRESS;
        let node = format!(
            r#"{{"metadata":{{"name":"m"}},"status":{{"addresses":[{{"type":"InternalIP","address":"{address}"}}],
            "daemonEndpoints":{{"kubeletEndpoint":{{"Port":{kubelet}}}}},"declaredFeatures":[{features}]}}}}"#
        );
        let pod = |name: &str, node: &str, containers: &str, ip: &str| {
            format!(
                r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"n"}},"spec":{{"nodeName":"{node}","containers":[{containers}]}},
                "status":{{"phase":"Running","podIPs":[{{"ip":"{ip}"}}]}}}}"#
            )
        };
        let containers = format!(r#"{{"name":"c","ports":[{{"containerPort":{port}}}]}}"#);
        let two = r#"{"name":"a"},{"name":"broken"}"#;
        let slice = |address: &str, pod: &str| {
            format!(
                r#"{{"metadata":{{"name":"{pod}","namespace":"n","labels":{{"kubernetes.io/service-name":"s"}}}},
                "addressType":"IPv4","ports":[{{"name":"web","port":{port}}}],
                "endpoints":[{{"addresses":["10.9.9.9"],"conditions":{{"ready":false}}}},
                {{"addresses":["{address}"],"targetRef":{{"kind":"Pod","namespace":"n","name":"{pod}"}}}}]}}"#
            )
        };
        let service = r#"{"metadata":{"name":"s","namespace":"n"},"spec":{"ports":[{"name":"web","port":80}]}}"#;
        let store = Still::new(&[
            ("", "nodes", &node),
            ("", "pods", &pod("one", "m", &containers, address)),
            ("", "pods", &pod("p", "m", two, "127.0.0.1")),
            ("", "pods", &pod("refuse", "m", r#"{"name":"c"}"#, "")),
            ("", "pods", &pod("waiting", "", r#"{"name":"c"}"#, "")),
            ("", "pods", &pod("lost", "gone", r#"{"name":"c"}"#, "")),
            ("", "services", service),
            ("discovery.k8s.io", "endpointslices", &slice(address, "one")),
            (
                "discovery.k8s.io",
                "endpointslices",
                &slice("10.1.1.1", "p"),
            ),
        ]);
        let files = KubeletFiles {
            client: Some((pki.file("crt"), pki.file("key"))),
            authority: Some(pki.file("ca")),
        };
        let types = vec!["Hostname".to_string(), "InternalIP".to_string()];
        let parts = Parts {
            name: "test".into(),
            authentication: authentication::Config::default(),
            authorization: vec![crate::authorization::Wanted::AlwaysAllow],
            issuer: None,
            addresses: Addresses {
                default: "127.0.0.1:1".into(),
                rules: Vec::new(),
            },
            backends: Backends::load(files, types, &seams).unwrap(),
            services: crate::allocation::Settings::default(),
            build: Build::default(),
            goaway_chance: 0.0,
            compaction_interval: crate::storage::compaction::INTERVAL,
            encryption: None,
            seats: 600,
            memory_limit: 0,
            audit: None,
            more_metrics: |_| (),
        };
        let api = Api::start(Arc::new(store), parts, &seams, &tasks);
        Self {
            api,
            tasks,
            port,
            _pki: pki,
        }
    }

    /// Sends a request on a connection of its own, through the handler.
    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let api = self.api.clone();
        let service = service_fn(move |request| {
            let api = api.clone();
            async move {
                let peer = Peer {
                    address: "192.0.2.1:5".parse().unwrap(),
                    certificates: Vec::new(),
                    user: None,
                    leave: tokio::sync::Notify::new(),
                };
                Ok::<_, std::convert::Infallible>(handler::handle(&api, &peer, request).await)
            }
        });
        self.tasks.spawn("server", async move {
            let connection = server::Builder::new().serve_connection(TokioIo::new(theirs), service);
            let _ = connection.with_upgrades().await;
        });
        let (mut sender, connection) = client::handshake(TokioIo::new(ours)).await.unwrap();
        self.tasks.spawn("client", async move {
            let _ = connection.with_upgrades().await;
        });
        let sent = timeout(Duration::from_secs(20), sender.send_request(request));
        sent.await.expect("an answer in time").unwrap()
    }

    async fn get(&self, uri: &str) -> (u16, HeaderMap, String) {
        let request = Request::get(uri)
            .header("host", "proxy:1")
            .body(Full::default());
        read(self.send(request.unwrap()).await).await
    }

    /// What the Status of a failure says.
    async fn refusal(&self, uri: &str) -> String {
        let (code, _, text) = self.get(uri).await;
        let doc = api::codec::json::parse(text.into_bytes()).unwrap();
        let reason = doc.root().text(&["reason"]);
        format!("{code} {reason}: {}", doc.root().text(&["message"]))
    }

    async fn upgrade(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(HeaderMap, TokioIo<Upgraded>), (u16, HeaderMap, String)> {
        let mut request = Request::builder().method(method).uri(uri);
        request = request
            .header("host", "proxy:1")
            .header("connection", "Upgrade");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(Full::default()).unwrap()).await;
        if response.status() != 101 {
            return Err(read(response).await);
        }
        let headers = response.headers().clone();
        Ok((
            headers,
            TokioIo::new(hyper::upgrade::on(response).await.unwrap()),
        ))
    }
}

async fn read(response: Response<Incoming>) -> (u16, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = timeout(Duration::from_secs(20), body.collect()).await;
    let body = body.expect("a body in time").unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    (head.status.as_u16(), head.headers, text)
}

const PODS: &str = "/api/v1/namespaces/n/pods";
const SPDY: (&str, &str) = ("upgrade", "SPDY/3.1");

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let world = World::new().await;
    let (code, headers, text) = world
        .get(&format!("{PODS}/one/log?tailLines=3&timestamps=1"))
        .await;
    assert_eq!(
        (code, &*text),
        (200, "/containerLogs/n/one/c?tailLines=3&timestamps=true\n")
    );
    assert_eq!(headers["content-type"], "text/plain");
    let insecure = format!("{PODS}/p/log?container=a&insecureSkipTLSVerifyBackend=true");
    assert_eq!(world.get(&insecure).await.2, "/containerLogs/n/p/a?\n");
    let (code, _, text) = world.get(&format!("{PODS}/waiting/log")).await;
    assert_eq!((code, &*text), (204, ""));
    for (uri, want) in [
        (
            "p/log",
            "400 BadRequest: a container name must be specified for pod p, choose one of: [a broken]",
        ),
        (
            "p/log?container=x",
            "400 BadRequest: container x is not valid for pod p",
        ),
        (
            "p/log?container=broken",
            "404 NotFound: the server could not find the requested resource ( pods/log p)",
        ),
        ("none/log", "404 NotFound: pods \"none\" not found"),
        ("lost/log", "404 NotFound: nodes \"gone\" not found"),
        (
            "one/log?limitBytes=0",
            "422 Invalid: PodLogOptions \"one\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
        ),
    ] {
        assert_eq!(world.refusal(&format!("{PODS}/{uri}")).await, want, "{uri}");
    }
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn followed_logs_arrive_as_they_come_and_end_with_the_server() {
    let world = World::new().await;
    let request = Request::get(format!("{PODS}/one/log?follow=true")).body(Full::default());
    let response = world.send(request.unwrap()).await;
    let mut body = response.into_body();
    let first = timeout(Duration::from_secs(20), body.frame())
        .await
        .unwrap();
    assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "first\n");
    let tasks = world.tasks.clone();
    let ended = timeout(Duration::from_secs(5), async {
        let (_, end) = tokio::join!(tasks.shutdown(), body.frame());
        end.is_none_or(|end| end.is_err())
    });
    assert!(ended.await.unwrap());
}

#[tokio::test]
async fn proxies_reach_nodes_pods_and_services() {
    let world = World::new().await;
    let port = world.port;
    let (code, _, text) = world.get("/api/v1/nodes/m/proxy/pods/?a=b").await;
    let want = "GET /pods/?a=b uri=/api/v1/nodes/m/proxy/pods/ for=192.0.2.1 auth=- te=- ";
    assert_eq!((code, &*text), (200, want));
    for (uri, path) in [
        (format!("{PODS}/one/proxy/x%20y/../z"), "/z"),
        (format!("{PODS}/http:one:{port}/proxy/"), "/"),
        ("/api/v1/namespaces/n/services/s:web/proxy/q".into(), "/q"),
        ("/api/v1/namespaces/n/services/s:80/proxy/q".into(), "/q"),
    ] {
        let (code, _, text) = world.get(&uri).await;
        assert_eq!(code, 200, "{uri}: {text}");
        assert!(text.starts_with(&format!("GET {path}? ")), "{uri}: {text}");
    }
    let request = Request::put(format!("{PODS}/one/proxy/put"))
        .header("authorization", "Bearer secret")
        .header("x-forwarded-for", "198.51.100.7")
        .header("keep-alive", "5")
        .body(Full::from("content"));
    let (_, _, text) = read(world.send(request.unwrap()).await).await;
    let uri = format!("{PODS}/one/proxy/put");
    let want = format!("PUT /put? uri={uri} for=198.51.100.7, 192.0.2.1 auth=- te=- content");
    // A token that nobody knows counts for nothing where anybody may do anything.
    assert_eq!(text, want);
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn links_and_redirects_lead_through_the_proxy() {
    let world = World::new().await;
    let base = format!("{PODS}/one/proxy");
    let (code, headers, _) = world.get(&format!("{base}?x=y")).await;
    assert_eq!(code, 301);
    assert_eq!(headers["location"], format!("{base}/?x=y"));
    let (code, headers, _) = world.get(&format!("{base}/redirect")).await;
    assert_eq!(code, 302);
    assert_eq!(headers["location"], format!("{base}/elsewhere?a=b"));
    let (_, headers, text) = world.get(&format!("{base}/html")).await;
    assert_eq!(text, format!(r#"<a href="{base}/x">y</a>"#));
    assert!(!headers.contains_key("access-control-allow-origin"));
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn proxies_refuse() {
    let world = World::new().await;
    let services = "/api/v1/namespaces/n/services";
    for (uri, want) in [
        (
            format!("{PODS}/p:80/proxy/"),
            "400 BadRequest: address not allowed",
        ),
        (
            format!("{PODS}/ftp:p:80/proxy/"),
            "400 BadRequest: invalid pod request \"ftp:p:80\"",
        ),
        (
            format!("{services}/s:81/proxy/"),
            "503 ServiceUnavailable: no service port 81 found for service \"s\"",
        ),
        (
            format!("{services}/s/proxy/"),
            "503 ServiceUnavailable: no endpoints available for service \"s\"",
        ),
        (
            format!("{services}/t/proxy/"),
            "404 NotFound: services \"t\" not found",
        ),
    ] {
        assert_eq!(world.refusal(&uri).await, want, "{uri}");
    }
    let unreachable = world.refusal(&format!("{PODS}/one:1/proxy/")).await;
    let want = "503 ServiceUnavailable: error trying to reach service: dial tcp 10.0.0.9:1: ";
    assert!(unreachable.starts_with(want), "{unreachable}");
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn connections_become_what_the_kubelet_says() {
    let world = World::new().await;
    let exec = format!("{PODS}/one/exec?command=ls&command=-l&stdin=1&stdout=true&stderr=0");
    let headers = [SPDY, ("x-stream-protocol-version", "v4.channel.k8s.io")];
    let (headers, mut stream) = world.upgrade("POST", &exec, &headers).await.unwrap();
    assert_eq!(headers["upgrade"], "SPDY/3.1");
    assert_eq!(headers["x-stream-protocol-version"], "v4.channel.k8s.io");
    stream.write_all(b"echo.").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    let want = "POST /exec/n/one/c?command=ls&command=-l&input=1&output=1\necho";
    assert_eq!(all, want);

    let forward = format!("{PODS}/one/portforward?ports=80,81");
    let (_, mut stream) = world.upgrade("POST", &forward, &[SPDY]).await.unwrap();
    stream.write_all(b".").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "POST /portForward/n/one?port=80%2C81\n");

    let proxied = format!("{PODS}/one/proxy/socket");
    let (_, mut stream) = world.upgrade("GET", &proxied, &[SPDY]).await.unwrap();
    stream.write_all(b"x.").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "GET /socket?\nx");

    let refused = format!("{PODS}/one/proxy/refuse");
    let (code, _, text) = world.upgrade("GET", &refused, &[SPDY]).await.unwrap_err();
    assert_eq!((code, &*text), (403, "not here"));
    for (uri, want) in [
        ("one/attach", "400 BadRequest: Upgrade request required"),
        (
            "waiting/exec",
            "400 BadRequest: pod waiting does not have a host assigned",
        ),
        (
            "one/exec?dryRun=All",
            "400 BadRequest: dryRun is not supported",
        ),
        (
            "one/portforward?ports=x",
            "400 BadRequest: cannot convert to []int32: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ] {
        assert_eq!(world.refusal(&format!("{PODS}/{uri}")).await, want, "{uri}");
    }
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn connections_end_with_the_server() {
    let world = World::new().await;
    let exec = format!("{PODS}/one/exec?command=ls");
    let (_, mut stream) = world.upgrade("POST", &exec, &[SPDY]).await.unwrap();
    let tasks = world.tasks.clone();
    let mut all = Vec::new();
    let ended = async {
        let (_, _) = tokio::join!(tasks.shutdown(), stream.read_to_end(&mut all));
    };
    timeout(Duration::from_secs(5), ended).await.unwrap();
}

const WEBSOCKET: [(&str, &str); 3] = [
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The headers of a WebSocket with a subprotocol.
fn websocket(protocol: &'static str) -> Vec<(&'static str, &'static str)> {
    let protocol = [("sec-websocket-protocol", protocol)];
    [&WEBSOCKET[..], &protocol].concat()
}

/// A short message of a client.
fn message(data: &[u8]) -> Vec<u8> {
    let length = 0x80 | u8::try_from(data.len()).unwrap();
    [&[0x82, length, 0, 0, 0, 0], data].concat()
}

/// The next message of the server; none for a goodbye.
async fn received(stream: &mut TokioIo<Upgraded>) -> Option<Vec<u8>> {
    let reading = async {
        let opcode = stream.read_u8().await.unwrap();
        let length = match stream.read_u8().await.unwrap() {
            126 => stream.read_u16().await.unwrap().into(),
            127 => stream.read_u64().await.unwrap(),
            short => short.into(),
        };
        let mut data = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut data).await.unwrap();
        (opcode != 0x88).then_some(data)
    };
    timeout(Duration::from_secs(20), reading)
        .await
        .expect("a message in time")
}

#[tokio::test]
async fn websockets_are_translated_for_kubelets_without() {
    let world = World::new().await;
    let exec = format!("{PODS}/one/exec?command=spdy&stdin=1&stdout=1&stderr=1");
    let (headers, mut stream) = world
        .upgrade(
            "GET",
            &exec,
            &websocket("x, v5.channel.k8s.io, v4.channel.k8s.io"),
        )
        .await
        .unwrap();
    assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01");
    let opened =
        b"\x02POST /exec/n/one/c?command=spdy&error=1&input=1&output=1\nerror stdin stdout stderr";
    assert_eq!(received(&mut stream).await.unwrap(), opened);
    stream.write_all(&message(b"\0hello")).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01hello");
    // The end of the input, which only this version can tell.
    stream.write_all(&message(b"\xff\0")).await.unwrap();
    let told = received(&mut stream).await.unwrap();
    let want = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 5","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"5"}]}}"#;
    assert_eq!(String::from_utf8(told[1..].to_vec()).unwrap(), want);
    assert_eq!(told[0], 3);
    assert_eq!(received(&mut stream).await, None);
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn terminals_have_a_size_and_one_output() {
    let world = World::new().await;
    let attach = format!("{PODS}/one/exec?command=spdy&stdin=1&stdout=1&stderr=1&tty=1");
    let protocol = websocket("v5.channel.k8s.io");
    let (_, mut stream) = world.upgrade("GET", &attach, &protocol).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01");
    let opened = received(&mut stream).await.unwrap();
    assert!(opened.ends_with(b"error stdin stdout resize") && opened[0] == 1);
    stream
        .write_all(&message(b"\x04{\"Width\":1}"))
        .await
        .unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01{\"Width\":1}");
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn much_output_waits_for_the_client() {
    let world = World::new().await;
    let exec = format!("{PODS}/one/exec?command=spdy&command=much&stdin=1&stdout=1");
    let protocol = websocket("v5.channel.k8s.io");
    let (_, mut stream) = world.upgrade("GET", &exec, &protocol).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01");
    received(&mut stream).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut total = 0;
    while total < spdy::MUCH {
        let piece = received(&mut stream).await.unwrap();
        assert_eq!(piece[0], 1);
        assert!(piece[1..].iter().all(|byte| *byte == b'm'));
        total += piece.len() - 1;
    }
    assert_eq!(total, spdy::MUCH);
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn what_kubelets_refuse_is_told_on_the_error_channel() {
    let world = World::new().await;
    let exec = format!("{PODS}/p/exec?container=refuse&stdout=1");
    let protocol = websocket("v5.channel.k8s.io");
    let (code, _, text) = world.upgrade("GET", &exec, &protocol).await.unwrap_err();
    assert_eq!(code, 400, "{text}");
    let exec = format!("{PODS}/refuse/exec?stdout=1");
    let (_, mut stream) = world.upgrade("GET", &exec, &protocol).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"\x01");
    let told = received(&mut stream).await.unwrap();
    let status = api::codec::json::parse(told[1..].to_vec()).unwrap();
    let want = "Internal error occurred: unable to upgrade connection: not here";
    assert_eq!(status.root().text(&["message"]), want);
    assert_eq!(received(&mut stream).await, None);
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn kubelets_that_take_websockets_get_them() {
    let world = World::with_features(r#""ExtendWebSocketsToKubelet""#).await;
    for (protocol, uri, want) in [
        (
            "v5.channel.k8s.io",
            "exec?command=a",
            "GET /exec/n/one/c?command=a\nx",
        ),
        (
            "SPDY/3.1+portforward.k8s.io",
            "portforward",
            "GET /portForward/n/one?\nx",
        ),
    ] {
        let uri = format!("{PODS}/one/{uri}");
        let (headers, mut stream) = world
            .upgrade("GET", &uri, &websocket(protocol))
            .await
            .unwrap();
        assert_eq!(headers["sec-websocket-protocol"], protocol);
        stream.write_all(b"x.").await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, want);
    }
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn old_websockets_are_left_to_the_kubelet() {
    let world = World::new().await;
    let uri = format!("{PODS}/one/exec?command=a");
    let protocol = websocket("v4.channel.k8s.io");
    let (_, mut stream) = world.upgrade("GET", &uri, &protocol).await.unwrap();
    stream.write_all(b".").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "GET /exec/n/one/c?command=a\n");
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn ports_are_forwarded_through_tunnels() {
    let world = World::new().await;
    let uri = format!("{PODS}/one/portforward");
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let (headers, mut stream) = world
        .upgrade("GET", &uri, &websocket(protocol))
        .await
        .unwrap();
    assert_eq!(headers["sec-websocket-protocol"], protocol);
    let greeting = received(&mut stream).await.unwrap();
    assert_eq!(greeting, b"POST /portForward/n/one?\n");
    stream.write_all(&message(b"a")).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"a");
    stream.write_all(&message(b".")).await.unwrap();
    assert_eq!(received(&mut stream).await, None);

    let refused = format!("{PODS}/refuse/portforward");
    let protocol = websocket(protocol);
    let (code, _, text) = world.upgrade("GET", &refused, &protocol).await.unwrap_err();
    assert_eq!((code, &*text), (403, "not here"));
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn browsers_read_logs_from_websockets() {
    let world = World::new().await;
    let uri = format!("{PODS}/one/log?follow=true");
    let (_, mut stream) = world.upgrade("GET", &uri, &WEBSOCKET).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"");
    assert_eq!(received(&mut stream).await.unwrap(), b"first\n");
    let uri = format!("{PODS}/one/log");
    let protocol = websocket("base64.binary.k8s.io");
    let (_, mut stream) = world.upgrade("GET", &uri, &protocol).await.unwrap();
    assert_eq!(received(&mut stream).await.unwrap(), b"");
    let line = received(&mut stream).await.unwrap();
    assert_eq!(line, b"L2NvbnRhaW5lckxvZ3Mvbi9vbmUvYz8K");
    assert_eq!(received(&mut stream).await, None);
    world.tasks.shutdown().await;
}
