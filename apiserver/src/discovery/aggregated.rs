//! The aggregated form: APIGroupDiscoveryList, everything at once.

use api::codec::Encoding;
use api::doc::{Doc, Id, New};
use api::schema::{self, Type};
use api::status::Status;

use super::set_texts;
use crate::catalog::{Group, Served, Version};
use crate::negotiate::Target;

const GROUP: &str = "apidiscovery.k8s.io";
const VERSION: &str = "v2";
const KIND: &str = "APIGroupDiscoveryList";

/// Whether this is the form that a client asks for.
pub(super) fn is_meant(target: Target<'_>) -> bool {
    (target.group, target.version, target.kind) == (GROUP, VERSION, KIND)
}

/// Clients tell the form by the media type, not by the body.
pub(super) fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Encoding::Yaml => "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Encoding::Protobuf => {
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
    }
}

pub(super) fn schema() -> Result<&'static Type, Box<Status>> {
    let found = schema::kind(GROUP, VERSION, KIND);
    found.ok_or_else(|| Box::new(Status::internal(format!("no kind {KIND:?} is registered"))))
}

/// Some groups with all that is in them.
pub(super) fn list<'a>(groups: impl Iterator<Item = &'a Group>) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", KIND);
    let api_version = crate::catalog::group_version(GROUP, VERSION);
    doc.set(top, "apiVersion", &api_version);
    doc.object(top, "metadata");
    let items = doc.list(top, "items");
    for group in groups {
        let item = doc.push(items, New::Object);
        let metadata = doc.object(item, "metadata");
        doc.set(metadata, "name", &*group.name);
        let versions = doc.list(item, "versions");
        for version in &group.versions {
            let item = doc.push(versions, New::Object);
            fill_version(&mut doc, item, group, version);
        }
    }
    doc
}

fn fill_version(doc: &mut Doc, at: Id, group: &Group, version: &Version) {
    doc.set(at, "version", &*version.name);
    doc.set(at, "freshness", "Current");
    if version.resources.is_empty() {
        return;
    }
    let list = doc.list(at, "resources");
    for known in &version.resources {
        let item = doc.push(list, New::Object);
        fill_resource(doc, item, (&group.name, &version.name), known);
    }
}

fn fill_resource(doc: &mut Doc, at: Id, here: (&str, &str), known: &Served) {
    doc.set(at, "resource", &*known.name);
    fill_kind(doc, at, here, here, &known.kind);
    let scope = if known.namespaced {
        "Namespaced"
    } else {
        "Cluster"
    };
    doc.set(at, "scope", scope);
    doc.set(at, "singularResource", &*known.singular);
    set_texts(doc, at, "verbs", &known.verbs);
    set_texts(doc, at, "shortNames", &known.short_names);
    set_texts(doc, at, "categories", &known.categories);
    if known.subresources.is_empty() {
        return;
    }
    let list = doc.list(at, "subresources");
    for sub in &known.subresources {
        let item = doc.push(list, New::Object);
        doc.set(item, "subresource", &*sub.name);
        fill_kind(doc, item, here, (&sub.group, &sub.version), &sub.kind);
        set_texts(doc, item, "verbs", &sub.verbs);
    }
}

/// Group and version are empty where they are those of the version that the kind stands in.
fn fill_kind(doc: &mut Doc, at: Id, here: (&str, &str), of: (&str, &str), kind: &str) {
    let (group, version) = if here == of { ("", "") } else { of };
    let at = doc.object(at, "responseKind");
    doc.set(at, "group", group);
    doc.set(at, "version", version);
    doc.set(at, "kind", kind);
}
