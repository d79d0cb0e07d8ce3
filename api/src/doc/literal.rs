//! Documents from JSON in the source, and JSON for people to read.

use std::fmt;

use super::{Doc, Node};
use crate::codec::json;

impl Doc {
    /// A document from JSON in the program's own text.
    ///
    /// # Panics
    ///
    /// If that is not JSON: never pass input.
    pub fn literal(json: &str) -> Self {
        match json::parse(json.as_bytes().to_vec()) {
            Ok(doc) => doc,
            Err(error) => panic!("{error}: {json}"),
        }
    }
}

impl fmt::Display for Doc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.root(), out)
    }
}

impl fmt::Debug for Doc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.root(), out)
    }
}

/// Compact JSON.
impl fmt::Display for Node<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        json::write(*self, &mut bytes);
        out.write_str(&String::from_utf8_lossy(&bytes))
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
