//! What an error of the API means to those who write loops.

use kube::Error;
use kube::core::Status;

use api::fence;

/// What the server answered, if it answered.
pub fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::Api(status) => Some(status),
        _ => None,
    }
}

fn is(error: &Error, code: u16, reason: &str) -> bool {
    status(error).is_some_and(|status| status.code == code && status.reason == reason)
}

fn has_cause(error: &Error, cause: &str) -> bool {
    let details = status(error).and_then(|status| status.details.as_ref());
    details.is_some_and(|details| details.causes.iter().any(|known| known.reason == cause))
}

/// The server's own words, without what the client adds; for events and conditions.
pub fn message(error: &Error) -> String {
    match status(error) {
        Some(status) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

/// There is no such object.
pub fn is_not_found(error: &Error) -> bool {
    is(error, 404, "NotFound")
}

/// The object changed meanwhile.
pub fn is_conflict(error: &Error) -> bool {
    is(error, 409, "Conflict")
}

/// There is such an object already.
pub fn is_already_exists(error: &Error) -> bool {
    is(error, 409, "AlreadyExists")
}

/// The object is not valid.
pub fn is_invalid(error: &Error) -> bool {
    is(error, 422, "Invalid")
}

/// Somebody may not do this.
pub fn is_forbidden(error: &Error) -> bool {
    is(error, 403, "Forbidden")
}

/// The namespace is going, so nothing new comes into it.
pub fn is_namespace_terminating(error: &Error) -> bool {
    has_cause(error, "NamespaceTerminating")
}

/// The request was sent by a leader that is none any more. It is of no use to try again.
pub fn is_stale_fence(error: &Error) -> bool {
    has_cause(error, fence::STALE)
}

/// What was asked for by a resource version or a token is no longer there.
pub fn is_gone(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 410)
}

/// It is not known whether the server has done it, or when it will be ready to.
pub fn is_transient(error: &Error) -> bool {
    match status(error) {
        Some(status) => matches!(status.code, 429 | 500 | 502 | 503 | 504),
        None => !matches!(error, Error::SerdeError(_) | Error::BuildRequest(_)),
    }
}
