//! Frames on their way out: a short queue, and a way past it for what cannot wait.

use std::future::Future;
use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::pipe::GOODBYE;

/// Frames that wait for a slow reader; beyond, whoever sends waits.
const QUEUED_MAX: usize = 4;

/// Where frames are put.
#[derive(Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Vec<u8>>,
    urgent: mpsc::Sender<Vec<u8>>,
}

/// An outbox, and what moves its frames until all its clones are gone, which must be polled.
pub fn outbox<W>(to: W) -> (Outbox, impl Future<Output = io::Result<()>> + Send)
where
    W: AsyncWrite + Unpin + Send,
{
    let (queue, frames) = mpsc::channel(QUEUED_MAX);
    let (urgent, urgent_frames) = mpsc::channel(QUEUED_MAX);
    (Outbox { queue, urgent }, write(to, frames, urgent_frames))
}

async fn write<W>(
    mut to: W,
    mut frames: mpsc::Receiver<Vec<u8>>,
    mut urgent: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin + Send,
{
    loop {
        let frame = tokio::select! {
            biased;
            Some(frame) = urgent.recv() => frame,
            Some(frame) = frames.recv() => frame,
            else => break,
        };
        to.write_all(&frame).await?;
        to.flush().await?;
    }
    to.shutdown().await
}

impl Outbox {
    /// Puts in a frame, once there is room.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn send(&self, frame: Vec<u8>) -> io::Result<()> {
        let sent = self.queue.send(frame).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Puts a frame before all others, unless too many such wait: the other side will ask again.
    pub fn urgent(&self, frame: Vec<u8>) {
        let _ = self.urgent.try_send(frame);
    }
}

/// Lets a conversation go on as long as its frames move, and then gives the last ones a moment.
pub async fn converse(
    talking: impl Future<Output = ()>,
    moving: impl Future<Output = io::Result<()>>,
) {
    let mut moving = std::pin::pin!(moving);
    tokio::select! {
        () = talking => {
            let _ = timeout(GOODBYE, moving).await;
        }
        _ = &mut moving => {}
    }
}
