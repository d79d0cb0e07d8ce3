//! How many replicas one metric asks for, given its target.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::View;
use jiff::{SignedDuration, Timestamp};

use super::Settings;
use crate::pod::{ConditionStatus, ConditionType, Phase, Pod};

/// What was measured of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodMetric {
    /// When.
    pub at: Timestamp,
    /// Over which time before that.
    pub window: Duration,
    /// How much, in thousandths.
    pub value: i64,
}

/// What was measured, by the name of the pod.
pub type PodMetrics = BTreeMap<String, PodMetric>;

/// By how much a metric may miss its target without anything being done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// Below the target.
    pub down: f64,
    /// Above it.
    pub up: f64,
}

impl Tolerances {
    fn bear(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// How many replicas.
    pub replicas: i32,
    /// What was measured on average, or in all, in thousandths.
    pub usage: i64,
    /// The same in per cent of what was requested.
    pub utilization: Option<i32>,
}

/// Where a proposal comes from.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// How many replicas there are to be.
    pub replicas: i32,
    /// The pods of the target.
    pub pods: &'a [Arc<Pod>],
    /// By how much the metric may miss.
    pub tolerances: Tolerances,
    /// Times.
    pub settings: &'a Settings,
    /// Now.
    pub now: Timestamp,
}

/// Pods by what their metrics are worth.
struct Groups<'a> {
    ready: usize,
    unready: HashSet<&'a str>,
    missing: HashSet<&'a str>,
}

fn ceil(number: f64) -> i32 {
    // Saturates.
    number.ceil() as i32
}

