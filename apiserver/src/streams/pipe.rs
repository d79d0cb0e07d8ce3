//! Bytes in both directions between two connections, until one side ends or nothing passes for long.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until, timeout};

use super::IDLE;

/// What is read at once.
pub const BUFFER: usize = 32 << 10;
/// How long the end of a connection may take.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// When something last passed.
pub struct Activity {
    last: Mutex<Instant>,
    silence_max: Duration,
}

impl Activity {
    /// Something passes now; after so much silence it is over.
    pub fn within(silence_max: Duration) -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            silence_max,
        }
    }

    /// Something passes.
    pub fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing has passed for too long.
    pub async fn idle(&self) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= self.silence_max {
                return;
            }
            sleep_until(last + self.silence_max).await;
        }
    }
}

/// Passes bytes between two connections until either ends or both are silent for [`IDLE`]; then both
/// end.
pub async fn join<A, B>(a: A, b: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    join_within(IDLE, a, b).await;
}

async fn join_within<A, B>(silence_max: Duration, a: A, b: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let activity = Activity::within(silence_max);
    let ((mut from_a, mut to_a), (mut from_b, mut to_b)) = (split(a), split(b));
    // One side's end is the end: what was underway to the other is written by then.
    let result = tokio::select! {
        result = copy(&mut from_a, &mut to_b, &activity) => result,
        result = copy(&mut from_b, &mut to_a, &activity) => result,
        () = activity.idle() => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an upgraded connection broke");
    }
    let goodbye = async { tokio::join!(to_a.shutdown(), to_b.shutdown()) };
    let _ = timeout(GOODBYE, goodbye).await;
}

async fn copy<R, W>(from: &mut R, to: &mut W, activity: &Activity) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        activity.touch();
        if read == 0 {
            return to.flush().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        activity.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_sides_end_together() {
        let (client, ours) = tokio::io::duplex(8);
        let (theirs, server) = tokio::io::duplex(8);
        let passed = join(ours, theirs);
        let (mut client, mut server) = (client, server);
        let talk = async {
            let sent = async { client.write_all(b"more than the buffers hold").await };
            let mut got = [0; 26];
            let (sent, got_all) = tokio::join!(sent, server.read_exact(&mut got));
            sent.unwrap();
            got_all.unwrap();
            assert_eq!(&got, b"more than the buffers hold");
            server.write_all(b"bye").await.unwrap();
            drop(server);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"bye");
        };
        tokio::join!(passed, talk);
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (mut client, ours) = tokio::io::duplex(8);
        let (theirs, _server) = tokio::io::duplex(8);
        join_within(Duration::from_millis(20), ours, theirs).await;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
