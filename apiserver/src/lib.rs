//! The API server: from an HTTPS request to a transaction of the store and back.
//!
//! It programs against `raft_store::Store` and nothing else of the store, so that the store may run
//! in the same process or anywhere. It leaves the meaning of documents to `api`. In the order in
//! which a request passes through:
//!
//! - [`user`]: who sends a request
//! - [`negotiate`]: the encodings that a client accepts
//! - [`catalog`]: what is served, with [`discovery`], which tells clients (as a [`document`])
//! - [`registry`]: the generic path of every kind, with [`kinds`], what each kind adds to it
//! - [`validation`]: what kinds judge documents with
//! - [`storage`]: objects at rest, with the watch cache

pub mod catalog;
pub mod discovery;
pub mod document;
pub mod kinds;
pub mod negotiate;
pub mod registry;
pub mod storage;
pub mod user;
pub mod validation;
