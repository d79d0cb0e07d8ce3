//! pod_gc
mod plan;
