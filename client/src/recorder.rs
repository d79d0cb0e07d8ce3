//! Events: what happened to an object, for people. As client-go records them: equal events are counted,
//! similar ones are combined, and an object that causes too many is silenced.
//!
//! Nobody waits for an event: they pass through a bounded queue and are written in the background; when
//! the queue is full they are lost.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use seams::{Clock, Seams, Tasks};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::{clock, errors};

pub mod correlator;
pub mod series;

use correlator::{Correlated, Correlator, Occurrence, Write};
use series::{SeriesOccurrence, SeriesWriter};

/// Events that wait to be written, as in client-go.
const QUEUE: usize = 1000;
/// Attempts at an event while the server cannot be reached, and the time between them.
const TRIES: u32 = 12;
const TRY_INTERVAL: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether something went as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// It did.
    Normal,
    /// It did not.
    Warning,
}

impl EventType {
    /// The type as objects have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What is to be written.
enum Message {
    Core(Box<Occurrence>),
    Series(Box<SeriesOccurrence>),
}

/// Records events of one component.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
    clock: Arc<dyn Clock>,
    component: Arc<str>,
    host: Arc<str>,
}

impl Recorder {
    /// A recorder that writes by a client until the tasks end. The component is the source of events,
    /// such as `deployment-controller`; the host is the machine where that matters, or empty.
    pub fn start(
        client: &kube::Client,
        component: &str,
        host: &str,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client: client.clone(),
            correlator: Correlator::default(),
            series: SeriesWriter::new(client.clone()),
            seams: seams.clone(),
        };
        let ends = tasks.token();
        tasks.spawn("events", async move {
            tokio::select! {
                () = writer.run(receiver) => {}
                () = ends.cancelled() => {}
            }
        });
        Self {
            sender,
            clock: seams.clock.clone(),
            component: component.into(),
            host: host.into(),
        }
    }

    /// The same for events of another component.
    pub fn named(&self, component: &str) -> Self {
        Self {
            component: component.into(),
            ..self.clone()
        }
    }

    /// A recorder whose events nobody reads.
    pub fn silent(seams: &Seams) -> Self {
        let (sender, _) = mpsc::channel(1);
        Self {
            sender,
            clock: seams.clock.clone(),
            component: "".into(),
            host: "".into(),
        }
    }

    /// Records what happened to an object, as controllers do (`v1`).
    pub fn event(
        &self,
        object: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.send(Message::Core(Box::new(Occurrence {
            object: object.clone(),
            kind,
            reason: reason.to_string(),
            message: message.into(),
            component: self.component.clone(),
            host: self.host.clone(),
            at: clock::now(&*self.clock),
        })));
    }

    /// Records what a component did and why, as the scheduler does (`events.k8s.io/v1`).
    pub fn series(
        &self,
        regarding: &ObjectReference,
        related: Option<&ObjectReference>,
        kind: EventType,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.send(Message::Series(Box::new(SeriesOccurrence {
            regarding: regarding.clone(),
            related: related.cloned(),
            kind,
            reason: reason.to_string(),
            action: action.to_string(),
            note: note.into(),
            controller: self.component.clone(),
            instance: self.host.clone(),
            at: clock::now(&*self.clock),
        })));
    }

    fn send(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(message) {
            tracing::warn!(component = &*self.component, "too many events; one is lost");
        }
    }
}

struct Writer {
    client: kube::Client,
    correlator: Correlator,
    series: SeriesWriter,
    seams: Seams,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        loop {
            let message = tokio::select! {
                message = receiver.recv() => message,
                () = self.series.due() => {
                    self.series.tidy().await;
                    continue;
                }
            };
            match message {
                None => return,
                Some(Message::Core(occurrence)) => {
                    if let Some(correlated) = self.correlator.take(*occurrence) {
                        self.write(correlated).await;
                    }
                }
                Some(Message::Series(occurrence)) => self.series.take(*occurrence).await,
            }
        }
    }

    /// Writes an event, with patience while the server cannot be reached.
    async fn write(&mut self, correlated: Correlated) {
        for attempt in 0..TRIES {
            let written = timeout(WRITE_TIMEOUT, self.write_once(&correlated)).await;
            let error = match written {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(_) => kube::Error::Service("no answer in time".into()),
            };
            // Whatever the server says, it will say again.
            if errors::status(&error).is_some() {
                tracing::debug!(%error, "the server refused an event");
                return;
            }
            // client-go's first wait is a part of the interval, so that not all come back at once.
            let wait = match attempt {
                0 => TRY_INTERVAL.mul_f64(self.seams.rng.below(1000) as f64 / 1000.0),
                _ => TRY_INTERVAL,
            };
            sleep(wait).await;
        }
    }

    async fn write_once(&mut self, correlated: &Correlated) -> Result<(), kube::Error> {
        let event = event(correlated);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Write::Count { name, .. } = &correlated.write {
            let patch = serde_json::json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            });
            let options = PatchParams::default();
            let patched = events.patch(name, &options, &Patch::Strategic(patch)).await;
            match patched {
                Err(error) if errors::is_not_found(&error) => {}
                other => return other.map(drop),
            }
        }
        let created = events.create(&PostParams::default(), &event).await?;
        self.correlator.written(correlated, &created);
        Ok(())
    }
}

/// The event as it is written.
fn event(correlated: &Correlated) -> Event {
    let Correlated {
        occurrence, first, ..
    } = correlated;
    let namespace = occurrence.object.namespace.clone();
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
    Event {
        metadata: ObjectMeta {
            name: Some(name(&occurrence.object, occurrence.at)),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_string())),
            ..ObjectMeta::default()
        },
        involved_object: occurrence.object.clone(),
        reason: Some(occurrence.reason.clone()),
        message: Some(correlated.message.clone()),
        type_: Some(occurrence.kind.as_str().to_string()),
        count: Some(correlated.count),
        first_timestamp: Some(Time(*first)),
        last_timestamp: Some(Time(occurrence.at)),
        source: Some(EventSource {
            component: text(&occurrence.component),
            host: text(&occurrence.host),
        }),
        reporting_component: text(&occurrence.component),
        reporting_instance: text(&occurrence.host),
        ..Event::default()
    }
}

/// The name of an event: the object's and when it happened.
fn name(object: &ObjectReference, at: Timestamp) -> String {
    let object = object.name.as_deref().unwrap_or_default();
    format!("{object}.{:x}", at.as_nanosecond())
}

fn micro(at: Timestamp) -> MicroTime {
    MicroTime(at)
}
