//! The generic path of every kind: create, update, patch, delete; and what kinds add to it.

pub mod strategy;

pub use strategy::{Cx, Strategy};
