//! The API server: from an HTTPS request to a transaction of the store and back.
//!
//! It programs against `raft_store::Store` and nothing else of the store, so that the store may run
//! in the same process or anywhere. It leaves the meaning of documents to `api`. In the order in
//! which a request passes through:
//!
//! - [`instance`]: what requests share, with [`leases`] of the store
//! - [`request`]: what a request asks for; [`user`]: who sends it
//! - [`endpoints`]: what answers it
//! - [`negotiate`], [`respond`], [`body`], [`mod@table`], [`failure`]: in what encoding and form, and what errors say
//! - [`catalog`]: what is served, with [`discovery`], which tells clients (as a [`document`])
//! - [`registry`]: the generic path of every kind, with [`kinds`], what each kind adds to it, and
//!   [`admission`]
//! - [`validation`]: what kinds judge documents with
//! - [`storage`]: objects at rest, with the watch cache

pub mod admission;
pub mod body;
pub mod catalog;
pub mod discovery;
pub mod document;
pub mod endpoints;
pub mod failure;
pub mod instance;
pub mod kinds;
pub mod leases;
pub mod negotiate;
pub mod registry;
pub mod request;
pub mod respond;
pub mod storage;
pub mod table;
pub mod user;
pub mod validation;
