//! Objects and errors as responses, in the encoding that the client accepts.

use api::codec::{Encoding, json, protobuf, yaml};
use api::doc::Doc;
use api::schema::{self, Type};
use api::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY,
};
use http::{HeaderMap, Response, StatusCode};
use std::io::Write;

use crate::body::Body;

/// A response.
pub type Reply = Response<Body>;

/// Bodies from here on are compressed for clients that accept it, as upstream does: below, the
/// time costs more than the bytes.
pub const GZIP_MIN: usize = 128 * 1024;
/// Upstream's level.
const GZIP_LEVEL: u32 = 1;

/// How a response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The encoding.
    pub encoding: Encoding,
    /// JSON is indented.
    pub is_pretty: bool,
    /// The client takes gzip.
    pub is_gzip: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            encoding: Encoding::Json,
            is_pretty: false,
            is_gzip: false,
        }
    }
}

/// Whether a client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip")
}

/// The media type of an encoding.
pub fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
    }
}

/// A document of a type as bytes.
pub fn encode(doc: &Doc, schema: &Type, form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    match form.encoding {
        Encoding::Json => {
            json::write(doc.root(), &mut out);
            if form.is_pretty {
                let compact = std::mem::take(&mut out);
                json::indent(&compact, &mut out);
            }
            out.push(b'\n');
        }
        Encoding::Yaml => out = yaml::write(doc.root()).into_bytes(),
        Encoding::Protobuf => protobuf::encode_enveloped(doc, schema, &mut out),
    }
    out
}

/// A response of an object.
pub fn object(code: u16, doc: &Doc, schema: &Type, form: Form) -> Reply {
    bytes(code, encode(doc, schema, form), form)
}

/// A response of bytes in the encoding of a form, compressed where that pays.
pub fn bytes(code: u16, body: impl Into<Bytes>, form: Form) -> Reply {
    let reply = raw(code, media_type(form.encoding), body.into());
    compressed(reply, form.is_gzip)
}

/// A response, compressed where that pays and the client takes it.
pub fn compressed(reply: Reply, is_gzip: bool) -> Reply {
    let (mut head, body) = reply.into_parts();
    let body = match body {
        Body::Whole(Some(bytes)) if is_gzip && bytes.len() >= GZIP_MIN => {
            head.headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers
                .append(VARY, HeaderValue::from_static("Accept-Encoding"));
            Body::from(gzip(&bytes))
        }
        body => body,
    };
    Response::from_parts(head, body)
}

/// A response of bytes.
pub fn raw(code: u16, content_type: &'static str, body: impl Into<Body>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

fn gzip(body: &[u8]) -> Bytes {
    let buffer = Vec::with_capacity(body.len() / 4);
    let mut encoder = GzEncoder::new(buffer, Compression::new(GZIP_LEVEL));
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// The type of errors.
pub fn status_schema() -> Option<&'static Type> {
    schema::kind("", "v1", "Status")
}

/// An error as a response.
pub fn status(status: &Status, form: Form) -> Reply {
    let doc = status.to_doc();
    let mut reply = match status_schema() {
        Some(schema) => object(status.code, &doc, schema, form),
        None => raw(status.code, "application/json", doc.to_string()),
    };
    let seconds = status.details.retry_after_seconds;
    if seconds > 0 {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

/// A success that has no object of its own: what a deletion answers.
pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", "Status");
    doc.set(top, "apiVersion", "v1");
    doc.object(top, "metadata");
    doc.set(top, "status", "Success");
    let details = doc.object(top, "details");
    for (key, value) in [
        ("name", name),
        ("group", group),
        ("kind", resource),
        ("uid", uid),
    ] {
        if !value.is_empty() {
            doc.set(details, key, value);
        }
    }
    doc
}

/// Adds warnings as upstream's clients read them.
pub fn warn(reply: &mut Reply, warnings: &[String]) {
    const WARNING: HeaderName = http::header::WARNING;
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            reply.headers_mut().append(WARNING, value);
        }
    }
}
