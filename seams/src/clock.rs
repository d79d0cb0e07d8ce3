//! Time: the monotonic clock for durations, the wall clock for humans and certificates.
// The one place that may read the clocks.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may read clocks"
)]

use std::time::SystemTime;

use tokio::time::Instant;

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time: for durations and deadlines.
    fn now(&self) -> Instant;

    /// The wall clock: may jump, never decide consensus by it.
    fn wall(&self) -> SystemTime;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
