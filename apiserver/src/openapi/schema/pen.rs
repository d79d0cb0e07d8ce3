//! Writes the definition of one type.

use api::schema::{self, Field, Link, List, ListTopology, Role, Shape, Topology, Type};

use super::{Dialect, Scope, target};
use crate::openapi::descriptions::Record;
use crate::openapi::enums;
use crate::openapi::writer::Writer;

pub(super) struct Pen<'d> {
    pub(super) dialect: Dialect,
    pub(super) record: Record<'d>,
}

impl Pen<'_> {
    pub(super) fn definition(&self, known: &Type, scope: &Scope<'_>, out: &mut Writer) {
        let own = match self.record.own() {
            "" if known.role == Role::List => {
                let items = known.name.strip_suffix("List").unwrap_or(&known.name);
                &*format!("{} holds objects of kind {items}.", known.name)
            }
            own => own,
        };
        out.text_if_any("description", own);
        if !known.fields.is_empty() {
            out.object("properties", |out| {
                let sorted = known
                    .by_name
                    .iter()
                    .map(|at| &known.fields[usize::from(*at)]);
                for field in sorted {
                    out.object(&field.name, |out| self.field(known, field, out));
                }
            });
        }
        let mut required = known.fields.iter().filter(|f| f.facts.required).peekable();
        if required.peek().is_some() {
            out.texts("required", required.map(|field| &*field.name));
        }
        out.text("type", "object");
        group_version_kinds(known, scope, out);
        if known.atomic {
            out.text("x-kubernetes-map-type", "atomic");
        }
        if !known.unions.is_empty() {
            out.list("x-kubernetes-unions", |out| {
                for union in known.unions {
                    out.item(|out| write_union(union, out));
                }
            });
        }
    }

    fn field(&self, owner: &Type, field: &Field, out: &mut Writer) {
        let values = enums::values(&field.facts);
        let description = self.description(owner, field, &values);
        let default = self.default(field);
        if let Some(target) = target(&field.shape) {
            let bare = description.is_empty() && default.is_none();
            if self.dialect == Dialect::V2 || bare {
                self.dialect.reference(out, &target.name());
            } else {
                out.list("allOf", |out| {
                    out.item(|out| self.dialect.reference(out, &target.name()));
                });
            }
        } else {
            self.in_place(&field.shape, &values, out);
        }
        out.text_if_any("description", &description);
        if let Some(default) = default {
            out.raw("default", default);
        }
        topology(owner, field, out);
        patch(field, out);
    }

    /// A value with neither description nor default: what a list or map holds.
    fn item(&self, shape: &Shape, values: &[&str], out: &mut Writer) {
        match target(shape) {
            Some(target) => self.dialect.reference(out, &target.name()),
            None => self.in_place(shape, values, out),
        }
    }

    fn in_place(&self, shape: &Shape, values: &[&str], out: &mut Writer) {
        let (kind, format) = match shape {
            Shape::List(list) => {
                out.text("type", "array");
                return out.object("items", |out| self.item(&list.item, values, out));
            }
            Shape::Map(map) => {
                out.text("type", "object");
                return out.object("additionalProperties", |out| {
                    self.item(&map.item, values, out);
                });
            }
            Shape::Bool => ("boolean", ""),
            Shape::Int32 => ("integer", "int32"),
            Shape::Int64 => ("integer", "int64"),
            Shape::Float => ("number", "double"),
            Shape::Bytes => ("string", "byte"),
            Shape::Any => ("object", ""),
            _ => ("string", ""),
        };
        out.text("type", kind);
        out.text_if_any("format", format);
        if kind == "string" && !values.is_empty() {
            out.texts("enum", values.iter().copied());
        }
    }

    fn description(&self, owner: &Type, field: &Field, values: &[&str]) -> String {
        let known = self.record.field(&field.name);
        let generic = match &*field.name {
            "kind" => "The kind of this object, in CamelCase. It cannot be changed.",
            "apiVersion" => "Group and version of the schema that this object is written in.",
            "object" if owner.name == "WatchEvent" => WATCHED,
            "metadata" if owner.role == Role::List => "What holds for the list as a whole.",
            "items" if owner.role == Role::List => "The objects.",
            _ => "",
        };
        let has_generic = known.is_empty() && (owner.has_type_meta() || generic == WATCHED);
        let mut text = if has_generic { generic } else { known }.to_string();
        if !values.is_empty() && matches!(field.shape, Shape::String) {
            text.push_str("\n\nPossible enum values:");
            for value in values {
                text.push_str(&format!("\n - `{value:?}`"));
            }
        }
        text
    }

    fn default<'f>(&self, field: &'f Field) -> Option<&'f str> {
        if self.dialect == Dialect::V2 {
            return None;
        }
        let facts = &field.facts;
        let zero = match field.shape {
            _ if !facts.zero_default => None,
            Shape::Bool => Some("false"),
            Shape::Int32 | Shape::Int64 | Shape::Float => Some("0"),
            Shape::String => Some("\"\""),
            Shape::Struct(_) => Some("{}"),
            _ => None,
        };
        facts.default.or(zero)
    }
}

