//! Runs the calls of an HTTP/2 connection inside the connection's own task.
//!
//! hyper wants an executor for the future of each call. A task per call would have to be
//! scheduled, registered and woken across threads; here all of them end with their connection.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

/// Where hyper leaves the futures of HTTP/2 calls; the connection's task picks them up.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Calls {
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::pin(call));
    }
}

/// A connection together with its calls.
pub(crate) struct Driven<C> {
    connection: Pin<Box<C>>,
    calls: Calls,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<C> Driven<C> {
    /// Drives a connection whose executor is `calls`.
    pub(crate) fn new(connection: C, calls: Calls) -> Driven<C> {
        Driven {
            connection: Box::pin(connection),
            calls,
            running: FuturesUnordered::new(),
        }
    }

    /// The connection itself.
    pub(crate) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C> Future for Driven<C>
where
    C: Future,
{
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(output) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            this.running.extend(this.calls.take());
            let mut answered = false;
            while let Poll::Ready(Some(())) = this.running.poll_next_unpin(cx) {
                answered = true;
            }
            if !answered {
                return Poll::Pending;
            }
            // Polled again at once, the connection writes all of these answers together.
        }
    }
}
