//! gc
mod graph; mod identity; mod plan;