impl<'a> Target<'a> {
    fn checked_pods(&self) -> Result<&'a [Arc<Pod>], String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        Ok(self.pods)
    }

    /// A share of what pods request of a resource, or one of their containers does.
    pub fn utilization(
        &self,
        metrics: PodMetrics,
        percent: i32,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let pods = self.checked_pods()?;
        let (metrics, groups) = self.sift(metrics, Some(resource))?;
        let requests = pods.iter().map(|pod| {
            let request = pod.request(resource, container)?;
            Ok((pod.name(), request))
        });
        let requests = requests.collect::<Result<BTreeMap<_, _>, String>>()?;
        let ratio_of = |metrics: &PodMetrics| -> Result<(f64, i32, i64), String> {
            let known = metrics
                .iter()
                .filter_map(|(name, m)| Some((requests.get(name.as_str())?, m)));
            let (mut used, mut requested, mut count) = (0_i64, 0_i64, 0_i64);
            for (request, metric) in known {
                used = used.saturating_add(metric.value);
                requested = requested.saturating_add(*request);
                count += 1;
            }
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let utilization = (i128::from(used) * 100 / i128::from(requested)) as i32;
            Ok((
                f64::from(utilization) / f64::from(percent),
                utilization,
                used / count,
            ))
        };
        let (ratio, utilization, usage) = ratio_of(&metrics)?;
        // A missing pod that would keep us from shrinking is taken to use all that it may.
        let full = |name: &str| {
            let request = requests.get(name).copied().unwrap_or_default();
            request.saturating_mul(percent.max(100).into()) / 100
        };
        let ratio_with_guesses = |metrics: &PodMetrics| ratio_of(metrics).map(|(ratio, ..)| ratio);
        let replicas = self.replicas_for(metrics, &groups, ratio, full, ratio_with_guesses)?;
        Ok(Proposal {
            replicas,
            usage,
            utilization: Some(utilization),
        })
    }

    /// A plain number per pod, of a resource or of any metric.
    pub fn average(
        &self,
        metrics: PodMetrics,
        target: i64,
        resource: Option<&str>,
    ) -> Result<Proposal, String> {
        self.checked_pods()?;
        let (metrics, groups) = self.sift(metrics, resource)?;
        let ratio_of = |metrics: &PodMetrics| {
            let sum = metrics
                .values()
                .fold(0_i64, |sum, metric| sum.saturating_add(metric.value));
            let usage = sum / metrics.len().max(1) as i64;
            (usage as f64 / target as f64, usage)
        };
        let (ratio, usage) = ratio_of(&metrics);
        let with_guesses = |metrics: &PodMetrics| Ok(ratio_of(metrics).0);
        let replicas = self.replicas_for(metrics, &groups, ratio, |_| target, with_guesses)?;
        Ok(Proposal {
            replicas,
            usage,
            utilization: None,
        })
    }

    /// A number of something else, in all.
    pub fn total(&self, usage: i64, target: i64) -> Result<Proposal, String> {
        let ratio = usage as f64 / target as f64;
        let replicas = if self.replicas == 0 {
            ceil(ratio)
        } else if self.tolerances.bear(ratio) {
            self.replicas
        } else {
            let pods = self
                .checked_pods()
                .map_err(|e| format!("unable to calculate ready pods: {e}"))?;
            let is_serving = |pod: &&Arc<Pod>| pod.status.phase == Phase::Running && pod.is_ready();
            ceil(ratio * pods.iter().filter(is_serving).count() as f64)
        };
        Ok(Proposal {
            replicas,
            usage,
            utilization: None,
        })
    }

    /// A number of something else, per pod that there is.
    pub fn total_per_pod(&self, usage: i64, target: i64, current: i32) -> Proposal {
        let ratio = usage as f64 / (target as f64 * f64::from(current));
        let replicas = if self.tolerances.bear(ratio) {
            current
        } else {
            ceil(usage as f64 / target as f64)
        };
        let usage = if usage == i64::MAX {
            usage
        } else {
            (usage as f64 / f64::from(current)).ceil() as i64
        };
        Proposal {
            replicas,
            usage,
            utilization: None,
        }
    }

    /// Sorts pods by what their metrics are worth, and drops those that are worth nothing.
    fn sift(
        &self,
        mut metrics: PodMetrics,
        resource: Option<&str>,
    ) -> Result<(PodMetrics, Groups<'a>), String> {
        let mut groups = Groups {
            ready: 0,
            unready: HashSet::new(),
            missing: HashSet::new(),
        };
        for pod in self.pods {
            let name = pod.name();
            if pod.is_deleted() || pod.status.phase == Phase::Failed {
                metrics.remove(name);
            } else if pod.status.phase == Phase::Pending {
                metrics.remove(name);
                groups.unready.insert(name);
            } else if let Some(metric) = metrics.get(name) {
                if resource == Some("cpu") && self.is_warming_up(pod, metric) {
                    metrics.remove(name);
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        if metrics.is_empty() {
            return Err(
                "did not receive metrics for targeted pods (pods might be unready)".to_owned(),
            );
        }
        Ok((metrics, groups))
    }

    /// Whether the CPU that a pod uses says more about its start than about its work.
    fn is_warming_up(&self, pod: &Pod, metric: &PodMetric) -> bool {
        let (Some(ready), Some(started)) =
            (pod.condition(&ConditionType::Ready), &pod.status.start_time)
        else {
            return true;
        };
        let is_unready = ready.status == ConditionStatus::False;
        let changed = ready
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::MIN, |time| time.0);
        let after = |time: Timestamp, wait: Duration| {
            let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
            time.saturating_add(wait).unwrap_or(Timestamp::MAX)
        };
        if after(started.0, self.settings.cpu_initialization) > self.now {
            return is_unready || metric.at < after(changed, metric.window);
        }
        // A pod that was never ready; one that was and is not any more works too hard to be left out.
        is_unready && after(started.0, self.settings.initial_readiness_delay) > changed
    }

    /// Replicas for a ratio of usage and target. Pods of which nothing is known are taken to use
    /// what makes the change smaller; a change whose direction that turns around is none.
    fn replicas_for(
        &self,
        mut metrics: PodMetrics,
        groups: &Groups<'_>,
        ratio: f64,
        full: impl Fn(&str) -> i64,
        ratio_of: impl Fn(&PodMetrics) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !counts_unready && groups.missing.is_empty() {
            if self.tolerances.bear(ratio) {
                return Ok(self.replicas);
            }
            return Ok(ceil(ratio * groups.ready as f64));
        }
        let mut guess = |name: &str, value: i64| {
            let metric = PodMetric {
                at: self.now,
                window: Duration::ZERO,
                value,
            };
            metrics.insert(name.to_owned(), metric);
        };
        for name in &groups.missing {
            if ratio < 1.0 {
                guess(name, full(name));
            } else if ratio > 1.0 {
                guess(name, 0);
            }
        }
        if counts_unready {
            groups.unready.iter().for_each(|name| guess(name, 0));
        }
        let guessed = ratio_of(&metrics)?;
        let turned = (ratio < 1.0 && guessed > 1.0) || (ratio > 1.0 && guessed < 1.0);
        if self.tolerances.bear(guessed) || turned {
            return Ok(self.replicas);
        }
        let replicas = ceil(guessed * metrics.len() as f64);
        let is_contrary = (guessed < 1.0 && replicas > self.replicas)
            || (guessed > 1.0 && replicas < self.replicas);
        Ok(if is_contrary { self.replicas } else { replicas })
    }
}
