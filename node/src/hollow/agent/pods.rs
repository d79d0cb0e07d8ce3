//! Pods of hollow nodes: from what the watch shows to what is written.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Key, errors};
use http::Method;
use serde_json::{Value, json};

use super::super::behaviour::Failure;
use super::super::lifecycle::{Plan, Situation, plan};
use super::super::pod::Pod;
use super::super::voice::{JSON, STRATEGIC, Write};
use super::{Known, Shared, Written, version};

impl Shared {
    pub(super) fn pod_changed(&self, pod: &Arc<Pod>) {
        let name = pod.spec.node_name.as_deref().unwrap_or_default();
        let Some(&node) = self.by_name.get(name) else {
            return;
        };
        let key = Key::of(&**pod);
        {
            let mut known = self.known();
            let is_known = known.get(&key).is_some_and(|known| known.uid == pod.uid());
            if !is_known {
                let address = pod.status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
                let address = address.filter(|_| !pod.spec.host_network);
                if let Some(address) = address {
                    self.nodes[node].state().pool.reserve(address);
                }
                let started = pod.status.start_time.as_ref().map(|time| time.0);
                let one = Known {
                    uid: pod.uid().to_string(),
                    node,
                    since: started.unwrap_or_else(|| self.now()),
                    told: None,
                    address,
                    written: 0,
                    failures: 0,
                };
                if let Some(former) = known.insert(key.clone(), one) {
                    self.free(&former);
                }
            }
        }
        self.pods.add(key);
    }

    pub(super) fn pod_gone(&self, pod: &Arc<Pod>) {
        let mut known = self.known();
        let key = Key::of(&**pod);
        if known.get(&key).is_some_and(|known| known.uid == pod.uid())
            && let Some(former) = known.remove(&key)
        {
            self.free(&former);
        }
    }

    fn free(&self, former: &Known) {
        if let Some(address) = former.address {
            self.nodes[former.node].state().pool.free(address);
        }
    }

    /// The pods of a node are looked at again, since something about the node has changed.
    pub(super) fn wake_pods(&self, node: usize) {
        let known = self.known();
        for (key, _) in known.iter().filter(|(_, known)| known.node == node) {
            self.pods.add(key.clone());
        }
    }

    /// Does what is to be done about a pod now.
    pub(super) async fn sync(&self, key: &Key) {
        let Some((node, pod, plan)) = self.look(key) else {
            return;
        };
        if let Some(wake) = plan.wake {
            let left = wake.duration_since(self.now());
            // A little later than too early: times in statuses have whole seconds.
            let left = Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1);
            self.pods.add_after(key.clone(), left);
        }
        if plan.report.is_none() && !plan.remove {
            return;
        }
        match self.apply(node, &pod, &plan).await {
            Ok(written) => self.wrote(key, written),
            // It is gone, or another one by now; the watch tells.
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => {}
            Err(error) => {
                let failures = self.failed(key);
                tracing::debug!(pod = %key, %error, failures, "a pod's status was not written");
                self.pods.add_after(key.clone(), self.pause(failures));
            }
        }
    }

    /// What there is to do about a pod, if anything can be.
    fn look(&self, key: &Key) -> Option<(usize, Arc<Pod>, Plan)> {
        let node = self.known().get(key)?.node;
        let pod = self.watches(node)?.pods.get(&key.namespace, &key.name)?;
        let hollow = &self.nodes[node];
        let now = self.now();
        let mut known = self.known();
        let known = known.get_mut(key)?;
        // What this process has written itself is on its way.
        if known.uid != pod.uid() || version(&pod.metadata) < known.written {
            return None;
        }
        let mut state = hollow.state();
        if state.failure == Failure::Crash {
            return None;
        }
        if known.address.is_none() && !pod.spec.host_network {
            known.address = state.pool.take();
        }
        if known.told.is_none() && pod.metadata.deletion_timestamp.is_some() {
            known.told = Some(now);
        }
        let own = [hollow.identity.address];
        let given: Vec<IpAddr> = match pod.spec.host_network {
            true => own.to_vec(),
            false => known.address.into_iter().collect(),
        };
        let plan = plan(&Situation {
            pod: &pod,
            known: known.since,
            told: known.told,
            host_ips: &own,
            pod_ips: &given,
            behaviour: &self.config.behaviour,
            slow: match state.failure {
                Failure::Slow(span) => span,
                _ => Duration::ZERO,
            },
            // Without an address there is no sandbox for it to start in.
            starts: state.failure != Failure::NotReady && !given.is_empty(),
            now,
        });
        Some((node, pod.clone(), plan))
    }

    /// Writes what was planned; yields the version that the pod has then.
    async fn apply(&self, node: usize, pod: &Pod, plan: &Plan) -> Result<u64, kube::Error> {
        let name = &self.nodes[node].identity.name;
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace(), pod.name());
        let mut written = 0;
        if let Some(report) = &plan.report {
            let status = format!("{path}/status");
            let patch = Write::new(Method::PATCH, &status, STRATEGIC, report);
            let answer: Written = self.bounded(self.voices.send(node, name, patch)).await?;
            written = version(&answer.metadata);
        }
        if plan.remove {
            let options = json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "gracePeriodSeconds": 0,
                "preconditions": { "uid": pod.uid() },
            });
            let delete = Write::new(Method::DELETE, &path, JSON, &options);
            let _: Value = self.bounded(self.voices.send(node, name, delete)).await?;
        }
        Ok(written)
    }

    fn wrote(&self, key: &Key, version: u64) {
        if let Some(known) = self.known().get_mut(key) {
            known.written = known.written.max(version);
            known.failures = 0;
        }
    }

    fn failed(&self, key: &Key) -> u32 {
        let mut all = self.known();
        let Some(known) = all.get_mut(key) else {
            return 0;
        };
        known.failures = known.failures.saturating_add(1);
        known.failures
    }
}
