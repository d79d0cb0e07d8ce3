//! What each level forbids: a table of checks, each with the versions that changed it.

mod settings;

use std::collections::BTreeSet;

use self::settings as of;
use super::policy::{Level, Rule, Version};
use crate::validation::At;
use crate::validation::pod::walk::{all_containers, os};

/// The last version that changed something.
const NEWEST: u32 = 35;

/// A pod, or what pods are made from.
#[derive(Clone, Copy)]
pub(super) struct Subject<'d> {
    metadata: At<'d>,
    spec: At<'d>,
}

impl<'d> Subject<'d> {
    /// A pod or a template.
    pub(super) fn of(at: At<'d>) -> Self {
        Self {
            metadata: at.get("metadata"),
            spec: at.get("spec"),
        }
    }

    fn security(self) -> At<'d> {
        self.spec.get("securityContext")
    }

    fn containers(self) -> impl Iterator<Item = At<'d>> + Clone {
        all_containers(self.spec)
    }

    fn is_windows(self) -> bool {
        os(self.spec) == "windows"
    }

    /// Users of the pod are nobody on the node.
    fn has_own_users(self) -> bool {
        self.spec.get("hostUsers").opt_flag() == Some(false)
    }
}

/// What one check forbids.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        Some(Self {
            reason: reason.into(),
            detail: detail.into(),
        })
    }
}

/// Everything that is forbidden.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In short.
    pub(super) fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.0.iter().map(|one| &*one.reason).collect();
        reasons.join(", ")
    }

    /// With what exactly it is.
    pub(super) fn details(&self) -> String {
        let all = self.0.iter().map(|one| match &*one.detail {
            "" => one.reason.clone(),
            detail => format!("{} ({detail})", one.reason),
        });
        all.collect::<Vec<_>>().join(", ")
    }
}

