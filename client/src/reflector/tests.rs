//! Stories of a reflector.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, from_value, json};

use super::*;

fn object(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "resourceVersion": version,
        "managedFields": [{"manager": "x"}]}})
}

fn event(kind: &str, object: Value) -> Event<ConfigMap> {
    from_value(json!({"type": kind, "object": object})).unwrap()
}

fn bookmark(version: &str, is_end: bool) -> Event<ConfigMap> {
    let annotations = match is_end {
        true => json!({INITIAL_EVENTS_END: "true"}),
        false => json!({}),
    };
    let meta = json!({"resourceVersion": version, "annotations": annotations});
    event(
        "BOOKMARK",
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}),
    )
}

fn refusal(code: u16) -> Status {
    let status = json!({"kind": "Status", "code": code, "message": "no", "reason": "Whatever"});
    from_value(status).unwrap()
}

fn told(effect: Effect<ConfigMap>) -> String {
    let name = |object: &ConfigMap| {
        assert!(object.metadata.managed_fields.is_none());
        object.name().to_string()
    };
    match effect {
        Effect::None => String::new(),
        Effect::Put(object) => format!("put {}", name(&object)),
        Effect::Remove(object) => format!("remove {}", name(&object)),
        Effect::Replace(objects) => {
            let names: Vec<_> = objects.values().map(name).collect();
            format!("replace {}", names.join(" "))
        }
    }
}

/// A reflector that has all objects, as of version 7.
fn following() -> Reflector<ConfigMap> {
    let mut reflector = Reflector::default();
    assert_eq!(reflector.ask(), Ask::Stream);
    for (kind, name, version) in [
        ("ADDED", "x", "3"),
        ("ADDED", "y", "4"),
        ("DELETED", "x", "6"),
    ] {
        assert_eq!(
            told(reflector.event(event(kind, object(name, version)))),
            ""
        );
    }
    assert_eq!(told(reflector.event(bookmark("6", false))), "");
    assert_eq!(told(reflector.event(bookmark("7", true))), "replace y");
    reflector
}

#[test]
fn a_stream_fills_and_then_follows() {
    let mut reflector = following();
    assert_eq!(
        told(reflector.event(event("MODIFIED", object("y", "8")))),
        "put y"
    );
    assert_eq!(
        told(reflector.event(event("DELETED", object("y", "9")))),
        "remove y"
    );
    assert_eq!(
        told(reflector.event(event("ADDED", object("z", "10")))),
        "put z"
    );
    assert_eq!(told(reflector.event(bookmark("12", false))), "");
    let version = "12".to_string();
    assert_eq!(reflector.ask(), Ask::Watch { version });
}

#[test]
fn a_stream_that_breaks_off_early_begins_anew() {
    let mut reflector = Reflector::default();
    reflector.ask();
    reflector.event(event("ADDED", object("x", "3")));
    assert_eq!(reflector.ask(), Ask::Stream);
    reflector.event(event("ADDED", object("y", "4")));
    assert_eq!(told(reflector.event(bookmark("7", true))), "replace y");
}

#[test]
fn what_expired_is_listed_anew() {
    let mut reflector = following();
    let status = serde_json::to_value(refusal(410)).unwrap();
    assert_eq!(told(reflector.event(event("ERROR", status))), "");
    assert_eq!(reflector.ask(), Ask::Stream);
    let mut reflector = following();
    reflector.refused(&refusal(410));
    assert_eq!(reflector.ask(), Ask::Stream);
}

#[test]
fn refusals_of_the_moment_change_nothing() {
    for code in [429, 500, 503, 504, 401, 403] {
        let mut reflector = following();
        reflector.refused(&refusal(code));
        assert_eq!(reflector.version(), Some("7"), "{code}");
        let mut reflector = Reflector::<ConfigMap>::default();
        reflector.ask();
        reflector.refused(&refusal(code));
        assert_eq!(reflector.ask(), Ask::Stream, "{code}");
    }
}

#[test]
fn servers_without_streams_are_listed_in_pages() {
    let mut reflector = Reflector::<ConfigMap>::default();
    assert_eq!(reflector.ask(), Ask::Stream);
    reflector.refused(&refusal(422));
    assert_eq!(reflector.ask(), Ask::List { after: None });
    let page = |names: &[&str], token: &str| {
        let items: Vec<_> = names.iter().map(|name| object(name, "2")).collect();
        from_value(json!({"metadata": {"resourceVersion": "9", "continue": token}, "items": items}))
            .unwrap()
    };
    assert_eq!(told(reflector.page(page(&["x", "y"], "more"))), "");
    let after = Some("more".to_string());
    assert_eq!(
        reflector.ask(),
        Ask::List {
            after: after.clone()
        }
    );
    // The second page is asked for again after a failure, and begins anew once its token expired.
    assert_eq!(reflector.ask(), Ask::List { after });
    assert_eq!(told(reflector.page(page(&["z"], ""))), "replace x y z");
    assert_eq!(reflector.version(), Some("9"));
    reflector.refused(&refusal(410));
    assert_eq!(reflector.ask(), Ask::List { after: None });
    reflector.page(page(&["x"], "more"));
    reflector.refused(&refusal(410));
    assert_eq!(reflector.ask(), Ask::List { after: None });
}
