//! The strategies of the built-in kinds: a file each, or one for a few that are alike.
//!
//! Most are [`Facts`]: what a kind resets, what counts its generation, which functions judge it.

pub mod core;
pub mod facts;
pub mod ip;
pub mod lists;
pub mod pem;
#[cfg(test)]
pub(crate) mod testing;

use crate::registry::Strategy;
pub use facts::Facts;

static PLAIN: Facts = Facts::PLAIN;

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    let found = match group {
        "" => core::facts(resource),
        _ => None,
    };
    found.unwrap_or(&PLAIN)
}
