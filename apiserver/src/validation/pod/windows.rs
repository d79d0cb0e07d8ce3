//! What only pods of one operating system may have.

use super::walk;
use crate::validation::{At, Errors};

/// Nothing of Windows.
pub(super) fn of_linux_pod(errors: &mut Errors, spec: At<'_>) {
    let contexts = walk::all_containers(spec).map(|at| at.get("securityContext"));
    for context in [spec.get("securityContext")].into_iter().chain(contexts) {
        if context.has("windowsOptions") {
            let detail = "windows options cannot be set for a linux pod";
            errors.forbidden(context.get("windowsOptions"), detail);
        }
    }
}

/// Nothing of Linux.
pub(super) fn of_windows_pod(errors: &mut Errors, spec: At<'_>) {
    const OF_POD: [(&[&str], &str); 15] = [
        (&["securityContext", "appArmorProfile"], ""),
        (&["securityContext", "seLinuxOptions"], ""),
        (&["hostUsers"], ""),
        (&["hostPID"], "flag"),
        (&["hostIPC"], "flag"),
        (&["securityContext", "seccompProfile"], ""),
        (&["securityContext", "fsGroup"], ""),
        (&["securityContext", "fsGroupChangePolicy"], ""),
        (&["securityContext", "sysctls"], "list"),
        (&["shareProcessNamespace"], ""),
        (&["securityContext", "runAsUser"], ""),
        (&["securityContext", "runAsGroup"], ""),
        (&["securityContext", "supplementalGroups"], ""),
        (&["securityContext", "supplementalGroupsPolicy"], ""),
        (&["securityContext", "seLinuxChangePolicy"], ""),
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    const DETAIL: &str = "cannot be set for a windows pod";
    for (path, kind) in OF_POD {
        let at = spec.path(path);
        let is_there = match kind {
            "flag" => at.flag(),
            "list" => !at.is_empty(),
            _ => at.is_set(),
        };
        if is_there {
            errors.forbidden(at, DETAIL);
        }
    }
    for container in walk::all_containers(spec) {
        for field in OF_CONTAINER {
            let at = container.get("securityContext").get(field);
            if at.is_set() {
                errors.forbidden(at, DETAIL);
            }
        }
    }
}

/// Containers that are processes of the host: all of a pod are or none.
pub(super) fn host_process(errors: &mut Errors, spec: At<'_>) {
    const OPTION: [&str; 3] = ["securityContext", "windowsOptions", "hostProcess"];
    let of_pod = spec.path(&OPTION).opt_flag();
    let (mut all, mut hosted) = (0, 0);
    for container in walk::all_containers(spec) {
        all += 1;
        let own = container.path(&OPTION);
        if let (Some(pods), Some(its)) = (of_pod, own.opt_flag())
            && pods != its
        {
            let detail = format!(
                "pod hostProcess value must be identical if both are specified, was {pods}"
            );
            errors.invalid(own, detail);
        }
        if own.opt_flag().or(of_pod) == Some(true) {
            hosted += 1;
        }
    }
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let detail = "If pod contains any hostProcess containers then all containers must be \
                      HostProcess containers";
        errors.invalid_value(spec, "", detail);
    }
    if !spec.get("hostNetwork").flag() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid_value(spec.get("hostNetwork"), false, detail);
    }
}
