//! The documents of single endpoints: APIVersions, APIGroupList, APIGroup, APIResourceList.

use std::net::IpAddr;

use api::doc::{Doc, Id, New};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Addresses, qualified, set_texts};
use crate::catalog::{Group, Served, Sub, Version, split_group_version};

/// The versions of the core group, which alone is not in the list of groups. What the core group says
/// of itself never had an `apiVersion`.
pub(super) fn core_versions<'a>(
    versions: impl Iterator<Item = &'a Version>,
    addresses: &Addresses,
    client: Option<IpAddr>,
) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", "APIVersions");
    let list = doc.list(top, "versions");
    for version in versions {
        doc.push(list, &*version.name);
    }
    let list = doc.list(top, "serverAddressByClientCIDRs");
    address(&mut doc, list, "0.0.0.0/0", &addresses.default);
    let covering = addresses
        .rules
        .iter()
        .filter(|rule| client.is_some_and(|client| rule.covers(client)));
    for rule in covering {
        let network = format!("{}/{}", rule.network, rule.bits);
        address(&mut doc, list, &network, &rule.address);
    }
    doc
}

fn address(doc: &mut Doc, list: Id, network: &str, address: &str) {
    let item = doc.push(list, New::Object);
    doc.set(item, "clientCIDR", network);
    doc.set(item, "serverAddress", address);
}

/// All groups but the core group.
pub(super) fn groups<'a>(groups: impl Iterator<Item = &'a Group>) -> Doc {
    let mut doc = object("APIGroupList");
    let top = doc.top();
    let list = doc.list(top, "groups");
    for group in groups {
        let item = doc.push(list, New::Object);
        fill_group(&mut doc, item, group);
    }
    doc
}

/// One group.
pub(super) fn group(group: &Group) -> Doc {
    let mut doc = object("APIGroup");
    let top = doc.top();
    fill_group(&mut doc, top, group);
    doc
}

fn fill_group(doc: &mut Doc, at: Id, group: &Group) {
    doc.set(at, "name", &*group.name);
    let list = doc.list(at, "versions");
    for version in &group.versions {
        let item = doc.push(list, New::Object);
        fill_version(doc, item, group, version);
    }
    if let Some(preferred) = group.versions.first() {
        let item = doc.object(at, "preferredVersion");
        fill_version(doc, item, group, preferred);
    }
}

fn fill_version(doc: &mut Doc, at: Id, group: &Group, version: &Version) {
    let full = qualified(&group.name, version);
    doc.set(at, "groupVersion", &full);
    doc.set(at, "version", &*version.name);
}

/// The resources of a version, each followed by its subresources.
pub(super) fn resources(group: &str, version: &Version) -> Doc {
    let mut doc = object("APIResourceList");
    let top = doc.top();
    if group.is_empty() {
        doc.remove(top, "apiVersion");
    }
    let full = qualified(group, version);
    doc.set(top, "groupVersion", &full);
    let list = doc.list(top, "resources");
    for known in &version.resources {
        let item = doc.push(list, New::Object);
        fill_resource(&mut doc, item, known);
        for sub in &known.subresources {
            let item = doc.push(list, New::Object);
            let elsewhere = (&*sub.group, &*sub.version) != (group, &*version.name);
            fill_subresource(&mut doc, item, known, sub, elsewhere);
        }
    }
    doc
}

fn fill_resource(doc: &mut Doc, at: Id, known: &Served) {
    doc.set(at, "name", &*known.name);
    doc.set(at, "singularName", &*known.singular);
    doc.set(at, "namespaced", known.namespaced);
    doc.set(at, "kind", &*known.kind);
    set_texts(doc, at, "verbs", &known.verbs);
    set_texts(doc, at, "shortNames", &known.short_names);
    set_texts(doc, at, "categories", &known.categories);
    if !known.storage_version.is_empty() {
        let hash = storage_version_hash(&known.storage_version, &known.kind);
        doc.set(at, "storageVersionHash", &hash);
    }
}

/// Group and version of the kind are named where they are not those of the list.
fn fill_subresource(doc: &mut Doc, at: Id, known: &Served, sub: &Sub, elsewhere: bool) {
    let name = format!("{}/{}", known.name, sub.name);
    doc.set(at, "name", &name);
    doc.set(at, "singularName", "");
    doc.set(at, "namespaced", known.namespaced);
    if elsewhere {
        doc.set(at, "group", &*sub.group);
        doc.set(at, "version", &*sub.version);
    }
    doc.set(at, "kind", &*sub.kind);
    set_texts(doc, at, "verbs", &sub.verbs);
}

/// Tells clients that the stored form has changed.
fn storage_version_hash(storage_version: &str, kind: &str) -> String {
    let (group, version) = split_group_version(storage_version);
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(&digest[..8])
}

fn object(kind: &str) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", "v1");
    doc
}
