//! The kubelet's side of exec over SPDY: echoes its input, and ends with its input.

use std::io;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, split};
use tokio::time::{Duration, sleep};

use super::super::spdy::{Decoder, Encoder, Frame, data, ping};

/// So many bytes come of a command that says much.
pub(super) const MUCH: usize = 4 << 20;

const EXIT: &str = r#"{"metadata":{},"status":"Failure","message":"x","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"5"}]}}"#;

pub(super) async fn serve(stream: TokioIo<Upgraded>, greeting: &str) -> io::Result<()> {
    let (from, mut to) = split(stream);
    let (mut decoder, mut encoder) = (Decoder::new(from), Encoder::new()?);
    // Some have no terminal and a second output, some the other way around.
    let is_tty = greeting.contains("tty=1");
    let wanted = 2
        + usize::from(greeting.contains("output=1"))
        + usize::from(is_tty || greeting.contains("error=1"));
    let mut streams: Vec<(u32, String)> = Vec::new();
    to.write_all(&ping(2)).await?;
    while streams.len() < wanted {
        match decoder.next().await?.unwrap() {
            Frame::Open { id, headers, .. } => {
                let [(name, value)] = &headers[..] else {
                    panic!("{headers:?}");
                };
                assert_eq!(name, "streamtype");
                streams.push((id, value.clone()));
                sleep(Duration::from_millis(5)).await;
                to.write_all(&encoder.reply(id)?).await?;
            }
            Frame::Ping(2) => {}
            other => panic!("{other:?} before all streams are open"),
        }
    }
    let id = |name: &str| {
        let found = streams.iter().find(|(_, known)| known == name);
        found.map(|(id, _)| *id)
    };
    let names: Vec<&str> = streams.iter().map(|(_, name)| &**name).collect();
    let first = id("stderr").or(id("stdout")).unwrap();
    let text = format!("{greeting}{}", names.join(" "));
    to.write_all(&data(first, text.as_bytes(), false)).await?;
    let stdout = id("stdout").unwrap();
    if greeting.contains("much") {
        to.write_all(&data(stdout, &vec![b'm'; MUCH], false))
            .await?;
    }
    loop {
        to.flush().await?;
        match decoder.next().await? {
            Some(Frame::Data {
                id: from,
                data: echo,
                is_last,
            }) => {
                assert!(Some(from) == id("stdin") || Some(from) == id("resize"));
                if !is_last {
                    to.write_all(&data(stdout, &echo, false)).await?;
                    continue;
                }
                for name in ["stdout", "stderr"] {
                    if let Some(id) = id(name) {
                        to.write_all(&data(id, &[], true)).await?;
                    }
                }
                let error = id("error").unwrap();
                to.write_all(&data(error, EXIT.as_bytes(), true)).await?;
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}
