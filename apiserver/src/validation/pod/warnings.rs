//! What clients should know about a pod that is right but odd.

mod paths;
mod ports;

use std::collections::HashSet;

use api::name;

use super::annotations::{SECCOMP_CONTAINER, SECCOMP_POD};
use super::{scheduling, walk};
use crate::kinds::ip;
use crate::kinds::pod::app_armor;
use crate::validation::{At, Errors, claim};

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
    ),
    (
        "beta.kubernetes.io/os",
        r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        r#"use "node-role.kubernetes.io/control-plane" instead"#,
    ),
];
const DEPRECATED_VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Of a pod.
pub(crate) fn of_pod(pod: At<'_>) -> Vec<String> {
    let mut teller = Teller::default();
    app_armor_of_pod(&mut teller, pod);
    teller.whole(pod, false);
    teller.told
}

/// Of a template.
pub(crate) fn of_template(template: At<'_>) -> Vec<String> {
    let mut teller = Teller::default();
    if template.is_set() {
        teller.whole(template, true);
    }
    teller.told
}

/// Of a pod's status.
pub(crate) fn of_status(pod: At<'_>) -> Vec<String> {
    let mut teller = Teller::default();
    for list in ["podIPs", "hostIPs"] {
        for at in pod.get("status").get(list).items() {
            teller.address(at.get("ip"));
        }
    }
    teller.told
}

/// What a deprecated label of nodes should be replaced by.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    let mut known = DEPRECATED_LABELS.iter();
    known
        .find(|(label, _)| *label == key)
        .map(|(_, advice)| *advice)
}

/// Collects warnings, with the paths that errors would have.
#[derive(Default)]
struct Teller {
    told: Vec<String>,
    paths: Errors,
}

impl Teller {
    fn tell(&mut self, at: At<'_>, what: impl AsRef<str>) {
        let path = self.paths.path(at);
        self.told.push(format!("{path}: {}", what.as_ref()));
    }

    fn address(&mut self, at: At<'_>) {
        let path = self.paths.path(at);
        self.told.extend(ip::ip_warning(&path, at.str()));
    }

    fn whole(&mut self, pod: At<'_>, is_template: bool) {
        let (meta, spec) = (pod.get("metadata"), pod.get("spec"));
        let annotations = meta.get("annotations");
        self.labels(spec);
        for (key, advice) in DEPRECATED_ANNOTATIONS {
            if let Some(at) = annotations.entry(key) {
                self.tell(at, advice);
            }
        }
        self.volumes(spec.get("volumes"));
        self.lists(spec);
        for name in ["memory", "ephemeral-storage"] {
            self.fraction(spec.get("overhead"), name);
        }
        let profile = spec.path(&["securityContext", "seccompProfile"]);
        self.seccomp(annotations, SECCOMP_POD, profile);
        for container in walk::all_containers(spec) {
            self.container(annotations, container);
            if is_template {
                self.app_armor(annotations, container, spec);
            }
            for list in ["limits", "requests"] {
                for name in ["memory", "ephemeral-storage"] {
                    self.fraction(container.path(&["resources", list]), name);
                }
            }
            self.variables(container.get("env"));
        }
        ports::overlaps(self, spec);
        self.last(spec);
    }

    fn labels(&mut self, spec: At<'_>) {
        for label in spec.get("nodeSelector").items() {
            if let Some(advice) = deprecated_label(label.key()) {
                self.tell(label, advice);
            }
        }
        for term in scheduling::required_node_terms(spec) {
            self.node_term(term, false);
        }
        let preferred = [
            "affinity",
            "nodeAffinity",
            "preferredDuringSchedulingIgnoredDuringExecution",
        ];
        for term in spec.path(&preferred).items() {
            self.node_term(term.get("preference"), true);
        }
        for spread in spec.get("topologySpreadConstraints").items() {
            let key = spread.get("topologyKey");
            if let Some(advice) = deprecated_label(key.str()) {
                self.tell(key, format!("{} is {advice}", key.str()));
            }
            self.null_selector(spread);
        }
    }

    fn null_selector(&mut self, term: At<'_>) {
        if !term.has("labelSelector") {
            let told = "a null labelSelector results in matching no pod";
            self.tell(term.get("labelSelector"), told);
        }
    }

    fn node_term(&mut self, term: At<'_>, with_values: bool) {
        for expression in term.get("matchExpressions").items() {
            let key = expression.get("key");
            if let Some(advice) = deprecated_label(key.str()) {
                self.tell(key, format!("{} is {advice}", key.str()));
            }
            let values = expression.get("values").items();
            for value in values.filter(|_| with_values) {
                for complaint in name::label_value(value.str()) {
                    self.tell(value, format!("{} is invalid, {complaint}", value.str()));
                }
            }
        }
    }

    fn volumes(&mut self, list: At<'_>) {
        for volume in list.items() {
            for (source, told) in DEPRECATED_VOLUMES {
                if volume.has(source) {
                    let told_as = if source == "storageos" {
                        "storageOS"
                    } else {
                        source
                    };
                    let path = self.paths.path(volume);
                    self.told.push(format!("{path}.{told_as}: {told}"));
                }
            }
            let template = volume.path(&["ephemeral", "volumeClaimTemplate"]);
            if template.is_set() {
                let path = self.paths.path(template.get("spec"));
                self.told
                    .extend(claim::warnings(&path, template.get("spec")));
            }
        }
        self.told.extend(paths::overlaps(list));
    }

