//! Counts the connections to peers, and their bytes inside of TLS.
//!
//! Each member counts the connections that it made: what it sent on them, and what came back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use seams::BoxedStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peers::Dial;
use crate::metrics::{Between, From as Sender, Metrics, To};

/// Dials as `dial` does on behalf of a member, and counts towards another.
pub(super) fn counted(dial: Dial, metrics: &Metrics, local: u64, target: u64) -> Dial {
    let between = Between::new(local, target);
    let links = Links {
        active: metrics.active_peers.get_or_create(&between).clone(),
        ended: metrics.disconnected_peers.get_or_create(&between).clone(),
    };
    let name = format!("{target:x}");
    let to = To { To: name.clone() };
    let from = Sender { From: name };
    let sent = metrics.peer_sent_bytes.get_or_create(&to).clone();
    let received = metrics.peer_received_bytes.get_or_create(&from).clone();
    Arc::new(move |url| {
        let (dialing, sent, received) = (dial(url), sent.clone(), received.clone());
        let links = links.clone();
        Box::pin(async move {
            let stream = dialing.await?;
            links.active.inc();
            Ok(Box::new(Counted {
                stream,
                links,
                sent,
                received,
            }) as BoxedStream)
        })
    })
}

/// The connections to one member, of all clients together.
#[derive(Clone)]
struct Links {
    active: Gauge,
    ended: Counter,
}

struct Counted {
    stream: BoxedStream,
    links: Links,
    sent: Counter,
    received: Counter,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.links.active.dec() == 1 {
            self.links.ended.inc();
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.received
            .inc_by((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent.inc_by(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.sent.inc_by(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
