//! The applied state: what it promises, told one case at a time on both engines, and against a
//! naive model under random histories.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
#![allow(unreachable_pub, reason = "a test has no outside")]

#[path = "mvcc/collection.rs"]
mod collection;
#[path = "mvcc/disk.rs"]
mod disk;
#[path = "mvcc/leases.rs"]
mod leases;
#[path = "mvcc/model.rs"]
mod model;
#[path = "mvcc/properties.rs"]
mod properties;
#[path = "mvcc/ranges.rs"]
mod ranges;
#[path = "mvcc/support.rs"]
mod support;
#[path = "mvcc/txns.rs"]
mod txns;
