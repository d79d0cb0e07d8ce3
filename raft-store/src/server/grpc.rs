//! gRPC on HTTP: the methods, the framing of unary calls, and the bodies of answers.
//!
//! Unary calls are framed here rather than by tonic, because they are nearly all of the load: the
//! request is decoded from the very buffer that it arrived in (keys and values are slices of it),
//! the answer is encoded once into a buffer of its size, and nothing is boxed on the way. Streams
//! go through tonic.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::listing::Listing;
use crate::metrics::{CallKind, GrpcMetrics, MethodName};
use crate::pb::etcdserverpb::RangeResponse;

/// Flag byte and length of a message.
pub(super) const PREFIX_BYTES: usize = 5;
/// One call: of which method, since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) method: Method,
    begun: Instant,
    /// What the client waits for at most.
    pub(super) deadline: Option<Instant>,
}

impl Call {
    /// A call that begins now; counts it.
    pub(super) fn begin(method: Method, headers: &HeaderMap, metrics: &GrpcMetrics) -> Call {
        let begun = Instant::now();
        metrics.start(method as usize);
        let version = headers.get(API_VERSION).map(HeaderValue::as_bytes);
        metrics.called_by(version, METHOD_NAMES[method as usize].kind);
        let patience = headers.get(TIMEOUT).and_then(timeout_of);
        Call {
            method,
            begun,
            deadline: patience.and_then(|patience| begun.checked_add(patience)),
        }
    }

    fn finish(&self, code: Code, metrics: &GrpcMetrics) {
        metrics.finish(self.method as usize, code, self.begun.elapsed());
    }
}

/// The header by which clients say how long they wait.
const TIMEOUT: &str = "grpc-timeout";
/// The header by which etcd's clients say which version they are.
const API_VERSION: &str = "client-api-version";

