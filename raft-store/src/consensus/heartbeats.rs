//! Heartbeats of a leader to one peer: messages on a stream that stays open.
//!
//! A call of its own for each would cost both sides twice as much, and heartbeats are most of what an idle
//! cluster does.

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::peers::Client;
use crate::pb::peer::{AppendReply, AppendRequest};

/// The stream, if there is one.
#[derive(Default)]
pub(super) struct Heartbeats {
    open: Option<Open>,
}

struct Open {
    requests: mpsc::Sender<AppendRequest>,
    replies: Streaming<AppendReply>,
}

impl Heartbeats {
    /// Sends a heartbeat and waits for its answer. A stream that fails, or whose answer is not waited for,
    /// is given up: the next heartbeat opens another one, and no answer is taken for that to another.
    pub(super) async fn call(
        &mut self,
        client: &mut Client,
        request: AppendRequest,
    ) -> Result<AppendReply, Status> {
        let mut open = match self.open.take() {
            Some(open) => {
                let sent = open.requests.send(request).await;
                sent.map_err(|_| ended())?;
                open
            }
            None => {
                let (requests, receiver) = mpsc::channel(1);
                requests.send(request).await.map_err(|_| ended())?;
                let replies = client.heartbeats(ReceiverStream::new(receiver)).await?;
                Open {
                    requests,
                    replies: replies.into_inner(),
                }
            }
        };
        let reply = open.replies.next().await.ok_or_else(ended)??;
        self.open = Some(open);
        Ok(reply)
    }
}

fn ended() -> Status {
    Status::unavailable("the stream of heartbeats has ended")
}