/// How lists and maps behave in server-side apply.
fn topology(owner: &Type, field: &Field, out: &mut Writer) {
    if let Shape::List(list) = &field.shape
        && says_topology(owner, field, list)
    {
        let kind = match &list.topology {
            ListTopology::Atomic => "atomic",
            ListTopology::Set => "set",
            ListTopology::Map(keys) => {
                out.texts("x-kubernetes-list-map-keys", keys.iter().copied());
                "map"
            }
        };
        out.text("x-kubernetes-list-type", kind);
        return;
    }
    let said = SAID_ANYWAY
        .iter()
        .find(|row| (row.0, row.1) == (&*owner.name, &*field.name));
    if let Some((_, _, key, kind)) = said {
        out.text(key, kind);
    }
    match field.topology {
        Topology::Natural => {}
        Topology::Atomic => out.text("x-kubernetes-map-type", "atomic"),
        Topology::Granular => out.text("x-kubernetes-map-type", "granular"),
    }
}

/// Type, field and what it says although it goes without saying.
const SAID_ANYWAY: &[(&str, &str, &str, &str)] = &[
    (
        "APIServiceSpec",
        "caBundle",
        "x-kubernetes-list-type",
        "atomic",
    ),
    (
        "PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
        "x-kubernetes-map-type",
        "granular",
    ),
];

/// Lists of objects, and lists that are named types, say nothing.
fn says_topology(owner: &Type, field: &Field, list: &Link<List>) -> bool {
    let holds_objects = owner.role == Role::List && field.name == "items";
    !holds_objects && !list.wrapped
}

fn patch(field: &Field, out: &mut Writer) {
    let patch = field.facts.patch;
    out.text_if_any("x-kubernetes-patch-merge-key", patch.key);
    let strategies = [
        (patch.merge, "merge"),
        (patch.replace, "replace"),
        (patch.retain_keys, "retainKeys"),
    ];
    let strategies: Vec<&str> = strategies.iter().filter(|s| s.0).map(|s| s.1).collect();
    out.text_if_any("x-kubernetes-patch-strategy", &strategies.join(","));
}

/// What an event carries.
const WATCHED: &str = "The object as it is after the event, or as it was when it was deleted. With an \
                       ERROR it is mostly a Status, with a BOOKMARK it has little but a resourceVersion.";

/// Kinds that every version of every group has.
const EVERYWHERE: &[&str] = &["DeleteOptions", "WatchEvent"];

fn group_version_kinds(known: &Type, scope: &Scope<'_>, out: &mut Writer) {
    let same = |kind: &&schema::Kind| std::ptr::eq(kind.schema, known);
    let kinds = schema::kinds().iter().filter(same);
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    for kind in kinds.filter(|kind| kind.group != "*") {
        names.push((kind.group, kind.version, kind.kind));
    }
    if EVERYWHERE.contains(&&*known.name) && known.package == "meta/v1" {
        let everywhere = scope.versions.iter();
        names.extend(everywhere.map(|(group, version)| (*group, *version, &*known.name)));
    }
    if names.is_empty() {
        return;
    }
    out.list("x-kubernetes-group-version-kind", |out| {
        for name in names {
            out.item(|out| group_version_kind(name, out));
        }
    });
}

/// The members that name a kind.
pub(crate) fn group_version_kind(of: (&str, &str, &str), out: &mut Writer) {
    out.text("group", of.0);
    out.text("kind", of.2);
    out.text("version", of.1);
}

/// `discriminator{field=GoField,...}`.
fn write_union(union: &str, out: &mut Writer) {
    let (discriminator, fields) = union.split_once('{').unwrap_or((union, ""));
    out.text_if_any("discriminator", discriminator);
    out.object("fields-to-discriminateBy", |out| {
        let pairs = fields.trim_end_matches('}').split(',');
        for (field, name) in pairs.filter_map(|pair| pair.split_once('=')) {
            out.text(field, name);
        }
    });
}
