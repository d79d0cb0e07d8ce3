//! The node agent: the pods of one machine, from the API server to running containers.
//!
//! It holds the pod lifecycle over CRI, volumes, probes, logs and exec, CNI, the service proxy, DNS,
//! and hollow nodes for tests of scale.
//!
//! It leaves choosing the node to `scheduler`, and containers themselves to a CRI runtime.
