//! Exec and attach for clients with WebSockets and kubelets without: every channel of the client is a
//! stream of SPDY, and what the kubelet says at the end is told on the client's error channel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::doc::{Doc, Node};
use api::status::Status;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, split};
use tokio::time::{sleep, timeout};

use super::backend::{Exchange, Location, pieces, send};
use super::outbox::{Outbox, converse, outbox};
use super::pipe::Activity;
use super::spdy::{self, Decoder, Encoder, Frame};
use super::tunnel::{PROTOCOL, SPDY};
use super::websocket::{self, Kind, Piece, Reader, Writer};
use super::{IDLE, Inbound, options};
use crate::body::Body;
use crate::instance::Api;
use crate::respond::Reply;

/// The subprotocol that is translated; older ones kubelets understand themselves.
const V5: &str = "v5.channel.k8s.io";
/// What is spoken within SPDY, the newest first.
const PROTOCOLS: [&str; 5] = [
    V5,
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// Channels of the client.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// What comes instead of a channel before one that ends.
const END: u8 = 255;
/// How long the kubelet may take to accept a stream.
const OPENING: Duration = Duration::from_secs(30);
/// Between signs of life to the kubelet.
const PING_PERIOD: Duration = Duration::from_secs(5);
/// How long the client may take to hear how it ended.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// What the kubelet says at the end is a Status.
const ERROR_MAX: usize = 64 << 10;

/// Whether a client speaks what has to be translated.
pub fn is_requested(headers: &HeaderMap) -> bool {
    websocket::is_requested(headers) && websocket::offered(headers).any(|name| name == V5)
}

/// Accepts a client's WebSocket and connects it with the kubelet.
pub fn answer(api: &Arc<Api>, inbound: Inbound<'_>, location: Location, options: &Doc) -> Reply {
    let (reply, chosen) = websocket::accept(&inbound.headers, &[V5]);
    if chosen.is_none() {
        return reply;
    }
    let streams = Streams::wanted(options);
    let (upgrade, api, owner) = (inbound.upgrade, api.clone(), api.tasks.clone());
    api.tasks.clone().spawn("translation", async move {
        tokio::select! {
            () = run(&api, upgrade, &location, streams) => {}
            () = owner.cancelled() => {}
        }
    });
    reply
}

/// Which streams there are, and their numbers in SPDY.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Streams(Vec<(u8, &'static str)>);

impl Streams {
    /// The order is that of the kubelet's own clients.
    fn wanted(options: &Doc) -> Self {
        let flag = |key| options::flag(options, key);
        let is_tty = flag("tty");
        let all = [
            (true, ERROR, "error"),
            (flag("stdin"), STDIN, "stdin"),
            (flag("stdout"), STDOUT, "stdout"),
            (flag("stderr") && !is_tty, STDERR, "stderr"),
            (is_tty, RESIZE, "resize"),
        ];
        let wanted = all.into_iter().filter(|(is_wanted, ..)| *is_wanted);
        Self(wanted.map(|(_, channel, name)| (channel, name)).collect())
    }

    /// The number of a channel's stream: clients have the odd ones.
    fn id(&self, channel: u8) -> Option<u32> {
        let at = self.0.iter().position(|(known, _)| *known == channel)?;
        Some(Self::number(at))
    }

    fn number(at: usize) -> u32 {
        2 * at as u32 + 1
    }

    fn channel(&self, id: u32) -> Option<u8> {
        let found = (0..).zip(&self.0).find(|(at, _)| Self::number(*at) == id);
        found.map(|(_, (channel, _))| *channel)
    }

    /// What the kubelet writes to, without the errors.
    fn outputs(&self) -> impl Iterator<Item = u8> {
        let channels = self.0.iter().map(|(channel, _)| *channel);
        channels.filter(|channel| matches!(*channel, STDOUT | STDERR))
    }
}

async fn run(api: &Api, upgrade: OnUpgrade, location: &Location, streams: Streams) {
    let Ok(Ok(client)) = timeout(OPENING, upgrade).await else {
        return;
    };
    let (from, to) = split(TokioIo::new(client));
    let (mut reader, writer, moving) = websocket::open(from, to);
    let talking = async move {
        // The first message tells that the connection stands.
        let first = streams.outputs().next().unwrap_or(ERROR);
        if writer.send(Kind::Binary, &[&[first]]).await.is_err() {
            return;
        }
        let outcome = execute(api, location, &streams, &mut reader, &writer).await;
        let Some(status) = outcome.map(|outcome| last_words(&outcome)) else {
            return;
        };
        let told = async {
            let text = status.to_string();
            writer
                .send(Kind::Binary, &[&[ERROR], text.as_bytes()])
                .await?;
            writer.close().await
        };
        let _ = timeout(LAST_WORDS, told).await;
    };
    converse(talking, moving).await;
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Success,
    Exit(u8),
    Failure(String),
}

/// Lets the kubelet do it; none if the client left before the end.
async fn execute<R: AsyncRead + Unpin>(
    api: &Api,
    location: &Location,
    streams: &Streams,
    reader: &mut Reader<R>,
    writer: &Writer,
) -> Option<Outcome> {
    let (kubelet, protocol) = match connect(api, location).await {
        Ok(connected) => connected,
        Err(why) => return Some(Outcome::Failure(why)),
    };
    let (from, to) = split(kubelet);
    let (out, moving) = outbox(to);
    let mut outcome = None;
    let talking = async {
        let mut decoder = Decoder::new(from);
        if let Err(error) = open(streams, &mut decoder, &out).await {
            outcome = Some(Outcome::Failure(error.to_string()));
            return;
        }
        let activity = Activity::within(IDLE);
        tokio::select! {
            said = outward(streams, &mut decoder, &out, writer, &activity) => {
                outcome = said.ok().map(|said| judge(&protocol, &said));
            }
            () = inward(streams, reader, &out, &activity) => {}
            () = pings(&out) => {}
            () = activity.idle() => {
                outcome = Some(Outcome::Failure("i/o timeout".to_string()));
            }
        }
        drop(out);
    };
    converse(talking, moving).await;
    outcome
}

/// A connection to the kubelet, and what is spoken on it.
async fn connect(api: &Api, location: &Location) -> Result<(TokioIo<Upgraded>, String), String> {
    let failed = |why: String| format!("error sending request: Post {:?}: {why}", location.url());
    let stream = api.backends.dial(location).await.map_err(failed)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, SPDY);
    for protocol in PROTOCOLS {
        headers.append(PROTOCOL, HeaderValue::from_static(protocol));
    }
    let exchange = send(stream, location, request).await.map_err(failed)?;
    let Exchange { response, driver } = exchange;
    if response.status().is_redirection() {
        return Err(failed("redirect not allowed".to_string()));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let body = Body::pieces(pieces(response.into_body(), driver));
        let body = Limited::new(body, ERROR_MAX).collect().await;
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        let why = upgrade_error(&String::from_utf8_lossy(&text));
        return Err(format!("unable to upgrade connection: {why}"));
    }
    let protocol = response.headers().get(&PROTOCOL);
    let protocol = protocol.and_then(|value| value.to_str().ok());
    let protocol = protocol.unwrap_or_default().to_string();
    let upgraded = async { tokio::join!(hyper::upgrade::on(response), driver).0 };
    match timeout(OPENING, upgraded).await {
        Ok(Ok(upgraded)) => Ok((TokioIo::new(upgraded), protocol)),
        _ => Err(failed("the connection broke".to_string())),
    }
}

