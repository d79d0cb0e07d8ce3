//! A real API server for tests of this crate, and ways to it that fail as they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::testing::{PATIENCE, Server};
use apiserver::user::{MASTERS, User};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};

use crate::transport::{Access, ResponseBody, Transport, transport};

/// Requests of somebody who may do everything.
pub(crate) fn admin(server: &Server) -> Transport {
    transport(server.service(User::new("admin", &[MASTERS])))
}

/// A client of somebody who may do everything.
pub(crate) fn client(server: &Server) -> kube::Client {
    kube::Client::new(admin(server), "default")
}

/// A way to one of several servers.
#[derive(Clone)]
pub(crate) struct Switch {
    inner: Arc<Inner>,
}

struct Inner {
    ways: Vec<Transport>,
    at: AtomicUsize,
    asked: Mutex<Vec<String>>,
    refusal: Mutex<Option<u16>>,
    /// What is open breaks off when this changes.
    cut: watch::Sender<u64>,
    stalled: watch::Sender<bool>,
}

impl Switch {
    pub(crate) fn new(ways: Vec<Transport>) -> Self {
        Self {
            inner: Arc::new(Inner {
                ways,
                at: AtomicUsize::new(0),
                asked: Mutex::default(),
                refusal: Mutex::default(),
                cut: watch::Sender::new(0),
                stalled: watch::Sender::new(false),
            }),
        }
    }

    pub(crate) fn access(&self) -> Access {
        let this = self.clone();
        Access::new("test", move |_| transport(this.clone()))
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(transport(self.clone()), "default")
    }

    /// Goes to another server; what is open breaks off.
    pub(crate) fn turn(&self, at: usize) {
        self.inner.at.store(at, Ordering::SeqCst);
        self.inner.cut.send_modify(|cut| *cut += 1);
    }

    /// What is open breaks off, and the next request is refused.
    pub(crate) fn refuse_next(&self, code: u16) {
        *self.inner.refusal.lock().unwrap() = Some(code);
        self.inner.cut.send_modify(|cut| *cut += 1);
    }

    /// Nothing passes, in either direction, as long as it is stalled.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.inner.stalled.send_replace(is_stalled);
    }

    /// What was asked for since this was called last.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.asked.lock().unwrap())
    }
}

impl Service<Request<Body>> for Switch {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let flows = async |stalled: &watch::Sender<bool>| {
                let _ = stalled.subscribe().wait_for(|is| !is).await;
            };
            flows(&inner.stalled).await;
            let asked = format!("{} {}", request.method(), request.uri());
            inner.asked.lock().unwrap().push(asked);
            let refusal = inner.refusal.lock().unwrap().take();
            if let Some(code) = refusal {
                let status = serde_json::json!({"kind": "Status", "code": code, "message": "told"});
                let body = http_body_util::Full::from(status.to_string());
                let body = body.map_err(|never| match never {}).boxed_unsync();
                return Ok(Response::builder().status(code).body(body)?);
            }
            let mut cut = inner.cut.subscribe();
            let mut way = inner.ways[inner.at.load(Ordering::SeqCst)].clone();
            let response = tokio::select! {
                response = way.call(request) => response?,
                _ = cut.changed() => return Err("cut".into()),
            };
            flows(&inner.stalled).await;
            Ok(response.map(|body| {
                let pieces = futures::stream::unfold(Some((body, cut)), move |state| {
                    let stalled = inner.stalled.subscribe();
                    async move {
                        let (mut body, mut cut) = state?;
                        let frame = tokio::select! {
                            biased;
                            _ = cut.changed() => return Some((Err("cut".into()), None)),
                            frame = body.frame() => frame?,
                        };
                        let _ = stalled.clone().wait_for(|is| !is).await;
                        Some((frame, Some((body, cut))))
                    }
                });
                StreamBody::new(pieces).boxed_unsync()
            }))
        })
    }
}

/// Waits for something to come about, and yields it.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
