//! Cuts off clients that do not take what they asked for: a response whose writer has had something
//! to send for a minute, and could not, is given up with everything that it holds.
//!
//! hyper asks a body for its next piece once the last one is on its way. A body that has handed out a
//! piece and is not asked again waits for the client; one that was asked and has nothing yet waits
//! for the server, which may take any time.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use seams::Tasks;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may leave a response where it is.
pub const PATIENCE: Duration = Duration::from_secs(60);

tokio::task_local! {
    static PIECE: Cell<Option<bool>>;
}

/// A body was asked for its next piece.
pub fn polled<T, E>(piece: &Poll<Option<Result<T, E>>>) {
    let is_out = matches!(piece, Poll::Ready(Some(Ok(_))));
    // Nobody looks where bodies are read by others than a server's connection.
    let _ = PIECE.try_with(|last| last.set(Some(is_out)));
}

/// A future that sends responses, given up if the client does not take them.
pub struct Patient<F> {
    inner: Pin<Box<F>>,
    patience: Duration,
    /// Since when the client leaves a piece where it is.
    cut: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Patient<F> {
    /// Watches over a future.
    pub fn new(inner: F, patience: Duration) -> Self {
        Self {
            inner: Box::pin(inner),
            patience,
            cut: None,
        }
    }
}

impl<F: Future> Future for Patient<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (polled, piece) = PIECE.sync_scope(Cell::new(None), || {
            let polled = this.inner.as_mut().poll(cx);
            (polled, PIECE.with(Cell::get))
        });
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        match piece {
            Some(true) => {
                this.cut = Some(Box::pin(sleep_until(Instant::now() + this.patience)));
            }
            Some(false) => this.cut = None,
            None => {}
        }
        match &mut this.cut {
            Some(cut) => cut.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

/// Runs the streams of HTTP/2 connections, each [`Patient`].
#[derive(Clone)]
pub struct Streams(pub Tasks);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("stream", Patient::new(future, PATIENCE));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    /// A writer that polls a body as told: whether a piece comes, and how long until it goes on.
    async fn writer(steps: &[(bool, u64)]) {
        for (is_out, millis) in steps {
            poll_fn(|_| {
                let piece: Poll<Option<Result<(), ()>>> = match is_out {
                    true => Poll::Ready(Some(Ok(()))),
                    false => Poll::Pending,
                };
                polled(&piece);
                Poll::Ready(())
            })
            .await;
            sleep(Duration::from_millis(*millis)).await;
        }
    }

    #[tokio::test]
    async fn only_those_who_do_not_take_are_cut() {
        let cases: [(&[(bool, u64)], bool); 5] = [
            (&[(true, 50), (true, 50), (true, 50)], true),
            (&[(false, 300), (true, 10)], true),
            (&[(true, 300)], false),
            (&[(true, 10), (false, 200), (true, 300)], false),
            (&[], true),
        ];
        for (steps, survives) in cases {
            let done = Patient::new(writer(steps), Duration::from_millis(120)).await;
            assert_eq!(done, survives.then_some(()), "{steps:?}");
        }
    }
}
