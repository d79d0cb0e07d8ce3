//! An event as a plan wants it said, before anyone says it.

use std::borrow::Cow;

use client::{EventType, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;

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

/// The reference by which events name an object.
pub fn reference<V: client::View + k8s_openapi::Resource>(object: &V) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(V::API_VERSION.to_owned()),
        kind: Some(V::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Says what a plan wants said.
pub fn tell<'n>(
    recorder: &Recorder,
    object: &ObjectReference,
    notes: impl IntoIterator<Item = &'n Note>,
) {
    for note in notes {
        let kind = if note.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        recorder.event(object, kind, &note.reason, note.message.clone());
    }
}
