//! The one way for every component to reach an API server.
//!
//! It holds a `kube::Client` over an in-process service or over HTTPS with failover across masters,
//! informers, the work queue, leader election by Lease with fencing, and events.
//!
//! It leaves decisions to those who use it: nothing here knows a controller or a pod.
