//! The plain HTTP paths: health checks, version and metrics, with etcd's bodies.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::grpc::Answer;
use super::maintenance::alarm_name;
use super::{CLUSTER_VERSION, ETCD_VERSION, Inner};
use crate::metrics::{CONTENT_TYPE, ProcessView, View};
use crate::pb::etcdserverpb::RangeRequest;
use crate::store::Store;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// How long the read of a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(7);

/// The checks behind `/livez` and `/readyz`, by the names that etcd gives them.
const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// Answers a request to one of the plain paths; 404 for all others.
pub(super) async fn answer<B>(server: &Inner, request: &Request<B>) -> Response<Answer> {
    let path = request.uri().path();
    let query = Query(request.uri().query().unwrap_or_default());
    let checks = match path.split('/').nth(1) {
        Some("livez") => checks_of(path, "/livez", LIVEZ),
        Some("readyz") => checks_of(path, "/readyz", READYZ),
        _ => None,
    };
    let known = checks.is_some() || matches!(path, "/health" | "/version" | "/metrics");
    if !known {
        return Answer::text(StatusCode::NOT_FOUND, TEXT, "404 page not found\n");
    }
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    match (checks, path) {
        (Some(checks), _) => run_checks(server, checks, &query).await,
        (None, "/health") => health(server, &query).await,
        (None, "/version") => version(),
        _ => metrics(server).await,
    }
}

/// All checks for the root path, one for `ROOT/NAME`.
fn checks_of(path: &str, root: &str, all: &'static [Check]) -> Option<&'static [Check]> {
    let name = path.strip_prefix(root)?;
    if name.is_empty() {
        return Some(all);
    }
    let name = name.strip_prefix('/')?;
    let index = all.iter().position(|check| check.name() == name)?;
    Some(&all[index..=index])
}

fn method_not_allowed() -> Response<Answer> {
    let mut response = Answer::text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

async fn health(server: &Inner, query: &Query<'_>) -> Response<Answer> {
    let reason = health_problem(server, query).await;
    let healthy = reason.is_none();
    let body = serde_json::json!({
        "health": healthy.to_string(),
        "reason": reason.unwrap_or_default(),
    });
    if healthy {
        server.metrics.health_successes.inc();
        Answer::text(StatusCode::OK, JSON, body.to_string())
    } else {
        server.metrics.health_failures.inc();
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{body}\n"))
    }
}

async fn health_problem(server: &Inner, query: &Query<'_>) -> Option<String> {
    for alarm in server.member.mvcc().alarms() {
        let name = alarm_name(&alarm);
        if !query.all("exclude").any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    let serializable = query.all("serializable").any(|value| value == "true");
    if !serializable && server.member.leader().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = read(server, serializable).await;
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

async fn run_checks(server: &Inner, checks: &[Check], query: &Query<'_>) -> Response<Answer> {
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        if query.all("exclude").any(|excluded| excluded == name) {
            continue;
        }
        // Writing into a string cannot fail.
        let _ = match run_check(server, *check).await {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(reason) => {
                failed = true;
                writeln!(report, "[-]{name} failed: {reason}")
            }
        };
    }
    if failed {
        tracing::warn!(report, "health check failed");
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{report}\n"));
    }
    let verbose = query.all("verbose").next().is_some();
    let body = if verbose {
        format!("{report}ok\n")
    } else {
        "ok\n".to_owned()
    };
    let mut response = Answer::text(StatusCode::OK, TEXT, body);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

async fn run_check(server: &Inner, check: Check) -> Result<(), String> {
    match check {
        Check::DataCorruption if server.member.is_quarantined() => {
            Err("this member's data differs from the others'".to_owned())
        }
        Check::DataCorruption => {
            let alarms = server.member.mvcc().alarms();
            match alarms.iter().any(|alarm| alarm_name(alarm) == "CORRUPT") {
                true => Err("alarm activated: CORRUPT".to_owned()),
                false => Ok(()),
            }
        }
        Check::SerializableRead => read(server, true).await,
        Check::LinearizableRead => read(server, false).await,
        Check::NonLearner => match server.member.is_learner() {
            true => Err("not supported for learner".to_owned()),
            false => Ok(()),
        },
    }
}

/// Reads a key that need not exist.
async fn read(server: &Inner, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    match tokio::time::timeout(CHECK_TIMEOUT, server.member.range(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

fn version() -> Response<Answer> {
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{CLUSTER_VERSION}"}}"#
    );
    Answer::text(StatusCode::OK, JSON, body)
}

async fn metrics(server: &Inner) -> Response<Answer> {
    let disk = server.seams.disk.clone();
    let process = server
        .tasks
        .blocking(move || ProcessView::read(&*disk))
        .await;
    server.member.refresh_metrics();
    let page = server.metrics.encode(&view(server), &process);
    Answer::text(StatusCode::OK, CONTENT_TYPE, page)
}

fn view(server: &Inner) -> View {
    let (member, mvcc) = (&server.member, server.member.mvcc());
    let sizes = mvcc.sizes();
    View {
        member_id: member.id(),
        has_leader: member.leader().is_some(),
        is_leader: member.leader() == Some(member.id()),
        is_learner: member.is_learner(),
        committed_index: member.committed_index(),
        applied_index: member.applied_index(),
        db_bytes: sizes.disk_bytes as i64,
        db_live_bytes: sizes.live_bytes as i64,
        quota_bytes: sizes.quota_bytes as i64,
        keys: i64::try_from(sizes.keys).unwrap_or(i64::MAX),
        revision: mvcc.revision(),
        compact_revision: mvcc.compact_revision(),
        alarms: mvcc
            .alarms()
            .iter()
            .map(|a| (a.member_id, alarm_name(a)))
            .collect(),
        version: ETCD_VERSION,
        cluster_version: CLUSTER_VERSION,
    }
}

/// A query string.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// All values of a parameter, the empty one if it stands alone.
    fn all<'k>(&self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.0.split('&').filter_map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == key).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_yields_every_value() {
        let query = Query("verbose&exclude=a&exclude=b&x=");
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.all("verbose").collect::<Vec<_>>(), [""]);
        assert_eq!(query.all("y").count(), 0);
    }

    #[test]
    fn a_path_selects_all_checks_or_one() {
        assert_eq!(checks_of("/readyz", "/readyz", READYZ), Some(READYZ));
        let one = checks_of("/readyz/non_learner", "/readyz", READYZ);
        assert_eq!(one, Some(&[Check::NonLearner][..]));
        assert_eq!(checks_of("/livez/non_learner", "/livez", LIVEZ), None);
        assert_eq!(checks_of("/readyzzz", "/readyz", READYZ), None);
    }
}