type Judge = fn(Subject<'_>) -> Option<Violation>;

struct Check {
    name: &'static str,
    /// Another check that it takes the place of.
    instead_of: &'static str,
    /// From which minor version on it is done how.
    versions: &'static [(u32, Judge)],
}

const fn check(name: &'static str, versions: &'static [(u32, Judge)]) -> Check {
    instead(name, "", versions)
}

const fn instead(
    name: &'static str,
    instead_of: &'static str,
    versions: &'static [(u32, Judge)],
) -> Check {
    Check {
        name,
        instead_of,
        versions,
    }
}

/// In the order of their names, in which messages tell them.
const BASELINE: &[Check] = &[
    check("appArmorProfile", &[(0, of::app_armor)]),
    check("capabilities_baseline", &[(0, of::capabilities)]),
    check("hostNamespaces", &[(0, of::host_namespaces)]),
    check("hostPathVolumes", &[(0, of::host_paths)]),
    check("hostPorts", &[(0, of::host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, of::probed_hosts)]),
    check("privileged", &[(0, of::privileged)]),
    check(
        "procMount",
        &[
            (0, of::proc_mount),
            (35, |pod| {
                if pod.has_own_users() {
                    None
                } else {
                    of::proc_mount(pod)
                }
            }),
        ],
    ),
    check(
        "seLinuxOptions",
        &[
            (0, |pod| of::se_linux(pod, false)),
            (31, |pod| of::se_linux(pod, true)),
        ],
    ),
    check(
        "seccompProfile_baseline",
        &[(0, of::seccomp_annotations), (19, of::seccomp)],
    ),
    check(
        "sysctls",
        &[
            (0, |pod| of::sysctls(pod, 0)),
            (27, |pod| of::sysctls(pod, 27)),
            (29, |pod| of::sysctls(pod, 29)),
            (32, |pod| of::sysctls(pod, 32)),
        ],
    ),
    check("windowsHostProcess", &[(0, of::host_process)]),
];

/// What comes on top.
const RESTRICTED: &[Check] = &[
    check(
        "allowPrivilegeEscalation",
        &[
            (8, of::escalation),
            (25, |pod| {
                if pod.is_windows() {
                    None
                } else {
                    of::escalation(pod)
                }
            }),
        ],
    ),
    instead(
        "capabilities_restricted",
        "capabilities_baseline",
        &[
            (22, of::capabilities_restricted),
            (25, |pod| {
                if pod.is_windows() {
                    None
                } else {
                    of::capabilities_restricted(pod)
                }
            }),
        ],
    ),
    instead("procMount_restricted", "procMount", &[(35, of::proc_mount)]),
    instead("restrictedVolumes", "hostPathVolumes", &[(0, of::volumes)]),
    check(
        "runAsNonRoot",
        &[
            (0, of::non_root),
            (35, |pod| {
                if pod.has_own_users() {
                    None
                } else {
                    of::non_root(pod)
                }
            }),
        ],
    ),
    check(
        "runAsUser",
        &[
            (23, of::user),
            (35, |pod| {
                if pod.has_own_users() {
                    None
                } else {
                    of::user(pod)
                }
            }),
        ],
    ),
    instead(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[
            (19, of::seccomp_restricted),
            (25, |pod| {
                if pod.is_windows() {
                    None
                } else {
                    of::seccomp_restricted(pod)
                }
            }),
        ],
    ),
];

impl Check {
    /// What is done as of a version, if anything is.
    fn at(&self, minor: u32) -> Option<Judge> {
        let known = self
            .versions
            .iter()
            .rev()
            .find(|version| version.0 <= minor);
        known.map(|version| version.1)
    }
}

/// Holds a pod against a rule.
pub(super) fn evaluate(rule: Rule, pod: Subject<'_>) -> Violations {
    let minor = match rule.version {
        Version::Latest => NEWEST,
        Version::Minor(minor) => minor.min(NEWEST),
    };
    let (baseline, restricted) = match rule.level {
        Level::Privileged => (&[][..], &[][..]),
        Level::Baseline => (BASELINE, &[][..]),
        Level::Restricted => (BASELINE, RESTRICTED),
    };
    let active = |check: &&Check| check.at(minor).is_some();
    let replaced: Vec<&str> = restricted
        .iter()
        .filter(active)
        .map(|one| one.instead_of)
        .collect();
    let baseline = baseline
        .iter()
        .filter(|check| !replaced.contains(&check.name));
    let judges = baseline
        .chain(restricted)
        .filter_map(|check| check.at(minor));
    Violations(judges.filter_map(|judge| judge(pod)).collect())
}

/// `container "a"` or `containers "a", "b"`.
fn named<'n>(one: &str, many: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    format!("{} {}", plural(one, many, names.len()), quoted(names))
}

fn containers_named(names: &[&str]) -> String {
    named("container", "containers", names.iter().copied())
}

fn quoted<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    names.join(", ")
}

fn plural<'t>(one: &'t str, many: &'t str, count: usize) -> &'t str {
    if count == 1 { one } else { many }
}

/// Who sets something, `pod and container "a"`.
#[derive(Default)]
struct Setters<'d> {
    pod: bool,
    containers: Vec<&'d str>,
    values: BTreeSet<&'d str>,
}

impl<'d> Setters<'d> {
    /// Asks the pod's security context and those of its containers.
    fn find(
        pod: Subject<'d>,
        mut is_bad: impl FnMut(At<'d>, &mut BTreeSet<&'d str>) -> bool,
    ) -> Self {
        let mut found = Self::default();
        found.pod = is_bad(pod.security(), &mut found.values);
        for container in pod.containers() {
            if is_bad(container.get("securityContext"), &mut found.values) {
                found.containers.push(container.get("name").str());
            }
        }
        found
    }

    fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = Vec::new();
        if self.pod {
            parts.push("pod".to_string());
        }
        if !self.containers.is_empty() {
            parts.push(containers_named(&self.containers));
        }
        parts
    }

    fn shown(&self) -> String {
        self.parts().join(" and ")
    }
}

#[cfg(test)]
mod tests;
