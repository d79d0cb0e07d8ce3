//! Randomness from a seed: the same seed gives the same choices on every machine.

/// A splitmix64 generator.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Other dice, for another purpose under the same seed.
    pub fn fork(&self, purpose: u64) -> Dice {
        let mut fork = Dice(self.0 ^ purpose.wrapping_mul(0xA076_1D64_78BD_642F));
        fork.bits();
        fork
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0. The bias is below 2^-32 for small limits.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as usize
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the choices; `None` when there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// An exponentially distributed time with this mean, at most four times it.
    pub fn exponential(&mut self, mean: std::time::Duration) -> std::time::Duration {
        let unit = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64((-(1.0 - unit).ln()).min(4.0))
    }
}
