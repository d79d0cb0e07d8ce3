//! A watch over gRPC that survives its endpoint.
//!
//! The watch remembers the next revision that it owes its reader. When its stream breaks it opens
//! another at the next endpoint from exactly there, so that nothing is missed or told twice.

use std::future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};

use super::RemoteStore;
use super::call::Failure;
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{
    StatusRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::server::status;
use crate::store::{Store, WatchItem, WatchStream};

/// How long an endpoint may take to confirm a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two requests for progress while the answer still lags behind.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// After every endpoint was tried once; jitter is added.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// One watch; see the module.
pub(super) struct RemoteWatch {
    store: RemoteStore,
    request: WatchCreateRequest,
    /// The next revision owed; 0 until the first stream has said where "now" is.
    next: i64,
    open: Option<Open>,
    /// The revision that a requested progress must reach, and when to ask (again).
    wanted: Option<(i64, Instant)>,
}

/// A stream at one endpoint.
struct Open {
    index: usize,
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl RemoteWatch {
    /// Opens the watch; it is in place when this returns.
    pub(super) async fn open(
        store: RemoteStore,
        request: WatchCreateRequest,
    ) -> Result<RemoteWatch> {
        let request = WatchCreateRequest {
            watch_id: 0,
            fragment: false,
            ..request
        };
        let next = request.start_revision.max(0);
        let limit = store.inner.config.request_timeout;
        let mut watch = RemoteWatch {
            store,
            request,
            next,
            open: None,
            wanted: None,
        };
        watch.reopen(limit).await?;
        Ok(watch)
    }

    /// Opens a stream at the first endpoint that serves it.
    async fn reopen(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let inner = self.store.inner.clone();
        for attempt in 1.. {
            let index = inner.current.load(Relaxed);
            let opened = timeout(OPEN_TIMEOUT, self.open_at(index)).await;
            let failure = match opened.unwrap_or(Err(Failure::Lost)) {
                Ok((open, created)) => {
                    self.open = Some(open);
                    return self.take(created).map(|_| ());
                }
                Err(failure) => failure,
            };
            if !failure.leaves_endpoint() {
                return Err(failure.into_error());
            }
            inner.leave(index);
            let round_over = attempt % inner.endpoints.len() == 0;
            let pause = if round_over {
                inner.seams.rng.jitter(ROUND_PAUSE)
            } else {
                Duration::ZERO
            };
            if Instant::now() + pause >= deadline {
                return Err(failure.into_error());
            }
            sleep(pause).await;
        }
        Err(Error::Timeout)
    }

    /// Opens a stream at one endpoint; yields it with the confirmation.
    async fn open_at(&self, index: usize) -> Result<(Open, WatchResponse), Failure> {
        let connection = self.store.inner.endpoints[index].connection().await;
        let connection = connection.map_err(|error| Failure::Unsent(error.to_string()))?;
        let (requests, outgoing) = mpsc::channel(4);
        let create = WatchCreateRequest {
            start_revision: self.next,
            ..self.request.clone()
        };
        // The channel was just made, so that there is room.
        let _ = requests.try_send(wrap(RequestUnion::CreateRequest(create)));
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        // A member without a leader would stay silent; so it says so, and another is asked.
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        let origin = connection.origin();
        let mut client =
            WatchClient::with_origin(connection, origin).max_decoding_message_size(usize::MAX);
        let mut responses = client
            .watch(request)
            .await
            .map_err(Failure::of)?
            .into_inner();
        let ended = || Failure::Refused(Status::unavailable("watch stream ended"));
        let created = responses
            .message()
            .await
            .map_err(Failure::of)?
            .ok_or_else(ended)?;
        Ok((
            Open {
                index,
                requests,
                responses,
            },
            created,
        ))
    }

    /// What a response means to the reader; none for those that only concern the watch itself.
    fn take(&mut self, response: WatchResponse) -> Result<Option<WatchItem>> {
        let revision = response.header.map_or(0, |header| header.revision);
        if response.canceled {
            self.open = None;
            return Err(cancellation(&response));
        }
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Ok(None);
        }
        if response.events.is_empty() {
            return Ok(self.take_progress(revision));
        }
        let mut events = response.events;
        // A stream from the right revision repeats nothing; this holds whatever it sends.
        events.retain(|event| {
            event
                .kv
                .as_ref()
                .is_some_and(|kv| kv.mod_revision >= self.next)
        });
        let Some(last) = events.last().and_then(|event| event.kv.as_ref()) else {
            return Ok(None);
        };
        let revision = last.mod_revision;
        self.next = revision + 1;
        Ok(Some(WatchItem::Events { revision, events }))
    }

    fn take_progress(&mut self, revision: i64) -> Option<WatchItem> {
        // A member that lags behind the one before it tells nothing new.
        if revision + 1 < self.next {
            return None;
        }
        self.next = revision + 1;
        match self.wanted {
            Some((target, _)) if revision < target => return None,
            Some(_) => self.wanted = None,
            None if !self.request.progress_notify => return None,
            None => {}
        }
        Some(WatchItem::Progress { revision })
    }

    /// The stream broke: goes on elsewhere unless the reason forbids it.
    fn lost(&mut self, failure: Failure) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.store.inner.leave(open.index);
        }
        let refused = matches!(&failure, Failure::Refused(status)
            if !matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal));
        if refused {
            return Err(failure.into_error());
        }
        if let Some((_, ask_at)) = &mut self.wanted {
            *ask_at = Instant::now();
        }
        Ok(())
    }

    /// Whether the endpoint in use answers progress requests only when the watch is synced.
    async fn check_progress_support(&self) -> Result<()> {
        let inner = &self.store.inner;
        let index = self
            .open
            .as_ref()
            .map_or_else(|| inner.current.load(Relaxed), |o| o.index);
        let status = inner.call_at(index, |c| async move {
            c.maintenance().status(StatusRequest {}).await
        });
        if has_safe_progress(&status.await?.version) {
            return Ok(());
        }
        Err(Error::Unimplemented(
            "watch progress on request before etcd 3.4.25 and 3.5.8",
        ))
    }
}

