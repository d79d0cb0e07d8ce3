//! Status: how a server says that something went wrong. Every reason, code and message that upstream
//! has is made here and nowhere else.

use std::fmt;

use crate::apply::{ApplyError, Conflict};
use crate::doc::{Doc, New};
use crate::field::{FieldError, aggregate};
use crate::patch::{Class, PatchError};

/// An error as clients see it (metav1.Status with status `Failure`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// A word that programs compare, such as `NotFound`.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// What it is about.
    pub details: Details,
    /// Where a list can be taken up again after its token expired.
    pub continue_token: String,
}

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Group of the resource.
    pub group: String,
    /// The resource, or the kind for [`Status::invalid`].
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: String,
    /// More precisely.
    pub causes: Vec<Cause>,
    /// When to try again; 0 says nothing.
    pub retry_after_seconds: u32,
}

/// One of several reasons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// A word that programs compare, such as `FieldValueInvalid`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The field that it is about.
    pub field: String,
}

/// A resource or kind with its group, written `pods` or `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qualified<'a> {
    /// Group, empty for the core group.
    pub group: &'a str,
    /// Resource or kind.
    pub name: &'a str,
}

impl fmt::Display for Qualified<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => out.write_str(self.name),
            group => write!(out, "{}.{group}", self.name),
        }
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            ..Self::default()
        }
    }

    fn about(mut self, of: Qualified<'_>, name: &str) -> Self {
        self.details.group = of.group.to_string();
        self.details.kind = of.name.to_string();
        self.details.name = name.to_string();
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.retry_after_seconds = seconds;
        self
    }

    /// 404: there is no such object.
    pub fn not_found(of: Qualified<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{of} {name:?} not found")).about(of, name)
    }

    /// 404: there is no such path.
    pub fn no_such_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 409: there is one already.
    pub fn already_exists(of: Qualified<'_>, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{of} {name:?} already exists"),
        )
        .about(of, name)
    }

    /// 409: no generated name was free.
    pub fn generate_name_conflict(of: Qualified<'_>, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{of} {name:?} already exists, the server was not able to generate a unique name for the \
             object"
        );
        Self::new(409, "AlreadyExists", message)
            .about(of, name)
            .retry_after(retry_after_seconds)
    }

    /// 401: nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: whoever asks may not.
    pub fn forbidden(of: Qualified<'_>, name: &str, why: impl fmt::Display) -> Self {
        let message = match (of.name, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{of} is forbidden: {why}"),
            (_, name) => format!("{of} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(of, name)
    }

    /// 409: the object changed meanwhile, or is not what the request takes it for.
    pub fn conflict(of: Qualified<'_>, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {of} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(of, name)
    }

    /// 409: a stale resourceVersion.
    pub fn modified(of: Qualified<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and \
                   try again";
        Self::conflict(of, name, why)
    }

    /// 409: an apply changes what others own.
    pub fn apply_conflict(conflicts: Vec<Conflict>) -> Self {
        let error = ApplyError::Conflict(conflicts);
        let mut status = Self::new(409, "Conflict", error.to_string());
        if let ApplyError::Conflict(conflicts) = error {
            let causes = conflicts.into_iter().map(|conflict| Cause {
                kind: "FieldManagerConflict".to_string(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.path,
            });
            status.details.causes = causes.collect();
        }
        status
    }

    /// 410: the resourceVersion is compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410: a list's token is too old; `token` takes the list up again, without its consistency.
    pub fn expired_token(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. \
                       You can start a new list without the continue parameter, or use the continue \
                       token in this response to retrieve the remainder of the results. Continuing \
                       with the provided token results in an inconsistent list - objects that were \
                       created, modified, or deleted between the time the first chunk was returned \
                       and now may show up in the list.";
        Self {
            continue_token: token,
            ..Self::expired(message)
        }
    }

    /// 422: fields are wrong. `of` is group and kind.
    pub fn invalid(of: Qualified<'_>, name: &str, errors: &[FieldError]) -> Self {
        let message = match errors {
            [] => format!("{of} {name:?} is invalid"),
            errors => format!("{of} {name:?} is invalid: {}", aggregate(errors)),
        };
        let mut status = Self::new(422, "Invalid", message).about(of, name);
        let causes = errors.iter().map(|error| Cause {
            kind: error.kind.cause().to_string(),
            message: error.body(),
            field: error.field.clone(),
        });
        status.details.causes = causes.collect();
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 429: later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 405: the resource has no such verb.
    pub fn method_not_supported(of: Qualified<'_>, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{of}\"");
        Self::new(405, "MethodNotAllowed", message).about(of, "")
    }

    /// 406: none of the accepted media types can be had.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!("only the following media types are accepted: {list}");
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413: the body is too large.
    pub fn too_large(message: &str) -> Self {
        let message = format!("Request entity too large: {message}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 500: try again.
    pub fn server_timeout(of: Qualified<'_>, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {of} could not be completed at this time, please try \
             again."
        );
        Self::new(500, "ServerTimeout", message)
            .about(of, operation)
            .retry_after(retry_after_seconds)
    }

    /// 500: something that should not happen.
    pub fn internal(error: impl fmt::Display) -> Self {
        let mut status = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {error}"),
        );
        let cause = Cause {
            message: error.to_string(),
            ..Cause::default()
        };
        status.details.causes.push(cause);
        status
    }

    /// 504: it took too long.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 504: a resourceVersion from the future.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut status = Self::timeout(&message, 1);
        status.details.causes.push(Cause {
            kind: "ResourceVersionTooLarge".to_string(),
            message: "Too large resource version".to_string(),
            field: String::new(),
        });
        status
    }

    /// The answer to a patch that cannot be applied.
    pub fn patch(of: Qualified<'_>, name: &str, error: &PatchError) -> Self {
        match error.class {
            Class::BadRequest => Self::bad_request(&*error.message),
            Class::TooLarge => Self::too_large(&error.message),
            Class::Unprocessable => {
                let message = "the server rejected our request due to an error in our request";
                Self::new(422, "Invalid", message).about(of, name)
            }
            Class::Internal => Self::new(500, "", &*error.message),
        }
    }

    /// The answer to a configuration that cannot be applied.
    pub fn apply(error: ApplyError) -> Self {
        match error {
            ApplyError::BadRequest(message) => Self::bad_request(message),
            ApplyError::Conflict(conflicts) => Self::apply_conflict(conflicts),
            ApplyError::Invalid(message) => Self::new(500, "", message),
        }
    }

    /// The object that clients get.
    pub fn to_doc(&self) -> Doc {
        let mut doc = Doc::new();
        let top = doc.top();
        doc.set(top, "kind", "Status");
        doc.set(top, "apiVersion", "v1");
        let metadata = doc.object(top, "metadata");
        if !self.continue_token.is_empty() {
            doc.set(metadata, "continue", &self.continue_token);
        }
        doc.set(top, "status", "Failure");
        doc.set(top, "message", &self.message);
        if !self.reason.is_empty() {
            doc.set(top, "reason", self.reason);
        }
        if self.details != Details::default() {
            self.write_details(&mut doc);
        }
        doc.set(top, "code", i64::from(self.code));
        doc
    }

    fn write_details(&self, doc: &mut Doc) {
        let details = doc.object(doc.top(), "details");
        let texts = [
            ("name", &self.details.name),
            ("group", &self.details.group),
            ("kind", &self.details.kind),
            ("uid", &self.details.uid),
        ];
        for (key, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
            doc.set(details, key, value);
        }
        for cause in &self.details.causes {
            let list = doc.list(details, "causes");
            let object = doc.push(list, New::Object);
            let texts = [
                ("reason", &cause.kind),
                ("message", &cause.message),
                ("field", &cause.field),
            ];
            for (key, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
                doc.set(object, key, value);
            }
        }
        if self.details.retry_after_seconds > 0 {
            let seconds = i64::from(self.details.retry_after_seconds);
            doc.set(details, "retryAfterSeconds", seconds);
        }
    }
}

impl std::error::Error for Status {}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::{Unknown, conform};
    use crate::schema;

    const PODS: Qualified<'_> = Qualified {
        group: "",
        name: "pods",
    };
    const DEPLOYMENTS: Qualified<'_> = Qualified {
        group: "apps",
        name: "deployments",
    };

    #[test]
    fn errors_read_as_upstreams_do() {
        for (status, want) in [
            (
                Status::not_found(PODS, "a"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#,
            ),
            (
                Status::already_exists(DEPLOYMENTS, "a"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"a\" already exists","reason":"AlreadyExists","details":{"name":"a","group":"apps","kind":"deployments"},"code":409}"#,
            ),
            (
                Status::invalid(
                    Qualified {
                        group: "",
                        name: "Pod",
                    },
                    "a",
                    &[FieldError::required("spec.containers", "")],
                ),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Pod \"a\" is invalid: spec.containers: Required value","reason":"Invalid","details":{"name":"a","kind":"Pod","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.containers"}]},"code":422}"#,
            ),
            (
                Status::timeout("slow", 2),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Timeout: slow","reason":"Timeout","details":{"retryAfterSeconds":2},"code":504}"#,
            ),
        ] {
            assert_eq!(status.to_doc().to_string(), want);
        }
        assert_eq!(
            Status::modified(DEPLOYMENTS, "a").message,
            "Operation cannot be fulfilled on deployments.apps \"a\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        assert_eq!(
            Status::forbidden(PODS, "", "no").message,
            "pods is forbidden: no"
        );
    }

    /// What is sent is what a decoder would make of it.
    #[test]
    fn every_status_conforms() {
        let mut all = vec![
            Status::unauthorized(),
            Status::expired_token("t".to_string()),
            Status::internal("x"),
            Status::too_large_resource_version(2, 1),
            Status::generate_name_conflict(PODS, "a", 1),
            Status::not_acceptable(&["a", "b"]),
        ];
        let conflict = Conflict {
            manager: "\"m\"".to_string(),
            path: ".a".to_string(),
        };
        all.push(Status::apply_conflict(vec![conflict]));
        for status in all {
            let mut doc = status.to_doc();
            let text = doc.to_string();
            conform(
                &mut doc,
                schema::kind("", "v1", "Status").unwrap(),
                Unknown::Drop,
            )
            .unwrap();
            assert_eq!(doc.to_string(), text);
        }
    }
}
