//! The time of day, as objects of the API carry it.

use jiff::Timestamp;
use seams::Clock;

/// Now; the beginning of 1970 for a clock that nobody could have meant.
pub fn now(clock: &dyn Clock) -> Timestamp {
    Timestamp::try_from(clock.wall()).unwrap_or(Timestamp::UNIX_EPOCH)
}
