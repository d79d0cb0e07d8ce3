//! Definitions: the types of the schema table as OpenAPI describes them, in both of its versions.

mod pen;

use std::collections::BTreeMap;

use api::schema::{self, SchemaOr, Shape, Type};

use self::pen::Pen;
pub(crate) use self::pen::group_version_kind;
use super::descriptions::Descriptions;
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
