//! Patches: the ways in which a client says what should change.
//!
//! Each works on plain trees and knows no more of a type than the patch's own rules need. What comes
//! out has to be made to conform ([`mod@crate::conform`]) as if it had just been decoded.

pub mod json;
pub mod merge;
pub mod strategic;

use std::fmt;

use crate::codec::json::{SyntaxError, parse};
use crate::doc::Doc;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchError {
    /// What the server answers.
    pub class: Class,
    /// Upstream's text.
    pub message: String,
}

/// The answers that upstream gives to patches it cannot apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 400: it is no patch.
    BadRequest,
    /// 413: it asks for too much.
    TooLarge,
    /// 422: it does not fit the object.
    Unprocessable,
    /// 500: upstream has no better answer.
    Internal,
}

impl std::error::Error for PatchError {}

impl fmt::Display for PatchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl PatchError {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

/// A patch as a document. Of equal keys the last counts.
///
/// # Errors
///
/// If it is not JSON.
pub fn read(bytes: Vec<u8>) -> Result<Doc, SyntaxError> {
    let mut doc = parse(bytes)?;
    doc.drop_duplicates();
    Ok(doc)
}
