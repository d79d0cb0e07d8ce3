//! Containers of every sort.

use std::collections::{HashMap, HashSet};

use api::field::FieldError;
use api::name;

use super::options::{Options, has_user_namespace};
use super::{env, handlers, mounts, resources, security, walk};
use crate::registry::strategy::dns_label;
use crate::validation::{At, Errors};

/// What a container finds around it.
pub(crate) struct Place<'d, 'o> {
    /// The pod's spec.
    pub(crate) spec: At<'d>,
    /// Volumes that can be mounted, by name.
    pub(crate) volumes: HashMap<&'d str, At<'d>>,
    /// Names of the pod's resource claims.
    pub(crate) claims: HashSet<&'d str>,
    /// How strictly it is judged.
    pub(crate) options: &'o Options,
}

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
/// What upstream says of image names in pods, which templates may pad.
const PADDED: &str = "must not have leading or trailing whitespace";
const NO_POLICY: &str = "must specify restartPolicy when restart rules are used";
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// `spec.containers`.
pub(crate) fn regular(errors: &mut Errors, place: &Place<'_, '_>) {
    let list = place.spec.get("containers");
    if !errors.need(list, "") {
        return;
    }
    let mut names = HashSet::new();
    for container in list.items() {
        common(errors, container, place);
        if !names.insert(container.get("name").str()) {
            errors.duplicate(container.get("name"));
        }
        handlers::lifecycle(errors, container.get("lifecycle"), place.spec);
        probes(errors, container);
        restart_policy(errors, container);
    }
    host_ports(errors, list.items());
}

/// `spec.initContainers`.
pub(crate) fn init(errors: &mut Errors, place: &Place<'_, '_>) {
    let list = place.spec.get("initContainers");
    let regular = place.spec.get("containers").items();
    let mut names: HashSet<&str> = regular.map(|at| at.get("name").str()).collect();
    for container in list.items() {
        common(errors, container, place);
        if container.has("restartPolicy") {
            restart_policy(errors, container);
        } else if !container.get("restartPolicyRules").is_empty() {
            errors.required(container.get("restartPolicy"), NO_POLICY);
        }
        let name = container.get("name");
        if names.contains(name.str()) {
            errors.duplicate(name);
        } else if !name.is_empty() {
            names.insert(name.str());
        }
        host_ports(errors, std::iter::once(container));
        if walk::is_sidecar(container) {
            handlers::lifecycle(errors, container.get("lifecycle"), place.spec);
            probes(errors, container);
            continue;
        }
        for field in ["lifecycle"].into_iter().chain(PROBES) {
            if container.has(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(container.get(field), detail);
            }
        }
        if !place.options.restarting_init {
            no_restarting_resize(errors, container);
        }
    }
}

/// `spec.ephemeralContainers`.
pub(crate) fn ephemeral(errors: &mut Errors, place: &Place<'_, '_>) {
    const REFUSED: [&str; 9] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let others: HashSet<&str> = walk::plain_containers(place.spec)
        .map(|at| at.get("name").str())
        .collect();
    let mut names = others.clone();
    for container in place.spec.get("ephemeralContainers").items() {
        common(errors, container, place);
        image_is_trimmed(errors, container);
        if !names.insert(container.get("name").str()) {
            errors.duplicate(container.get("name"));
        }
        let target = container.get("targetContainerName");
        if !target.is_empty() && !others.contains(target.str()) {
            errors.not_found(target);
        }
        for field in REFUSED {
            errors.deny(container.get(field), DETAIL);
        }
        for mount in container.get("volumeMounts").items() {
            errors.deny(mount.get("subPath"), DETAIL);
            errors.deny(mount.get("subPathExpr"), DETAIL);
        }
    }
}

/// What a pod's containers need besides those of a template.
pub(crate) fn image_is_trimmed(errors: &mut Errors, container: At<'_>) {
    let image = container.get("image");
    if image.str().trim().len() != image.str().len() {
        errors.invalid(image, PADDED);
    }
}

