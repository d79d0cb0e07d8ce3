//! Selectors: which objects a list or watch is about.

mod fields;
mod labels;

pub use fields::{FieldSelector, FieldTerm, escape_value};
pub use labels::{LabelSelector, Operator, Requirement};