/// The message of an error in JSON, or all of it.
fn upgrade_error(text: &str) -> String {
    let doc = api::codec::json::parse(text.as_bytes().to_vec()).unwrap_or_default();
    let found = ["message", "error"].map(|key| doc.root().text(&[key]).trim());
    let found = found.into_iter().chain([text.trim()]);
    let mut found = found.filter(|text| !text.is_empty());
    found.next().unwrap_or("empty server response").to_string()
}

/// Opens all streams, one after the other: kubelets drop what comes before they have accepted.
async fn open<R>(streams: &Streams, decoder: &mut Decoder<R>, out: &Outbox) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let mut encoder = Encoder::new()?;
    for (at, (_, name)) in streams.0.iter().enumerate() {
        let id = Streams::number(at);
        out.send(encoder.open(id, &[("streamtype", name)])?).await?;
        let accepted = async {
            loop {
                match decoder.next().await? {
                    Some(Frame::Reply { id: accepted, .. }) if accepted == id => return Ok(()),
                    Some(Frame::Reset { id: refused }) if refused == id => {
                        return Err(io::Error::other("Stream reset"));
                    }
                    Some(Frame::Ping(id)) => answer_ping(id, out),
                    Some(_) => {}
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        let accepted = timeout(OPENING, accepted).await;
        accepted.map_err(|_| io::Error::other("Timeout occurred"))??;
    }
    Ok(())
}

/// The kubelet's own pings are even.
fn answer_ping(id: u32, out: &Outbox) {
    if id.is_multiple_of(2) {
        out.urgent(spdy::ping(id));
    }
}

async fn pings(out: &Outbox) {
    for id in (1..1 << 31).step_by(2) {
        sleep(PING_PERIOD).await;
        out.urgent(spdy::ping(id));
    }
}

/// Passes output to the client until all of it is out; what the kubelet says at the end comes back.
async fn outward<R: AsyncRead + Unpin>(
    streams: &Streams,
    decoder: &mut Decoder<R>,
    out: &Outbox,
    writer: &Writer,
    activity: &Activity,
) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut awaited: Vec<u8> = streams.outputs().chain([ERROR]).collect();
    while !awaited.is_empty() {
        // A connection that breaks says nothing more.
        let Ok(Some(frame)) = decoder.next().await else {
            break;
        };
        activity.touch();
        let ended = match frame {
            Frame::Data { id, data, is_last } => {
                let channel = streams.channel(id);
                match channel {
                    Some(ERROR) if said.len() < ERROR_MAX => said.extend_from_slice(&data),
                    Some(channel @ (STDOUT | STDERR)) if !data.is_empty() => {
                        writer.send(Kind::Binary, &[&[channel], &data]).await?;
                    }
                    _ => {}
                }
                channel.filter(|_| is_last)
            }
            Frame::Reply { id, is_last: true } | Frame::Reset { id } => streams.channel(id),
            Frame::Ping(id) => {
                answer_ping(id, out);
                None
            }
            _ => None,
        };
        if let (Some(STDIN), Some(id)) = (ended, streams.id(STDIN)) {
            // Nobody reads it any more: the kubelet waits for its end.
            out.urgent(spdy::data(id, &[], true));
        }
        awaited.retain(|channel| Some(*channel) != ended);
    }
    Ok(said)
}

/// Passes input to the kubelet until the client leaves.
async fn inward<R: AsyncRead + Unpin>(
    streams: &Streams,
    reader: &mut Reader<R>,
    out: &Outbox,
    activity: &Activity,
) {
    let mut input = Input::default();
    while let Ok(Some(piece)) = reader.next().await {
        activity.touch();
        let Ok(order) = input.read(piece) else {
            return;
        };
        let Some((channel, data, is_last)) = order else {
            continue;
        };
        let id = match channel {
            STDIN | RESIZE => streams.id(channel),
            _ => None,
        };
        if let Some(id) = id.filter(|_| !input.has_ended(channel)) {
            if out.send(spdy::data(id, &data, is_last)).await.is_err() {
                return;
            }
            if is_last {
                input.ended.push(channel);
            }
        }
    }
}

/// What of the client's messages is for which channel.
#[derive(Default)]
struct Input {
    /// Of the message that is being read.
    channel: Option<u8>,
    ended: Vec<u8>,
}

impl Input {
    /// What to do with a piece: pass it on to a channel, and whether that ends then.
    fn read(&mut self, piece: Piece) -> Result<Option<(u8, Bytes, bool)>, ()> {
        let mut data = piece.data;
        if piece.is_first {
            self.channel = None;
        }
        let channel = match self.channel {
            Some(channel) => channel,
            None if data.is_empty() => return Ok(None),
            None => data.split_to(1)[0],
        };
        self.channel = Some(channel);
        if channel != END {
            let order = (channel, data, false);
            return Ok((!order.1.is_empty()).then_some(order));
        }
        match data[..] {
            [] if !piece.is_last => Ok(None),
            [channel] if channel <= RESIZE => Ok(Some((channel, Bytes::new(), true))),
            _ => Err(()),
        }
    }

    fn has_ended(&self, channel: u8) -> bool {
        self.ended.contains(&channel)
    }
}

/// What the kubelet's last words mean.
fn judge(protocol: &str, said: &[u8]) -> Outcome {
    if said.is_empty() {
        return Outcome::Success;
    }
    let text = String::from_utf8_lossy(said);
    if !matches!(protocol, V5 | "v4.channel.k8s.io") {
        return Outcome::Failure(format!("error executing remote command: {text}"));
    }
    let wrong = |why: String| Outcome::Failure(format!("error stream protocol error: {why}"));
    let doc = match api::codec::json::parse(said.to_vec()) {
        Ok(doc) => doc,
        Err(error) => return wrong(format!("{error} in {text:?}")),
    };
    let root = doc.root();
    match (root.text(&["status"]), root.text(&["reason"])) {
        ("Success", _) => Outcome::Success,
        ("Failure", "NonZeroExitCode") => {
            let Some(details) = root.get("details") else {
                return wrong("details must be set".to_string());
            };
            let mut causes = details.get("causes").into_iter().flat_map(Node::children);
            let Some(cause) = causes.find(|cause| cause.text(&["reason"]) == "ExitCode") else {
                return wrong("no ExitCode cause given".to_string());
            };
            let code = cause.text(&["message"]);
            match code.parse() {
                Ok(code) => Outcome::Exit(code),
                Err(_) => wrong(format!("invalid exit code value {code:?}")),
            }
        }
        ("Failure", _) => Outcome::Failure(root.text(&["message"]).to_string()),
        _ => wrong("unknown error".to_string()),
    }
}

/// The Status for the client's error channel.
fn last_words(outcome: &Outcome) -> Doc {
    let mut doc = match outcome {
        Outcome::Failure(why) => Status::internal(why).to_doc(),
        _ => Doc::new(),
    };
    let top = doc.top();
    for key in ["kind", "apiVersion"] {
        doc.remove(top, key);
    }
    doc.object(top, "metadata");
    match outcome {
        Outcome::Success => {
            doc.set(top, "status", "Success");
        }
        Outcome::Exit(code) => {
            doc.set(top, "status", "Failure");
            let message = format!(
                "command terminated with non-zero exit code: command terminated with exit code {code}"
            );
            doc.set(top, "message", &*message);
            doc.set(top, "reason", "NonZeroExitCode");
            let details = doc.object(top, "details");
            let causes = doc.list(details, "causes");
            let cause = doc.push(causes, api::doc::New::Object);
            doc.set(cause, "reason", "ExitCode");
            doc.set(cause, "message", &*code.to_string());
        }
        Outcome::Failure(_) => {}
    }
    doc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_told_as_upstream_tells_them() {
        let exit = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"2"}]}}"#;
        let told_exit = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 2","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"2"}]}}"#;
        let success = r#"{"metadata":{},"status":"Success"}"#;
        for (protocol, said, want) in [
            (V5, "", success),
            (V5, r#"{"status":"Success"}"#, success),
            (V5, exit, told_exit),
        ] {
            assert_eq!(
                last_words(&judge(protocol, said.as_bytes())).to_string(),
                want
            );
        }
        for (protocol, said, want) in [
            (V5, r#"{"status":"Failure","message":"why"}"#, "why"),
            (V5, "{}", "error stream protocol error: unknown error"),
            (
                V5,
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"300"}]}}"#,
                "error stream protocol error: invalid exit code value \"300\"",
            ),
            (
                "v2.channel.k8s.io",
                "why",
                "error executing remote command: why",
            ),
        ] {
            let words = last_words(&judge(protocol, said.as_bytes()));
            let message = words.root().text(&["message"]);
            assert_eq!(message, format!("Internal error occurred: {want}"));
        }
    }

    #[test]
    fn channels_of_messages() {
        let piece = |data: &'static [u8], is_first, is_last| Piece {
            is_first,
            is_last,
            data: Bytes::from_static(data),
        };
        let mut input = Input::default();
        let mut read = |data, is_first, is_last| {
            let order = input.read(piece(data, is_first, is_last));
            order.map(|order| order.map(|(channel, data, end)| (channel, data.to_vec(), end)))
        };
        assert_eq!(
            read(b"\0ab", true, false),
            Ok(Some((0, b"ab".to_vec(), false)))
        );
        assert_eq!(
            read(b"\0", false, true),
            Ok(Some((0, b"\0".to_vec(), false)))
        );
        assert_eq!(read(b"", true, true), Ok(None));
        assert_eq!(read(b"\0", true, true), Ok(None));
        assert_eq!(read(b"\xff", true, false), Ok(None));
        assert_eq!(read(b"\0", false, true), Ok(Some((0, Vec::new(), true))));
        assert_eq!(read(b"\xff\x09", true, true), Err(()));
        assert_eq!(read(b"\xff", true, true), Err(()));
    }

    #[test]
    fn errors_of_upgrades_are_read() {
        assert_eq!(upgrade_error(r#"{"message":" a "}"#), "a");
        assert_eq!(upgrade_error(r#"{"error":"b"}"#), "b");
        assert_eq!(upgrade_error("c\n"), "c");
        assert_eq!(upgrade_error(""), "empty server response");
    }
}
