//! Conversion between the served versions of one stored object, and the scale of what can be scaled.
//!
//! Only two kinds have versions that differ: autoscalers and events. What the older version of an
//! autoscaler cannot say travels in annotations, as upstream's clients expect.

mod autoscaler;
mod scale;

pub use scale::{from_scale, to_scale};

use crate::conform::{Unknown, conform};
use crate::doc::{Doc, Id, Kind, New};
use crate::schema::{self, Type};

/// There is no conversion between these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoConversion {
    kind: String,
    from: String,
    to: String,
}

impl std::error::Error for NoConversion {}

impl std::fmt::Display for NoConversion {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, from, to } = self;
        write!(out, "there is no conversion of {kind} from {from} to {to}")
    }
}

/// From fields of one version to fields of the other; paths are keys with dots between.
type Moves = &'static [(&'static str, &'static str)];

/// Fields of core's events and of events.k8s.io's. All others have the same name in both.
const EVENT: Moves = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Converts an object that conforms to its version, such as `autoscaling/v1`, into another; it
/// conforms to that afterwards. Fields that its version does not know are dropped.
///
/// # Errors
///
/// If this program knows no such conversion; the document is as it was.
pub fn convert(doc: &mut Doc, kind: &str, from: &str, to: &str) -> Result<(), NoConversion> {
    let top = doc.top();
    match (kind, from, to) {
        ("Event", "v1", "events.k8s.io/v1") => move_all(doc, top, EVENT, Way::There),
        ("Event", "events.k8s.io/v1", "v1") => move_all(doc, top, EVENT, Way::Back),
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => autoscaler::to_v2(doc),
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => autoscaler::to_v1(doc),
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v2") => {
            autoscaler::drop_annotations(doc);
        }
        _ if from == to => return Ok(()),
        _ => {
            return Err(NoConversion {
                kind: kind.to_string(),
                from: from.to_string(),
                to: to.to_string(),
            });
        }
    }
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", to);
    let (group, version) = to.split_once('/').unwrap_or(("", to));
    if let Some(schema) = schema::kind(group, version, kind) {
        settle(doc, schema);
    }
    Ok(())
}

/// Brings what conversion made into the type's order. It has the type's shape already, so that this
/// cannot fail.
fn settle(doc: &mut Doc, schema: &Type) {
    let done = conform(doc, schema, Unknown::Drop);
    debug_assert!(done.is_ok(), "{done:?} in {}", schema.name);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Moves fields. On the way back the last comes first, since an earlier one may make room for it.
fn move_all(doc: &mut Doc, object: Id, moves: Moves, way: Way) {
    let moved = |doc: &mut Doc, from: &str, to: &str| {
        if let Some(value) = take(doc, object, from) {
            put(doc, object, to, value);
        }
    };
    match way {
        Way::There => moves.iter().for_each(|(from, to)| moved(doc, from, to)),
        Way::Back => moves
            .iter()
            .rev()
            .for_each(|(to, from)| moved(doc, from, to)),
    }
}

/// What a path leads to; `null` is nothing.
fn find(doc: &Doc, object: Id, path: &str) -> Option<Id> {
    let found = path
        .split('.')
        .try_fold(object, |at, key| doc.find(at, key))?;
    (!doc.node(found).is_null()).then_some(found)
}

/// Takes a value out.
fn take(doc: &mut Doc, object: Id, path: &str) -> Option<Id> {
    let found = find(doc, object, path)?;
    let parent = match path.rsplit_once('.') {
        Some((parents, _)) => find(doc, object, parents)?,
        None => object,
    };
    doc.unlink(parent, found);
    Some(found)
}

/// Puts a value, with objects on the way to it, where `null` or nothing else was.
fn put(doc: &mut Doc, object: Id, path: &str, value: Id) {
    let (parents, name) = match path.rsplit_once('.') {
        Some((parents, name)) => (Some(parents), name),
        None => (None, path),
    };
    let mut at = object;
    for key in parents.into_iter().flat_map(|parents| parents.split('.')) {
        at = doc.object(at, key);
    }
    doc.put(at, name, value);
}

/// Sets a scalar or an empty list or object.
fn set<'a>(doc: &mut Doc, object: Id, path: &str, value: impl Into<New<'a>>) {
    let value = doc.make(value.into());
    put(doc, object, path, value);
}

/// The elements of a list.
fn elements(doc: &Doc, object: Id, path: &str) -> Vec<Id> {
    let list = find(doc, object, path).filter(|list| doc.node(*list).kind() == Kind::List);
    list.map_or(Vec::new(), |list| {
        doc.node(list).children().map(|child| child.id()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_there_and_back() {
        let core = r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"e"},"involvedObject":{"kind":"Pod","name":"p"},"reason":"r","message":"m","source":{"component":"c"},"firstTimestamp":"2026-03-01T11:00:00Z","lastTimestamp":null,"count":2,"type":"Normal","eventTime":null,"series":{"count":3,"lastObservedTime":"2026-03-01T11:00:00.000001Z"},"action":"a","related":{"name":"q"},"reportingComponent":"rc","reportingInstance":""}"#;
        let events = r#"{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{"name":"e"},"eventTime":null,"series":{"count":3,"lastObservedTime":"2026-03-01T11:00:00.000001Z"},"reportingController":"rc","action":"a","reason":"r","regarding":{"kind":"Pod","name":"p"},"related":{"name":"q"},"note":"m","type":"Normal","deprecatedSource":{"component":"c"},"deprecatedFirstTimestamp":"2026-03-01T11:00:00Z","deprecatedLastTimestamp":null,"deprecatedCount":2}"#;
        let mut doc = Doc::literal(core);
        convert(&mut doc, "Event", "v1", "events.k8s.io/v1").unwrap();
        assert_eq!(doc.to_string(), events);
        convert(&mut doc, "Event", "events.k8s.io/v1", "v1").unwrap();
        assert_eq!(doc.to_string(), core);
    }

    #[test]
    fn what_is_the_same_stays_and_what_is_unknown_fails() {
        let mut doc = Doc::literal(r#"{"b":1,"a":2}"#);
        convert(&mut doc, "Pod", "v1", "v1").unwrap();
        let error = convert(&mut doc, "Pod", "v1", "v2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no conversion of Pod from v1 to v2"
        );
        assert_eq!(doc.to_string(), r#"{"b":1,"a":2}"#);
    }
}
