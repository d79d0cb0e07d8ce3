//! API machinery: what every side of the Kubernetes API must agree on, without IO and without async.
//!
//! It leaves serving to `apiserver`, reaching a server to `client`, and what an object makes happen
//! to `controllers`, `scheduler` and `node`. In reading order:
//!
//! - [`schema`]: what every kind consists of, and [`mod@resources`]: how kinds are served
//! - [`doc`]: documents, JSON-like trees, and [`values`]: scalars with a notation of their own
//! - [`mod@conform`] makes a document conform to a type, as Go's typed round trip would
//! - [`defaults`]: what an object means where it says nothing, and [`gates`]: what is on
//! - [`mod@convert`]: between versions of one object
//! - [`codec`]: JSON, YAML and protobuf
//! - [`patch`]: JSON patch, merge patch, strategic merge patch
//! - [`selector`]: label and field selectors; [`name`]: what things may be called
//! - [`field`]: errors about fields; [`status`]: errors as clients see them
//! - [`page`]: resource versions and continue tokens; [`fence`]: what keeps deposed leaders from writing
//! - [`mod@apply`]: server-side apply and the ownership of fields

pub mod apply;
pub mod codec;
pub mod conform;
pub mod convert;
pub mod defaults;
pub mod doc;
pub mod fence;
pub mod field;
pub mod gates;
pub mod name;
pub mod page;
pub mod patch;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod values;
