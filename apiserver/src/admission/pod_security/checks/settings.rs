//! The checks: one setting of pods each.

use std::collections::BTreeSet;

use super::{Setters, Subject, Violation, containers_named, named, plural, quoted};
use crate::validation::At;

/// Capabilities that container runtimes give anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Harmless settings of the kernel, and the minor version from which on they count as such.
const SYSCTLS: [(u32, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];
/// Volumes that reach nothing of the node.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The names of the containers whose security context is bad.
fn bad<'d>(pod: Subject<'d>, is_bad: impl Fn(At<'d>) -> bool) -> Vec<&'d str> {
    let bad = pod
        .containers()
        .filter(|at| is_bad(at.get("securityContext")));
    bad.map(|at| at.get("name").str()).collect()
}

pub(super) fn escalation(pod: Subject<'_>) -> Option<Violation> {
    let bad = bad(pod, |at| {
        at.get("allowPrivilegeEscalation").opt_flag() != Some(false)
    });
    if bad.is_empty() {
        return None;
    }
    let who = containers_named(&bad);
    Violation::new(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

pub(super) fn app_armor(pod: Subject<'_>) -> Option<Violation> {
    let setters = Setters::find(pod, |at, values| {
        let profile = at.get("appArmorProfile");
        let kind = profile.get("type").str();
        let is_bad = profile.is_set() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if is_bad {
            values.insert(kind);
        }
        is_bad
    });
    let annotations = pod.metadata.get("annotations").items();
    let annotations: BTreeSet<String> = annotations
        .filter(|at| at.key().starts_with(APP_ARMOR_PREFIX))
        .filter(|at| {
            let value = at.str();
            !(value.is_empty() || value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|at| format!("{}={:?}", at.key(), at.str()))
        .collect();
    let mut who = setters.parts();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_string());
    }
    if who.is_empty() {
        return None;
    }
    let values = setters.values.iter().copied();
    let values: Vec<&str> = values.chain(annotations.iter().map(|one| &**one)).collect();
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    Violation::new(
        reason,
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values)
        ),
    )
}

/// Containers that add capabilities that they may not, and which.
fn added<'d>(pod: Subject<'d>, allows: impl Fn(&str) -> bool) -> (Vec<&'d str>, BTreeSet<&'d str>) {
    let mut found = BTreeSet::new();
    let mut names = Vec::new();
    for container in pod.containers() {
        let added = container.path(&["securityContext", "capabilities", "add"]);
        let bad: Vec<&str> = added
            .items()
            .map(At::str)
            .filter(|one| !allows(one))
            .collect();
        if !bad.is_empty() {
            names.push(container.get("name").str());
            found.extend(bad);
        }
    }
    (names, found)
}

pub(super) fn capabilities(pod: Subject<'_>) -> Option<Violation> {
    let (names, added) = added(pod, |name| DEFAULT_CAPABILITIES.contains(&name));
    if names.is_empty() {
        return None;
    }
    let detail = must_not_add(&names, &added);
    Violation::new("non-default capabilities", detail)
}

fn must_not_add(names: &[&str], added: &BTreeSet<&str>) -> String {
    let (who, what) = (containers_named(names), quoted(added.iter().copied()));
    format!("{who} must not include {what} in securityContext.capabilities.add")
}

pub(super) fn capabilities_restricted(pod: Subject<'_>) -> Option<Violation> {
    let keeping = bad(pod, |at| {
        !at.path(&["capabilities", "drop"]).contains("ALL")
    });
    let (names, added) = added(pod, |name| name == "NET_BIND_SERVICE");
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers_named(&keeping);
        details.push(format!(
            r#"{who} must set securityContext.capabilities.drop=["ALL"]"#
        ));
    }
    if !names.is_empty() {
        details.push(must_not_add(&names, &added));
    }
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

pub(super) fn host_namespaces(pod: Subject<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared: Vec<String> = shared
        .filter(|key| pod.spec.get(key).flag())
        .map(|key| format!("{key}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

pub(super) fn host_paths(pod: Subject<'_>) -> Option<Violation> {
    let bad = pod
        .spec
        .get("volumes")
        .items()
        .filter(|at| at.has("hostPath"));
    let bad: Vec<&str> = bad.map(|at| at.get("name").str()).collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("hostPath volumes", named("volume", "volumes", bad))
}

pub(super) fn host_ports(pod: Subject<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let mut names = Vec::new();
    for container in pod.containers() {
        let found = container
            .get("ports")
            .items()
            .map(|at| at.get("hostPort").int());
        let found: Vec<String> = found
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        if !found.is_empty() {
            names.push(container.get("name").str());
            ports.extend(found);
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers_named(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.into_iter().collect::<Vec<_>>().join(", ")
    );
    Violation::new("hostPort", detail)
}

pub(super) fn probed_hosts(pod: Subject<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in pod.containers() {
        for handler in HANDLERS.map(|path| container.path(path)) {
            for host in ["httpGet", "tcpSocket"].map(|kind| handler.get(kind).get("host").str()) {
                if !host.is_empty() {
                    names.insert(container.get("name").str());
                    hosts.insert(host);
                }
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let count = hosts.len();
    let detail = format!(
        "{} {} {} {}",
        named("container", "containers", names.iter().copied()),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", count),
        quoted(hosts)
    );
    Violation::new("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: Subject<'_>) -> Option<Violation> {
    let bad = bad(pod, |at| at.get("privileged").flag());
    if bad.is_empty() {
        return None;
    }
    let who = containers_named(&bad);
    Violation::new(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

pub(super) fn proc_mount(pod: Subject<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let mut names = Vec::new();
    for container in pod.containers() {
        let kind = container.path(&["securityContext", "procMount"]);
        if kind.is_set() && kind.str() != "Default" {
            names.push(container.get("name").str());
            kinds.insert(kind.str());
        }
    }
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers_named(&names), quoted(kinds));
    Violation::new(
        "procMount",
        format!("{who} must not set securityContext.procMount to {what}"),
    )
}

pub(super) fn se_linux(pod: Subject<'_>, with_engine: bool) -> Option<Violation> {
    let (mut sets_user, mut sets_role) = (false, false);
    let setters = Setters::find(pod, |at, values| {
        let options = at.get("seLinuxOptions");
        let kind = options.get("type").str();
        let allows = matches!(
            kind,
            "" | "container_t" | "container_init_t" | "container_kvm_t"
        ) || (with_engine && kind == "container_engine_t");
        if !allows {
            values.insert(kind);
        }
        let (user, role) = (
            !options.get("user").is_empty(),
            !options.get("role").is_empty(),
        );
        sets_user |= user;
        sets_role |= role;
        !allows || user || role
    });
    if setters.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !setters.values.is_empty() {
        what.push(named("type", "types", setters.values.iter().copied()));
    }
    if sets_user {
        what.push("user may not be set".to_string());
    }
    if sets_role {
        what.push("role may not be set".to_string());
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.shown(),
        what.join("; ")
    );
    Violation::new("seLinuxOptions", detail)
}

pub(super) fn seccomp_annotations(pod: Subject<'_>) -> Option<Violation> {
    let annotations = pod.metadata.get("annotations");
    let names = pod
        .containers()
        .map(|at| format!("{SECCOMP_PREFIX}{}", at.get("name").str()));
    let mut found = BTreeSet::new();
    for key in names.chain([SECCOMP.to_string()]) {
        let Some(value) = annotations.entry(&key).map(At::str) else {
            continue;
        };
        let is_plain = matches!(value, "runtime/default" | "docker/default");
        if !is_plain && !value.starts_with("localhost/") {
            found.insert(format!("{key}={value:?}"));
        }
    }
    if found.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", found.len());
    let found: Vec<String> = found.into_iter().collect();
    Violation::new(
        "seccompProfile",
        format!("forbidden {word} {}", found.join(", ")),
    )
}

fn bad_seccomp<'d>(pod: Subject<'d>) -> Setters<'d> {
    Setters::find(pod, |at, values| {
        let profile = at.get("seccompProfile");
        let kind = profile.get("type").str();
        let is_bad = profile.is_set() && !matches!(kind, "Localhost" | "RuntimeDefault");
        if is_bad {
            values.insert(kind);
        }
        is_bad
    })
}

pub(super) fn seccomp(pod: Subject<'_>) -> Option<Violation> {
    let setters = bad_seccomp(pod);
    if setters.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters.shown(),
        quoted(setters.values.iter().copied())
    );
    Violation::new("seccompProfile", detail)
}

pub(super) fn seccomp_restricted(pod: Subject<'_>) -> Option<Violation> {
    if let Some(found) = seccomp(pod) {
        return Some(found);
    }
    if pod.security().has("seccompProfile") {
        return None;
    }
    let without = bad(pod, |at| !at.has("seccompProfile"));
    if without.is_empty() {
        return None;
    }
    let who = containers_named(&without);
    Violation::new(
        "seccompProfile",
        format!(
            r#"pod or {who} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#
        ),
    )
}

pub(super) fn sysctls(pod: Subject<'_>, minor: u32) -> Option<Violation> {
    let allows = |name: &str| {
        SYSCTLS
            .iter()
            .any(|known| known.0 <= minor && known.1 == name)
    };
    let names = pod
        .security()
        .get("sysctls")
        .items()
        .map(|at| at.get("name").str());
    let bad: Vec<&str> = names.filter(|name| !allows(name)).collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

pub(super) fn host_process(pod: Subject<'_>) -> Option<Violation> {
    let setters = Setters::find(pod, |at, _| {
        at.path(&["windowsOptions", "hostProcess"]).flag()
    });
    if setters.is_empty() {
        return None;
    }
    let who = setters.shown();
    Violation::new(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

pub(super) fn volumes(pod: Subject<'_>) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in pod.spec.get("volumes").items() {
        if VOLUMES.iter().any(|kind| volume.has(kind)) {
            continue;
        }
        names.push(volume.get("name").str());
        let kind = OTHER_VOLUMES.iter().find(|kind| volume.has(kind));
        kinds.insert(kind.copied().unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let (count, many) = (kinds.len(), names.len());
    let detail = format!(
        "{} {} {} {}",
        named("volume", "volumes", names),
        plural("uses", "use", many),
        plural("restricted volume type", "restricted volume types", count),
        quoted(kinds)
    );
    Violation::new("restricted volume types", detail)
}

pub(super) fn non_root(pod: Subject<'_>) -> Option<Violation> {
    let setters = Setters::find(pod, |at, _| {
        at.get("runAsNonRoot").opt_flag() == Some(false)
    });
    if !setters.is_empty() {
        let who = setters.shown();
        return Violation::new(
            "runAsNonRoot != true",
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    if pod.security().get("runAsNonRoot").flag() {
        return None;
    }
    let silent = bad(pod, |at| !at.has("runAsNonRoot"));
    if silent.is_empty() {
        return None;
    }
    let who = containers_named(&silent);
    Violation::new(
        "runAsNonRoot != true",
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

pub(super) fn user(pod: Subject<'_>) -> Option<Violation> {
    let setters = Setters::find(pod, |at, _| at.get("runAsUser").opt_int() == Some(0));
    if setters.is_empty() {
        return None;
    }
    Violation::new(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", setters.shown()),
    )
}
