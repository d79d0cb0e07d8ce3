//! One forbidden setting at a time, in upstream's words.

use api::doc::Doc;

use super::*;

/// What a rule says of a pod with this spec and these metadata.
fn details(level: Level, minor: u32, spec: &str, metadata: &str) -> String {
    let pod = Doc::literal(&format!(r#"{{"metadata":{metadata},"spec":{spec}}}"#));
    let version = Version::Minor(minor);
    evaluate(Rule { level, version }, Subject::of(At::root(&pod))).details()
}

#[test]
fn what_the_baseline_forbids() {
    for (spec, want) in [
        (r#"{"containers":[{"name":"a"}]}"#, ""),
        (
            r#"{"hostNetwork":true,"hostPID":true}"#,
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            r#"{"containers":[{"name":"a","ports":[{"hostPort":80},{"hostPort":9}]},{"name":"b","ports":[{"hostPort":80}]}]}"#,
            r#"hostPort (containers "a", "b" use hostPorts 80, 9)"#,
        ),
        (
            r#"{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}"#,
            r#"hostPath volumes (volume "v")"#,
        ),
        (
            r#"{"containers":[{"name":"a","securityContext":{"capabilities":{"add":["NET_RAW","CHOWN","BPF"]}}}]}"#,
            r#"non-default capabilities (container "a" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)"#,
        ),
        (
            r#"{"securityContext":{"appArmorProfile":{"type":"Unconfined"}}}"#,
            r#"forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")"#,
        ),
        (
            r#"{"securityContext":{"seLinuxOptions":{"type":"x","user":"u"}},"containers":[{"name":"a","securityContext":{"seLinuxOptions":{"role":"r"}}}]}"#,
            r#"seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "x"; user may not be set; role may not be set)"#,
        ),
        (
            r#"{"securityContext":{"sysctls":[{"name":"a.b"},{"name":"net.ipv4.tcp_rmem"}]}}"#,
            "forbidden sysctls (a.b)",
        ),
        (
            r#"{"securityContext":{"seccompProfile":{"type":"Unconfined"}}}"#,
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (
            r#"{"containers":[{"name":"a","livenessProbe":{"httpGet":{"host":"x"}}}]}"#,
            r#"probe or lifecycle host (container "a" uses probe or lifecycle host "x")"#,
        ),
        (
            r#"{"containers":[{"name":"a","securityContext":{"procMount":"Unmasked"}}]}"#,
            r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (
            r#"{"hostUsers":false,"containers":[{"name":"a","securityContext":{"procMount":"Unmasked"}}]}"#,
            "",
        ),
        (
            r#"{"securityContext":{"windowsOptions":{"hostProcess":true}}}"#,
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(details(Level::Baseline, 99, spec, "{}"), want, "{spec}");
    }
}

#[test]
fn what_only_the_restricted_level_forbids() {
    let good = r#""allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}"#;
    let pod = |more: &str, rest: &str| {
        format!(r#"{{"containers":[{{"name":"a","securityContext":{{{good}{more}}}}}]{rest}}}"#)
    };
    for (spec, want) in [
        (pod("", ""), ""),
        (
            pod(r#","runAsUser":0"#, ""),
            r#"runAsUser=0 (container "a" must not set runAsUser=0)"#,
        ),
        (
            pod(
                "",
                r#","volumes":[{"name":"v","nfs":{}},{"name":"s","secret":{}}]"#,
            ),
            r#"restricted volume types (volume "v" uses restricted volume type "nfs")"#,
        ),
        (
            pod("", r#","volumes":[{"name":"v","hostPath":{}}]"#),
            r#"restricted volume types (volume "v" uses restricted volume type "hostPath")"#,
        ),
        (
            pod("", r#","securityContext":{"runAsNonRoot":false}"#),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
    ] {
        assert_eq!(details(Level::Restricted, 99, &spec, "{}"), want, "{spec}");
    }
}

#[test]
fn rules_are_those_of_a_version() {
    let spec = r#"{"containers":[{"name":"a"}]}"#;
    let old = r#"{"annotations":{"seccomp.security.alpha.kubernetes.io/pod":"unconfined"}}"#;
    assert_eq!(
        details(Level::Baseline, 18, spec, old),
        r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#
    );
    assert_eq!(details(Level::Baseline, 19, spec, old), "");
    let rmem = r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_rmem"}]}}"#;
    assert_eq!(
        details(Level::Baseline, 31, rmem, "{}"),
        "forbidden sysctls (net.ipv4.tcp_rmem)"
    );
    let windows = r#"{"os":{"name":"windows"},"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}"#;
    assert_eq!(details(Level::Restricted, 25, windows, "{}"), "");
    assert!(details(Level::Restricted, 24, windows, "{}").contains("drop=[\"ALL\"]"));
}
