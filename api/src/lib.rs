//! API machinery: what every side of the Kubernetes API must agree on, without IO and without async.
//!
//! It leaves serving to `apiserver`, reaching a server to `client`, and what an object makes happen
//! to `controllers`, `scheduler` and `node`. In reading order:
//!
//! - [`schema`]: what every kind consists of; [`mod@resources`]: how kinds are served

pub mod resources;
pub mod schema;
