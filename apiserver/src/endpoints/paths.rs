//! Paths that are no resource: health, version, metrics, keys of tokens, discovery.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Response};

use super::resource::{accept_of, is_pretty};
use crate::body::Body;
use crate::discovery;
use crate::document::{Ask, Document};
use crate::health;
use crate::instance::Api;
use crate::request::{Query, RequestInfo};
use crate::respond::{self, Reply};
use crate::server::Peer;
use crate::service_account_tokens::{JWKS_PATH, MAX_AGE_SECONDS, OPENID_CONFIGURATION_PATH};
use crate::user::User;

/// Answers a request to a path.
pub async fn answer(
    api: &Arc<Api>,
    peer: &Peer,
    parts: &Parts,
    query: &Query,
    info: &RequestInfo,
    _user: &User,
) -> Reply {
    let path = &*info.path;
    if let Some(reply) = health::answer(api, path, query).await {
        return reply;
    }
    match path {
        "/metrics" => {
            let page = api.metrics.page(api);
            return respond::raw(200, "text/plain; version=0.0.4; charset=utf-8", page);
        }
        "/version" | "/version/" => return send(api, api.build.document()),
        OPENID_CONFIGURATION_PATH | JWKS_PATH => {
            if let Some(reply) = keys(api, path) {
                return reply;
            }
        }
        _ => {}
    }
    let ask = Ask {
        path,
        query: parts.uri.query().unwrap_or_default(),
        accept: accept_of(&parts.headers),
        if_none_match: text(parts, http::header::IF_NONE_MATCH),
        pretty: is_pretty(&parts.headers, query),
        client: Some(peer.address.ip()),
    };
    if let Some(document) = discovery::respond(&api.catalog, &api.addresses, &ask) {
        return send(api, document);
    }
    if path.starts_with("/openapi/")
        && let Some(reply) = openapi(api, parts, &ask).await
    {
        return reply;
    }
    if path == "/" {
        return send(api, index());
    }
    respond::raw(404, "text/plain; charset=utf-8", "404 page not found\n")
}

/// A document of OpenAPI: built by whoever asks first, which takes a while.
async fn openapi(api: &Arc<Api>, parts: &Parts, ask: &Ask<'_>) -> Option<Reply> {
    let (building, uri, headers) = (api.clone(), parts.uri.clone(), parts.headers.clone());
    let (pretty, client) = (ask.pretty, ask.client);
    let built = api.tasks.blocking(move || {
        let if_none_match = headers.get(http::header::IF_NONE_MATCH);
        let if_none_match = if_none_match.and_then(|value| value.to_str().ok());
        building.openapi.respond(&Ask {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            accept: accept_of(&headers),
            if_none_match: if_none_match.unwrap_or_default(),
            pretty,
            client,
        })
    });
    let document = built.await?;
    let is_gzip = respond::takes_gzip(&parts.headers);
    Some(respond::compressed(send(api, document), is_gzip))
}

/// The paths that there are.
fn index() -> Document {
    const PATHS: [&str; 12] = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let quoted: Vec<String> = PATHS.iter().map(|path| format!("    {path:?}")).collect();
    let body = format!("{{\n  \"paths\": [\n{}\n  ]\n}}", quoted.join(",\n"));
    Document::ok("application/json", body)
}

fn text(parts: &Parts, name: http::HeaderName) -> &str {
    let value = parts.headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn send(api: &Api, document: Document) -> Reply {
    let response: Response<bytes::Bytes> = document.into_response(api.seams.clock.wall());
    response.map(Body::from)
}

/// The documents by which others verify tokens.
fn keys(api: &Api, path: &str) -> Option<Reply> {
    let issuer = api.issuer.as_ref()?;
    let (content_type, body) = match path {
        JWKS_PATH => ("application/jwk-set+json", issuer.jwks()),
        _ => ("application/json", issuer.openid_configuration().ok()?),
    };
    let mut reply = respond::raw(200, content_type, body);
    if let Ok(age) = HeaderValue::from_str(&format!("public, max-age={MAX_AGE_SECONDS}")) {
        reply.headers_mut().insert(http::header::CACHE_CONTROL, age);
    }
    Some(reply)
}
