//! Asks the server what the reflector wants to know, and puts the answers into the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use seams::{Rng, Seams};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::lenient;
use super::lines::{Lines, without_managed_fields};
use super::{Shared, Source};
use crate::backoff::Backoff;
use crate::key::View;
use crate::reflector::{Ask, Effect, Event, Reflector};

/// The server ends watches after a time between these, as client-go asks it to.
const WATCH_SECONDS: (u64, u64) = (300, 600);
/// A watch that the server did not end by then is ended here.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// The head of a response, and a whole page.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Objects of a page, as in client-go.
const PAGE: usize = 500;
/// The first wait is short: mostly a server went, and another is there.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// A watch that ran for so long was in order.
const HEALTHY: Duration = Duration::from_secs(5);
/// What is read of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

impl Source {
    fn path(&self) -> String {
        let root = match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match &self.selection.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.resource),
            None => format!("{root}/{}", self.resource),
        }
    }

    /// The request for what is asked.
    fn request(&self, ask: &Ask, seconds: u64) -> Result<Request<Body>, http::Error> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let selection = &self.selection;
        for (name, value) in [
            ("labelSelector", &selection.labels),
            ("fieldSelector", &selection.fields),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        match ask {
            Ask::List { after } => {
                query.append_pair("limit", &PAGE.to_string());
                if let Some(token) = after {
                    query.append_pair("continue", token);
                }
            }
            Ask::Stream | Ask::Watch { .. } => {
                query.append_pair("watch", "true");
                query.append_pair("allowWatchBookmarks", "true");
                query.append_pair("timeoutSeconds", &seconds.to_string());
            }
        }
        match ask {
            Ask::Stream => {
                query.append_pair("sendInitialEvents", "true");
                query.append_pair("resourceVersionMatch", "NotOlderThan");
            }
            Ask::Watch { version } => {
                query.append_pair("resourceVersion", version);
            }
            Ask::List { .. } => {}
        }
        let accept = match (self.is_metadata_only, ask) {
            (false, _) => "application/json",
            (true, Ask::List { .. }) => METADATA_LIST,
            (true, _) => METADATA,
        };
        Request::get(format!("{}?{}", self.path(), query.finish()))
            .header(ACCEPT, accept)
            .body(Body::empty())
    }
}

/// Why there was no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("the server refused: {} {}", .0.code, .0.message)]
    Refused(Box<Status>),
    #[error("the server does not answer")]
    Silent,
    #[error("the answer makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
    #[error("the answer broke off: {0}")]
    Cut(Box<dyn std::error::Error + Send + Sync>),
    #[error("no such request can be made: {0}")]
    Request(#[from] http::Error),
}

/// What came to its end in good order.
enum Asked {
    Page,
    Watch,
    /// Somebody wants to know how far the server is.
    Again,
}

/// Keeps objects as the server has them, for ever.
pub(super) async fn follow<V: View>(
    source: Source,
    client: kube::Client,
    shared: Arc<Shared<V>>,
    seams: Seams,
) {
    let mut reflector = Reflector::default();
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let start = Instant::now();
        let asked = ask(&source, &client, &shared, &mut reflector, &*seams.rng).await;
        if start.elapsed() >= HEALTHY {
            backoff.reset();
        }
        let mut least = Duration::ZERO;
        match asked {
            Ok(Asked::Page | Asked::Again) => continue,
            Ok(Asked::Watch) => {}
            Err(broken) => {
                if let Broken::Refused(status) = &broken {
                    reflector.refused(status);
                }
                let version = reflector.version().unwrap_or_default();
                let resource = &source.resource;
                match &broken {
                    // That will not pass by itself.
                    Broken::Nonsense(error) => {
                        tracing::warn!(resource, version, %error, "objects cannot be read");
                    }
                    broken => tracing::debug!(resource, version, %broken, "the watch broke off"),
                }
                least = retry_after(&broken);
            }
        }
        sleep(backoff.next(&*seams.rng).max(least)).await;
    }
}

