//! jobs
mod backoff; pub(crate) mod indexes; mod plan; mod policy; mod removal; mod view;
pub use view::*;
