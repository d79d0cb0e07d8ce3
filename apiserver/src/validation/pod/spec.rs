//! A pod's spec.

use std::collections::HashSet;

use api::name;

use super::options::{Options, has_user_namespace};
use super::{containers, env, resources, scheduling, security, volumes, walk, windows};
use crate::kinds::ip;
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::{At, Errors, labels};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
const HOSTNAME_BYTES_MAX: usize = 64;
const INT32_MAX: i64 = i32::MAX as i64;

/// A PodSpec. A pod's own metadata is judged with it; a template's is none.
pub(crate) fn validate(errors: &mut Errors, spec: At<'_>, meta: Option<At<'_>>, options: &Options) {
    errors.need(spec.get("terminationGracePeriodSeconds"), "");
    let volumes = volumes::validate(errors, spec.get("volumes"), meta, options);
    let claims: HashSet<&str> = spec
        .get("resourceClaims")
        .items()
        .map(|claim| claim.get("name").str())
        .filter(|name| !name.is_empty())
        .collect();
    resources::claims(errors, spec.get("resourceClaims"), meta);
    let place = containers::Place {
        spec,
        volumes,
        claims,
        options,
    };
    containers::regular(errors, &place);
    containers::init(errors, &place);
    containers::ephemeral(errors, &place);
    resources::of_pod(errors, &place);
    host_ports(errors, spec, options);
    errors.need_one_of(spec.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.need_one_of(spec.get("dnsPolicy"), &DNS_POLICIES);
    labels::labels(errors, spec.get("nodeSelector"));
    security::of_pod(errors, spec, options);
    scheduling::affinity(errors, spec.get("affinity"), options);
    dns_config(errors, spec);
    for gate in spec.get("readinessGates").items() {
        errors.names(gate.get("conditionType"), name::label_key);
    }
    scheduling_gates(errors, spec.get("schedulingGates"));
    scheduling::spreads(errors, spec.get("topologySpreadConstraints"), options);
    windows::host_process(errors, spec);
    host_users(errors, spec, options);
    hostname_override(errors, spec);
    names(errors, spec);
    scheduling::tolerations(errors, spec.get("tolerations"), options);
    for alias in spec.get("hostAliases").items() {
        ip::legacy_ip(errors, alias.get("ip"), &[]);
        for hostname in alias.get("hostnames").items() {
            errors.names(hostname, name::dns_1123_subdomain);
        }
    }
    last(errors, spec, options);
    env::file_volumes(errors, spec);
}

/// The texts and numbers in between.
fn names(errors: &mut Errors, spec: At<'_>) {
    for (field, check) in [
        (
            "serviceAccountName",
            dns_subdomain as fn(&str, bool) -> Vec<String>,
        ),
        ("nodeName", dns_subdomain),
    ] {
        if !spec.get(field).is_empty() {
            errors.names(spec.get(field), |text| check(text, false));
        }
    }
    if spec.has("activeDeadlineSeconds") {
        errors.in_range(spec.get("activeDeadlineSeconds"), 1, INT32_MAX);
    }
    for field in ["hostname", "subdomain"] {
        if !spec.get(field).is_empty() {
            errors.names(spec.get(field), |text| dns_label(text, false));
        }
    }
}

fn last(errors: &mut Errors, spec: At<'_>, options: &Options) {
    for field in ["priorityClassName", "runtimeClassName"] {
        let is_checked = match field {
            "runtimeClassName" => spec.has(field),
            _ => !spec.get(field).is_empty(),
        };
        if is_checked {
            errors.names(spec.get(field), |text| dns_subdomain(text, false));
        }
    }
    if spec.has("preemptionPolicy") {
        let known = ["PreemptLowerPriority", "Never"];
        errors.need_one_of(spec.get("preemptionPolicy"), &known);
    }
    resources::overhead(errors, spec.get("overhead"), options);
    if spec.has("os") {
        operating_system(errors, spec);
    }
    let group = spec.get("schedulingGroup");
    if group.is_set() {
        let name = group.get("podGroupName");
        if name.is_set() {
            errors.names(name, |text| dns_subdomain(text, false));
        } else {
            errors.invalid(name, "must specify one of: `podGroupName`");
        }
    }
}

fn operating_system(errors: &mut Errors, spec: At<'_>) {
    let name = spec.path(&["os", "name"]);
    if !errors.need(name, "") {
        return;
    }
    match name.str() {
        "linux" => windows::of_linux_pod(errors, spec),
        "windows" => windows::of_windows_pod(errors, spec),
        _ => errors.renamed(".os.name", ".os", |errors| {
            errors.not_supported(name, &["linux", "windows"]);
        }),
    }
}

/// In the host's network, ports are the host's.
fn host_ports(errors: &mut Errors, spec: At<'_>, options: &Options) {
    if !spec.get("hostNetwork").flag() {
        return;
    }
    for port in spec
        .get("containers")
        .items()
        .flat_map(|at| at.get("ports").items())
    {
        let host = port.get("hostPort");
        if (options.is_pod || host.int() != 0) && host.int() != port.get("containerPort").int() {
            errors.invalid(
                host,
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
    }
}

fn dns_config(errors: &mut Errors, spec: At<'_>) {
    let config = spec.get("dnsConfig");
    if spec.get("dnsPolicy").str() == "None" {
        if !config.is_set() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            return errors.required(config, detail);
        }
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        if !errors.need(config.get("nameservers"), detail) {
            return;
        }
    }
    let servers = config.get("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(servers, detail);
    }
    for server in servers.items() {
        ip::legacy_ip(errors, server, &[]);
    }
    dns_searches(errors, config.get("searches"));
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.required(option, "must not be empty");
        }
    }
}

