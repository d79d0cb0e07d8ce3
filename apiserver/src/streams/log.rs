//! The output of containers, as the kubelet of their node has it.

use std::sync::Arc;

use api::status::{Qualified, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::backend::{Exchange, Peer, pieces, send};
use super::node::Kubelet;
use super::options::LogOptions;
use super::outbox::converse;
use super::pipe::Activity;
use super::remote::container;
use super::websocket::{self, Kind};
use super::{IDLE, Inbound, object, unknown};
use crate::body::{Body, StreamError};
use crate::instance::Api;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Reply};

/// Of an error of the kubelet no more is read.
const ERROR_MAX: usize = 50_000;
const SUBPROTOCOLS: [&str; 3] = ["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";

/// Answers a request for a log.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(api: &Arc<Api>, call: &Call<'_>, inbound: Inbound<'_>) -> Outcome<Reply> {
    let info = call.info;
    let options = LogOptions::read(call.query, &info.name)?;
    let pod = object(call, "pods", &info.namespace, &info.name).await?;
    let container = container(&pod, &options.container)?;
    let node = pod.root().text(&["spec", "nodeName"]);
    if node.is_empty() {
        let mut nothing = Response::new(Body::empty());
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    }
    let kubelet = Kubelet::find(call, node).await?;
    let path = format!(
        "/containerLogs/{}/{}/{container}",
        info.namespace, info.name
    );
    let mut location = kubelet.location(path, options.query());
    if options.trusts_any {
        location.tls = Some(Peer::AnyKubelet);
    }
    let failed = |error: String| unknown(format!("Get {:?}: {error}", location.url()));
    let stream = api.backends.dial(&location).await.map_err(failed)?;
    let request = Request::new(Empty::<Bytes>::new());
    let exchange = send(stream, &location, request).await.map_err(failed)?;
    let Exchange { response, driver } = exchange;
    let (head, body) = response.into_parts();
    if head.status.is_redirection() && head.headers.contains_key(http::header::LOCATION) {
        return Err(failed("redirects forbidden".to_string()));
    }
    let body = pieces(body, driver);
    if !(200..=206).contains(&head.status.as_u16()) {
        let text = Limited::new(Body::pieces(body), ERROR_MAX).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        return Err(refusal(head.status.as_u16(), &info.name, &text));
    }
    let owner = api.tasks.clone();
    // A log that is followed would hold up the end of the server.
    let over = async move { owner.cancelled().await };
    let body = match options.follows() {
        true => Body::pieces(body.take_until(Box::pin(over))),
        false => Body::pieces(body),
    };
    if websocket::is_requested(&inbound.headers) {
        return Ok(over_websocket(api, inbound, body));
    }
    Ok(respond_with(body))
}

fn respond_with(body: Body) -> Reply {
    let mut reply = respond::raw(200, "text/plain", Bytes::new());
    *reply.body_mut() = body;
    reply
}

/// Browsers may read logs from a WebSocket.
fn over_websocket(api: &Arc<Api>, inbound: Inbound<'_>, body: Body) -> Reply {
    let (reply, chosen) = websocket::accept(&inbound.headers, &SUBPROTOCOLS);
    let Some(chosen) = chosen else {
        return reply;
    };
    let owner = api.tasks.clone();
    let is_text = chosen == BASE64;
    api.tasks.spawn("log-websocket", async move {
        tokio::select! {
            () = write_messages(inbound.upgrade, body, is_text) => {}
            () = owner.cancelled() => {}
        }
    });
    reply
}

async fn write_messages(upgrade: OnUpgrade, body: Body, is_text: bool) {
    let Ok(upgraded) = upgrade.await else { return };
    let (from, to) = tokio::io::split(TokioIo::new(upgraded));
    let (mut reader, writer, moving) = websocket::open(from, to);
    let activity = Activity::within(IDLE);
    let talking = async move {
        let sending = async {
            // The first message tells that the connection stands.
            let first = futures::stream::iter([Ok(Bytes::new())]);
            let mut pieces = std::pin::pin!(first.chain(data_of(body)));
            while let Some(Ok(piece)) = pieces.next().await {
                let sent = match is_text {
                    true => {
                        writer
                            .send(Kind::Text, &[STANDARD.encode(piece).as_bytes()])
                            .await
                    }
                    false => writer.send(Kind::Binary, &[&piece]).await,
                };
                activity.touch();
                if sent.is_err() {
                    return;
                }
            }
            let _ = writer.close().await;
        };
        tokio::select! {
            () = sending => {}
            // Clients have nothing to say.
            () = async { while let Ok(Some(_)) = reader.next().await {} } => {}
            () = activity.idle() => {}
        }
    };
    converse(talking, moving).await;
}

fn data_of(body: Body) -> impl Stream<Item = Result<Bytes, StreamError>> {
    let stream = http_body_util::BodyStream::new(body);
    stream.filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    })
}

/// The error for one of the kubelet.
fn refusal(code: u16, pod: &str, text: &str) -> Box<Status> {
    match code {
        500 => return Status::internal(text).into(),
        400 => return Status::bad_request(text).into(),
        _ => {}
    }
    let (reason, message): (&str, String) = match code {
        409 => ("Conflict", "the server reported a conflict".into()),
        404 => (
            "NotFound",
            "the server could not find the requested resource".into(),
        ),
        401 => (
            "Unauthorized",
            "the server has asked for the client to provide credentials".into(),
        ),
        403 => ("Forbidden", text.into()),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource".into(),
        ),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later".into(),
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request".into(),
        ),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be \
             processing the request"
                .into(),
        ),
        501.. => (
            "InternalError",
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
        _ => (
            "",
            format!(
                "the server responded with the status code {code} but did not return more \
                 information"
            ),
        ),
    };
    let of = Qualified {
        group: "",
        name: "pods/log",
    };
    let mut status = Status {
        code,
        reason,
        message: format!("{message} ( {of} {pod})"),
        ..Status::default()
    };
    status.details.kind = of.name.to_string();
    status.details.name = pod.to_string();
    Box::new(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_kubelets_become_errors_of_the_server() {
        let cases = [
            (500, "Internal error occurred: why"),
            (400, "why"),
            (
                404,
                "the server could not find the requested resource ( pods/log p)",
            ),
            (403, "why ( pods/log p)"),
            (
                502,
                "an error on the server (\"why\") has prevented the request from succeeding ( pods/log p)",
            ),
            (
                418,
                "the server responded with the status code 418 but did not return more information ( pods/log p)",
            ),
        ];
        for (code, want) in cases {
            let status = refusal(code, "p", "why");
            assert_eq!((status.code, &*status.message), (code, want));
        }
    }
}
