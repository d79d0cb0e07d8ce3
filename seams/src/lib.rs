//! The outside world as parameters: clock, randomness, disk, network and task spawning.
//!
//! Production code takes a [`Seams`] and touches the world only through it, so that the same code
//! runs in one process under turmoil, deterministically by seed, with faults.
//!
//! - [`clock`]: monotonic and wall time; [`rng`]: randomness.
//! - [`disk`]: files and directories, synchronous; [`net`]: TCP streams.
//! - [`spawn`]: [`Tasks`], the owner of everything that runs.
//! - `sim` (feature `sim`): the simulated world on turmoil.

pub mod clock;
pub mod disk;
pub mod net;
pub mod rng;
#[cfg(feature = "sim")]
pub mod sim;
pub mod spawn;

use std::sync::Arc;

pub use clock::{Clock, RealClock};
pub use disk::{Disk, File, Open, RealDisk};
pub use net::{BoxedStream, Listener, Net, RealNet, Stream};
pub use rng::{RealRng, Rng, SeededRng};
pub use spawn::{Tasks, Threads};

/// Everything through which a component reaches the outside world.
#[derive(Clone)]
pub struct Seams {
    /// Monotonic and wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// TCP.
    pub net: Arc<dyn Net>,
    /// Whether blocking loops get threads of their own.
    pub threads: Threads,
}

impl Seams {
    /// The real world.
    pub fn real() -> Seams {
        Seams {
            clock: Arc::new(RealClock),
            rng: Arc::new(RealRng),
            disk: Arc::new(RealDisk),
            net: Arc::new(RealNet),
            threads: Threads::Real,
        }
    }

    /// The simulated world of the turmoil host that calls this and uses the result.
    ///
    /// Give each start of each host its own seed, or two hosts draw the same numbers.
    #[cfg(feature = "sim")]
    pub fn simulated(seed: u64) -> Seams {
        let rng = Arc::new(SeededRng::new(seed));
        Seams {
            clock: Arc::new(sim::SimClock::default()),
            disk: Arc::new(sim::SimDisk::new(seed)),
            net: Arc::new(sim::SimNet),
            rng,
            threads: Threads::Simulated,
        }
    }

    /// A new owner of tasks in this world.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.threads)
    }
}