/// Up to eight digits and a unit.
fn timeout_of(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What etcd allows a message to exceed the request limit by, for the envelope.
const ENVELOPE_BYTES: usize = 512 << 10;

macro_rules! methods {
    ($($variant:ident $service:literal $method:literal $kind:ident;)*) => {
        /// Every method that is served.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Method { $($variant),* }

        /// The methods' names, in the order of [`Method`].
        pub(super) const METHOD_NAMES: &[MethodName] = &[$(MethodName {
            service: $service,
            method: $method,
            kind: CallKind::$kind,
        }),*];

        impl Method {
            /// The method behind a request path.
            pub(super) fn of(path: &str) -> Option<Method> {
                match path {
                    $(concat!("/", $service, "/", $method) => Some(Method::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    Range "etcdserverpb.KV" "Range" Unary;
    RangeStream "etcdserverpb.KV" "RangeStream" ServerStream;
    Put "etcdserverpb.KV" "Put" Unary;
    DeleteRange "etcdserverpb.KV" "DeleteRange" Unary;
    Txn "etcdserverpb.KV" "Txn" Unary;
    Compact "etcdserverpb.KV" "Compact" Unary;
    Watch "etcdserverpb.Watch" "Watch" BidiStream;
    LeaseGrant "etcdserverpb.Lease" "LeaseGrant" Unary;
    LeaseRevoke "etcdserverpb.Lease" "LeaseRevoke" Unary;
    LeaseKeepAlive "etcdserverpb.Lease" "LeaseKeepAlive" BidiStream;
    LeaseTimeToLive "etcdserverpb.Lease" "LeaseTimeToLive" Unary;
    LeaseLeases "etcdserverpb.Lease" "LeaseLeases" Unary;
    MemberAdd "etcdserverpb.Cluster" "MemberAdd" Unary;
    MemberRemove "etcdserverpb.Cluster" "MemberRemove" Unary;
    MemberUpdate "etcdserverpb.Cluster" "MemberUpdate" Unary;
    MemberList "etcdserverpb.Cluster" "MemberList" Unary;
    MemberPromote "etcdserverpb.Cluster" "MemberPromote" Unary;
    Alarm "etcdserverpb.Maintenance" "Alarm" Unary;
    Status "etcdserverpb.Maintenance" "Status" Unary;
    Defragment "etcdserverpb.Maintenance" "Defragment" Unary;
    Hash "etcdserverpb.Maintenance" "Hash" Unary;
    HashKv "etcdserverpb.Maintenance" "HashKV" Unary;
    Snapshot "etcdserverpb.Maintenance" "Snapshot" ServerStream;
    MoveLeader "etcdserverpb.Maintenance" "MoveLeader" Unary;
    Downgrade "etcdserverpb.Maintenance" "Downgrade" Unary;
    HealthCheck "grpc.health.v1.Health" "Check" Unary;
    HealthWatch "grpc.health.v1.Health" "Watch" ServerStream;
}

/// The largest message accepted when requests may have `max_request_bytes`.
pub(super) fn max_message_bytes(max_request_bytes: usize) -> usize {
    max_request_bytes.saturating_add(ENVELOPE_BYTES)
}

/// Reads the one message of a unary call; yields it with its length in bytes.
pub(super) async fn read_message<M: Message + Default>(
    body: Incoming,
    max_bytes: usize,
    metrics: &GrpcMetrics,
) -> Result<(M, usize), Status> {
    let bytes = read_frame(body, max_bytes).await?;
    let len = bytes.len();
    metrics.received(len + PREFIX_BYTES);
    let message = M::decode(bytes);
    message
        .map(|message| (message, len))
        .map_err(|error| Status::internal(format!("cannot decode the request: {error}")))
}

/// Reads the one length-prefixed message of a body; without a copy if it came in one piece.
async fn read_frame<B>(mut body: B, max_bytes: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut expected = None;
    while let Some(frame) = next_frame(&mut body).await {
        let frame =
            frame.map_err(|error| Status::cancelled(format!("request cut off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // Clients may end the stream with an empty frame: that is no second piece.
        if data.is_empty() {
            continue;
        }
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(expected.unwrap_or(first.len() + data.len()));
                rest.put_slice(&first);
            }
            rest.put_slice(&data);
        }
        let so_far: &[u8] = if rest.is_empty() { &first } else { &rest };
        if expected.is_none() {
            expected = message_len(so_far, max_bytes)?.map(|len| len + PREFIX_BYTES);
        }
        let limit = expected.unwrap_or(PREFIX_BYTES);
        if so_far.len() > limit {
            return Err(Status::internal("more than one message in a unary request"));
        }
    }
    let mut message = if rest.is_empty() {
        first
    } else {
        rest.freeze()
    };
    if expected != Some(message.len()) {
        return Err(Status::internal(
            "the request message is missing or incomplete",
        ));
    }
    message.advance(PREFIX_BYTES);
    Ok(message)
}

async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// The message length that a prefix announces; none while the prefix is incomplete.
fn message_len(mut bytes: &[u8], max_bytes: usize) -> Result<Option<usize>, Status> {
    if bytes.len() < PREFIX_BYTES {
        return Ok(None);
    }
    if bytes.get_u8() != 0 {
        return Err(Status::unimplemented(
            "compressed requests are not supported",
        ));
    }
    let len = bytes.get_u32() as usize;
    if len > max_bytes {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({len} vs. {max_bytes})"
        )));
    }
    Ok(Some(len))
}

/// A message with its length prefix.
fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + len);
    buffer.put_u8(0);
    buffer.put_u32(len as u32);
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// The body of an answer.
pub(super) enum Answer {
    /// A unary call's message, then the trailers of success.
    Message(Option<Bytes>),
    /// A long list of keys, likewise.
    Listing(Listing),
    /// Only trailers are left.
    Trailers,
    /// Nothing (any more): an error is told in the headers alone.
    Empty,
    /// Plain HTTP.
    Text(Option<Bytes>),
    /// A stream made by tonic.
    Stream(Counted),
}

impl Answer {
    /// The answer of a unary call; counts it.
    pub(super) fn unary(
        result: Result<impl Message, Status>,
        call: Call,
        metrics: &GrpcMetrics,
    ) -> Response<Answer> {
        match result {
            Ok(message) => {
                let bytes = frame(&message);
                let len = bytes.len();
                Answer::success(Answer::Message(Some(bytes)), len, call, metrics)
            }
            Err(status) => Answer::error(status, call, metrics),
        }
    }

    /// The answer of a range call, which may be a long list; counts it.
    pub(super) fn range(
        result: Result<RangeResponse, Status>,
        call: Call,
        metrics: &GrpcMetrics,
    ) -> Response<Answer> {
        match result {
            Ok(list) if Listing::is_long(&list) => {
                let listing = Listing::new(list);
                let len = listing.len();
                Answer::success(Answer::Listing(listing), len, call, metrics)
            }
            result => Answer::unary(result, call, metrics),
        }
    }

    fn success(body: Answer, len: usize, call: Call, metrics: &GrpcMetrics) -> Response<Answer> {
        metrics.sent(len);
        call.finish(Code::Ok, metrics);
        let mut response = Response::new(body);
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        response
    }

    /// The answer of a call that failed before it had a message to send; counts it.
    pub(super) fn error(status: Status, call: Call, metrics: &GrpcMetrics) -> Response<Answer> {
        call.finish(status.code(), metrics);
        status
            .into_http::<tonic::body::Body>()
            .map(|_| Answer::Empty)
    }

    /// The answer of a streaming call, from tonic; counts it when it ends.
    pub(super) fn stream(
        response: Response<tonic::body::Body>,
        call: Call,
        metrics: &Arc<GrpcMetrics>,
    ) -> Response<Answer> {
        // A call that failed at once carries its status in the headers.
        let code = response.headers().get("grpc-status").map(code_of);
        let mut counted = Counted {
            body: None,
            call,
            metrics: metrics.clone(),
            code,
        };
        response.map(|body| {
            counted.body = Some(body);
            Answer::Stream(counted)
        })
    }

    /// A plain HTTP answer.
    pub(super) fn text(
        status: StatusCode,
        content_type: &'static str,
        text: impl Into<Bytes>,
    ) -> Response<Answer> {
        let mut response = Response::new(Answer::Text(Some(text.into())));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Answer::Message(bytes) => {
                let data = bytes.take();
                *self = Answer::Trailers;
                Poll::Ready(data.map(|data| Ok(Frame::data(data))))
            }
            Answer::Listing(listing) => {
                let piece = listing.next();
                if listing.is_done() {
                    *self = Answer::Trailers;
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Answer::Trailers => {
                *self = Answer::Empty;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Answer::Empty => Poll::Ready(None),
            Answer::Text(bytes) => Poll::Ready(bytes.take().map(|data| Ok(Frame::data(data)))),
            Answer::Stream(counted) => counted.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Empty | Answer::Text(None) => true,
            Answer::Stream(counted) => counted.body.as_ref().is_none_or(Body::is_end_stream),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Text(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// A stream's body that counts bytes and, when it ends or is dropped, the call.
pub(super) struct Counted {
    body: Option<tonic::body::Body>,
    call: Call,
    metrics: Arc<GrpcMetrics>,
    code: Option<Code>,
}

impl Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.metrics.sent(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.code = Some(trailers.get("grpc-status").map_or(Code::Unknown, code_of));
                }
            }
            Some(Err(status)) => self.code = Some(status.code()),
            None => self.code = self.code.or(Some(Code::Ok)),
        }
        Poll::Ready(frame)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Dropped before it ended: the client went away.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.call.finish(code, &self.metrics);
    }
}

fn code_of(value: &HeaderValue) -> Code {
    Code::from_bytes(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::PutRequest;
    use futures::stream;
    use http_body_util::StreamBody;

    fn body(
        pieces: Vec<Bytes>,
    ) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        StreamBody::new(stream::iter(
            pieces.into_iter().map(|piece| Ok(Frame::data(piece))),
        ))
    }

    fn put() -> PutRequest {
        PutRequest {
            key: "k".into(),
            value: vec![7; 100].into(),
            ..PutRequest::default()
        }
    }

    #[tokio::test]
    async fn a_message_survives_any_cut() {
        let bytes = frame(&put());
        for cut in 0..=bytes.len() {
            let pieces = vec![bytes.slice(..cut), bytes.slice(cut..)];
            let read = read_frame(body(pieces), 1000).await.unwrap();
            assert_eq!(PutRequest::decode(read).unwrap(), put(), "cut at {cut}");
        }
        let single = bytes.chunks(1).map(Bytes::copy_from_slice).collect();
        let read = read_frame(body(single), 1000).await.unwrap();
        assert_eq!(PutRequest::decode(read).unwrap(), put());
    }

    #[tokio::test]
    async fn a_message_in_one_piece_is_not_copied() {
        let bytes = frame(&put());
        let read = read_frame(body(vec![bytes.clone()]), 1000).await.unwrap();
        assert_eq!(read.as_ptr(), bytes[PREFIX_BYTES..].as_ptr());
    }

    #[tokio::test]
    async fn malformed_bodies_are_refused() {
        let bytes = frame(&put());
        let code = async |pieces| read_frame(body(pieces), 50).await.unwrap_err().code();
        assert_eq!(code(vec![bytes.clone()]).await, Code::ResourceExhausted);
        assert_eq!(
            code(vec![Bytes::from_static(&[1, 0, 0, 0, 0])]).await,
            Code::Unimplemented
        );
        assert_eq!(code(vec![]).await, Code::Internal);
        assert_eq!(
            code(vec![Bytes::from_static(&[0, 0, 0, 0, 9, 1])]).await,
            Code::Internal
        );
        assert_eq!(
            code(vec![Bytes::from_static(&[0, 0, 0, 0, 0, 1])]).await,
            Code::Internal
        );
    }

    #[tokio::test]
    async fn an_empty_message_is_a_message() {
        let read = read_frame(body(vec![Bytes::from_static(&[0; 5])]), 50)
            .await
            .unwrap();
        assert!(read.is_empty());
    }

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        let read = |text: &'static str| timeout_of(&HeaderValue::from_static(text));
        assert_eq!(read("4999873u"), Some(Duration::from_micros(4_999_873)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        for bad in ["", "S", "5", "123456789S", "-1S", "+1S", "1s"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_lead_to_their_methods() {
        for (index, name) in METHOD_NAMES.iter().enumerate() {
            let path = format!("/{}/{}", name.service, name.method);
            assert_eq!(Method::of(&path).map(|m| m as usize), Some(index));
        }
        assert_eq!(Method::of("/etcdserverpb.Auth/AuthEnable"), None);
    }
}
