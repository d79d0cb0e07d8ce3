//! What requests cost, in a process of their own: for a profiler, and for whoever compares.
//!
//! ```sh
//! COST=create N=2000 cargo test -p apiserver --lib cost::requests -- --ignored --nocapture
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use seams::{Disk, RealDisk};
use tokio::time::Instant;

use crate::bootstrap;
use crate::endpoints::resource::{self, Incoming};
use crate::request::{Query, RequestInfo};
use crate::testing::Server;

const PODS: &str = "/api/v1/namespaces/cost/pods";

/// A pod of 3.5 kB, as the load generator makes them.
fn pod(name: &str) -> String {
    let env = (0..22).map(|n| {
        format!(r#"{{"name":"VARIABLE_NUMBER_{n}","value":"the value of the variable of number {n}, some text"}}"#)
    });
    let env = env.collect::<Vec<_>>().join(",");
    format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","labels":{{"app":"bench","pod-template-hash":"6d4cf56db6","role":"worker"}},"annotations":{{"example.com/some-annotation":"a value of some length that says little"}}}},"spec":{{"containers":[{{"name":"main","image":"registry.example.com/team/application:v1.2.3","args":["--port=8080","--log-level=info"],"ports":[{{"name":"http","containerPort":8080}}],"env":[{env}],"resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}},"limits":{{"cpu":"1","memory":"256Mi"}}}},"livenessProbe":{{"httpGet":{{"path":"/healthz","port":8080}}}},"readinessProbe":{{"httpGet":{{"path":"/readyz","port":"http"}}}},"volumeMounts":[{{"name":"config","mountPath":"/etc/config"}}]}}],"volumes":[{{"name":"config","configMap":{{"name":"settings"}}}}],"nodeSelector":{{"kubernetes.io/os":"linux"}}}}}}"#
    )
}

fn env(name: &str, default: usize) -> usize {
    let value = std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}

async fn fill(server: &Server, count: usize) {
    for n in 0..count {
        server.create(PODS, &pod(&format!("p{n}"))).await.ok();
    }
}

/// Processor time of this thread.
fn spent() -> Duration {
    let text = RealDisk.read(Path::new("/proc/thread-self/schedstat"));
    let text = String::from_utf8(text.unwrap()).unwrap();
    let nanos = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

struct Clock(Duration, Instant);

impl Clock {
    fn start() -> Self {
        Self(spent(), Instant::now())
    }

    fn stop(self, what: &str, count: usize) {
        let (cpu, wall) = (spent() - self.0, self.1.elapsed());
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        println!(
            "{what}: {count} times, {:.1} us of processor and {:.1} us each",
            each(cpu),
            each(wall)
        );
    }
}

async fn watch(server: &Server) -> crate::body::Body {
    let query = Query::parse("watch=1");
    let incoming = Incoming {
        info: &RequestInfo::new(&Method::GET, PODS, &query),
        query: &query,
        headers: &HeaderMap::new(),
        user: &bootstrap::myself(),
        body: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(60),
    };
    resource::answer(&server.api, incoming).await.into_body()
}

#[test]
#[ignore = "measures"]
fn requests() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let what = std::env::var("COST").unwrap_or_else(|_| "create".to_string());
    let count = env("N", 1000);
    runtime.block_on(async {
        let server = Server::start().await;
        server.namespace("cost").await;
        match &*what {
            "create" => {
                fill(&server, 20).await;
                let bodies: Vec<_> = (0..count).map(|n| pod(&format!("c{n}"))).collect();
                let clock = Clock::start();
                for body in &bodies {
                    server.create(PODS, body).await.ok();
                }
                clock.stop("create", count);
            }
            "patch" | "status" => {
                fill(&server, 20).await;
                let part = if what == "status" { "/status" } else { "" };
                let clock = Clock::start();
                for n in 0..count {
                    let path = format!("{PODS}/p{}{part}", n % 20);
                    let body = match part {
                        "" => format!(r#"{{"metadata":{{"labels":{{"round":"r{n}"}}}}}}"#),
                        _ => format!(r#"{{"status":{{"phase":"Running","message":"r{n}"}}}}"#),
                    };
                    server.ask("PATCH", &path, &body).await.ok();
                }
                clock.stop(&what, count);
            }
            "get" => {
                fill(&server, 20).await;
                let clock = Clock::start();
                for n in 0..count {
                    let path = format!("{PODS}/p{}", n % 20);
                    server.ask("GET", &path, "").await.ok();
                }
                clock.stop("get", count);
            }
            "list" => {
                fill(&server, 1000).await;
                let clock = Clock::start();
                for _ in 0..count {
                    let (_, body) = server
                        .send(&bootstrap::myself(), "GET", PODS, &[], b"")
                        .await;
                    assert!(body.len() > 3_000_000);
                }
                clock.stop("list of 1000", count);
            }
            "watch" => {
                let watchers = env("WATCHERS", 100);
                let mut bodies = Vec::new();
                for _ in 0..watchers {
                    bodies.push(watch(&server).await);
                }
                let received = Arc::new(std::sync::atomic::AtomicUsize::new(0));
                for mut body in bodies {
                    let received = received.clone();
                    server.tasks.spawn("watcher", async move {
                        while let Some(Ok(frame)) = body.frame().await {
                            let data = frame.into_data().unwrap();
                            let events = data.iter().filter(|byte| **byte == b'\n').count();
                            received.fetch_add(events, std::sync::atomic::Ordering::Relaxed);
                        }
                    });
                }
                let clock = Clock::start();
                fill(&server, count).await;
                while received.load(std::sync::atomic::Ordering::Relaxed) < count * watchers {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                clock.stop("delivered events with their creation", count * watchers);
            }
            other => panic!("COST={other}"),
        }
    });
}
