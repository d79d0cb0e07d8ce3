//! HTTP to nodes, pods and services: methods, bodies and answers pass, [`links`] to the backend become
//! links through the proxy.

mod links;

use std::sync::Arc;

use api::status::Status;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderName, HeaderValue, LOCATION, TE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use self::links::{Coding, Links, rewritten};
use super::backend::{Exchange, Location, escape, pieces, send};
use super::{Inbound, admit, options, target, upgrade};
use crate::body::Body;
use crate::instance::Api;
use crate::registry::{Call, Outcome};
use crate::respond::Reply;

/// What concerns one connection and is not passed on.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What only the API server may allow.
const CORS: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Answers a request that is proxied.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(api: &Arc<Api>, call: &Call<'_>, inbound: Inbound<'_>) -> Outcome<Reply> {
    let mut options = options::of_kind(match call.row.resource.name {
        "nodes" => "NodeProxyOptions",
        "pods" => "PodProxyOptions",
        _ => "ServiceProxyOptions",
    });
    let top = options.top();
    let path = rest(&call.info.rest, inbound.parts.uri.path());
    if !path.is_empty() {
        options.set(top, "path", &*path);
    }
    admit(call, &mut options).await?;
    let mut location = target::find(call).await?;
    location.path = clean(options.root().text(&["path"]));
    if upgrade::is_requested(&inbound.headers) {
        return upgrade::pass_on(api, inbound, &location).await;
    }
    let requested = inbound.parts.uri.path().to_string();
    let prefix = prefix(&requested, &location.path);
    if requested.ends_with('/') && !location.path.ends_with('/') {
        location.path.push('/');
    }
    let query = inbound.parts.uri.query();
    let is_read = matches!(inbound.parts.method, Method::GET | Method::HEAD);
    if location.path.is_empty() && is_read {
        return Ok(to_directory(&requested, query));
    }
    location.query = query.unwrap_or_default().to_string();
    forward(api, inbound, &location, &prefix).await
}

/// The path behind the proxy, with a slash in front; it ends with one if the request's path does.
fn rest(rest: &str, requested: &str) -> String {
    let mut path = match rest {
        "" => String::new(),
        rest if rest.starts_with('/') => rest.to_string(),
        rest => format!("/{rest}"),
    };
    if requested.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// A path without empty parts and dots, as Go cleans it; a slash at the end stays.
fn clean(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// What a request's path has before the path of the backend.
fn prefix(requested: &str, path: &str) -> String {
    let mut suffix = path.to_string();
    if requested.ends_with('/') && !suffix.ends_with('/') {
        suffix.push('/');
    }
    let decoded = percent_encoding::percent_decode_str(requested).decode_utf8_lossy();
    let prefix = decoded.strip_suffix(&*suffix).unwrap_or(&decoded);
    prefix.to_string()
}

/// The root of a backend is a directory, or its relative links would lead astray.
fn to_directory(requested: &str, query: Option<&str>) -> Reply {
    let query = query.filter(|query| !query.is_empty());
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{requested}/{query}")) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

async fn forward(
    api: &Arc<Api>,
    inbound: Inbound<'_>,
    location: &Location,
    prefix: &str,
) -> Outcome<Reply> {
    let mut headers = upgrade::with_host(&inbound);
    let takes_trailers = headers.get_all(TE).iter().any(|value| value == "trailers");
    remove_hop_by_hop(&mut headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade::forwarded_for(&mut headers, inbound.peer);
    let uri = clean(&format!("{prefix}{}", escape(&location.path)));
    if let Ok(uri) = HeaderValue::from_str(&uri) {
        headers.insert(FORWARDED_URI, uri);
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let links = Links {
        prefix: prefix.to_string(),
        backend: location.authority(),
        requested: host.unwrap_or_default().to_string(),
    };
    let failed = |error: String| {
        let message = format!("error trying to reach service: {error}");
        Box::new(Status::unavailable(message))
    };
    let stream = api.backends.dial(location).await.map_err(failed)?;
    let mut request = Request::new(inbound.body);
    *request.method_mut() = inbound.parts.method.clone();
    *request.headers_mut() = headers;
    let exchange = send(stream, location, request).await.map_err(failed)?;
    Ok(translate(exchange, links))
}

/// Removes what concerns the connection alone, and what it names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_string()))
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The backend's answer as the client gets it.
fn translate(exchange: Exchange, links: Links) -> Reply {
    let Exchange { response, driver } = exchange;
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    for name in CORS {
        head.headers.remove(name);
    }
    let body = pieces(body, driver);
    let text = |name: HeaderName| {
        let value = head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let redirect = text(LOCATION);
    let is_html = text(CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        == "text/html";
    let coding = Coding::of(text(CONTENT_ENCODING));
    let body = if !redirect.is_empty() {
        if let Ok(value) = HeaderValue::from_str(&links.rewrite(redirect)) {
            head.headers.insert(LOCATION, value);
        }
        Body::pieces(body)
    } else if let (true, Some(coding)) = (is_html, coding) {
        head.headers.remove(CONTENT_LENGTH);
        Body::pieces(rewritten(body, coding, links))
    } else {
        Body::pieces(body)
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_clean() {
        for (given, want) in [
            ("", ""),
            ("/", "/"),
            ("/a//b/./c/../d/", "/a/b/d/"),
            ("/../../etc", "/etc"),
            ("a", "/a"),
        ] {
            assert_eq!(clean(given), want, "{given}");
        }
        assert_eq!(rest("", "/proxy"), "");
        assert_eq!(rest("", "/proxy/"), "/");
        assert_eq!(rest("a/b", "/proxy/a/b/"), "/a/b/");
    }

    #[test]
    fn prefixes_are_what_comes_before() {
        assert_eq!(
            prefix("/api/v1/nodes/n/proxy/a%20b/", "/a b/"),
            "/api/v1/nodes/n/proxy"
        );
        assert_eq!(prefix("/api/v1/nodes/n/proxy", ""), "/api/v1/nodes/n/proxy");
    }
}
