//! The one way for every component to reach an API server.
//!
//! It leaves decisions to those who use it: nothing here knows a controller or a pod. In reading order:
//!
//! - [`transport`]: what carries requests, and in whose name; [`errors`]: what comes back
//! - [`remote`]: servers over HTTPS, with failover
//! - [`key`]: names of objects, and what is held of them
//! - [`informer`]: objects in memory, kept up to date by a watch: the state machine of the
//!   [`reflector`], the [`store`] with its indexes
//! - [`queue`]: what is to be done, each key by one worker at a time
//! - [`election`]: who leads, with the fence of a term
//! - [`mod@recorder`]: events that it writes
//! - [`backoff`]: how long to wait before trying again; [`clock`]: the time of day; [`lru`]: bounded
//!   memory; [`metrics`]: what is counted

pub mod backoff;
pub mod bootstrap_token;
pub mod clock;
pub mod election;
pub mod errors;
pub mod informer;
pub mod key;
pub mod lru;
pub mod metrics;
pub mod queue;
pub mod recorder;
pub mod reflector;
pub mod remote;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;

pub use api::fence::Fence;
pub use election::{Elector, Leadership};
pub use informer::{Informer, Informers, Selection, Subscription};
pub use key::{Key, Partial, View};
pub use queue::Queue;
pub use recorder::{EventType, Recorder};
pub use remote::Remote;
pub use store::Index;
pub use transport::{Access, Identity, Transport};
