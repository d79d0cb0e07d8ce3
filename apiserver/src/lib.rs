//! The API server: from an HTTPS request to a transaction of the store and back.
//!
//! In the order in which a request passes through: filters, endpoints, admission, registry, storage
//! with the watch cache.
//!
//! It programs against `raft_store::Store` and nothing else of the store, so that the store may run
//! in the same process or anywhere. It leaves the meaning of documents to `api`.
