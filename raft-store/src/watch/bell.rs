//! What wakes a stream: one bell per stream, rung when something it watches has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

const NOTHING: i64 = i64::MAX;

/// The bell of one stream.
///
/// The mark is the lowest revision since the last look that may matter to the stream; everything
/// between the stream's position and the mark can be skipped unread. That keeps a stream which
/// sleeps for hours from falling out of the ring.
///
/// A bell is also a [`Waker`] for whatever else the stream waits for (requests, timers, reads):
/// it remembers that it was used as one, so that an event does not poll all of these.
#[derive(Debug)]
pub struct Bell {
    mark: AtomicI64,
    errand: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub(crate) fn new() -> Arc<Bell> {
        Arc::new(Bell {
            mark: AtomicI64::new(NOTHING),
            errand: AtomicBool::new(true),
            waker: AtomicWaker::new(),
        })
    }

    /// Notes that `revision` may matter, and wakes the stream unless an earlier one has.
    pub(crate) fn mark(&self, revision: i64) {
        if self.mark.fetch_min(revision, Ordering::AcqRel) == NOTHING {
            self.waker.wake();
        }
    }

    /// Takes the mark.
    pub(crate) fn take_mark(&self) -> Option<i64> {
        let mark = self.mark.swap(NOTHING, Ordering::AcqRel);
        (mark != NOTHING).then_some(mark)
    }

    /// Wakes the stream to look at everything.
    pub(crate) fn ring(&self) {
        self.errand.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether something besides events wants the stream's attention; asks once.
    pub fn take_errand(&self) -> bool {
        self.errand.swap(false, Ordering::AcqRel)
    }

    /// Whether [`Bell::take_errand`] would be true.
    pub fn has_errand(&self) -> bool {
        self.errand.load(Ordering::Acquire)
    }

    /// Makes the next [`Bell::take_errand`] true, without waking.
    pub fn set_errand(&self) {
        self.errand.store(true, Ordering::Release);
    }

    /// Sets whom the bell wakes. Look at the marks after this, never before.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits until the bell was rung.
    pub(crate) async fn rung(&self) {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            self.register(cx.waker());
            let marked = self.mark.load(Ordering::Acquire) != NOTHING;
            match marked || self.take_errand() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
