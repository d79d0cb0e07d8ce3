//! Rows as upstream prints them: its own examples, and what they leave out.

use api::doc::Doc;
use api::resources::resources;
use api::values::time::{Moment, Precision};

use super::*;

mod apps;
mod cluster;
mod network;
mod pods;

const NOW: Moment = Moment {
    seconds: 1_772_366_400,
    nanos: 500_000_000,
};

/// An object; `@-300@` in it is a time 300 seconds ago.
fn object(json: &str) -> Doc {
    let text: Vec<String> = json
        .split('@')
        .map(|part| match part.parse::<i64>() {
            Ok(seconds) => {
                let then = Moment {
                    seconds: NOW.seconds + seconds,
                    nanos: 0,
                };
                then.text(Precision::Seconds)
            }
            Err(_) => part.to_string(),
        })
        .collect();
    Doc::literal(&text.concat())
}

fn row(kind: &str, json: &str) -> String {
    let mut out = Vec::new();
    let (group_version, kind) = kind.split_once(' ').unwrap();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let table = Table::of(group, version, kind);
    let cells = table.cells(object(json).root(), NOW);
    write_row(&cells, None, &mut out, |_| {});
    let text = String::from_utf8(out).unwrap();
    let cells = text.strip_prefix("{\"cells\":").unwrap();
    let cells = cells.strip_suffix(",\"object\":}").unwrap();
    // JSON writes these otherwise.
    ["\\u003c", "\\u003e", "\\u0026"]
        .iter()
        .zip(["<", ">", "&"])
        .fold(cells.to_string(), |text, (code, c)| text.replace(code, c))
}

fn check(kind: &str, rows: &[(&str, &str)]) {
    for (json, want) in rows {
        assert_eq!(row(kind, json), *want, "{kind} {json}");
    }
}

#[test]
fn every_kind_with_columns_has_as_many_cells() {
    for known in resources() {
        let table = Table::of(known.group, known.version, known.kind);
        let cells = table.cells(Doc::literal("{}").root(), NOW).len();
        let extra = usize::from(known.kind == "IPAddress");
        assert_eq!(cells, table.columns().len() + extra, "{}", known.kind);
        assert_eq!(
            table.kind == Kind::Plain,
            known.columns.is_empty(),
            "{}",
            known.kind
        );
    }
}

#[test]
fn durations_are_human() {
    let day = 86_400;
    for (seconds, want) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (2 * day - 1, "47h"),
        (2 * day, "2d"),
        (2 * day + 3_600, "2d1h"),
        (8 * day, "8d"),
        (730 * day - 1, "729d"),
        (730 * day, "2y"),
        (731 * day, "2y1d"),
        (8 * 365 * day, "8y"),
        (9 * 365 * day + day, "9y"),
    ] {
        assert_eq!(human_duration(seconds), want, "{seconds}");
    }
}

#[test]
fn tables_are_whole() {
    let role = object(r#"{"metadata":{"name":"r","creationTimestamp":"@0@"},"rules":null}"#);
    let meta = ListMeta {
        resource_version: "7",
        continue_token: "c",
        remaining: Some(3),
    };
    let table = Table::of("rbac.authorization.k8s.io", "v1", "Role");
    let rows = [
        (role.root(), Include::None),
        (role.root(), Include::Metadata),
        (role.root(), Include::Object(b"{\"kind\":\"Role\"}")),
    ];
    let made = table.write(&meta, "v1", true, rows.into_iter(), NOW);
    let cells = r#""cells":["r","2026-03-01T12:00:00Z"]"#;
    assert_eq!(
        String::from_utf8(made).unwrap(),
        format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{{"resourceVersion":"7","continue":"c","remainingItemCount":3}},"columnDefinitions":[{{"name":"Name","type":"string","format":"name","description":"","priority":0}},{{"name":"Created At","type":"date","format":"","description":"","priority":0}}],"rows":[{{{cells},"object":null}},{{{cells},"object":{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"r","creationTimestamp":"2026-03-01T12:00:00Z"}}}}}},{{{cells},"object":{{"kind":"Role"}}}}]}}"#
        )
    );
    let none = ListMeta::default();
    let empty = |kind, version| {
        let table = Table::of("", version, kind);
        let made = table.write(&none, "v1beta1", false, std::iter::empty(), NOW);
        String::from_utf8(made).unwrap()
    };
    let head = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1beta1","metadata":{},"columnDefinitions":null,"rows":"#;
    assert_eq!(empty("Pod", "v1"), format!("{head}[]}}"));
    assert_eq!(empty("LimitRange", "v1"), format!("{head}null}}"));
}

#[test]
fn flow_schemas_stand_in_the_order_in_which_they_match() {
    let schemas = [("c", 5), ("b", 1), ("a", 5)].map(|(name, precedence)| {
        object(&format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"matchingPrecedence":{precedence}}}}}"#
        ))
    });
    let table = Table::of("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema");
    let objects = schemas.iter().map(|doc| (doc.root(), Include::None));
    let made = table.write(&ListMeta::default(), "v1", false, objects, NOW);
    let made = Doc::literal(&String::from_utf8(made).unwrap());
    let rows = made.root().get("rows").unwrap().children();
    let names = rows.map(|row| row.get("cells").unwrap().item(0).unwrap().as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["b", "a", "c"]);
}

#[test]
fn metadata_stands_alone() {
    let pod = object(r#"{"kind":"Pod","metadata":{"name":"p","labels":{"a":"b"}},"spec":{}}"#);
    let partial = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"p","labels":{"a":"b"}}}"#;
    let mut made = Vec::new();
    write_included(pod.root(), Include::Metadata, "v1", &mut made);
    assert_eq!(String::from_utf8(made).unwrap(), partial);
}
