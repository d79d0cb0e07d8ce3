//! Who leads: the holders of the components' Leases.

use anyhow::{Result, anyhow, bail};
use client::{clock, errors};
use futures::future::{join_all, select_ok};
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::PATIENCE;
use super::masters::late;
use crate::access::Cluster;

/// Leases of components. Not every cluster has all of them.
const LEASES: [&str; 4] = [
    "kube-controller-manager",
    "kube-scheduler",
    "cloud-controller-manager",
    "trireme-manifests",
];

/// A Lease, or why it is not known.
pub(super) struct Report {
    lease: &'static str,
    answer: Result<Holder, String>,
}

/// Who has a Lease.
struct Holder {
    /// Empty if it was given up.
    identity: String,
    /// Seconds since its last renewal.
    age: i64,
    /// Seconds that a renewal is good for.
    duration: i64,
}

/// Asks for all Leases; those that were never taken are left out.
pub(super) async fn ask(cluster: &Cluster) -> Vec<Report> {
    let now = clock::now(&*cluster.seams.clock);
    let asked = LEASES.map(async |lease| {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{lease}");
        let answer = match first(cluster, &path).await {
            Ok(None) => return None,
            Ok(Some(found)) => Ok(holder(&found, now)),
            Err(error) => Err(crate::output::chain(&error)),
        };
        Some(Report { lease, answer })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// The answer of whichever server is the first to have one; none if there is no such object.
pub(super) async fn first(cluster: &Cluster, path: &str) -> Result<Option<Value>> {
    let asked = cluster.servers().iter().map(|server| {
        Box::pin(async move {
            let client = cluster.of_one(&server.url, PATIENCE)?;
            let request = Request::get(path).body(Vec::new())?;
            let answer = timeout(PATIENCE, client.request::<Value>(request)).await;
            match answer.map_err(|_| anyhow!(late(PATIENCE)))? {
                Ok(object) => Ok(Some(object)),
                Err(error) if errors::is_not_found(&error) => Ok(None),
                Err(error) => bail!(errors::message(&error)),
            }
        })
    });
    Ok(select_ok(asked).await?.0)
}

fn holder(lease: &Value, now: Timestamp) -> Holder {
    let spec = &lease["spec"];
    let renewed = spec["renewTime"].as_str().unwrap_or_default();
    let renewed: Timestamp = renewed.parse().unwrap_or_default();
    Holder {
        identity: spec["holderIdentity"].as_str().unwrap_or_default().into(),
        age: now.duration_since(renewed).as_secs(),
        duration: spec["leaseDurationSeconds"].as_i64().unwrap_or_default(),
    }
}

pub(super) const HEAD: [&str; 3] = ["LEASE", "HOLDER", "RENEWED"];

pub(super) fn row(report: &Report) -> Vec<String> {
    let (holder, renewed) = match &report.answer {
        Ok(holder) if holder.identity.is_empty() => ("nobody".to_string(), String::new()),
        Ok(holder) => (holder.identity.clone(), format!("{} s ago", holder.age)),
        Err(_) => ("unknown".to_string(), String::new()),
    };
    vec![report.lease.to_string(), holder, renewed]
}

pub(super) fn document(report: &Report) -> Value {
    match &report.answer {
        Ok(holder) => json!({
            "lease": report.lease,
            "holder": holder.identity,
            "secondsSinceRenewal": holder.age,
            "leaseDurationSeconds": holder.duration,
        }),
        Err(why) => json!({ "lease": report.lease, "error": why }),
    }
}

pub(super) fn troubles(report: &Report) -> Option<String> {
    let lease = report.lease;
    match &report.answer {
        Ok(holder) if holder.identity.is_empty() => Some(format!("{lease}: nobody leads")),
        Ok(holder) if holder.age > holder.duration => Some(format!(
            "{lease}: {} has not renewed its Lease for {} s",
            holder.identity, holder.age
        )),
        Ok(_) => None,
        Err(why) => Some(format!("{lease}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_not_renewed_is_trouble() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let report = |holder_identity: &str, renewed: &str| {
            let lease = json!({"spec": {
                "holderIdentity": holder_identity,
                "renewTime": renewed,
                "leaseDurationSeconds": 15,
            }});
            Report {
                lease: "kube-scheduler",
                answer: Ok(holder(&lease, now)),
            }
        };
        let well = report("a_1", "2026-01-01T00:00:58.000000Z");
        assert_eq!(troubles(&well), None);
        assert_eq!(row(&well)[1..], ["a_1", "2 s ago"]);
        let old = report("a_1", "2026-01-01T00:00:00.000000Z");
        assert!(troubles(&old).unwrap().contains("60 s"));
        let free = report("", "2026-01-01T00:00:58.000000Z");
        assert_eq!(troubles(&free).unwrap(), "kube-scheduler: nobody leads");
    }
}
