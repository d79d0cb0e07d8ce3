//! The strategies of the built-in kinds: a file each, or one for a few that are alike.
//!
//! Most are [`Facts`]: what a kind resets, what counts its generation, which functions judge it.

pub(crate) mod apps;
pub(crate) mod batch;
pub mod core;
pub mod facts;
pub mod ip;
pub mod lists;
pub mod pem;
pub(crate) mod pod;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::registry::Strategy;
pub use facts::Facts;

static PLAIN: Facts = Facts::PLAIN;

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    if (group, resource) == ("", "pods") {
        return &pod::Pod;
    }
    let found = match group {
        "" => core::facts(resource).or_else(|| apps::facts(group, resource)),
        "apps" => apps::facts(group, resource),
        "batch" => batch::facts(resource),
        _ => None,
    };
    found.unwrap_or(&PLAIN)
}
