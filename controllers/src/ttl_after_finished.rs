//! ttl_after_finished
mod plan;
