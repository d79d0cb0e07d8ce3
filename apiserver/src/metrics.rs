//! What the server counts, under the names and with the labels of kube-apiserver.
//!
//! - [`family`]: counters, gauges and histograms by labels
//! - [`request`]: one request, from its start until its response is sent or given up

pub mod family;
pub mod request;

use std::collections::BTreeMap;
use std::fmt::Display;

use raft_store::metrics::ProcessView;

use crate::instance::Api;
use crate::storage::Collection;
use family::{Counter, Family, Gauge, Histogram, head, line, write_labels};

const REQUEST_AND_CODE: &[&str] = &[
    "verb",
    "dry_run",
    "group",
    "version",
    "resource",
    "subresource",
    "scope",
    "component",
    "code",
];
const REQUEST: &[&str] = without_last(REQUEST_AND_CODE);
const ENDED_REQUEST: &[&str] = &[
    "verb",
    "group",
    "version",
    "resource",
    "subresource",
    "scope",
    "component",
    "code",
];
const PLAIN_REQUEST: &[&str] = without_last(ENDED_REQUEST);
const ABORTED_REQUEST: &[&str] = without_last(PLAIN_REQUEST);
const RESOURCE: &[&str] = &["group", "version", "resource"];
const OBJECTS: &[&str] = &["group", "resource"];
const KIND: &[&str] = &["request_kind"];
const ADMISSION: &[&str] = &["name", "type", "operation", "rejected"];
const ADMISSION_STEP: &[&str] = &["type", "operation", "rejected"];
const LEVEL: &[&str] = &["priority_level"];
const FLOW: &[&str] = &["priority_level", "flow_schema"];

const DURATION: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const SLI: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
];
const RESPONSE_BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_BYTES: &[f64] = &[
    1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0,
];
const ADMISSION_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const FLOW_SECONDS: &[f64] = &[
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

const fn without_last(labels: &'static [&'static str]) -> &'static [&'static str] {
    match labels {
        [others @ .., _] => others,
        [] => labels,
    }
}

/// Declares the metrics: field, type, name, labels, bounds, help.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal, $labels:expr, $bounds:expr, $help:literal;)*) => {
        /// Everything that is counted.
        pub struct Metrics {
            $(#[doc = $help] pub $field: Family<$kind>,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: Family::new($name, $help, $labels, $bounds),)* }
            }
        }

        impl Metrics {
            fn write(&self, out: &mut String) {
                $(self.$field.write(out);)*
            }
        }
    };
}

metrics! {
    requests: Counter = "apiserver_request_total", REQUEST_AND_CODE, (),
        "Requests by what they asked for and how they were answered.";
    durations: Histogram = "apiserver_request_duration_seconds", REQUEST, DURATION,
        "How long requests took.";
    sli_durations: Histogram = "apiserver_request_sli_duration_seconds", PLAIN_REQUEST, SLI,
        "How long requests took that end by themselves, without waiting for others.";
    long_running: Gauge = "apiserver_longrunning_requests", PLAIN_REQUEST, (),
        "Watches, connections and proxied requests that are open.";
    response_sizes: Histogram = "apiserver_response_sizes", PLAIN_REQUEST, RESPONSE_BYTES,
        "Bytes of responses.";
    in_flight: Gauge = "apiserver_current_inflight_requests", KIND, (),
        "Requests that are being answered.";
    in_queue: Gauge = "apiserver_current_inqueue_requests", KIND, (),
        "Requests that wait for their turn.";
    terminations: Counter = "apiserver_request_terminations_total", ENDED_REQUEST, (),
        "Requests that the server refused or broke off to protect itself.";
    aborts: Counter = "apiserver_request_aborts_total", ABORTED_REQUEST, (),
        "Requests whose response was not sent to its end.";
    deprecated: Gauge = "apiserver_requested_deprecated_apis",
        &["group", "version", "resource", "subresource", "removed_release"], (),
        "Deprecated APIs that were asked for.";
    tls_errors: Counter = "apiserver_tls_handshake_errors_total", &[], (),
        "TLS handshakes that failed.";
    watch_events: Counter = "apiserver_watch_events_total", RESOURCE, (),
        "Events sent to watchers.";
    watch_event_sizes: Histogram = "apiserver_watch_events_sizes", RESOURCE, EVENT_BYTES,
        "Bytes of events sent to watchers.";
    lists: Counter = "apiserver_cache_list_total", &["group", "resource", "index"], (),
        "Lists that the watch cache answered.";
    listed: Counter = "apiserver_cache_list_fetched_objects_total",
        &["group", "resource", "index"], (), "Objects that were looked at for lists.";
    returned: Counter = "apiserver_cache_list_returned_objects_total", OBJECTS, (),
        "Objects that lists returned.";
    admission_steps: Histogram = "apiserver_admission_step_admission_duration_seconds",
        ADMISSION_STEP, ADMISSION_SECONDS, "How long a step of admission took.";
    admission_plugins: Histogram = "apiserver_admission_controller_admission_duration_seconds",
        ADMISSION, ADMISSION_SECONDS, "How long an admission plugin took.";
    audit_events: Counter = "apiserver_audit_event_total", &[], (),
        "Audit events handed to the backends.";
    audit_errors: Counter = "apiserver_audit_error_total", &["plugin"], (),
        "Audit events that a backend lost.";
    audit_levels: Counter = "apiserver_audit_level_total", &["level"], (),
        "Requests by the level at which they are audited.";
    flow_rejected: Counter = "apiserver_flowcontrol_rejected_requests_total",
        &["priority_level", "flow_schema", "reason"], (),
        "Requests that API priority and fairness refused.";
    flow_dispatched: Counter = "apiserver_flowcontrol_dispatched_requests_total", FLOW, (),
        "Requests that API priority and fairness let begin.";
    flow_waits: Histogram = "apiserver_flowcontrol_request_wait_duration_seconds",
        &["priority_level", "flow_schema", "execute"], FLOW_SECONDS,
        "How long requests waited in queues.";
    flow_runs: Histogram = "apiserver_flowcontrol_request_execution_seconds",
        &["priority_level", "flow_schema", "type"], FLOW_SECONDS,
        "How long requests ran once they had begun.";
    flow_queued: Gauge = "apiserver_flowcontrol_current_inqueue_requests", FLOW, (),
        "Requests that wait in queues.";
    flow_running: Gauge = "apiserver_flowcontrol_current_executing_requests", FLOW, (),
        "Requests that run.";
    flow_seats: Gauge = "apiserver_flowcontrol_current_executing_seats", FLOW, (),
        "Seats that are taken.";
    flow_nominal: Gauge = "apiserver_flowcontrol_nominal_limit_seats", LEVEL, (),
        "Seats of a priority level as configured.";
    flow_lower: Gauge = "apiserver_flowcontrol_lower_limit_seats", LEVEL, (),
        "Seats that a priority level keeps, whatever it lends.";
    flow_upper: Gauge = "apiserver_flowcontrol_upper_limit_seats", LEVEL, (),
        "Seats that a priority level may have, with all that it borrows.";
    flow_limit: Gauge = "apiserver_flowcontrol_current_limit_seats", LEVEL, (),
        "Seats that a priority level has now.";
}