fn common(errors: &mut Errors, container: At<'_>, place: &Place<'_, '_>) {
    if errors.need(container.get("name"), "") {
        errors.names(container.get("name"), |text| dns_label(text, false));
    }
    errors.need(container.get("image"), "");
    const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];
    errors.need_one_of(container.get("terminationMessagePolicy"), &MESSAGE_POLICIES);
    ports(errors, container.get("ports"));
    env::variables(errors, container);
    mounts::of_container(errors, container, place);
    pull_policy(errors, container.get("imagePullPolicy"));
    resources::of_container(errors, container.get("resources"), place);
    resize_policy(errors, container, place.spec);
    let context = container.get("securityContext");
    security::of_container(errors, context, !has_user_namespace(place.spec));
}

/// When an image is pulled.
pub(crate) fn pull_policy(errors: &mut Errors, at: At<'_>) {
    errors.need_one_of(at, &["Always", "IfNotPresent", "Never"]);
}

fn ports(errors: &mut Errors, list: At<'_>) {
    let mut names = HashSet::new();
    for port in list.items() {
        let (name, number) = (port.get("name"), port.get("containerPort"));
        if !name.is_empty() {
            let complaints = name::port_name(name.str());
            if complaints.is_empty() && !names.insert(name.str()) {
                errors.duplicate(name);
            }
            for complaint in complaints {
                errors.invalid(name, complaint);
            }
        }
        if number.int() == 0 {
            errors.required(number, "");
        } else {
            errors.in_range(number, 1, 65_535);
        }
        if port.get("hostPort").int() != 0 {
            errors.in_range(port.get("hostPort"), 1, 65_535);
        }
        errors.need_one_of(port.get("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// Ports of the host that two ask for.
fn host_ports<'d>(errors: &mut Errors, containers: impl Iterator<Item = At<'d>>) {
    let mut seen = HashSet::new();
    for container in containers {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            if host.int() == 0 {
                continue;
            }
            let (protocol, ip) = (port.get("protocol").str(), port.get("hostIP").str());
            let text = format!("{protocol}/{ip}/{}", host.int());
            if seen.contains(&text) {
                let path = errors.path(host);
                errors.push(FieldError::duplicate(path, text.as_str()));
            }
            seen.insert(text);
        }
    }
}

fn probes(errors: &mut Errors, container: At<'_>) {
    for field in PROBES {
        handlers::probe(errors, container.get(field), field == "readinessProbe");
    }
}

fn restart_policy(errors: &mut Errors, container: At<'_>) {
    let (policy, rules) = (
        container.get("restartPolicy"),
        container.get("restartPolicyRules"),
    );
    if policy.is_set() {
        errors.one_of(policy, &["Always", "Never", "OnFailure"]);
    } else if rules.is_empty() {
        return;
    } else {
        errors.required(policy, NO_POLICY);
    }
    if rules.len() > RULES_MAX {
        errors.too_many(rules, RULES_MAX);
    }
    for rule in rules.items() {
        errors.one_of(rule.get("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if !codes.is_set() {
            errors.required(codes, "must be specified");
            continue;
        }
        errors.one_of(codes.get("operator"), &["In", "NotIn"]);
        if codes.get("values").len() > EXIT_CODES_MAX {
            errors.too_many(codes.get("values"), EXIT_CODES_MAX);
        }
    }
}

/// Upstream tells of the list, whichever element is wrong.
fn resize_policy(errors: &mut Errors, container: At<'_>, spec: At<'_>) {
    let list = container.get("resizePolicy");
    let mut seen = HashSet::new();
    for policy in list.items() {
        let (resource, restart) = (
            policy.get("resourceName").str(),
            policy.get("restartPolicy").str(),
        );
        if !seen.insert(resource) {
            let path = errors.path(policy);
            errors.push(FieldError::duplicate(path, resource));
        }
        for (text, known) in [
            (resource, &walk::CPU_AND_MEMORY),
            (restart, &["NotRequired", "RestartContainer"]),
        ] {
            if text.is_empty() {
                errors.required(list, "");
            } else if !known.contains(&text) {
                let path = errors.path(list);
                errors.push(FieldError::not_supported(path, text, known));
            }
        }
        if spec.get("restartPolicy").str() == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid_value(list, restart, detail);
        }
    }
}

fn no_restarting_resize(errors: &mut Errors, container: At<'_>) {
    for policy in container.get("resizePolicy").items() {
        if policy.get("restartPolicy").str() == "RestartContainer" {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.invalid(policy.get("restartPolicy"), detail);
        }
    }
}