    fn lists(&mut self, spec: At<'_>) {
        for (list, field, what) in [
            ("hostAliases", "ip", "duplicate ip"),
            ("imagePullSecrets", "name", "duplicate name"),
        ] {
            let mut seen = HashSet::new();
            for item in spec.get(list).items() {
                let at = item.get(field);
                if !seen.insert(at.str()) {
                    self.tell(at, format!("{what} {:?}", at.str()));
                }
            }
        }
        for secret in spec.get("imagePullSecrets").items() {
            if secret.get("name").is_empty() {
                self.tell(secret.get("name"), r#"invalid empty name """#);
            }
        }
    }

    fn fraction(&mut self, list: At<'_>, name: &str) {
        if let Some(at) = list.entry(name)
            && walk::quantity(at).millis() % 1000 != 0
        {
            let told = format!(
                "fractional byte value {:?} is invalid, must be an integer",
                at.str()
            );
            self.tell(at, told);
        }
    }

    fn seccomp(&mut self, annotations: At<'_>, key: &str, field: At<'_>) {
        if let Some(at) = annotations.entry(key)
            && !field.is_set()
        {
            self.tell(
                at,
                r#"non-functional in v1.27+; use the "seccompProfile" field instead"#,
            );
        }
    }

    fn container(&mut self, annotations: At<'_>, container: At<'_>) {
        let key = format!("{SECCOMP_CONTAINER}{}", container.get("name").str());
        let profile = container.path(&["securityContext", "seccompProfile"]);
        self.seccomp(annotations, &key, profile);
    }

    /// An annotation that says what the pod's field says anyway is fine.
    fn app_armor(&mut self, annotations: At<'_>, container: At<'_>, spec: At<'_>) {
        let key = format!("{}{}", app_armor::PREFIX, container.get("name").str());
        let of_pod = spec.path(&["securityContext", "appArmorProfile"]);
        let Some(at) = annotations.entry(&key) else {
            return;
        };
        let profile = app_armor::profile(at.str());
        let agrees = profile.is_some_and(|profile| app_armor::is_same(of_pod, profile));
        if !agrees && !container.get("securityContext").has("appArmorProfile") {
            self.tell(
                at,
                r#"deprecated since v1.30; use the "appArmorProfile" field instead"#,
            );
        }
    }

    /// A variable that is set twice, unless it extends itself.
    fn variables(&mut self, list: At<'_>) {
        let mut seen = HashSet::new();
        for variable in list.items() {
            let (name, value) = (variable.get("name").str(), variable.get("value").str());
            if seen.insert(name) {
                continue;
            }
            let reference = format!("$({name})");
            let extends = value != reference && value.contains(&reference);
            if variable.has("valueFrom") || !extends {
                let told = format!(
                    "hides previous definition of {name:?}, which may be dropped when using apply"
                );
                self.tell(variable, told);
            }
        }
    }

    fn last(&mut self, spec: At<'_>) {
        let grace = spec.get("terminationGracePeriodSeconds");
        if grace.int() < 0 {
            let told = "must be >= 0; negative values are invalid and will be treated as 1";
            self.tell(grace, told);
        }
        for kind in ["podAffinity", "podAntiAffinity"] {
            let affinity = spec.get("affinity").get(kind);
            for term in affinity
                .get("requiredDuringSchedulingIgnoredDuringExecution")
                .items()
            {
                self.null_selector(term);
            }
            for term in affinity
                .get("preferredDuringSchedulingIgnoredDuringExecution")
                .items()
            {
                self.null_selector(term.get("podAffinityTerm"));
            }
        }
        for server in spec.path(&["dnsConfig", "nameservers"]).items() {
            self.address(server);
        }
        for alias in spec.get("hostAliases").items() {
            self.address(alias.get("ip"));
        }
    }
}

/// Annotations of new pods become fields before anybody looks: those that brought one, and those
/// that could not.
fn app_armor_of_pod(teller: &mut Teller, pod: At<'_>) {
    let (spec, annotations) = (pod.get("spec"), pod.path(&["metadata", "annotations"]));
    if walk::os(spec) == "windows" {
        return;
    }
    let of_pod = spec.path(&["securityContext", "appArmorProfile"]);
    for container in walk::all_containers(spec) {
        let key = format!("{}{}", app_armor::PREFIX, container.get("name").str());
        let Some(at) = annotations.entry(&key) else {
            continue;
        };
        let field = container.path(&["securityContext", "appArmorProfile"]);
        let says_same =
            app_armor::profile(at.str()).is_some_and(|profile| app_armor::is_same(field, profile));
        let is_lost = app_armor::profile(at.str()).is_none() && !field.is_set();
        if says_same && !of_pod.is_set() || is_lost {
            teller.tell(
                at,
                r#"deprecated since v1.30; use the "appArmorProfile" field instead"#,
            );
        }
    }
}
