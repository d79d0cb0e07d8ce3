//! Places pods on nodes: queue, cache, cycle, plugins, preemption, binding.
//!
//! A scheduling cycle is a pure function of a pod and a snapshot of the nodes.
//!
//! It leaves reaching the API server, informers and leadership to `client`, and everything that
//! happens to a pod after it was bound to `node`.
