//! Security contexts of pods and containers.

use std::collections::HashSet;

use api::name;

use super::options::Options;
use super::volumes;
use crate::validation::{At, Errors};

const ID_MAX: i64 = i32::MAX as i64;
const SYSCTL_BYTES_MAX: usize = 253;
const PATH_BYTES_MAX: usize = 4095;
const WINDOWS_SPEC_BYTES_MAX: usize = 64 * 1024;
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// A pod's own.
pub(crate) fn of_pod(errors: &mut Errors, spec: At<'_>, options: &Options) {
    let at = spec.get("securityContext");
    ids(errors, at, &["fsGroup", "runAsUser", "runAsGroup"]);
    for group in at.get("supplementalGroups").items() {
        errors.in_range(group, 0, ID_MAX);
    }
    if spec.get("shareProcessNamespace").flag() && spec.get("hostPID").flag() {
        // Upstream keeps the field in the context.
        errors.renamed(
            "shareProcessNamespace",
            "securityContext.shareProcessNamespace",
            |errors| {
                let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
                errors.invalid(spec.get("shareProcessNamespace"), detail);
            },
        );
    }
    sysctls(errors, at.get("sysctls"));
    if !options.any_host_sysctl {
        host_sysctls(errors, spec);
    }
    for (field, known) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        if at.has(field) {
            errors.one_of(at.get(field), known);
        }
    }
    seccomp_profile(errors, at.get("seccompProfile"));
    windows_options(errors, at.get("windowsOptions"));
    app_armor_profile(errors, at.get("appArmorProfile"));
}

