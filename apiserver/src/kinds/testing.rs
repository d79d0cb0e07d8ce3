//! Tests of kinds: a good object, and one wrong field at a time.

use std::sync::Arc;

use api::conform::{Unknown, conform};
use api::doc::{Doc, Id};
use api::{codec::json, schema};

use crate::registry::Strategy;
use crate::registry::strategy::Cx;
use crate::storage::{Object, Objects};
use crate::user::User;

/// A server that stores nothing.
struct Nothing;

impl Objects for Nothing {
    fn get(&self, _: &str, _: &str, _: &str, _: &str) -> Option<Arc<Object>> {
        None
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
        Vec::new()
    }

    fn version(&self, _: &str, _: &str) -> u64 {
        0
    }
}

/// Runs something with a request's context.
pub(crate) fn with_cx<T>(subresource: &str, run: impl FnOnce(&Cx<'_>) -> T) -> T {
    let user = User::new("alice", &["devs"]);
    run(&Cx {
        user: &user,
        subresource,
        now: "2024-01-02T03:04:05Z",
        objects: &Nothing,
    })
}

/// What becomes wrong when a field of a good object changes.
pub(crate) struct Case {
    on_create: bool,
    subresource: &'static str,
    path: String,
    value: String,
    want: Vec<String>,
}

impl Case {
    /// Of a new object. The path's steps stand apart by spaces; `-` as value removes the field.
    pub(crate) fn create(path: &str, value: &str, want: &[&str]) -> Self {
        Self::new(true, "", path, value, want)
    }

    /// Of an object that is changed from the good one.
    pub(crate) fn update(path: &str, value: &str, want: &[&str]) -> Self {
        Self::new(false, "", path, value, want)
    }

    /// The same through a subresource.
    pub(crate) fn sub(subresource: &'static str, path: &str, value: &str, want: &[&str]) -> Self {
        Self::new(false, subresource, path, value, want)
    }

    fn new(
        on_create: bool,
        subresource: &'static str,
        path: &str,
        value: &str,
        want: &[&str],
    ) -> Self {
        Self {
            on_create,
            subresource,
            path: path.to_string(),
            value: value.to_string(),
            want: want.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Checks that an object is good, new or unchanged, and what each change of it makes wrong. A wanted
/// text that ends in `…` is what an error starts with.
pub(crate) fn cases(strategy: &dyn Strategy, good: &str, cases: &[Case]) {
    let good = conformed(good);
    let texts = |errors: Vec<api::field::FieldError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    with_cx("", |cx| {
        let none: [&str; 0] = [];
        assert_eq!(texts(strategy.validate_create(cx, &good)), none, "good");
        assert_eq!(
            texts(strategy.validate_update(cx, &good, &good)),
            none,
            "unchanged"
        );
    });
    for case in cases {
        let new = changed(&good, &case.path, &case.value);
        let errors = with_cx(case.subresource, |cx| match case.on_create {
            true => strategy.validate_create(cx, &new),
            false => strategy.validate_update(cx, &new, &good),
        });
        let found = texts(errors);
        let is_like = |(found, want): (&String, &String)| match want.strip_suffix('…') {
            Some(start) => found.starts_with(start),
            None => found == want,
        };
        assert!(
            found.len() == case.want.len() && found.iter().zip(&case.want).all(is_like),
            "{} = {}\nfound {found:#?}\nwant {:#?}",
            case.path,
            case.value,
            case.want
        );
    }
}

/// A document as decoding leaves it, if it tells its kind; fields that the type lacks are mistakes.
pub(crate) fn conformed(json: &str) -> Doc {
    let mut doc = Doc::literal(json);
    let api_version = doc.root().text(&["apiVersion"]).to_string();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = doc.root().text(&["kind"]).to_string();
    if let Some(known) = schema::kind(group, version, &kind) {
        let strict = conform(&mut doc, known, Unknown::Keep).unwrap();
        assert!(strict.is_empty(), "{strict:?}");
    }
    doc
}

/// A copy with another value at a path.
pub(crate) fn changed(good: &Doc, path: &str, value: &str) -> Doc {
    let mut doc = good.clone();
    let mut steps: Vec<&str> = path.split(' ').collect();
    let last = steps.pop().unwrap();
    let mut at = doc.top();
    for step in steps {
        at = child(&mut doc, at, step);
    }
    let is_list = doc.node(at).kind() == api::doc::Kind::List;
    if value == "-" {
        match is_list {
            true => {
                let item = doc.node(at).item(last.parse().unwrap()).unwrap().id();
                doc.unlink(at, item);
            }
            false => assert!(doc.remove(at, last), "{path}"),
        }
        return doc;
    }
    let made = json::parse(value.as_bytes().to_vec()).unwrap();
    let made = doc.absorb(made);
    match is_list {
        true => {
            let index = last.parse().unwrap();
            match doc.node(at).item(index).map(|node| node.id()) {
                Some(old) => doc.replace_in(at, old, made),
                None => doc.push_id(at, made),
            }
        }
        false => doc.put(at, last, made),
    }
    doc
}

fn child(doc: &mut Doc, at: Id, step: &str) -> Id {
    if let Ok(index) = step.parse()
        && doc.node(at).kind() == api::doc::Kind::List
    {
        return doc.node(at).item(index).unwrap().id();
    }
    match doc.find(at, step) {
        Some(found) => found,
        None => doc.object(at, step),
    }
}

/// A new object after preparing.
pub(crate) fn prepared_create(strategy: &dyn Strategy, new: &str) -> Doc {
    let mut new = Doc::literal(new);
    strategy.decoded(&mut new);
    with_cx("", |cx| strategy.prepare_create(cx, &mut new));
    new
}

/// A changed object after preparing.
pub(crate) fn prepared_update(
    strategy: &dyn Strategy,
    subresource: &str,
    new: &str,
    old: &str,
) -> Doc {
    let mut new = Doc::literal(new);
    with_cx(subresource, |cx| {
        strategy.prepare_update(cx, &mut new, &Doc::literal(old));
    });
    new
}

/// What clients are told.
pub(crate) fn warnings(strategy: &dyn Strategy, new: &str, old: Option<&str>) -> Vec<String> {
    let old = old.map(Doc::literal);
    with_cx("", |cx| {
        strategy.warnings(cx, &Doc::literal(new), old.as_ref())
    })
}