/// How long the server wants to be left alone.
fn retry_after(broken: &Broken) -> Duration {
    let Broken::Refused(status) = broken else {
        return Duration::ZERO;
    };
    let details = status.details.as_ref();
    let seconds = details.map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(u64::from(seconds))
}

/// Asks once, and takes what comes until it ends.
async fn ask<V: View>(
    source: &Source,
    client: &kube::Client,
    shared: &Shared<V>,
    reflector: &mut Reflector<V>,
    rng: &dyn Rng,
) -> Result<Asked, Broken> {
    let ask = reflector.ask();
    let (least, most) = WATCH_SECONDS;
    let seconds = least + rng.below(most - least);
    let request = source.request(&ask, seconds)?;
    let response = timeout(ANSWER_TIMEOUT, client.send(request)).await;
    let response = response.map_err(|_| Broken::Silent)??;
    if !response.status().is_success() {
        return Err(Broken::Refused(refusal(response).await));
    }
    if let Ask::List { .. } = ask {
        let body = timeout(ANSWER_TIMEOUT, response.into_body().collect()).await;
        let body = body.map_err(|_| Broken::Silent)??.to_bytes();
        let page = lenient::read(&body)?;
        apply(shared, reflector.page(page));
        shared.knows(reflector.version());
        return Ok(Asked::Page);
    }
    let deadline = Instant::now() + Duration::from_secs(seconds) + WATCH_GRACE;
    let mut lines = Lines::default();
    let mut body = response.into_body();
    loop {
        let frame = tokio::select! {
            frame = timeout_at(deadline, body.frame()) => frame,
            () = shared.progress.ask_again.notified() => return Ok(Asked::Again),
        };
        let Ok(frame) = frame else {
            return Err(Broken::Silent);
        };
        let Some(frame) = frame else {
            return Ok(Asked::Watch);
        };
        let frame = frame.map_err(|error| Broken::Cut(error.into()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        lines.add(data);
        while let Some(line) = lines.next() {
            let event: Event<V> = lenient::read(&without_managed_fields(&line))?;
            if let Event::Error(status) = event {
                return Err(Broken::Refused(status));
            }
            apply(shared, reflector.event(event));
        }
        shared.knows(reflector.version());
    }
}

/// What the server says of its refusal.
async fn refusal(response: Response<Body>) -> Box<Status> {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let body = timeout(ANSWER_TIMEOUT, body).await;
    let bytes = match body {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let status = serde_json::from_slice(&bytes);
    Box::new(status.unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&bytes);
        Status::failure(text.trim(), "").with_code(code)
    }))
}

fn apply<V: View>(shared: &Shared<V>, effect: Effect<V>) {
    match effect {
        Effect::None => {}
        Effect::Put(object) => shared.change(|store| store.put(object)),
        Effect::Remove(object) => shared.change(|store| store.remove(object)),
        Effect::Replace(objects) => {
            shared.change(|store| store.replace(objects));
            shared.progress.is_synced.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_what_is_wanted() {
        let mut source = Source {
            group: "apps".to_string(),
            version: "v1".to_string(),
            resource: "deployments".to_string(),
            selection: super::super::Selection::default(),
            is_metadata_only: false,
        };
        let uri = |source: &Source, ask: &Ask| source.request(ask, 300).unwrap().uri().to_string();
        assert_eq!(
            uri(&source, &Ask::Stream),
            "/apis/apps/v1/deployments?watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        source.selection.namespace = Some("a".to_string());
        source.selection.fields = Some("metadata.name=x".to_string());
        let version = "7".to_string();
        assert_eq!(
            uri(&source, &Ask::Watch { version }),
            "/apis/apps/v1/namespaces/a/deployments?fieldSelector=metadata.name%3Dx&watch=true\
             &allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=7"
        );
        let after = Some("t".to_string());
        assert_eq!(
            uri(&source, &Ask::List { after }),
            "/apis/apps/v1/namespaces/a/deployments?fieldSelector=metadata.name%3Dx&limit=500\
             &continue=t"
        );
    }
}
