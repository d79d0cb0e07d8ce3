//! Which events are written and how: equal ones are counted, similar ones combined, too many dropped.
//! As client-go's correlator does it, in bounded memory, without IO.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, ObjectReference};

use super::EventType;
use crate::lru::Lru;

/// Entries of each memory.
const ENTRIES: usize = 4096;
/// So many different messages of one reason within the interval are combined.
const SIMILAR_MAX: usize = 10;
const SIMILAR_INTERVAL: SignedDuration = SignedDuration::from_secs(600);
/// Events of one object: so many at once, and another every five minutes.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;
/// What a combined message begins with.
const COMBINED: &str = "(combined from similar events): ";

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// To what.
    pub object: ObjectReference,
    /// Whether it should have.
    pub kind: EventType,
    /// A word that programs compare.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Who says so.
    pub component: Arc<str>,
    /// Where.
    pub host: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// The part of an object reference that tells objects apart.
type Object = [Option<String>; 5];

/// Who says it of what.
type Source = (Arc<str>, Arc<str>, Object);
/// Events that are similar.
type Similar = (Source, EventType, String);
/// Events that are equal: field path and message besides. The message is empty where they are combined.
type Equal = (Similar, Option<String>, String);

/// How an event is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// It is new.
    Create,
    /// An event of this name is counted up.
    Count {
        /// The name.
        name: String,
    },
}

/// An event that is to be written.
#[derive(Debug, Clone)]
pub struct Correlated {
    /// What happened last.
    pub occurrence: Occurrence,
    /// What is said of it.
    pub message: String,
    /// How often it happened.
    pub count: i32,
    /// When it happened first.
    pub first: Timestamp,
    /// How it is written.
    pub write: Write,
    key: Equal,
}

struct Similars {
    messages: BTreeSet<String>,
    last: Timestamp,
}

struct Counted {
    count: i32,
    first: Timestamp,
    name: String,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// What was recorded lately.
pub struct Correlator {
    similar: Lru<Similar, Similars>,
    counted: Lru<Equal, Counted>,
    buckets: Lru<Source, Bucket>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            similar: Lru::new(ENTRIES),
            counted: Lru::new(ENTRIES),
            buckets: Lru::new(ENTRIES),
        }
    }
}

impl Correlator {
    /// What is written of something that happened; nothing if its object causes too many events.
    pub fn take(&mut self, occurrence: Occurrence) -> Option<Correlated> {
        let at = occurrence.at;
        let source = source(&occurrence);
        let similar = (source.clone(), occurrence.kind, occurrence.reason.clone());
        let is_combined = self.is_combined(&similar, &occurrence);
        let (key, message) = if is_combined {
            let message = format!("{COMBINED}{}", occurrence.message);
            ((similar, None, String::new()), message)
        } else {
            let message = occurrence.message.clone();
            let path = occurrence.object.field_path.clone();
            ((similar, path, message.clone()), message)
        };
        let (count, first, write) = match self.counted.get_mut(&key) {
            Some(known) => {
                known.count = known.count.saturating_add(1);
                let name = known.name.clone();
                (known.count, known.first, Write::Count { name })
            }
            None => {
                let name = super::name(&occurrence.object, at);
                let counted = Counted {
                    count: 1,
                    first: at,
                    name,
                };
                self.counted.put(key.clone(), counted);
                (1, at, Write::Create)
            }
        };
        if !self.has_token(source, at) {
            return None;
        }
        Some(Correlated {
            occurrence,
            message,
            count,
            first,
            write,
            key,
        })
    }

    /// An event was made under a name.
    pub fn written(&mut self, correlated: &Correlated, event: &Event) {
        if let (Some(known), Some(name)) =
            (self.counted.get_mut(&correlated.key), &event.metadata.name)
        {
            known.name.clone_from(name);
        }
    }

