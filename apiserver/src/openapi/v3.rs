//! OpenAPI 3.0: a document for each version of each group.

use super::Subject;
use super::descriptions::Descriptions;
use super::parameters::Parameter;
use super::routes::{Operation, PATCHES, Path, Payload};
use super::schema::{Definitions, Dialect, Scope, group_version_kind};
use super::writer::Writer;

/// The document of a subject.
pub(super) fn document(
    subject: &Subject<'_>,
    paths: &[Path],
    definitions: &Definitions<'_>,
    descriptions: &Descriptions,
) -> Vec<u8> {
    let mut versions = vec![("", "v1"), (subject.group, subject.version)];
    versions.dedup();
    let scope = Scope { versions };
    Writer::document(|out| {
        out.object("components", |out| {
            if !definitions.is_empty() {
                out.object("schemas", |out| {
                    definitions.write(Dialect::V3, (&scope, descriptions), out);
                });
            }
            out.object("securitySchemes", super::bearer_token);
        });
        out.object("info", super::info);
        out.text("openapi", "3.0.0");
        out.object("paths", |out| {
            for path in paths {
                out.object(&path.path, |out| write_path(path, out));
            }
        });
    })
}

fn write_path(path: &Path, out: &mut Writer) {
    for operation in &path.operations {
        out.object(operation.method, |out| write_operation(operation, out));
    }
    parameters(&path.parameters, out);
}

fn write_operation(operation: &Operation, out: &mut Writer) {
    out.text_if_any("description", &operation.description);
    out.text("operationId", &operation.id);
    parameters(&operation.parameters, out);
    if let Some(body) = &operation.body {
        let media_types: &[&str] = match operation.action {
            "patch" => &PATCHES,
            _ => &["*/*"],
        };
        out.object("requestBody", |out| {
            let payload = Payload::Object(body.definition.clone());
            content(media_types, &payload, out);
            if body.required {
                out.yes("required");
            }
        });
    }
    out.object("responses", |out| {
        for code in operation.responses {
            out.object(&code.to_string(), |out| {
                content(operation.produces.media_types(), &operation.payload, out);
                out.text("description", super::reason(*code));
            });
        }
        out.object("401", |out| out.text("description", "Unauthorized"));
    });
    out.texts("tags", [&*operation.tag]);
    out.text_if_any("x-kubernetes-action", operation.action);
    if let Some((group, version, kind)) = &operation.of {
        out.object("x-kubernetes-group-version-kind", |out| {
            group_version_kind((group, version, kind), out);
        });
    }
}

fn parameters(all: &[Parameter], out: &mut Writer) {
    if all.is_empty() {
        return;
    }
    out.list("parameters", |out| {
        for parameter in all {
            out.item(|out| {
                out.text_if_any("description", &parameter.description);
                out.text("in", parameter.place.name());
                out.text("name", &parameter.name);
                if parameter.is_required() {
                    out.yes("required");
                }
                out.object("schema", |out| {
                    out.text("type", parameter.kind);
                    out.yes("uniqueItems");
                });
            });
        }
    });
}

fn content(media_types: &[&str], payload: &Payload, out: &mut Writer) {
    out.object("content", |out| {
        for media_type in media_types {
            out.object(media_type, |out| {
                out.object("schema", |out| match payload {
                    Payload::Object(definition) => Dialect::V3.reference(out, definition),
                    Payload::Text => out.text("type", "string"),
                });
            });
        }
    });
}
