//! Helpers for lists in documents.

use crate::validation::At;

/// The texts of a list.
pub fn texts<'d>(list: At<'d>) -> Vec<&'d str> {
    list.items().map(At::str).collect()
}

/// Whether two lists have the same texts in the same order.
pub fn same_texts(one: At<'_>, other: At<'_>) -> bool {
    texts(one) == texts(other)
}
