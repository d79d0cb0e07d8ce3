//! The API server: from an HTTPS request to a transaction of the store and back.
//!
//! It programs against `raft_store::Store` and nothing else of the store, so that the store may run
//! in the same process or anywhere. It leaves the meaning of documents to `api`. In the order in
//! which a request passes through:
//!
//! - [`user`]: who sends a request; [`authentication`] finds out, [`service_account_tokens`] issues
//!   what service accounts show
//! - [`authorization`]: what they may do; [`reviews`] answers questions about both
//! - [`negotiate`]: the encodings that a client accepts
//! - [`catalog`]: what is served, with [`discovery`], which tells clients (as a [`document`])
//! - [`registry`]: the generic path of every kind, with [`kinds`], what each kind adds to it
//! - [`validation`]: what kinds judge documents with
//! - [`storage`]: objects at rest, with the watch cache

pub mod authentication;
pub mod authorization;
pub mod catalog;
pub mod discovery;
pub mod document;
pub mod kinds;
pub mod negotiate;
pub mod registry;
pub mod reviews;
pub mod service_account_tokens;
pub mod storage;
pub mod user;
pub mod validation;
