//! The API servers, each asked whether it lives and is ready, and the certificate that it shows.

use std::time::Duration;

use anyhow::Result;
use deploy::kubeconfig::Server;
use deploy::pki::Validity;
use futures::future::join_all;
use http::Request;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::PATIENCE;
use super::certificates::{self, Certificate};
use super::leaders::first;
use crate::access::Cluster;

/// The servers that answer for the service `kubernetes`.
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

/// For checks: a server without its store says so after two seconds.
const CHECKS_PATIENCE: Duration = Duration::from_secs(3);

/// What one API server says of itself.
pub(super) struct Report {
    server: Server,
    /// Its `/livez`: names of checks that fail, or why it does not answer.
    live: Result<Vec<String>, String>,
    /// Its `/readyz`.
    ready: Result<Vec<String>, String>,
    certificate: Result<Validity, String>,
}

/// Asks all API servers: those of the kubeconfig, and those that the cluster knows.
pub(super) async fn ask(cluster: &Cluster) -> Vec<Report> {
    let (mut reports, listed) = tokio::join!(all(cluster, cluster.servers()), listed(cluster));
    let is_new = |one: &Server| cluster.servers().iter().all(|known| known.url != one.url);
    let others: Vec<Server> = listed.into_iter().filter(is_new).collect();
    reports.extend(all(cluster, &others).await);
    reports
}

async fn all(cluster: &Cluster, servers: &[Server]) -> Vec<Report> {
    join_all(servers.iter().map(|server| of(cluster, server))).await
}

async fn of(cluster: &Cluster, server: &Server) -> Report {
    let certificate = certificates::shown(&server.url, &*cluster.seams.net).await;
    let (live, ready) = match &certificate {
        // Who shows no certificate answers nothing else.
        Err(why) => (Err(why.clone()), Err(why.clone())),
        Ok(_) => tokio::join!(
            check(cluster, &server.url, "livez"),
            check(cluster, &server.url, "readyz")
        ),
    };
    Report {
        server: server.clone(),
        live,
        ready,
        certificate,
    }
}

/// The checks of a path that fail.
async fn check(cluster: &Cluster, url: &str, path: &str) -> Result<Vec<String>, String> {
    let asked = async {
        let client = cluster.of_one(url, PATIENCE)?;
        let request = Request::get(format!("/{path}?verbose")).body(Body::empty())?;
        let response = client.send(request).await?;
        let status = response.status();
        let text = response.into_body().collect_bytes().await?;
        anyhow::Ok((status, String::from_utf8_lossy(&text).into_owned()))
    };
    match timeout(CHECKS_PATIENCE, asked).await {
        Err(_) => Err(late(CHECKS_PATIENCE)),
        Ok(Err(error)) => Err(crate::output::chain(&error)),
        Ok(Ok((status, _))) if status.is_success() => Ok(Vec::new()),
        Ok(Ok((status, text))) => match failing(&text) {
            checks if checks.is_empty() => Err(format!("/{path} answers {status}")),
            checks => Ok(checks),
        },
    }
}

pub(super) fn late(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}

/// The names behind `[-]`.
fn failing(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("[-]"));
    let names = lines.filter_map(|line| line.split(' ').next());
    names.map(str::to_string).collect()
}

/// Servers that the cluster knows of; none if nobody tells.
async fn listed(cluster: &Cluster) -> Vec<Server> {
    match first(cluster, ENDPOINTS).await {
        Ok(Some(endpoints)) => addresses(&endpoints),
        _ => Vec::new(),
    }
}

fn addresses(endpoints: &Value) -> Vec<Server> {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let of_subset = |subset: &Value| {
        let port = subset["ports"][0]["port"].as_u64().unwrap_or(443);
        let addresses = subset["addresses"].as_array().cloned().unwrap_or_default();
        let addresses = addresses.into_iter().filter_map(move |one| {
            let ip = one["ip"].as_str()?;
            let host = match ip.contains(':') {
                true => format!("[{ip}]"),
                false => ip.to_string(),
            };
            let url = format!("https://{host}:{port}");
            Some(Server {
                name: url.clone(),
                url,
            })
        });
        addresses.collect::<Vec<_>>()
    };
    subsets.flat_map(of_subset).collect()
}

pub(super) const HEAD: [&str; 4] = ["API SERVER", "URL", "LIVE", "READY"];

pub(super) fn row(report: &Report) -> Vec<String> {
    let verdict = |checks: &Result<Vec<String>, String>| match checks {
        Ok(failing) if failing.is_empty() => "yes".to_string(),
        Ok(failing) => format!("no: {}", failing.join(", ")),
        Err(_) => "unreachable".to_string(),
    };
    vec![
        report.server.name.clone(),
        report.server.url.clone(),
        verdict(&report.live),
        verdict(&report.ready),
    ]
}

pub(super) fn document(report: &Report) -> Value {
    let checks = |checks: &Result<Vec<String>, String>| match checks {
        Ok(failing) => json!({ "ok": failing.is_empty(), "failing": failing }),
        Err(why) => json!({ "ok": false, "failing": [], "error": why }),
    };
    json!({
        "name": report.server.name,
        "url": report.server.url,
        "livez": checks(&report.live),
        "readyz": checks(&report.ready),
    })
}

pub(super) fn troubles(report: &Report) -> Vec<String> {
    let url = &report.server.url;
    let of = |(path, checks): (&str, &Result<Vec<String>, String>)| match checks {
        Ok(failing) if failing.is_empty() => None,
        Ok(failing) => Some(format!("{url}: /{path} fails: {}", failing.join(", "))),
        Err(why) => Some(format!("{url}: {why}")),
    };
    let both = [("livez", &report.live), ("readyz", &report.ready)];
    let mut troubles: Vec<String> = both.into_iter().filter_map(of).collect();
    troubles.dedup();
    troubles
}

/// The certificates that were shown.
pub(super) fn certificates(reports: &[Report]) -> impl Iterator<Item = Certificate> + '_ {
    reports.iter().filter_map(|report| {
        Some(Certificate {
            of: format!("API server {}", report.server.url),
            validity: *report.certificate.as_ref().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_checks_are_named() {
        let text = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]shutdown failed: x\nreadyz check failed\n";
        assert_eq!(failing(text), ["etcd", "shutdown"]);
        let report = Report {
            server: Server {
                name: "a".into(),
                url: "https://a:1".into(),
            },
            live: Ok(Vec::new()),
            ready: Ok(failing(text)),
            certificate: Err("none".into()),
        };
        assert_eq!(row(&report)[2..], ["yes", "no: etcd, shutdown"]);
        let said = ["https://a:1: /readyz fails: etcd, shutdown"];
        assert_eq!(troubles(&report), said);
        assert_eq!(document(&report)["readyz"]["failing"][0], "etcd");
        assert_eq!(certificates(&[report]).count(), 0);
    }

    #[test]
    fn endpoints_are_urls() {
        let endpoints = json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "ports": [{"port": 6443}],
        }]});
        let urls: Vec<String> = addresses(&endpoints)
            .into_iter()
            .map(|one| one.url)
            .collect();
        assert_eq!(urls, ["https://10.0.0.1:6443", "https://[fd00::1]:6443"]);
    }
}
