//! How machines join a cluster.
//!
//! 1. On a master, `trireme token create` makes a bootstrap token and the [`objects`] that let its
//!    holders join; with `--master` it also stores the [`bundle`] of authorities, sealed with a key
//!    that it prints.
//! 2. On the machine, `trireme join` reads what the cluster publishes to everyone and believes it by
//!    the token's signature and the pin of the authority ([`discovery`]).
//! 3. A node then asks for a client certificate with the token. A master reads the bundle with the
//!    token, opens it with the key and makes its own certificates ([`crate::master`]); its store enters
//!    the members when it starts.

pub mod bundle;
pub mod discovery;
pub mod objects;