/// A container's.
pub(crate) fn of_container(errors: &mut Errors, at: At<'_>, host_users: bool) {
    if !at.is_set() {
        return;
    }
    ids(errors, at, &["runAsUser", "runAsGroup"]);
    let mount = at.get("procMount");
    if mount.is_set() {
        errors.one_of(mount, &["Default", "Unmasked"]);
        if host_users && mount.str() == "Unmasked" {
            errors.invalid(mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp_profile(errors, at.get("seccompProfile"));
    if at.get("allowPrivilegeEscalation").opt_flag() == Some(false) {
        if at.get("privileged").flag() {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(at, detail);
        }
        for capability in at.path(&["capabilities", "add"]).items() {
            if capability.str() == "CAP_SYS_ADMIN" {
                let detail = "cannot set `allowPrivilegeEscalation` to false and \
                              `capabilities.Add` CAP_SYS_ADMIN";
                errors.invalid(at, detail);
            }
        }
    }
    windows_options(errors, at.get("windowsOptions"));
    app_armor_profile(errors, at.get("appArmorProfile"));
}

fn ids(errors: &mut Errors, at: At<'_>, fields: &[&'static str]) {
    for field in fields {
        if at.has(field) {
            errors.in_range(at.get(field), 0, ID_MAX);
        }
    }
}

fn sysctls(errors: &mut Errors, list: At<'_>) {
    let mut names = HashSet::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        if name.is_empty() {
            errors.required(name, "");
        } else if !is_sysctl(name.str()) {
            let detail = format!(
                "must have at most {SYSCTL_BYTES_MAX} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.invalid(name, detail);
        } else if names.contains(name.str()) {
            errors.duplicate(name);
        }
        names.insert(name.str());
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.first().is_some_and(is_edge)
            && bytes.last().is_some_and(is_edge)
            && bytes
                .iter()
                .all(|byte| is_edge(byte) || b"-_".contains(byte))
    };
    name.len() <= SYSCTL_BYTES_MAX && name.split(['.', '/']).all(is_segment)
}

/// Sysctls of namespaces that the pod shares with the host.
pub(crate) fn host_sysctls(errors: &mut Errors, spec: At<'_>) {
    for sysctl in spec.path(&["securityContext", "sysctls"]).items() {
        let name = sysctl.get("name");
        let (shared, told) = match namespace_of(name.str()) {
            Some(Namespace::Net) => ("hostNetwork", "'hostNetwork'"),
            Some(Namespace::Ipc) => ("hostIPC", "'hostIPC'"),
            None => continue,
        };
        if spec.get(shared).flag() {
            errors.invalid(name, format!("may not be specified when {told} is true"));
        }
    }
}

enum Namespace {
    Net,
    Ipc,
}

fn namespace_of(sysctl: &str) -> Option<Namespace> {
    const IPC: [&str; 10] = [
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    ];
    // Slashes may stand for dots, if one comes first.
    let first = sysctl
        .find(['.', '/'])
        .and_then(|at| sysctl[at..].chars().next());
    let dotted: String = match first {
        Some('/') => sysctl
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => sysctl.to_string(),
    };
    let name = dotted.split('*').next().unwrap_or_default();
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return Some(Namespace::Ipc);
    }
    name.starts_with("net.").then_some(Namespace::Net)
}

fn seccomp_profile(errors: &mut Errors, at: At<'_>) {
    if !at.is_set() {
        return;
    }
    let profile = at.get("localhostProfile");
    if errors.need(
        at.get("type"),
        "type is required when seccompProfile is set",
    ) {
        errors.one_of(at.get("type"), &PROFILE_TYPES);
    }
    if at.get("type").str() != "Localhost" {
        if profile.is_set() {
            let shown = at.nearest().0;
            let detail = "can only be set when seccomp type is Localhost";
            errors.invalid_value(profile, shown, detail);
        }
    } else if profile.is_set() {
        errors.names(profile, volumes::descending_path);
    } else {
        errors.required(profile, "must be set when seccomp type is Localhost");
    }
}

fn app_armor_profile(errors: &mut Errors, at: At<'_>) {
    const REQUIRED: &str = "must be set when AppArmor type is Localhost";
    if !at.is_set() {
        return;
    }
    let profile = at.get("localhostProfile");
    match at.get("type").str() {
        "Localhost" if !profile.is_set() => errors.required(profile, REQUIRED),
        "Localhost" => {
            if profile.str().trim() != profile.str() {
                errors.invalid(profile, "must not be padded with whitespace");
            } else if profile.is_empty() {
                errors.required(profile, REQUIRED);
            }
            if profile.str().len() > PATH_BYTES_MAX {
                errors.too_long(profile, PATH_BYTES_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if profile.is_set() {
                errors.invalid(profile, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => errors.required(
            at.get("type"),
            "type is required when appArmorProfile is set",
        ),
        _ => errors.not_supported(at.get("type"), &PROFILE_TYPES),
    }
}

fn windows_options(errors: &mut Errors, at: At<'_>) {
    let (name, spec, user) = (
        at.get("gmsaCredentialSpecName"),
        at.get("gmsaCredentialSpec"),
        at.get("runAsUserName"),
    );
    if name.is_set() {
        errors.names(name, name::dns_1123_subdomain);
    }
    if spec.is_set() && spec.is_empty() {
        errors.invalid(spec, "gmsaCredentialSpec cannot be an empty string");
    } else if spec.str().len() > WINDOWS_SPEC_BYTES_MAX {
        errors.invalid(spec, "gmsaCredentialSpec size must be under 64 KiB");
    }
    if user.is_set() {
        errors.names(user, windows_user);
    }
}

fn windows_user(text: &str) -> Vec<String> {
    let alone = |complaint: &str| vec![format!("runAsUserName {complaint}")];
    if text.is_empty() {
        return alone("cannot be an empty string");
    }
    if text.chars().any(|letter| letter.is_ascii_control()) {
        return alone("cannot contain control characters");
    }
    let parts: Vec<&str> = text.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return alone("cannot contain more than one backslash"),
    };
    let length = domain.unwrap_or_default().len();
    let is_domain = domain.is_none_or(|domain| is_net_bios(domain) || is_dns(domain));
    [
        (length >= 256, "Domain length must be under 256 characters"),
        (
            !is_domain,
            "Domain doesn't match the NetBios nor the DNS format",
        ),
        (user.is_empty(), "User cannot be empty"),
        (
            user.len() > 104,
            "User length must not be longer than 104 characters",
        ),
        (
            !user.is_empty() && user.chars().all(|letter| ". ".contains(letter)),
            "User cannot contain only periods or spaces",
        ),
        (
            user.contains(|letter| "\"/\\:;|=,+*?<>@[]".contains(letter)),
            r#"User cannot contain the following characters: "/\:;|=,+*?<>@[]"#,
        ),
    ]
    .into_iter()
    .filter(|(is_bad, _)| *is_bad)
    .map(|(_, complaint)| format!("runAsUserName's {complaint}"))
    .collect()
}

fn is_net_bios(domain: &str) -> bool {
    const REFUSED: &str = "\\/:*?\"<>|";
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|letter| REFUSED.contains(letter))
}

fn is_dns(domain: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        is_edge(bytes.first())
            && is_edge(bytes.last())
            && bytes.len() <= 63
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}
