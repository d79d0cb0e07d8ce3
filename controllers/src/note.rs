//! An event as a plan wants it said, before anyone says it.

use std::borrow::Cow;

/// An event about the object of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// What happened, in one word.
    pub reason: Cow<'static, str>,
    /// What happened, in a sentence.
    pub message: String,
}

impl Note {
    /// Something went its way.
    pub fn normal(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Note {
        Note {
            is_warning: false,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// Something is wrong.
    pub fn warning(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Note {
        Note {
            is_warning: true,
            reason: reason.into(),
            message: message.into(),
        }
    }
}
