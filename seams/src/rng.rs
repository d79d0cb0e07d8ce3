//! Randomness: seeded by the operating system, or by a number that replays a run.
// The one place that may ask the operating system for randomness.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may ask the system for randomness"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of random numbers.
pub trait Rng: Send + Sync + 'static {
    /// 64 uniform random bits.
    fn next_u64(&self) -> u64;

    /// A number in `0..bound`; 0 for a bound of 0.
    fn below(&self, bound: u64) -> u64 {
        // The high half of the product is uniform up to bound / 2^64, which no use here notices.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `base` plus a random part of up to half of it: for backoff, so that clients do not march
    /// in step.
    fn jitter(&self, base: Duration) -> Duration {
        base + Duration::from_nanos(self.below(base.as_nanos() as u64 / 2 + 1))
    }

    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Randomness that no one can predict: a ChaCha generator seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealRng;

impl Rng for RealRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// Randomness that replays from its seed (splitmix64). Not for secrets.
#[derive(Debug)]
pub struct SeededRng {
    state: AtomicU64,
}

impl SeededRng {
    /// A generator that always yields the same numbers for the same seed.
    pub fn new(seed: u64) -> SeededRng {
        SeededRng {
            state: AtomicU64::new(seed),
        }
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut z = state.wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let (a, b, c) = (SeededRng::new(7), SeededRng::new(7), SeededRng::new(8));
        let draw = |rng: &SeededRng| (0..100).map(|_| rng.next_u64()).collect::<Vec<_>>();
        let first = draw(&a);
        assert_eq!(first, draw(&b));
        assert_ne!(first, draw(&c));
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let rng = SeededRng::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[rng.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn jitter_adds_at_most_half() {
        let base = Duration::from_millis(100);
        for _ in 0..1000 {
            let jittered = RealRng.jitter(base);
            assert!(jittered >= base && jittered <= base * 3 / 2, "{jittered:?}");
        }
    }
}
