//! Events, which clients write through two groups: events.k8s.io has stricter rules, and its objects
//! are stored as those of the core group.

use api::field::FieldError;
use api::name;

use crate::kinds::facts::Facts;
use crate::validation::{At, Errors};

/// What is particular about events that are written through the core group.
pub const LEGACY: Facts = Facts {
    creates_on_update: true,
    create: |_, new, errors| any(errors, new, "reportingComponent"),
    update: |_, new, _, errors| any(errors, new, "reportingComponent"),
    ..Facts::PLAIN
};

/// What is particular about events of their own group.
pub const STRICT: Facts = Facts {
    creates_on_update: true,
    create: |_, new, errors| {
        any(errors, new, "reportingController");
        strict(errors, new);
    },
    update: |_, new, old, errors| {
        any(errors, new, "reportingController");
        changes(errors, new, old);
    },
    ..Facts::PLAIN
};

/// Fields that stay as they were, told by the names of the internal type; upstream asks one twice.
const FIXED: [(&str, &str); 14] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("reason", "reason"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

fn invalid(errors: &mut Errors, path: &str, value: &str, detail: impl Into<String>) {
    errors.push(FieldError::invalid(path, value, detail));
}

fn any(errors: &mut Errors, new: At<'_>, controller: &str) {
    let namespace = new.path(&["metadata", "namespace"]).str();
    let involved = new.path(&["involvedObject", "namespace"]);
    let allowed: &[&str] = match (new.has("eventTime"), involved.str()) {
        (false, "") => &["", "default"],
        (false, involved) => &[involved],
        (true, "") => &["default", "kube-system"],
        (true, _) => &[namespace],
    };
    if !allowed.contains(&namespace) {
        invalid(
            errors,
            "involvedObject.namespace",
            involved.str(),
            "does not match event.namespace",
        );
    }
    if new.has("eventTime") {
        of_its_time(errors, new, controller);
    }
    for complaint in name::dns_1123_subdomain(namespace) {
        invalid(errors, "namespace", namespace, complaint);
    }
}

/// Events that know when they happened know who tells of them.
fn of_its_time(errors: &mut Errors, new: At<'_>, controller: &str) {
    let by = new.get("reportingComponent").str();
    if by.is_empty() {
        errors.push(FieldError::required(controller, ""));
    }
    for complaint in name::label_key(by) {
        invalid(errors, controller, by, complaint);
    }
    for (field, is_needed, most) in [
        ("reportingInstance", true, 128),
        ("action", true, 128),
        ("reason", true, 128),
        ("message", false, 1024),
    ] {
        let text = new.get(field).str();
        if is_needed && text.is_empty() {
            errors.required(new.get(field), "");
        }
        if text.len() > most {
            let detail = format!("can have at most {most} characters");
            invalid(errors, field, "", detail);
        }
    }
}

fn strict(errors: &mut Errors, new: At<'_>) {
    series(errors, new);
    errors.need_time(new.get("eventTime"));
    let kind = new.get("type").str();
    if !["Normal", "Warning"].contains(&kind) {
        invalid(errors, "type", "", format!("has invalid value: {kind}"));
    }
    let source = new.get("source");
    let has_source = !source.get("component").is_empty() || !source.get("host").is_empty();
    for (field, is_set) in [
        ("firstTimestamp", new.has("firstTimestamp")),
        ("lastTimestamp", new.has("lastTimestamp")),
        ("count", new.get("count").int() != 0),
        ("source", has_source),
    ] {
        if is_set {
            invalid(errors, field, "", "needs to be unset");
        }
    }
}

fn series(errors: &mut Errors, new: At<'_>) {
    let series = new.get("series");
    if !series.is_set() {
        return;
    }
    if series.get("count").int() < 2 {
        invalid(errors, "series.count", "", "should be at least 2");
    }
    errors.need_time(series.get("lastObservedTime"));
}

fn changes(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let text = |at: At<'_>| at.node().map(|node| node.to_string());
    if text(new.get("series")) != text(old.get("series")) {
        series(errors, new);
    }
    for (field, told) in FIXED {
        errors.renamed(field, told, |errors| {
            errors.immutable(new.get(field), old.get(field));
        });
    }
}

/// Times that must be there.
trait NeedTime {
    fn need_time(&mut self, at: At<'_>);
}

impl NeedTime for Errors {
    fn need_time(&mut self, at: At<'_>) {
        if !at.is_set() {
            self.required(at, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"a","namespace":"b"},
        "involvedObject":{"kind":"Pod","namespace":"b"},"reason":"R","type":"Normal","action":"a",
        "eventTime":"2024-01-01T00:00:00.000000Z","reportingComponent":"x/y","reportingInstance":"i",
        "series":{"count":2,"lastObservedTime":"2024-01-01T00:00:00.000000Z"}}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &STRICT,
            GOOD,
            &[
                Case::create(
                    "reportingComponent",
                    r#""""#,
                    &[
                        "reportingController: Required value",
                        r#"reportingController: Invalid value: "": name part must be non-empty"#,
                        r#"reportingController: Invalid value: "": name part must consist…"#,
                    ],
                ),
                Case::create("action", r#""""#, &["action: Required value"]),
                Case::create(
                    "type",
                    r#""x""#,
                    &[r#"type: Invalid value: "": has invalid value: x"#],
                ),
                Case::create(
                    "count",
                    "1",
                    &[r#"count: Invalid value: "": needs to be unset"#],
                ),
                Case::create(
                    "series count",
                    "1",
                    &[r#"series.count: Invalid value: "": should be at least 2"#],
                ),
                Case::update(
                    "reason",
                    r#""S""#,
                    &[
                        r#"reason: Invalid value: "S": field is immutable"#,
                        r#"reason: Invalid value: "S": field is immutable"#,
                    ],
                ),
                Case::update(
                    "reportingComponent",
                    r#""z""#,
                    &[r#"reportingController: Invalid value: "z": field is immutable"#],
                ),
            ],
        );
        cases(
            &LEGACY,
            GOOD,
            &[
                Case::create("eventTime", "-", &[]),
                Case::create(
                    "reportingInstance",
                    r#""""#,
                    &["reportingInstance: Required value"],
                ),
                Case::create(
                    "involvedObject namespace",
                    r#""""#,
                    &[
                        r#"involvedObject.namespace: Invalid value: "": does not match event.namespace"#,
                    ],
                ),
                Case::create(
                    "metadata namespace",
                    r#""B""#,
                    &[r#"namespace: Invalid value: "B": a lowercase RFC 1123 subdomain…"#],
                ),
            ],
        );
    }
}
