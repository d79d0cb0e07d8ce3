//! What answers requests: the verbs of resources, and the paths around them.
//!
//! - [`resource`]: finds the resource, settles the encoding, and hands on to a verb
//! - [`get`], [`list`], [`watch`](mod@watch): the verbs that read, with [`selection`] and [`mod@shape`]
//! - [`write`](mod@write): the verbs that write, in front of the registry
//! - [`subresource`], [`scale`], [`actions`] and [`eviction`]: parts of objects, and what can be done to them
//! - [`virtual_kinds`] and [`component_statuses`]: kinds that are asked, not stored
//! - [`paths`]: everything that is no resource

pub mod actions;
pub mod component_statuses;
pub mod eviction;
pub mod get;
pub mod list;
pub mod paths;
pub mod resource;
pub mod scale;
pub mod selection;
pub mod shape;
pub mod subresource;
pub mod table;
pub mod virtual_kinds;
pub mod watch;
pub mod write;

#[cfg(test)]
mod tests;
