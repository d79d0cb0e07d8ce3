//! SPDY within the messages of a WebSocket: clients that may not speak SPDY forward ports so. The
//! kubelet gets what the messages hold.

use std::sync::Arc;

use http::header::{
    CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::backend::{Exchange, Location, send};
use super::outbox::converse;
use super::pipe::{Activity, BUFFER};
use super::websocket::{self, Kind};
use super::{IDLE, Inbound, unknown, upgrade};
use crate::instance::Api;
use crate::registry::Outcome;
use crate::respond::Reply;

/// What kubelets speak.
pub const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
/// What is spoken within it.
pub const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What the subprotocols start with that carry SPDY.
const PREFIX: &str = "SPDY/3.1+";
const SUFFIX: &str = ".k8s.io";

/// Whether a client wants to carry SPDY in a WebSocket.
pub fn is_requested(headers: &HeaderMap) -> bool {
    websocket::is_requested(headers) && protocols(headers).next().is_some()
}

/// What clients want to speak within SPDY.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let offered = websocket::offered(headers).filter(|name| name.ends_with(SUFFIX));
    offered.filter_map(|name| name.strip_prefix(PREFIX))
}

/// Connects a client's WebSocket with the kubelet.
///
/// # Errors
///
/// If the kubelet does not answer, or neither with SPDY nor with an error.
pub async fn answer(api: &Arc<Api>, inbound: Inbound<'_>, location: &Location) -> Outcome<Reply> {
    let stream = api.backends.dial(location).await;
    let stream = stream.map_err(|error| unknown(format!("error dialing backend: {error}")))?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers_for_kubelet(&inbound);
    let exchange = send(stream, location, request).await.map_err(unknown)?;
    if exchange.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::refused(exchange);
    }
    let Exchange { response, driver } = exchange;
    let text = |name: &HeaderName| {
        let value = response.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let is_spdy = text(&UPGRADE).to_ascii_lowercase().contains("spdy/3.1");
    if !is_spdy || !upgrade::is_requested(response.headers()) {
        let why = "unable to upgrade: missing upgrade headers in response";
        return Err(unknown(why));
    }
    let chosen = format!("{PREFIX}{}", text(&PROTOCOL).trim());
    let (reply, chosen) = websocket::accept(&inbound.headers, &[&chosen]);
    if chosen.is_none() {
        return Ok(reply);
    }
    let theirs = hyper::upgrade::on(response);
    let (ours, owner) = (inbound.upgrade, api.tasks.clone());
    api.tasks.spawn("tunnel", async move {
        let passing = async {
            if let Some((ours, theirs)) = upgrade::both(ours, theirs, driver).await {
                pass(ours, theirs).await;
            }
        };
        tokio::select! {
            () = passing => {}
            () = owner.cancelled() => {}
        }
    });
    Ok(reply)
}

/// The client's headers, with SPDY in place of the WebSocket.
fn headers_for_kubelet(inbound: &Inbound<'_>) -> HeaderMap {
    let mut headers = upgrade::with_host(inbound);
    for name in [
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
        CONTENT_LENGTH,
        PROTOCOL,
    ] {
        headers.remove(name);
    }
    headers.insert(UPGRADE, SPDY);
    for protocol in protocols(&inbound.headers) {
        if let Ok(value) = HeaderValue::from_str(protocol) {
            headers.append(PROTOCOL, value);
        }
    }
    upgrade::forwarded_for(&mut headers, inbound.peer);
    headers
}

/// Passes what messages hold, until either side ends.
async fn pass(client: TokioIo<Upgraded>, kubelet: TokioIo<Upgraded>) {
    let (from_client, to_client) = split(client);
    let (mut from_kubelet, mut to_kubelet) = split(kubelet);
    let (mut reader, writer, moving) = websocket::open(from_client, to_client);
    let activity = Activity::within(IDLE);
    let talking = async move {
        let inward = async {
            while let Ok(Some(piece)) = reader.next().await {
                activity.touch();
                to_kubelet.write_all(&piece.data).await?;
                to_kubelet.flush().await?;
            }
            std::io::Result::Ok(())
        };
        let outward = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                let read = from_kubelet.read(&mut buffer).await?;
                activity.touch();
                if read == 0 {
                    return writer.close().await;
                }
                writer.send(Kind::Binary, &[&buffer[..read]]).await?;
            }
        };
        let result = tokio::select! {
            result = inward => result,
            result = outward => result,
            () = activity.idle() => Ok(()),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a tunnel broke");
        }
        drop(reader);
        let _ = to_kubelet.shutdown().await;
    };
    converse(talking, moving).await;
}
