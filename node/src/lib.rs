//! The node agent: the pods of one machine, from the API server to running containers.
//!
//! - [`hollow`]: nodes without containers, thousands in one process, for trying a control plane and
//!   for tests of scale.
//!
//! It leaves choosing the node to `scheduler`.

pub mod hollow;
