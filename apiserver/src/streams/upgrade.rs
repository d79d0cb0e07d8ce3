//! Connections that become something else: the backend decides what, the bytes pass.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::backend::{Driver, Exchange, Location, pieces, send};
use super::{IDLE, Inbound, pipe, unknown};
use crate::body::Body;
use crate::instance::Api;
use crate::registry::Outcome;
use crate::respond::Reply;

/// What clients come from, one address for each proxy on the way.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether a client wants its connection to become something else.
pub fn is_requested(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.contains("upgrade")
    })
}

/// Adds a client to those that the request came from.
pub fn forwarded_for(headers: &mut HeaderMap, peer: SocketAddr) {
    let prior = headers.get_all(FORWARDED_FOR).iter();
    let mut all: Vec<String> = prior
        .filter_map(|value| value.to_str().ok().map(str::to_string))
        .collect();
    all.push(peer.ip().to_canonical().to_string());
    if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// The headers of a request as HTTP/1.1 has them: with the host that the client named.
pub fn with_host(inbound: &Inbound<'_>) -> HeaderMap {
    let mut headers = inbound.headers.clone();
    if let Some(host) = inbound.parts.uri.authority()
        && !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        headers.insert(HOST, host);
    }
    headers
}

/// Passes on a request to become something else, and its connection.
///
/// # Errors
///
/// If nobody answers, or neither with an upgrade nor with an error.
pub async fn pass_on(api: &Arc<Api>, inbound: Inbound<'_>, location: &Location) -> Outcome<Reply> {
    let mut headers = with_host(&inbound);
    forwarded_for(&mut headers, inbound.peer);
    let stream = api.backends.dial(location).await;
    let stream = stream.map_err(|error| unknown(format!("error dialing backend: {error}")))?;
    let mut request = Request::new(inbound.body);
    *request.method_mut() = inbound.parts.method.clone();
    *request.headers_mut() = headers;
    let exchange = send(stream, location, request).await.map_err(unknown)?;
    if exchange.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused(exchange);
    }
    let Exchange { response, driver } = exchange;
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = response.status();
    *reply.headers_mut() = response.headers().clone();
    let theirs = hyper::upgrade::on(response);
    let (ours, owner) = (inbound.upgrade, api.tasks.clone());
    api.tasks.spawn("upgraded", async move {
        let passing = async {
            if let Some((ours, theirs)) = both(ours, theirs, driver).await {
                pipe::join(ours, theirs).await;
            }
        };
        tokio::select! {
            () = passing => {}
            () = owner.cancelled() => {}
        }
    });
    Ok(reply)
}

/// Both connections, once they are what they become.
pub async fn both(
    ours: OnUpgrade,
    theirs: OnUpgrade,
    driver: Driver,
) -> Option<(TokioIo<Upgraded>, TokioIo<Upgraded>)> {
    let upgraded = async { tokio::join!(ours, theirs, driver) };
    match timeout(IDLE, upgraded).await {
        Ok((Ok(ours), Ok(theirs), ())) => Some((TokioIo::new(ours), TokioIo::new(theirs))),
        _ => None,
    }
}

/// The backend's answer, if it is an error; its connection ends with it.
///
/// # Errors
///
/// If it is none.
pub fn refused(exchange: Exchange) -> Outcome<Reply> {
    let (mut head, body) = exchange.response.into_parts();
    if head.status.as_u16() < 400 {
        let code = head.status.as_u16();
        return Err(unknown(format!(
            "invalid upgrade response: status code {code}"
        )));
    }
    for name in [CONNECTION, UPGRADE] {
        head.headers.remove(name);
    }
    head.headers.remove(http::header::TRANSFER_ENCODING);
    let mut reply = Response::new(Body::pieces(pieces(body, exchange.driver)));
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    Ok(reply)
}
