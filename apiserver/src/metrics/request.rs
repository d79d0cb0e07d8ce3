//! One request: counted from its start until its response is sent or given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::codec::Encoding;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::family::Gauge;
use crate::audit::event::{Event, RESPONSE_BYTES_MAX, media};
use crate::audit::policy::Stage;
use crate::body::{Body, StreamError};
use crate::flow::Permit;
use crate::instance::Api;
use crate::registry::Row;
use crate::request::{Query, RequestInfo};
use crate::respond::Reply;
use crate::stall;

/// The server's name in labels.
const COMPONENT: &str = "apiserver";

/// What labels say of a request. Nothing in it comes from the client as it is, so that nobody can
/// make series without end.
#[derive(Clone)]
struct Labels {
    verb: &'static str,
    dry_run: &'static str,
    row: Option<Arc<Row>>,
    subresource: &'static str,
    scope: &'static str,
}

impl Labels {
    fn of(api: &Api, parts: &Parts, query: &Query, info: &RequestInfo) -> Self {
        let row = api.registry.get(&info.group, &info.version, &info.resource);
        let subresource = row.and_then(|row| row.subresource(&info.subresource));
        Self {
            verb: verb(parts, info),
            dry_run: match query.text("dryRun") {
                "All" => "All",
                _ => "",
            },
            row: row.cloned(),
            subresource: subresource.map_or("", |subresource| subresource.name),
            scope: scope(info),
        }
    }

    fn gvr(&self) -> [&str; 3] {
        match &self.row {
            Some(row) => [row.resource.group, row.resource.version, row.resource.name],
            None => [""; 3],
        }
    }

    /// All of them, in the order of `REQUEST_AND_CODE`.
    fn all<'s>(&'s self, code: &'s str) -> [&'s str; 9] {
        let [verb, rest @ ..] = self.ended(code);
        let mut all = [""; 9];
        (all[0], all[1]) = (verb, self.dry_run);
        all[2..].copy_from_slice(&rest);
        all
    }

    /// Those without the dry run, in the order of `ENDED_REQUEST`.
    fn ended<'s>(&'s self, code: &'s str) -> [&'s str; 8] {
        let [group, version, resource] = self.gvr();
        let (verb, subresource, scope) = (self.verb, self.subresource, self.scope);
        [
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
            COMPONENT,
            code,
        ]
    }
}

fn verb(parts: &Parts, info: &RequestInfo) -> &'static str {
    if info.is_handed_on() {
        return "CONNECT";
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    let applies =
        content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"));
    match &*info.verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if applies => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, &*info.name, &*info.namespace) {
        (false, ..) => "",
        (true, "", "") if info.verb != "create" => "cluster",
        (true, "", _) if info.verb != "create" => "namespace",
        _ => "resource",
    }
}

/// Whether a verb changes something.
pub fn is_mutating(info: &RequestInfo) -> bool {
    !matches!(&*info.verb, "get" | "list" | "watch" | "head")
}

/// What is recorded of a response that is sent in pieces.
struct Copy {
    media: Encoding,
    /// None if it is too long.
    bytes: Option<Vec<u8>>,
}

impl Copy {
    fn add(&mut self, piece: &[u8]) {
        if let Some(bytes) = &mut self.bytes {
            bytes.extend_from_slice(piece);
        }
        self.bytes = self
            .bytes
            .take()
            .filter(|bytes| bytes.len() <= RESPONSE_BYTES_MAX);
    }
}

/// A request that runs; counted when it is dropped.
pub struct Running {
    api: Arc<Api>,
    labels: Labels,
    began: Instant,
    is_long_running: bool,
    gauge: Arc<Gauge>,
    /// The status of the response; 0 until there is one.
    code: u16,
    bytes: u64,
    /// The response was sent to its end.
    is_whole: bool,
    audit: Option<Box<Event>>,
    permit: Option<Permit>,
    copy: Option<Copy>,
}

impl Running {
    /// A request that begins.
    pub fn start(api: &Arc<Api>, parts: &Parts, query: &Query, info: &RequestInfo) -> Self {
        let labels = Labels::of(api, parts, query, info);
        let is_long_running = info.is_long_running();
        let metrics = &api.metrics;
        let gauge = match (is_long_running, is_mutating(info)) {
            (true, _) => metrics.long_running.of(&labels.ended("")[..7]),
            (false, true) => metrics.in_flight.of(&["mutating"]),
            (false, false) => metrics.in_flight.of(&["readOnly"]),
        };
        gauge.add(1);
        Self {
            api: api.clone(),
            labels,
            began: api.seams.clock.now(),
            is_long_running,
            gauge,
            code: 0,
            bytes: 0,
            is_whole: false,
            audit: None,
            permit: None,
            copy: None,
        }
    }

    /// It holds its seats until its response is sent, or, if that may take any time, until it begins.
    pub fn permitted(&mut self, permit: Option<Permit>) {
        self.permit = permit.filter(|_| !self.is_long_running);
    }

    /// It is recorded, now that its response begins.
    pub fn audited(&mut self, event: Option<Box<Event>>, reply: &Reply) {
        let Some(mut event) = event else { return };
        event.answers(reply);
        if self.is_long_running {
            event.record(Stage::ResponseStarted);
        } else if event.wants_response() && matches!(reply.body(), Body::Pieces(_)) {
            self.copy = Some(Copy {
                media: media(reply.headers()),
                bytes: Some(Vec::new()),
            });
        }
        self.audit = Some(event);
    }

    fn end_audit(&mut self) {
        let Some(mut event) = self.audit.take() else {
            return;
        };
        if let Some(copy) = &self.copy {
            event.answered_in_pieces(copy.media, copy.bytes.as_deref());
        }
        event.record(Stage::ResponseComplete);
    }

    /// The request was refused so that the server stays well.
    pub fn terminated(&self, code: &str) {
        let terminations = &self.api.metrics.terminations;
        terminations.of(&self.labels.ended(code)).inc();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_audit();
        self.gauge.add(-1);
        let metrics = &self.api.metrics;
        let took = self.began.elapsed().as_secs_f64();
        let mut digits = [0; 3];
        let code = text_of(self.code, &mut digits);
        let (all, ended) = (self.labels.all(code), self.labels.ended(code));
        let (plain, aborted) = (&ended[..7], &ended[..6]);
        metrics.requests.of(&all).inc();
        metrics.durations.of(&all[..8]).observe(took);
        if !self.is_long_running {
            metrics.sli_durations.of(plain).observe(took);
        }
        if matches!(self.labels.verb, "GET" | "LIST") {
            let sizes = metrics.response_sizes.of(plain);
            sizes.observe(self.bytes as f64);
        }
        if !self.is_whole && !self.is_long_running {
            metrics.aborts.of(aborted).inc();
        }
    }
}

/// A status code as text, without an allocation.
fn text_of(code: u16, digits: &mut [u8; 3]) -> &str {
    for (at, place) in [100, 10, 1].into_iter().enumerate() {
        digits[at] = b'0' + (code / place % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

/// A response's body that knows what it belongs to.
pub struct Tracked {
    body: Body,
    running: Running,
}

impl Tracked {
    /// The body of the response to a request.
    pub fn new(body: Body, code: u16, mut running: Running) -> Self {
        running.code = code;
        running.is_whole = body.is_end_stream();
        Self { body, running }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        stall::polled(&polled);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.running.bytes += bytes as u64;
                if let (Some(copy), Some(data)) = (&mut this.running.copy, frame.data_ref()) {
                    copy.add(data);
                }
                this.running.is_whole |= this.body.is_end_stream();
            }
            Poll::Ready(None) => this.running.is_whole = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
