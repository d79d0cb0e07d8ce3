//! OpenAPI 2.0: one document for everything.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::descriptions::Descriptions;
use super::parameters::Parameter;
use super::routes::{Body, Operation, PATCHES, Path, Payload, Produces};
use super::schema::{Definitions, Dialect, Scope, group_version_kind};
use super::writer::Writer;

/// The groups of upstream's scheme with their versions: what every version has is listed for each,
/// whether it is served or not.
const REGISTERED: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("admission.k8s.io", &["v1", "v1beta1"]),
    (
        "admissionregistration.k8s.io",
        &["v1", "v1alpha1", "v1beta1"],
    ),
    ("apiextensions.k8s.io", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", &["v1", "v1beta1"]),
    ("apps", &["v1", "v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("autoscaling", &["v1", "v2"]),
    ("batch", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("coordination.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("discovery.k8s.io", &["v1", "v1beta1"]),
    ("events.k8s.io", &["v1", "v1beta1"]),
    ("extensions", &["v1beta1"]),
    (
        "flowcontrol.apiserver.k8s.io",
        &["v1", "v1beta1", "v1beta2", "v1beta3"],
    ),
    ("imagepolicy.k8s.io", &["v1alpha1"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1", "v1beta1"]),
    ("node.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("policy", &["v1", "v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("resource.k8s.io", &["v1", "v1alpha3", "v1beta1", "v1beta2"]),
    ("scheduling.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("storage.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];

/// The document of all paths, which are sorted.
pub(super) fn document(
    paths: &[Path],
    definitions: &Definitions<'_>,
    descriptions: &Descriptions,
) -> Vec<u8> {
    let versions = REGISTERED
        .iter()
        .flat_map(|(group, versions)| versions.iter().map(|version| (*group, *version)));
    let scope = Scope {
        versions: versions.collect(),
    };
    let shared = shared(paths);
    Writer::document(|out| {
        out.object("definitions", |out| {
            definitions.write(Dialect::V2, (&scope, descriptions), out);
        });
        out.object("info", super::info);
        out.object("parameters", |out| {
            for (name, json) in shared {
                out.raw(&name, &json);
            }
        });
        out.object("paths", |out| {
            for path in paths {
                out.object(&path.path, |out| write_path(path, out));
            }
        });
        out.list("security", |out| {
            out.item(|out| out.texts("BearerToken", []));
        });
        out.object("securityDefinitions", super::bearer_token);
        out.text("swagger", "2.0");
    })
}

fn write_path(path: &Path, out: &mut Writer) {
    for operation in &path.operations {
        out.object(operation.method, |out| write_operation(operation, out));
    }
    write_parameters(None, &path.parameters, out);
}

fn write_operation(operation: &Operation, out: &mut Writer) {
    let produces = operation.produces.media_types();
    let consumes: &[&str] = match (operation.action, operation.produces) {
        ("patch", _) => &PATCHES,
        ("", Produces::Objects) => produces,
        ("", _) if operation.tag == "version" => produces,
        ("", _) => &[],
        _ => &["*/*"],
    };
    if !consumes.is_empty() {
        out.texts("consumes", consumes.iter().copied());
    }
    out.text_if_any("description", &operation.description);
    out.text("operationId", &operation.id);
    write_parameters(operation.body.as_ref(), &operation.parameters, out);
    out.texts("produces", produces.iter().copied());
    out.object("responses", |out| {
        for code in operation.responses {
            out.object(&code.to_string(), |out| {
                out.text("description", super::reason(*code));
                out.object("schema", |out| match &operation.payload {
                    Payload::Object(definition) => Dialect::V2.reference(out, definition),
                    Payload::Text => out.text("type", "string"),
                });
            });
        }
        out.object("401", |out| out.text("description", "Unauthorized"));
    });
    out.texts("schemes", ["https"]);
    out.texts("tags", [&*operation.tag]);
    out.text_if_any("x-kubernetes-action", operation.action);
    if let Some((group, version, kind)) = &operation.of {
        out.object("x-kubernetes-group-version-kind", |out| {
            group_version_kind((group, version, kind), out);
        });
    }
}

fn write_parameters(body: Option<&Body>, all: &[Parameter], out: &mut Writer) {
    if body.is_none() && all.is_empty() {
        return;
    }
    let bodies = body.map(|body| ("body", body_json(body), is_generic(body)));
    let plain = all
        .iter()
        .map(|one| (&*one.name, parameter_json(one), is_shared(one)));
    let mut rows: Vec<(&str, String, bool)> = bodies.into_iter().chain(plain).collect();
    rows.sort_by(|a, b| a.0.cmp(b.0));
    out.list("parameters", |out| {
        for (name, json, is_shared) in rows {
            if is_shared {
                let reference = format!("#/parameters/{}", shared_name(name, &json));
                out.item(|out| out.text("$ref", &reference));
            } else {
                out.raw_item(&json);
            }
        }
    });
}

fn body_json(body: &Body) -> String {
    json(|out| {
        out.text("in", "body");
        out.text("name", "body");
        if body.required {
            out.yes("required");
        }
        out.object("schema", |out| Dialect::V2.reference(out, &body.definition));
    })
}

fn parameter_json(parameter: &Parameter) -> String {
    json(|out| {
        out.text_if_any("description", &parameter.description);
        out.text("in", parameter.place.name());
        out.text("name", &parameter.name);
        if parameter.is_required() {
            out.yes("required");
        }
        out.text("type", parameter.kind);
        out.yes("uniqueItems");
    })
}

fn json(fill: impl FnOnce(&mut Writer)) -> String {
    String::from_utf8(Writer::document(fill)).unwrap_or_default()
}

/// Old versions of kubectl look for two parameters in place; that of the name has the kind in it.
fn is_shared(parameter: &Parameter) -> bool {
    !matches!(&*parameter.name, "name" | "fieldValidation" | "dryRun")
}

/// Bodies that are not of the resource's own kind.
fn is_generic(body: &Body) -> bool {
    body.definition.starts_with("io.k8s.apimachinery")
}

/// The parameters that paths refer to, by name.
fn shared(paths: &[Path]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut note = |name: &str, json: String| all.insert(shared_name(name, &json), json);
    for path in paths {
        let own = path
            .operations
            .iter()
            .flat_map(|operation| &operation.parameters);
        for parameter in path
            .parameters
            .iter()
            .chain(own)
            .filter(|one| is_shared(one))
        {
            note(&parameter.name, parameter_json(parameter));
        }
        let bodies = path
            .operations
            .iter()
            .filter_map(|operation| operation.body.as_ref());
        for body in bodies.filter(|body| is_generic(body)) {
            note("body", body_json(body));
        }
    }
    all
}

/// The parameter's own name and a hash (FNV-1) of what it is.
fn shared_name(name: &str, json: &str) -> String {
    let hash = json.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    format!("{name}-{}", URL_SAFE.encode(&hash.to_be_bytes()[..6]))
}
