//! Go's names of types, which decoders' error texts carry.

use std::fmt;

use super::{Field, SchemaOr, Shape, Type};

/// Prints `v1.PodSpec`, `[]v1.Container`, `map[string]string`, `v1.PodPhase`, `int32`.
pub(crate) struct GoType<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) field: Option<&'a Field>,
}

impl Type {
    /// Go's name with the package's last segment, such as `v1.PodSpec`.
    pub(crate) fn go_name(&self) -> String {
        format!(
            "{}.{}",
            self.package.rsplit('/').next().unwrap_or_default(),
            self.name
        )
    }
}

impl fmt::Display for GoType<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |shape| Self {
            shape,
            field: self.field,
        };
        let alias = self.field.map_or("", |field| field.facts.alias);
        let plain = match self.shape {
            Shape::List(list) => return write!(out, "[]{}", inner(&list.item)),
            Shape::Map(map) => {
                let key = self.field.map_or("", |field| field.facts.key_alias);
                let key = if key.is_empty() {
                    "string"
                } else {
                    qualified(key)
                };
                return write!(out, "map[{key}]{}", inner(&map.item));
            }
            Shape::Struct(schema) => return out.write_str(&schema.go_name()),
            _ if !alias.is_empty() => qualified(alias),
            Shape::Bool => "bool",
            Shape::Int32 => "int32",
            Shape::Int64 => "int64",
            Shape::Float => "float64",
            Shape::String => "string",
            Shape::Bytes => "[]uint8",
            Shape::Time => "v1.Time",
            Shape::MicroTime => "v1.MicroTime",
            Shape::Duration => "v1.Duration",
            Shape::Quantity => "resource.Quantity",
            Shape::IntOrString => "intstr.IntOrString",
            Shape::Any => "interface {}",
            Shape::Raw => "runtime.RawExtension",
            Shape::Json => "v1.JSON",
            Shape::FieldsV1 => "v1.FieldsV1",
            Shape::SchemaOr(SchemaOr::Array, _) => "v1.JSONSchemaPropsOrArray",
            Shape::SchemaOr(SchemaOr::Bool, _) => "v1.JSONSchemaPropsOrBool",
            Shape::SchemaOr(SchemaOr::Strings, _) => "v1.JSONSchemaPropsOrStringArray",
        };
        out.write_str(plain)
    }
}

/// `v1.PodPhase` of `core/v1.PodPhase`.
fn qualified(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
