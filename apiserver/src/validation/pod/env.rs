//! Environment variables.

use api::name;

use super::{volumes, walk};
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::{At, Errors};

/// Fields that a variable may take its value from.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Resources likewise; huge pages besides.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// `env` and `envFrom` of a container.
pub(crate) fn variables(errors: &mut Errors, container: At<'_>) {
    for variable in container.get("env").items() {
        if errors.need(variable.get("name"), "") {
            errors.names(variable.get("name"), name::env_var);
        }
        if variable.has("valueFrom") {
            value_from(errors, variable);
        }
    }
    let from = container.get("envFrom");
    for source in from.items() {
        if !source.get("prefix").is_empty() {
            errors.names(source.get("prefix"), name::env_var);
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            let reference = source.get(field);
            if !reference.is_set() {
                continue;
            }
            sources += 1;
            if errors.need(reference.get("name"), "") {
                errors.names(reference.get("name"), |text| dns_subdomain(text, true));
            }
        }
        match sources {
            0 => errors.invalid_value(
                from,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => errors.invalid_value(
                from,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn value_from(errors: &mut Errors, variable: At<'_>) {
    let from = variable.get("valueFrom");
    let mut sources = 0;
    for (field, check) in [
        ("fieldRef", field_of_env as fn(&mut Errors, At<'_>)),
        ("resourceFieldRef", |errors, at| {
            resource_field(errors, at, false)
        }),
        ("configMapKeyRef", key_of_object),
        ("secretKeyRef", key_of_object),
        ("fileKeyRef", key_of_file),
    ] {
        if from.has(field) {
            sources += 1;
            check(errors, from.get(field));
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
                      `secretKeyRef` or `fileKeyRef`";
        errors.invalid_value(from, "", detail);
    } else if !variable.get("value").is_empty() {
        errors.invalid_value(from, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid_value(
            from,
            "",
            "may not have more than one field specified at a time",
        );
    }
}

fn field_of_env(errors: &mut Errors, at: At<'_>) {
    field(errors, at, &FIELDS);
}

/// An ObjectFieldSelector.
pub(crate) fn field(errors: &mut Errors, at: At<'_>, known: &[&str]) {
    if !errors.need(at.get("apiVersion"), "") || !errors.need(at.get("fieldPath"), "") {
        return;
    }
    let path = at.get("fieldPath");
    match converted(at.get("apiVersion").str(), path.str()) {
        Err(error) => errors.invalid(path, format!("error converting fieldPath: {error}")),
        Ok(text) => match subscript(text) {
            Some((map, key)) => {
                let key = match map {
                    "metadata.annotations" => key.to_lowercase(),
                    _ => key.to_string(),
                };
                for complaint in name::label_key(&key) {
                    errors.invalid_value(at, key.as_str(), complaint);
                }
            }
            None if !known.contains(&text) => {
                let place = errors.path(path);
                errors.push(api::field::FieldError::not_supported(place, text, known));
            }
            None => {}
        },
    }
}

/// The field as the server calls it.
fn converted<'t>(version: &str, text: &'t str) -> Result<&'t str, String> {
    const KNOWN: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    ];
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    match subscript(text) {
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(text),
        Some(_) => Err(format!("field label does not support subscript: {text}")),
        None if text == "spec.host" => Ok("spec.nodeName"),
        None if KNOWN.contains(&text) || FIELDS.contains(&text) => Ok(text),
        None => Err(format!("field label not supported: {text}")),
    }
}

/// `map['key']`.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (map, key) = text.strip_suffix("']")?.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

/// A ResourceFieldSelector. In volumes it must name its container.
pub(crate) fn resource_field(errors: &mut Errors, at: At<'_>, in_volume: bool) {
    let resource = at.get("resource");
    if in_volume && at.get("containerName").is_empty() {
        errors.required(at.get("containerName"), "");
    } else if resource.is_empty() {
        errors.required(resource, "");
    } else if !RESOURCES.contains(&resource.str()) && !is_huge_pages(resource.str()) {
        errors.not_supported(resource, &RESOURCES);
    }
    divisor(errors, at, resource.str());
}

fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-")
}

fn divisor(errors: &mut Errors, at: At<'_>, resource: &str) {
    let divisor = at.get("divisor");
    if divisor.is_empty() || walk::quantity(divisor).is_zero() {
        return;
    }
    let (known, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&SIZES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&SIZES, "local ephemeral storage")
        }
        other if is_huge_pages(other) => (&SIZES, "hugepages"),
        _ => return,
    };
    if !known.contains(&divisor.str()) {
        let listed = match known.len() {
            2 => "1m and 1".to_string(),
            _ => known.join(", "),
        };
        let detail =
            format!("only divisor's values {listed} are supported with the {what} resource");
        errors.invalid_value(divisor, resource, detail);
    }
}

fn key_of_object(errors: &mut Errors, at: At<'_>) {
    errors.names(at.get("name"), |text| dns_subdomain(text, false));
    if errors.need(at.get("key"), "") {
        errors.names(at.get("key"), name::config_key);
    }
}

fn key_of_file(errors: &mut Errors, at: At<'_>) {
    if errors.need(at.get("key"), "") {
        errors.names(at.get("key"), name::env_var);
    }
    if errors.need(at.get("volumeName"), "") {
        errors.names(at.get("volumeName"), |text| dns_label(text, false));
    }
    if errors.need(at.get("path"), "") {
        errors.names(at.get("path"), volumes::no_backsteps);
    }
}

/// Files of variables stand in volumes that start empty.
pub(crate) fn file_volumes(errors: &mut Errors, spec: At<'_>) {
    for container in walk::all_containers(spec) {
        for variable in container.get("env").items() {
            let file = variable.path(&["valueFrom", "fileKeyRef"]);
            if !file.is_set() {
                continue;
            }
            let name = file.get("volumeName");
            match spec
                .get("volumes")
                .items()
                .filter(|at| at.get("name").str() == name.str())
                .last()
            {
                None => errors.not_found(name),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    }
}
