//! Ingresses and their classes.

use api::field::FieldError;
use api::name;
use api::values::ip;

use crate::kinds::core::service::update::{balancer_address, balancer_host};
use crate::kinds::core::service::warnings;
use crate::kinds::facts::{Facts, Generation, Status, label, subdomain};
use crate::validation::{At, Errors};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const CONTROLLER_BYTES_MAX: usize = 250;
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_SUFFIXES: [&str; 2] = ["/..", "/."];

/// What is particular about ingresses.
pub const INGRESS: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    status: Status::Own(r#"{"loadBalancer":{}}"#),
    create: |_, new, errors| {
        spec(errors, new.get("spec"), Options::default());
        class_annotation(errors, new);
    },
    update: |_, new, old, errors| spec(errors, new.get("spec"), Options::of_old(old)),
    sub_update: |_, new, old, errors| {
        let path = ["status", "loadBalancer", "ingress"];
        for point in new.path(&path).items() {
            balancer_address(errors, point, old.path(&path));
            balancer_host(errors, point.get("hostname"));
        }
    },
    warnings: |cx, new, old, told| {
        if cx.subresource == "status" {
            return warnings::status(new, told);
        }
        let annotation = new
            .path(&["metadata", "annotations"])
            .entry(CLASS_ANNOTATION);
        let has_class = new.path(&["spec", "ingressClassName"]).is_set();
        if old.is_none() && annotation.is_some() && !has_class {
            told.push(format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use \
                 'spec.ingressClassName' instead"
            ));
        }
    },
    ..Facts::PLAIN
};

/// What is particular about ingress classes.
pub const INGRESS_CLASS: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    create: |_, new, errors| class(errors, new.get("spec")),
    update: |_, new, old, errors| {
        let path = ["spec", "controller"];
        errors.immutable(new.path(&path), old.path(&path));
        class(errors, new.get("spec"));
    },
    ..Facts::PLAIN
};

/// What an ingress may have because its old one has it.
#[derive(Clone, Copy, Default)]
struct Options {
    any_secret_name: bool,
    any_wildcard_rule: bool,
}

impl Options {
    fn of_old(old: At<'_>) -> Self {
        let spec = old.get("spec");
        let is_bad = |tls: At<'_>| {
            let secret = tls.get("secretName").str();
            !secret.is_empty() && !subdomain(secret).is_empty()
        };
        let mut wildcards = spec
            .get("rules")
            .items()
            .filter(|rule| rule.get("host").str().contains('*'));
        Self {
            any_secret_name: spec.get("tls").items().any(is_bad),
            any_wildcard_rule: wildcards.any(|rule| {
                let mut errors = Errors::default();
                paths(&mut errors, rule);
                !errors.is_empty()
            }),
        }
    }
}

/// Upstream leaves `metadata` out of the path.
fn class_annotation(errors: &mut Errors, new: At<'_>) {
    let class = new.path(&["spec", "ingressClassName"]);
    let annotation = new
        .path(&["metadata", "annotations"])
        .entry(CLASS_ANNOTATION);
    if let Some(annotation) = annotation
        && class.is_set()
        && annotation.str() != class.str()
    {
        let path = format!("annotations.{CLASS_ANNOTATION}");
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(path, annotation.str(), detail));
    }
}

fn spec(errors: &mut Errors, spec: At<'_>, options: Options) {
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let shown = rules
            .node()
            .map_or("null".to_string(), |node| node.to_string());
        errors.invalid_value(spec, crate::kinds::facts::Raw(shown), detail);
    }
    if default.is_set() {
        backend(errors, default);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        let is_wildcard = host.str().contains('*');
        if !host.is_empty() {
            if ip::parse(host.str()).is_some() {
                errors.invalid(host, "must be a DNS name, not an IP address");
            }
            host_name(errors, host);
        }
        if !is_wildcard || !options.any_wildcard_rule {
            paths(errors, rule);
        }
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            host_name(errors, host);
        }
        let secret = tls.get("secretName");
        if !options.any_secret_name && !secret.is_empty() {
            errors.names(secret, subdomain);
        }
    }
    if spec.has("ingressClassName") {
        errors.names(spec.get("ingressClassName"), subdomain);
    }
}

