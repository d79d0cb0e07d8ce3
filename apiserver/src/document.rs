//! Documents about the API: what is asked, and what is answered, without a connection in between.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use api::codec::Encoding;
use api::conform::{Unknown, conform};
use api::doc::Doc;
use api::schema::Type;
use api::status::Status;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use sha2::{Digest, Sha512};

use crate::respond::{self, Form};

/// A document, or why there is none.
pub type Answer = Result<Document, Box<Status>>;

/// How long a document that never changes may be kept.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);

/// A GET of a document, as far as the answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask<'a> {
    /// Path of the URL.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: &'a str,
    /// The Accept header.
    pub accept: &'a str,
    /// The If-None-Match header.
    pub if_none_match: &'a str,
    /// JSON is to be indented (`pretty=true`, or a client that shows it to a person).
    pub pretty: bool,
    /// Where the client is.
    pub client: Option<IpAddr>,
}

impl Ask<'_> {
    /// The path without the slash at its end.
    pub fn plain_path(&self) -> &str {
        self.path.strip_suffix('/').unwrap_or(self.path)
    }

    /// Whether the client already has what the tag stands for.
    pub fn has(&self, etag: &str) -> bool {
        let tags = self.if_none_match.split(',').map(str::trim);
        let strong = tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag));
        !etag.is_empty() && strong.into_iter().any(|tag| tag == "*" || tag == etag)
    }
}

/// Whether clients and caches between may keep a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Nothing is said about it.
    #[default]
    Unsaid,
    /// They ask every time whether it is still the same.
    Public,
    /// Its URL says which it is: it never changes.
    Immutable,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// HTTP status.
    pub status: u16,
    /// Empty without a body.
    pub content_type: &'static str,
    /// With its quotes; empty if there is none.
    pub etag: String,
    /// Whether it may be kept.
    pub cache: Cache,
    /// It depends on the Accept header.
    pub varies: bool,
    /// Where it is instead; empty if it is here.
    pub location: String,
    /// What it says.
    pub body: Bytes,
}

impl Document {
    /// A document that is there.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type,
            body: body.into(),
            ..Self::default()
        }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// This document, or that the client already has it.
    #[must_use]
    pub fn unless_known(self, ask: &Ask<'_>) -> Self {
        if !ask.has(&self.etag) {
            return self;
        }
        Self {
            status: 304,
            content_type: "",
            body: Bytes::new(),
            ..self
        }
    }

    /// The response; `now` is when it is sent.
    pub fn into_response(self, now: SystemTime) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() =
            http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::OK);
        let headers = response.headers_mut();
        let mut set = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        };
        set(header::CONTENT_TYPE, self.content_type);
        set(header::ETAG, &self.etag);
        set(header::LOCATION, &self.location);
        set(header::VARY, if self.varies { "Accept" } else { "" });
        match self.cache {
            Cache::Unsaid => {}
            Cache::Public => set(header::CACHE_CONTROL, "public"),
            Cache::Immutable => {
                set(header::CACHE_CONTROL, "public, immutable");
                set(header::EXPIRES, &httpdate::fmt_http_date(now + FOR_EVER));
            }
        }
        response
    }
}

/// An entity tag with its quotes, of what it is to stand for.
pub fn etag(content: &[u8]) -> String {
    format!("\"{}\"", hash(content))
}

/// What entity tags and hashes in URLs are made of.
pub fn hash(content: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(128);
    for byte in Sha512::digest(content) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// An object of a type in an encoding. The document need not conform yet.
///
/// # Errors
///
/// An internal error, if the document is not of the type at all.
pub fn encoded(mut doc: Doc, schema: &Type, encoding: Encoding, pretty: bool) -> Answer {
    conform(&mut doc, schema, Unknown::Drop).map_err(|error| Box::new(Status::internal(error)))?;
    let form = Form {
        encoding,
        is_pretty: pretty,
        ..Form::default()
    };
    let body = respond::encode(&doc, schema, form);
    Ok(Document::ok(respond::media_type(encoding), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_is_not_sent_again() {
        let document = Document {
            etag: etag(b"x"),
            ..Document::ok("application/json", "x")
        };
        let ask = |if_none_match| Ask {
            if_none_match,
            ..Ask::default()
        };
        let known = document.clone().unless_known(&ask(&document.etag));
        assert_eq!((known.status, known.body.len()), (304, 0));
        let listed = format!("\"a\", W/{}", document.etag);
        assert_eq!(document.clone().unless_known(&ask(&listed)).status, 304);
        for other in ["", "\"other\"", "x"] {
            assert_eq!(document.clone().unless_known(&ask(other)).status, 200);
        }
    }

    #[test]
    fn headers_say_how_long_it_holds() {
        let mut document = Document::ok("application/json", "{}");
        document.varies = true;
        document.cache = Cache::Immutable;
        let response = document.into_response(SystemTime::UNIX_EPOCH);
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(header("cache-control"), "public, immutable");
        assert_eq!(header("expires"), "Fri, 01 Jan 1971 00:00:00 GMT");
        assert_eq!(header("vary"), "Accept");
        assert!(!response.headers().contains_key("etag"));
    }
}