#[async_trait]
impl WatchStream for RemoteWatch {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            let Some(open) = &mut self.open else {
                self.reopen(self.store.inner.config.watch_patience).await?;
                continue;
            };
            let ask_at = self.wanted.map(|(_, at)| at);
            tokio::select! {
                response = open.responses.message() => match response {
                    Ok(Some(response)) => if let Some(item) = self.take(response)? {
                        return Ok(item);
                    },
                    Ok(None) => self.lost(Failure::Lost)?,
                    Err(status) => self.lost(Failure::of(status))?,
                },
                () = reached(ask_at) => {
                    // A full channel means that requests are under way already.
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    let _ = open.requests.try_send(wrap(ask));
                    if let Some((_, ask_at)) = &mut self.wanted {
                        *ask_at = Instant::now() + PROGRESS_INTERVAL;
                    }
                }
            }
        }
    }

    async fn request_progress(&mut self) -> Result<()> {
        self.check_progress_support().await?;
        let revision = self.store.progress().await?;
        let target = self
            .wanted
            .map_or(revision, |(target, _)| target.max(revision));
        self.wanted = Some((target, Instant::now()));
        Ok(())
    }
}

async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => future::pending().await,
    }
}

fn wrap(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}

fn cancellation(response: &WatchResponse) -> Error {
    if response.compact_revision > 0 {
        return Error::Compacted {
            compact_revision: response.compact_revision,
        };
    }
    match status::parse(Code::Unavailable, &response.cancel_reason) {
        Error::Remote { message, .. } if message.is_empty() => Error::Remote {
            code: Code::Cancelled as i32,
            message: "watch canceled".to_owned(),
        },
        error => error,
    }
}

/// Older releases answer before the watch is synced (etcd#15220): the answer may overtake events.
fn has_safe_progress(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u64>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    match (part(), part(), part()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        version => version >= (3, 6, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_trusted_from_the_releases_that_fixed_it() {
        for version in ["3.4.25", "3.4.31", "3.5.8", "3.6.0", "3.6.0-rc.1", "4.0.0"] {
            assert!(has_safe_progress(version), "{version}");
        }
        for version in ["3.4.23", "3.4.23+dfsg", "3.5.7", "3.3.99", ""] {
            assert!(!has_safe_progress(version), "{version}");
        }
    }

    #[test]
    fn a_cancelled_watch_tells_why() {
        let compacted = WatchResponse {
            compact_revision: 9,
            ..WatchResponse::default()
        };
        assert_eq!(
            cancellation(&compacted),
            Error::Compacted {
                compact_revision: 9
            }
        );
        let reason = WatchResponse {
            cancel_reason: Error::NoLeader.to_string(),
            ..WatchResponse::default()
        };
        assert_eq!(cancellation(&reason), Error::NoLeader);
    }
}