fn dns_searches(errors: &mut Errors, searches: At<'_>) {
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(searches, detail);
    }
    let bytes: usize = searches.items().map(|search| search.str().len() + 1).sum();
    if bytes.saturating_sub(1) > SEARCH_CHARACTERS_MAX {
        errors.invalid(
            searches,
            format!(
                "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the \
                 search list"
            ),
        );
    }
    for search in searches.items().filter(|search| search.str() != ".") {
        let text = search.str().strip_suffix('.').unwrap_or(search.str());
        for complaint in subdomain_with_underscores(text) {
            errors.invalid_value(search, text, complaint);
        }
    }
}

fn subdomain_with_underscores(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > 253 {
        complaints.push("must be no more than 253 characters".to_string());
    }
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.strip_prefix('_').unwrap_or(label).as_bytes();
        bytes.first().is_some_and(is_edge)
            && bytes.last().is_some_and(is_edge)
            && bytes
                .iter()
                .all(|byte| is_edge(byte) || b"-_".contains(byte))
    };
    if !text.split('.').all(is_label) {
        const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        complaints.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', \
             '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
             regex used for validation is '{LABEL}(\\.{LABEL})*')"
        ));
    }
    complaints
}

/// Upstream tells of the gate, not of its name.
fn scheduling_gates(errors: &mut Errors, gates: At<'_>) {
    let mut seen = HashSet::new();
    for gate in gates.items() {
        let name = gate.get("name").str();
        for complaint in name::label_key(name) {
            errors.invalid_value(gate, name, complaint);
        }
        if !seen.insert(name) {
            let path = errors.path(gate);
            errors.push(api::field::FieldError::duplicate(path, name));
        }
    }
}

/// A pod with users of its own shares nothing with the host.
fn host_users(errors: &mut Errors, spec: At<'_>, options: &Options) {
    const DETAIL: &str = "when `hostUsers` is false";
    if !has_user_namespace(spec) {
        return;
    }
    if spec.get("hostNetwork").flag() && !options.host_network_users {
        errors.forbidden(spec.get("hostNetwork"), DETAIL);
    }
    for (field, told) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(field).flag() {
            errors.renamed(field, told, |errors| {
                errors.forbidden(spec.get(field), DETAIL)
            });
        }
    }
    if !options.device_users {
        for container in walk::all_containers(spec) {
            errors.deny(container.get("volumeDevices"), DETAIL);
        }
    }
}

fn hostname_override(errors: &mut Errors, spec: At<'_>) {
    let hostname = spec.get("hostnameOverride");
    if !hostname.is_set() {
        return;
    }
    for (field, told) in [
        (
            "setHostnameAsFQDN",
            "may not be specified when setHostnameAsFQDN is true",
        ),
        (
            "hostNetwork",
            "may not be specified when hostNetwork is true",
        ),
    ] {
        if spec.get(field).flag() {
            errors.forbidden(hostname, told);
        }
    }
    if hostname.str().len() > HOSTNAME_BYTES_MAX {
        errors.too_long(hostname, HOSTNAME_BYTES_MAX);
    }
    errors.names(hostname, name::dns_1123_subdomain);
}
