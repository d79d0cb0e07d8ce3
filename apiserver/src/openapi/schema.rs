//! Definitions: the types of the schema table as OpenAPI describes them, in both of its versions.

use std::collections::BTreeMap;

use api::schema::{self, Field, Link, List, ListTopology, Role, SchemaOr, Shape, Topology, Type};

use super::descriptions::{Descriptions, Record};
use super::enums;
use super::writer::Writer;
use crate::catalog::Text;

/// A version of OpenAPI. They differ in small things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 2.0: no defaults, and no alternatives among types.
    V2,
    /// 3.0.
    V3,
}

impl Dialect {
    /// What a reference to a definition starts with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    /// A reference to a definition.
    pub(crate) fn reference(self, out: &mut Writer, definition: &str) {
        out.text("$ref", &format!("{}{definition}", self.prefix()));
    }
}

/// The definition of a custom kind: JSON, since nothing else knows it.
#[derive(Debug, Clone)]
pub struct Custom {
    /// Group of the kind.
    pub group: Text,
    /// Version of the kind.
    pub version: Text,
    /// The kind.
    pub kind: Text,
    /// Name of the definition, such as `com.example.stable.v1.CronTab`.
    pub definition: String,
    /// The schema in OpenAPI 2.0.
    pub v2: String,
    /// The schema in OpenAPI 3.0.
    pub v3: String,
    /// Built-in types that both refer to.
    pub refers: Vec<&'static Type>,
}

/// What a definition is made from.
#[derive(Clone, Copy)]
enum Source<'c> {
    Table(&'c Type),
    Special(&'static Special),
    Custom(&'c Custom),
}

/// A type that has a codec of its own.
struct Special {
    name: &'static str,
    v2: &'static str,
    v3: &'static str,
}

/// Members of the definitions, without their description.
static SPECIALS: [Special; 12] = {
    const fn special(name: &'static str, v2: &'static str, v3: &'static str) -> Special {
        Special { name, v2, v3 }
    }
    const fn same(name: &'static str, members: &'static str) -> Special {
        special(name, members, members)
    }
    const TIME: &str = r#""format":"date-time","type":"string""#;
    const OBJECT: &str = r#""type":"object""#;
    [
        same("io.k8s.apimachinery.pkg.apis.meta.v1.Time", TIME),
        same("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", TIME),
        same(
            "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
            r#""type":"string""#,
        ),
        special(
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            r#""type":"string""#,
            r#""oneOf":[{"type":"string"},{"type":"number"}]"#,
        ),
        special(
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            r#""format":"int-or-string","type":"string""#,
            r#""format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]"#,
        ),
        same("io.k8s.apimachinery.pkg.runtime.RawExtension", OBJECT),
        same("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", OBJECT),
        same(PATCH, OBJECT),
        same(JSON, ""),
        same(SCHEMA_OR_ARRAY, ""),
        same(SCHEMA_OR_BOOL, ""),
        same(SCHEMA_OR_STRINGS, ""),
    ]
};

/// Name of the definition of a patch's body.
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
const SCHEMA_OR_ARRAY: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray";
const SCHEMA_OR_BOOL: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool";
const SCHEMA_OR_STRINGS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray";

fn special(name: &str) -> Option<&'static Special> {
    SPECIALS.iter().find(|known| known.name == name)
}

/// What a value that is not described in place refers to.
enum Target<'t> {
    Type(&'t Type),
    Special(&'static str),
}

impl Target<'_> {
    fn name(&self) -> String {
        match self {
            Self::Type(known) => known.definition(),
            Self::Special(name) => (*name).to_string(),
        }
    }
}

fn target(shape: &Shape) -> Option<Target<'_>> {
    let name = match shape {
        Shape::Struct(known) => return Some(Target::Type(known)),
        Shape::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Shape::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Shape::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Shape::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Shape::Json => JSON,
        Shape::SchemaOr(SchemaOr::Array, _) => SCHEMA_OR_ARRAY,
        Shape::SchemaOr(SchemaOr::Bool, _) => SCHEMA_OR_BOOL,
        Shape::SchemaOr(SchemaOr::Strings, _) => SCHEMA_OR_STRINGS,
        _ => return None,
    };
    Some(Target::Special(name))
}

/// The definitions of a document: what its operations name, and all that these refer to.
#[derive(Default)]
pub(crate) struct Definitions<'c> {
    all: BTreeMap<String, Source<'c>>,
    custom: &'c [Custom],
}

impl<'c> Definitions<'c> {
    pub(crate) fn new(custom: &'c [Custom]) -> Self {
        Self {
            all: BTreeMap::new(),
            custom,
        }
    }

    /// Adds a kind; its definition's name, or none if the kind is not known.
    pub(crate) fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<String> {
        let same = |known: &&Custom| {
            (&*known.group, &*known.version, &*known.kind) == (group, version, kind)
        };
        if let Some(found) = self.custom.iter().find(same) {
            self.all
                .insert(found.definition.clone(), Source::Custom(found));
            for refers in &found.refers {
                self.add(refers);
            }
            return Some(found.definition.clone());
        }
        let found = schema::kind(group, version, kind)?;
        self.add(found);
        Some(found.definition())
    }

    /// Adds a type that is no kind, by the name that the schema table has for it.
    pub(crate) fn named(&mut self, name: &str) -> Option<String> {
        let found = schema::type_named(name)?;
        self.add(found);
        Some(found.definition())
    }

    /// Adds a type with a codec of its own.
    pub(crate) fn special(&mut self, name: &'static str) -> String {
        if let Some(found) = special(name) {
            self.all.insert(name.to_string(), Source::Special(found));
        }
        name.to_string()
    }

    fn add(&mut self, first: &'c Type) {
        let mut todo = vec![first];
        while let Some(known) = todo.pop() {
            let name = known.definition();
            if self.all.contains_key(&name) {
                continue;
            }
            self.all.insert(name, Source::Table(known));
            for field in known.fields.iter() {
                match target(innermost(&field.shape)) {
                    Some(Target::Type(next)) => todo.push(next),
                    Some(Target::Special(name)) => {
                        self.special(name);
                    }
                    None => {}
                }
            }
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Writes all of them as members of an object.
    pub(crate) fn write(
        &self,
        dialect: Dialect,
        (scope, descriptions): (&Scope<'_>, &Descriptions),
        out: &mut Writer,
    ) {
        for (name, source) in &self.all {
            let record = descriptions.of(name);
            match source {
                Source::Table(known) => out.object(name, |out| {
                    let pen = Pen { dialect, record };
                    pen.definition(known, scope, out);
                }),
                Source::Special(known) => out.object(name, |out| {
                    let members = match dialect {
                        Dialect::V2 => known.v2,
                        Dialect::V3 => known.v3,
                    };
                    out.text_if_any("description", record.own());
                    out.members(members);
                }),
                Source::Custom(known) => {
                    let json = match dialect {
                        Dialect::V2 => &known.v2,
                        Dialect::V3 => &known.v3,
                    };
                    out.raw(name, json);
                }
            }
        }
    }
}

fn innermost(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(list) => innermost(&list.item),
        Shape::Map(map) => innermost(&map.item),
        other => other,
    }
}

/// The groups and versions whose kinds a document names: the options that every version has stand
/// under each of them.
pub(crate) struct Scope<'s> {
    /// Sorted.
    pub(crate) versions: Vec<(&'s str, &'s str)>,
}

struct Pen<'d> {
    dialect: Dialect,
    record: Record<'d>,
}

impl Pen<'_> {
    fn definition(&self, known: &Type, scope: &Scope<'_>, out: &mut Writer) {
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
