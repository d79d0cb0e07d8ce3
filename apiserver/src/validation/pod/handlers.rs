//! Probes and what happens around a container's life.

use api::name;

use super::walk;
use crate::validation::{At, Errors};

/// One probe; a readiness probe may want several successes.
pub(crate) fn probe(errors: &mut Errors, at: At<'_>, is_readiness: bool) {
    if !at.is_set() {
        return;
    }
    handler(errors, at, None);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.non_negative(at.get(field));
    }
    let grace = at.get("terminationGracePeriodSeconds");
    if grace.opt_int().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(grace, "must be greater than 0");
    }
    if is_readiness {
        if grace.is_set() {
            errors.invalid(grace, "must not be set for readinessProbes");
        }
    } else if at.get("successThreshold").int() != 1 {
        errors.invalid(at.get("successThreshold"), "must be 1");
    }
}

/// Hooks and the signal that ends a container.
pub(crate) fn lifecycle(errors: &mut Errors, at: At<'_>, spec: At<'_>) {
    let grace = spec.get("terminationGracePeriodSeconds").opt_int();
    for hook in ["postStart", "preStop"] {
        if at.has(hook) {
            handler(errors, at.get(hook), grace);
        }
    }
    if at.has("stopSignal") {
        stop_signal(errors, at.get("stopSignal"), walk::os(spec));
    }
}

/// What is done: exactly one thing.
fn handler(errors: &mut Errors, at: At<'_>, grace: Option<i64>) {
    let mut handlers = 0;
    for field in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = at.get(field);
        if !action.is_set() {
            continue;
        }
        handlers += 1;
        if handlers > 1 {
            errors.forbidden(action, "may not specify more than 1 handler type");
            continue;
        }
        match field {
            "exec" => {
                errors.need(action.get("command"), "");
            }
            "httpGet" => http_get(errors, action),
            "sleep" => sleep(errors, action, grace),
            _ => port(errors, action.get("port")),
        }
    }
    if handlers == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(errors: &mut Errors, at: At<'_>) {
    errors.need(at.get("path"), "");
    port(errors, at.get("port"));
    errors.one_of(at.get("scheme"), &["HTTP", "HTTPS"]);
    let headers = at.get("httpHeaders");
    for header in headers.items() {
        for complaint in name::http_header(header.get("name").str()) {
            errors.invalid_value(headers, header.get("name").str(), complaint);
        }
    }
}

/// A port by number or by name.
pub(crate) fn port(errors: &mut Errors, at: At<'_>) {
    if at.node().is_some_and(|node| node.as_str().is_some()) {
        errors.names(at, name::port_name);
    } else {
        errors.in_range(at, 1, 65_535);
    }
}

/// Upstream shows the seconds, but tells of the action.
fn sleep(errors: &mut Errors, at: At<'_>, grace: Option<i64>) {
    let seconds = at.get("seconds").int();
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid_value(at, seconds, detail);
    }
}

const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(errors: &mut Errors, at: At<'_>, os: &str) {
    match os {
        "" => errors.forbidden(
            at,
            "may not be set for containers with empty `spec.os.name`",
        ),
        "windows" => errors.one_of(at, &["SIGKILL", "SIGTERM"]),
        "linux" => errors.one_of(at, &SIGNALS),
        _ => {}
    }
}
