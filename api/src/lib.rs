//! API machinery: what every side of the Kubernetes API must agree on, without IO and without async.
//!
//! It leaves serving to `apiserver`, reaching a server to `client`, and what an object makes happen
//! to `controllers`, `scheduler` and `node`. In reading order:
//!
//! - [`schema`]: what every kind consists of; [`mod@resources`]: how kinds are served
//! - [`doc`]: documents, JSON-like trees; [`values`]: scalars with a notation of their own
//! - [`mod@conform`]: makes a document conform to a type, as Go's typed round trip would
//! - [`codec`]: JSON

pub mod codec;
pub mod conform;
pub mod doc;
pub mod resources;
pub mod schema;
pub mod values;
