//! How long to wait before trying again.

use std::time::Duration;

use seams::Rng;

/// Waits that double, with a random part so that those who failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from the least to the most.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            next: least,
        }
    }

    /// The next wait.
    pub fn next(&mut self, rng: &dyn Rng) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        rng.jitter(wait)
    }

    /// It went well: the next wait is the least.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}
