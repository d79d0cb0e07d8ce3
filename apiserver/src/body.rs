//! Bodies: of requests, from a connection or from this process; of responses, bytes that are there, or
//! pieces as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

/// Why a stream of pieces broke off; the connection ends with it.
pub type StreamError = std::io::Error;

/// Whatever went wrong with a request's body.
pub type RequestError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub enum RequestBody {
    /// It comes over a connection.
    Network(Incoming),
    /// It comes from this process.
    Local(UnsyncBoxBody<Bytes, RequestError>),
}

impl RequestBody {
    /// A body from this process.
    pub fn local<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<RequestError>,
    {
        Self::Local(body.map_err(Into::into).boxed_unsync())
    }
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self::Network(body)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        match self.get_mut() {
            Self::Network(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Network(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Network(body) => body.size_hint(),
            Self::Local(body) => body.size_hint(),
        }
    }
}

/// Pieces of a body.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, StreamError>> + Send>>;

/// The body of a response.
pub enum Body {
    /// All of it; none once it is sent.
    Whole(Option<Bytes>),
    /// Pieces as they come.
    Pieces(Pieces),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// Pieces as they come.
    pub fn pieces(pieces: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static) -> Self {
        Self::Pieces(Box::pin(pieces))
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces
                .as_mut()
                .poll_next(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
