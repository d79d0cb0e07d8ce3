//! The response body of one watch stream, which is also its event loop.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tonic::codec::Streaming;
use tonic::{Code, Status};

use super::session::Session;
use crate::error::Error;
use crate::pb::etcdserverpb::WatchRequest;
use crate::server::status;
use crate::watch::LeaderWatch;

/// Requests taken before their answers are sent.
const REQUESTS_AT_ONCE: usize = 64;

/// One watch stream. The connection polls it when it wants to send more: a client that does not
/// read stops its own stream and nothing else.
pub(super) struct WatchBody {
    session: Session,
    requests: Streaming<WatchRequest>,
    /// The client sends no more requests; its watches go on.
    half_closed: bool,
    leader_lost: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Wakes the stream for anything but events.
    errands: Waker,
    ended: bool,
}

impl WatchBody {
    pub(super) fn new(
        session: Session,
        requests: Streaming<WatchRequest>,
        leader: Option<LeaderWatch>,
    ) -> WatchBody {
        let leader_lost = leader.map(|mut leader| {
            let lost = async move { leader.lost().await };
            Box::pin(lost) as Pin<Box<dyn Future<Output = ()> + Send>>
        });
        WatchBody {
            errands: Waker::from(session.bell().clone()),
            session,
            requests,
            half_closed: false,
            leader_lost,
            ended: false,
        }
    }

    /// Does one round of work; pending when there is nothing to do until the bell rings.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Before looking at anything, so that no ring in between is missed.
        self.session.bell().register(cx.waker());
        let errand = self.session.bell().take_errand();
        if errand {
            self.run_errands()?;
        }
        let advanced = self.session.advance();
        match advanced.map_err(|error| status::status(&error))? {
            true => Poll::Ready(Ok(())),
            false if !self.session.outbox().is_empty() => Poll::Ready(Ok(())),
            // Work may have started what nobody has polled yet.
            false if self.session.bell().has_errand() => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Looks at everything but events.
    fn run_errands(&mut self) -> Result<(), Status> {
        let errands = self.errands.clone();
        let mut cx = Context::from_waker(&errands);
        if self.session.is_stopped() {
            return Err(status::status(&Error::Stopped));
        }
        if self.session.is_cut() {
            return Err(status::status(&Error::Corrupt));
        }
        if let Some(lost) = &mut self.leader_lost
            && lost.as_mut().poll(&mut cx).is_ready()
        {
            return Err(status::status(&Error::NoLeader));
        }
        self.take_requests(&mut cx)?;
        let polled = self.session.poll_waits(&mut cx);
        polled.map_err(|error| status::status(&error))
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_AT_ONCE {
            if self.half_closed {
                return Ok(());
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.half_closed = true,
                Poll::Ready(Some(Ok(request))) => self.session.handle(request),
                Poll::Ready(Some(Err(status))) if status.code() == Code::Cancelled => {
                    return Err(Status::cancelled("etcdserver: watch canceled"));
                }
                Poll::Ready(Some(Err(status))) => return Err(status),
            }
        }
        // There may be more.
        self.session.bell().set_errand();
        Ok(())
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(chunk) = this.session.outbox().next_chunk() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            // A stream with endless events lets other tasks run, too.
            let coop = ready!(tokio::task::coop::poll_proceed(cx));
            if let Err(status) = ready!(this.poll_work(cx)) {
                this.ended = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
            }
            coop.made_progress();
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(error) = status.add_header(&mut trailers) {
        // The message has bytes that no header can carry; the code alone must do.
        trailers.insert(
            Status::GRPC_STATUS,
            http::HeaderValue::from(error.code() as i32),
        );
    }
    trailers
}