    fn is_combined(&mut self, key: &Similar, occurrence: &Occurrence) -> bool {
        let at = occurrence.at;
        if self.similar.get_mut(key).is_none() {
            let similars = Similars {
                messages: BTreeSet::new(),
                last: at,
            };
            self.similar.put(key.clone(), similars);
        }
        let Some(similars) = self.similar.get_mut(key) else {
            return false;
        };
        if at.duration_since(similars.last) > SIMILAR_INTERVAL {
            similars.messages.clear();
        }
        similars.last = at;
        similars.messages.insert(occurrence.message.clone());
        if similars.messages.len() < SIMILAR_MAX {
            return false;
        }
        // Those that are remembered stay few.
        similars.messages.pop_first();
        true
    }

    fn has_token(&mut self, source: Source, at: Timestamp) -> bool {
        if self.buckets.get_mut(&source).is_none() {
            self.buckets
                .put(source.clone(), Bucket { tokens: BURST, at });
        }
        let Some(bucket) = self.buckets.get_mut(&source) else {
            return true;
        };
        let passed = at.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(BURST);
        bucket.at = at;
        let is_there = bucket.tokens >= 1.0;
        if is_there {
            bucket.tokens -= 1.0;
        }
        is_there
    }
}

fn source(occurrence: &Occurrence) -> Source {
    let ObjectReference {
        kind,
        namespace,
        name,
        uid,
        api_version,
        ..
    } = occurrence.object.clone();
    let object = [kind, namespace, name, uid, api_version];
    (
        occurrence.component.clone(),
        occurrence.host.clone(),
        object,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(name: &str, message: &str, second: i64) -> Occurrence {
        Occurrence {
            object: ObjectReference {
                kind: Some("Pod".to_string()),
                namespace: Some("a".to_string()),
                name: Some(name.to_string()),
                ..ObjectReference::default()
            },
            kind: EventType::Normal,
            reason: "Whatever".to_string(),
            message: message.to_string(),
            component: "test".into(),
            host: "".into(),
            at: Timestamp::from_second(1_000_000 + second).unwrap(),
        }
    }

    fn told(correlator: &mut Correlator, name: &str, message: &str, second: i64) -> String {
        match correlator.take(occurrence(name, message, second)) {
            None => "dropped".to_string(),
            Some(Correlated {
                count,
                message,
                write,
                ..
            }) => match write {
                Write::Create => format!("create {message}"),
                Write::Count { .. } => format!("{count} {message}"),
            },
        }
    }

    #[test]
    fn equal_events_are_counted() {
        let correlator = &mut Correlator::default();
        assert_eq!(told(correlator, "x", "m", 0), "create m");
        assert_eq!(told(correlator, "x", "m", 1), "2 m");
        assert_eq!(told(correlator, "y", "m", 2), "create m");
        assert_eq!(told(correlator, "x", "n", 3), "create n");
        assert_eq!(told(correlator, "x", "m", 4), "3 m");
    }

    #[test]
    fn similar_events_are_combined() {
        let correlator = &mut Correlator::default();
        for at in 0..9 {
            let message = format!("m{at}");
            assert_eq!(
                told(correlator, "x", &message, at),
                format!("create {message}")
            );
        }
        let combined = "(combined from similar events): ";
        assert_eq!(
            told(correlator, "x", "m9", 9),
            format!("create {combined}m9")
        );
        assert_eq!(told(correlator, "x", "m10", 10), format!("2 {combined}m10"));
        // After ten minutes they are told apart again.
        assert_eq!(told(correlator, "x", "m11", 700), "create m11");
    }

    #[test]
    fn an_object_with_too_many_events_is_silenced() {
        let correlator = &mut Correlator::default();
        for at in 1..25 {
            told(correlator, "x", "m", 0);
            assert!(at < 25);
        }
        assert_eq!(told(correlator, "x", "m", 0), "25 m");
        assert_eq!(told(correlator, "x", "m", 0), "dropped");
        assert_eq!(told(correlator, "y", "m", 0), "create m");
        assert_eq!(told(correlator, "x", "m", 299), "dropped");
        assert_eq!(told(correlator, "x", "m", 301), "28 m");
    }
}