impl Metrics {
    /// The page, as Prometheus reads it.
    pub fn page(&self, api: &Api) -> String {
        let mut out = String::with_capacity(64 << 10);
        self.write(&mut out);
        objects(api, &mut out);
        process(api, &mut out);
        (api.more_metrics)(&mut out);
        out
    }
}

/// What the watch cache holds and has taken in, a metric after the other, as the page wants them.
fn objects(api: &Api, out: &mut String) {
    let mut resources = BTreeMap::new();
    for row in api.registry.rows() {
        if let Some(stored) = &row.stored {
            let of = (row.resource.group, row.resource.name);
            resources.insert(of, stored.collection.clone());
        }
    }
    let revision = api.storage.cache.applied();
    let labels_of = |names: &[&str], values: &[&str]| {
        let mut text = String::new();
        write_labels(&mut text, names, values);
        text
    };
    let stored = resources.iter().map(|((group, resource), collection)| {
        let dot = if group.is_empty() { "" } else { "." };
        let labels = labels_of(&["resource"], &[&format!("{resource}{dot}{group}")]);
        (labels, collection.tree().len())
    });
    let name = "apiserver_storage_objects";
    samples(out, name, "gauge", "Objects by resource.", stored);
    let labels = resources.keys();
    let labels = labels.map(|(group, resource)| labels_of(OBJECTS, &[group, resource]));
    let labels: Vec<String> = labels.collect();
    type Value<'a> = &'a dyn Fn(&Collection) -> u64;
    let as_number = |number: usize| number as u64;
    let metrics: [(&str, &str, &str, Value<'_>); 7] = [
        (
            "apiserver_resource_objects",
            "gauge",
            "Objects by resource.",
            &|one| as_number(one.tree().len()),
        ),
        (
            "apiserver_resource_size_estimate_bytes",
            "gauge",
            "Bytes of objects by resource.",
            &|one| as_number(one.bytes()),
        ),
        (
            "apiserver_watch_cache_resource_version",
            "gauge",
            "The revision up to which the watch cache has everything.",
            &|_| revision,
        ),
        (
            "apiserver_watch_cache_capacity",
            "gauge",
            "Events that watches can go on from.",
            &|one| as_number(one.history()),
        ),
        (
            "apiserver_watch_cache_events_received_total",
            "counter",
            "Events that the watch cache took in.",
            &Collection::received,
        ),
        (
            "apiserver_watch_cache_events_dispatched_total",
            "counter",
            "Events that watchers were told of.",
            &Collection::received,
        ),
        (
            "apiserver_watch_cache_initializations_total",
            "counter",
            "How often the watch cache was filled from the store.",
            &Collection::fillings,
        ),
    ];
    for (name, kind, help, value) in metrics {
        let values = resources.values().map(|collection| value(collection));
        samples(out, name, kind, help, labels.iter().zip(values));
    }
}

/// Writes a metric of which only samples are known: their labels and values.
fn samples(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    all: impl IntoIterator<Item = (impl AsRef<str>, impl Display)>,
) {
    head(out, name, help, kind);
    for (labels, value) in all {
        line(out, name, labels.as_ref(), "", value);
    }
}

/// What the kernel knows about the process.
fn process(api: &Api, out: &mut String) {
    let view = ProcessView::read(&*api.seams.disk);
    let name = "process_cpu_seconds_total";
    let used = [("", view.cpu_seconds)];
    samples(out, name, "counter", "CPU time used.", used);
    let gauges = [
        ("process_resident_memory_bytes", view.resident_bytes as f64),
        ("process_virtual_memory_bytes", view.virtual_bytes as f64),
        ("process_open_fds", view.open_files as f64),
        ("process_max_fds", view.max_files as f64),
        ("process_start_time_seconds", view.start_seconds),
        ("process_threads", view.threads as f64),
    ];
    for (name, value) in gauges {
        samples(out, name, "gauge", "As the kernel says.", [("", value)]);
    }
}