fn host_name(errors: &mut Errors, host: At<'_>) {
    match host.str().contains('*') {
        true => errors.names(host, name::wildcard_subdomain),
        false => errors.names(host, name::dns_1123_subdomain),
    }
}

fn paths(errors: &mut Errors, rule: At<'_>) {
    let http = rule.get("http");
    if !http.is_set() {
        return;
    }
    errors.need(http.get("paths"), "");
    for at in http.get("paths").items() {
        let kind = at.get("pathType");
        if !kind.is_set() {
            errors.required(kind, "pathType must be specified");
            continue;
        }
        path(errors, at, kind);
        backend(errors, at.get("backend"));
    }
}

fn path(errors: &mut Errors, at: At<'_>, kind: At<'_>) {
    let path = at.get("path");
    let is_absolute = path.str().starts_with('/');
    match kind.str() {
        "Exact" | "Prefix" => {
            if !is_absolute {
                errors.invalid(path, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES
                .iter()
                .filter(|bad| path.str().contains(**bad))
            {
                errors.invalid(path, format!("must not contain '{bad}'"));
            }
            for bad in BAD_SUFFIXES
                .iter()
                .filter(|bad| path.str().ends_with(**bad))
            {
                errors.invalid(path, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !is_absolute {
                errors.invalid(path, "must be an absolute path");
            }
        }
        _ => errors.not_supported(kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
}

fn backend(errors: &mut Errors, backend: At<'_>) {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => {
            errors.invalid_value(backend, "", "cannot set both resource and service backends");
        }
        (true, false) => reference(errors, resource),
        (false, true) => service_backend(errors, backend, service),
        (false, false) => {
            errors.invalid_value(backend, "", "resource or service backend is required");
        }
    }
}

fn service_backend(errors: &mut Errors, backend: At<'_>, service: At<'_>) {
    if errors.need(service.get("name"), "") {
        errors.names(service.get("name"), label);
    }
    let port = service.get("port");
    let (port_name, number) = (port.get("name"), port.get("number"));
    match (port_name.is_empty(), number.int()) {
        (false, 0) => errors.names(port_name, name::port_name),
        (false, _) => {
            errors.invalid_value(backend, "", "cannot set both port name & port number");
        }
        (true, 0) => errors.required(backend, "port name or number is required"),
        (true, port) => errors.names(number, |_| name::port_number(port)),
    }
}

/// Group, kind and name of something.
fn reference(errors: &mut Errors, at: At<'_>) {
    if at.has("apiGroup") {
        errors.names(at.get("apiGroup"), name::dns_1123_subdomain);
    }
    for field in ["kind", "name"] {
        if errors.need(at.get(field), "") {
            errors.names(at.get(field), name::path_segment);
        }
    }
}

fn class(errors: &mut Errors, spec: At<'_>) {
    let controller = spec.get("controller");
    if controller.str().len() > CONTROLLER_BYTES_MAX {
        errors.too_long(controller, CONTROLLER_BYTES_MAX);
    }
    domain_path(errors, controller);
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return;
    }
    reference(errors, parameters);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    if !scope.is_set() {
        return errors.required(scope, "");
    }
    errors.one_of(scope, &["Cluster", "Namespace"]);
    match (scope.str(), namespace.is_set()) {
        ("Namespace", false) => {
            errors.required(namespace, "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", true) => errors.names(namespace, label),
        ("Cluster", true) => {
            errors.forbidden(namespace, "`parameters.scope` is set to 'Cluster'");
        }
        _ => {}
    }
}

/// `example.com/some/path`.
fn domain_path(errors: &mut Errors, at: At<'_>) {
    const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    if !errors.need(at, "") {
        return;
    }
    let (host, path) = at.str().split_once('/').unwrap_or_default();
    if host.is_empty() || path.is_empty() {
        let detail = r#"must be a domain-prefixed path (such as "acme.io/foo")"#;
        return errors.invalid(at, detail);
    }
    for complaint in name::dns_1123_subdomain(host) {
        errors.invalid_value(at, host, complaint);
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !path.bytes().all(is_good) {
        let detail = format!("Invalid path (regex used for validation is '{PATH}')");
        errors.invalid_value(at, path, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    const GOOD: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"a"},"spec":{
        "ingressClassName":"c","defaultBackend":{"resource":{"kind":"K","name":"n"}},
        "tls":[{"hosts":["a.b","*.c.d"],"secretName":"s"}],
        "rules":[{"host":"a.b","http":{"paths":[{"path":"/x","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":80}}}}]}}]}}"#;

    #[test]
    fn wrong_ingresses_are_told() {
        cases(
            &INGRESS,
            GOOD,
            &[
                Case::create(
                    "spec",
                    "{}",
                    &[
                        "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
                    ],
                ),
                Case::create(
                    "spec rules 0 host",
                    r#""1.2.3.4""#,
                    &[
                        r#"spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address"#,
                    ],
                ),
                Case::create(
                    "spec rules 0 host",
                    r#""a.*""#,
                    &[
                        r#"spec.rules[0].host: Invalid value: "a.*": a wildcard DNS-1123 subdomain…"#,
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths",
                    "[]",
                    &["spec.rules[0].http.paths: Required value"],
                ),
                Case::create(
                    "spec rules 0 http paths 0 pathType",
                    "-",
                    &[
                        "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths 0 pathType",
                    r#""x""#,
                    &[
                        r#"spec.rules[0].http.paths[0].pathType: Unsupported value: "x": supported values: "Exact", "ImplementationSpecific", "Prefix""#,
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths 0 path",
                    r#""x//..""#,
                    &[
                        r#"spec.rules[0].http.paths[0].path: Invalid value: "x//..": must be an absolute path"#,
                        r#"spec.rules[0].http.paths[0].path: Invalid value: "x//..": must not contain '//'"#,
                        r#"spec.rules[0].http.paths[0].path: Invalid value: "x//..": cannot end with '/..'"#,
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths 0 backend",
                    "{}",
                    &[
                        r#"spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required"#,
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths 0 backend service port",
                    "{}",
                    &[
                        "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                    ],
                ),
                Case::create(
                    "spec rules 0 http paths 0 backend service port name",
                    r#""p""#,
                    &[
                        r#"spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number"#,
                    ],
                ),
                Case::create(
                    "spec tls 0 secretName",
                    r#""_""#,
                    &["spec.tls[0].secretName: Invalid value: \"_\": a lowercase…"],
                ),
                Case::create(
                    "metadata annotations kubernetes.io/ingress.class",
                    r#""d""#,
                    &[
                        r#"annotations.kubernetes.io/ingress.class: Invalid value: "d": must match `ingressClassName` when both are specified"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status loadBalancer ingress",
                    r#"[{"ip":"x"}]"#,
                    &[
                        r#"status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                    ],
                ),
            ],
        );
    }

    #[test]
    fn wrong_classes_are_told() {
        let good = r#"{"apiVersion":"networking.k8s.io/v1","kind":"IngressClass","metadata":{"name":"a"},
            "spec":{"controller":"a.b/c","parameters":{"kind":"K","name":"n","scope":"Namespace","namespace":"x"}}}"#;
        cases(
            &INGRESS_CLASS,
            good,
            &[
                Case::create(
                    "spec controller",
                    r#""a""#,
                    &[
                        r#"spec.controller: Invalid value: "a": must be a domain-prefixed path (such as "acme.io/foo")"#,
                    ],
                ),
                Case::update(
                    "spec controller",
                    r#""a.b/d""#,
                    &[r#"spec.controller: Invalid value: "a.b/d": field is immutable"#],
                ),
                Case::create(
                    "spec parameters namespace",
                    "-",
                    &[
                        "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                    ],
                ),
                Case::create(
                    "spec parameters scope",
                    r#""Cluster""#,
                    &[
                        "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
                    ],
                ),
                Case::create(
                    "spec parameters kind",
                    r#""""#,
                    &["spec.parameters.kind: Required value"],
                ),
            ],
        );
    }
}
