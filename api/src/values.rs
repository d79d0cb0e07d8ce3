//! Scalars with a notation of their own, each with one canonical form.

pub mod base64;
pub mod duration;
pub mod ip;
pub mod quantity;
pub mod schedule;
pub mod time;

pub use quantity::Quantity;
