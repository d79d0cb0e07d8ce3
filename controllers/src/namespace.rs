//! namespace
mod plan;
