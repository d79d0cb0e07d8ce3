//! The API server: from an HTTPS request to a transaction of the store and back.
//!
//! It programs against `raft_store::Store` and nothing else of the store, so that the store may run
//! in the same process or anywhere. It leaves the meaning of documents to `api`. In the order in
//! which a request passes through:
//!
//! - [`instance`]: what requests share, with [`leases`] of the store; [`mod@bootstrap`]: what every
//!   cluster has
//! - [`server`] and [`tls`]: connections, with [`stall`], which cuts off those who do not take what
//!   they asked for; [`handler`]: one request from its head to its response, with [`metrics`], [`audit`]
//!   and [`flow`], which says when it is its turn
//! - [`in_process`]: requests of components in the same process, without connections
//! - [`request`]: what a request asks for; [`user`]: who sends it
//! - [`negotiate`], [`respond`], [`body`], [`mod@table`], [`failure`]: in what encoding and form, and
//!   what errors say
//! - [`authentication`]: finds out who sends it; [`service_account_tokens`] issues what service
//!   accounts show
//! - [`authorization`]: what they may do; [`reviews`] answers questions about both
//! - [`endpoints`]: what answers, with [`health`]
//! - [`catalog`]: what is served, with [`discovery`] and [`openapi`], which tell clients (as a
//!   [`document`])
//! - [`registry`]: the generic path of every kind, with [`kinds`], what each kind adds to it, and
//!   [`admission`]; [`allocation`]: what services get
//! - [`streams`]: requests that are handed on to nodes, pods and services; [`outbound`]: requests to
//!   others
//! - [`validation`]: what kinds judge documents with
//! - [`storage`]: objects at rest, with the watch cache; [`encryption`]: of what is at rest

pub mod admission;
pub mod allocation;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod body;
pub mod bootstrap;
pub mod catalog;
#[cfg(test)]
mod cost;
pub mod discovery;
pub mod document;
pub mod encryption;
pub mod endpoints;
pub mod failure;
pub mod flow;
pub mod handler;
pub mod health;
pub mod in_process;
pub mod instance;
pub mod kinds;
pub mod leases;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod outbound;
pub mod registry;
pub mod request;
pub mod respond;
pub mod reviews;
pub mod server;
pub mod service_account_tokens;
pub mod stall;
pub mod storage;
pub mod streams;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod user;
pub mod validation;
