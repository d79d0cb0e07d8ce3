//! Events of `events.k8s.io`: one that happens again becomes a series, as client-go's recorder has it.
//! A series is written when it begins, every half hour while it goes on, and when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::time::{Instant, sleep_until, timeout};

use super::{EventType, WRITE_TIMEOUT, micro};
use crate::errors;

/// An event that does not happen again for so long is over, as in client-go.
const OVER: Duration = Duration::from_secs(6 * 60);
/// A series that goes on is written so often.
const REFRESH: Duration = Duration::from_secs(30 * 60);
/// How often they are looked through.
const TIDY: Duration = Duration::from_secs(60);
/// Events that are remembered; more are written as new ones.
const ENTRIES_MAX: usize = 4096;

/// Something that a component did.
#[derive(Debug, Clone)]
pub struct SeriesOccurrence {
    /// To what.
    pub regarding: ObjectReference,
    /// What else it is about.
    pub related: Option<ObjectReference>,
    /// Whether it went as it should.
    pub kind: EventType,
    /// Why.
    pub reason: String,
    /// What.
    pub action: String,
    /// A sentence for people.
    pub note: String,
    /// Who.
    pub controller: Arc<str>,
    /// Which one of them.
    pub instance: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    kind: EventType,
    action: String,
    reason: String,
    controller: Arc<str>,
    instance: Arc<str>,
    regarding: [Option<String>; 6],
    related: Option<[Option<String>; 6]>,
}

struct Known {
    event: Event,
    last: Instant,
    written: Instant,
    is_changed: bool,
}

/// Writes events and their series.
pub(super) struct SeriesWriter {
    client: kube::Client,
    known: HashMap<Same, Known>,
    next: Instant,
}

impl SeriesWriter {
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            known: HashMap::new(),
            next: Instant::now() + TIDY,
        }
    }

    /// Waits until the series want to be looked through.
    pub(super) async fn due(&self) {
        match self.known.is_empty() {
            true => std::future::pending().await,
            false => sleep_until(self.next).await,
        }
    }

    pub(super) async fn take(&mut self, occurrence: SeriesOccurrence) {
        let now = Instant::now();
        let key = same(&occurrence);
        if let Some(known) = self.known.get_mut(&key) {
            known.last = now;
            let at = micro(occurrence.at);
            if let Some(series) = &mut known.event.series {
                series.count = series.count.saturating_add(1);
                series.last_observed_time = at;
                known.is_changed = true;
                return;
            }
            known.event.series = Some(EventSeries {
                count: 2,
                last_observed_time: at,
            });
            known.written = now;
            let event = known.event.clone();
            write(&self.client, &event).await;
            return;
        }
        let event = event(&occurrence);
        write(&self.client, &event).await;
        if self.known.len() < ENTRIES_MAX {
            let known = Known {
                event,
                last: now,
                written: now,
                is_changed: false,
            };
            self.known.insert(key, known);
        }
    }

    /// Writes the series that ended or that were not written for long.
    pub(super) async fn tidy(&mut self) {
        let now = Instant::now();
        self.next = now + TIDY;
        let mut due = Vec::new();
        self.known.retain(|_, known| {
            let is_over = now - known.last > OVER;
            let is_old = now - known.written > REFRESH;
            if known.is_changed && (is_over || is_old) {
                due.push(known.event.clone());
                known.is_changed = false;
                known.written = now;
            }
            !is_over
        });
        for event in due {
            write(&self.client, &event).await;
        }
    }
}

async fn write(client: &kube::Client, event: &Event) {
    let written = timeout(WRITE_TIMEOUT, write_once(client, event)).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an event was not written"),
        Err(_) => tracing::debug!("an event was not written in time"),
    }
}

async fn write_once(client: &kube::Client, event: &Event) -> Result<(), kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let (Some(series), Some(name)) = (&event.series, &event.metadata.name) {
        let patch = Patch::Strategic(serde_json::json!({ "series": series }));
        match events.patch(name, &PatchParams::default(), &patch).await {
            Err(error) if errors::is_not_found(&error) => {}
            other => return other.map(drop),
        }
    }
    let created = events.create(&PostParams::default(), event).await;
    created.map(drop)
}

fn event(occurrence: &SeriesOccurrence) -> Event {
    let namespace = occurrence.regarding.namespace.clone();
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(super::name(&occurrence.regarding, occurrence.at)),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_string())),
            ..ObjectMeta::default()
        },
        event_time: Some(micro(occurrence.at)),
        reporting_controller: Some(occurrence.controller.to_string()),
        reporting_instance: Some(occurrence.instance.to_string()),
        action: Some(occurrence.action.clone()),
        reason: Some(occurrence.reason.clone()),
        regarding: Some(occurrence.regarding.clone()),
        related: occurrence.related.clone(),
        note: Some(occurrence.note.clone()),
        type_: Some(occurrence.kind.as_str().to_string()),
        ..Event::default()
    }
}

fn same(occurrence: &SeriesOccurrence) -> Same {
    let parts = |object: &ObjectReference| {
        let object = object.clone();
        [
            object.api_version,
            object.kind,
            object.namespace,
            object.name,
            object.uid,
            object.field_path,
        ]
    };
    Same {
        kind: occurrence.kind,
        action: occurrence.action.clone(),
        reason: occurrence.reason.clone(),
        controller: occurrence.controller.clone(),
        instance: occurrence.instance.clone(),
        regarding: parts(&occurrence.regarding),
        related: occurrence.related.as_ref().map(parts),
    }
}
