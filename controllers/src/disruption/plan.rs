//! How many of a budget's pods may be disrupted now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::note::Note;
use crate::pod::{ConditionStatus, ConditionType, Pod};

/// How long a pod that was evicted may take to be seen as deleted.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
/// How long a pod may say that it will be disrupted without being deleted.
const STALE_DISRUPTION: SignedDuration = SignedDuration::from_secs(120);

/// The condition of a budget.
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// How many pods the controllers of a budget's pods want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scales {
    /// What is wanted, by the uid of the pods' controllers.
    pub wanted: HashMap<String, i32>,
    /// Whose wish that is, if it is that of another object above a controller.
    pub shared: HashMap<String, String>,
}

impl Scales {
    /// How many pods are wanted in all: a wish that several controllers share counts once.
    fn total(&self) -> i32 {
        let mut seen = HashSet::new();
        let wishes = self
            .wanted
            .iter()
            .filter(|(uid, _)| seen.insert(self.shared.get(*uid).unwrap_or(*uid).as_str()));
        wishes.map(|(_, wanted)| wanted).sum()
    }
}

/// The distinct controllers of pods.
pub fn controllers(pods: &[Arc<Pod>]) -> Vec<&OwnerReference> {
    let mut seen = HashSet::new();
    let all = pods.iter().filter_map(|pod| pod.controller());
    all.filter(|owner| seen.insert(&owner.uid)).collect()
}

/// Whether a budget is about what controllers want, rather than about the pods that are there.
pub fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let share = |limit: &IntOrString| matches!(limit, IntOrString::String(_));
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || spec.min_available.as_ref().is_some_and(share)
    })
}

/// A number, or so many per cent of another, rounded up.
fn scaled(limit: &IntOrString, of: i32) -> Result<i32, String> {
    match limit {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|text| text.parse::<i64>().ok());
            let percent = percent.ok_or_else(|| {
                format!("invalid value for IntOrString: invalid type: string is not a percentage: {text:?}")
            })?;
            let scaled = (i64::from(of) * percent + 99).div_euclid(100);
            Ok(scaled.try_into().unwrap_or(i32::MAX))
        }
    }
}

/// What is wanted of a budget's pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Expected {
    pods: i32,
    healthy: i32,
}

/// What to do about a budget.
#[derive(Debug, Default)]
pub struct Plan {
    /// Its new status; none if it is as it shall be.
    pub status: Option<PodDisruptionBudgetStatus>,
    /// When to look again.
    pub again: Option<Duration>,
    /// What to tell about it.
    pub notes: Vec<Note>,
    /// Pods that were to be deleted and were not, with what to tell about them.
    pub pod_notes: Vec<(Arc<Pod>, Note)>,
    /// Why its numbers could not be computed; its status then allows nothing.
    pub failure: Option<String>,
}

/// Plans a budget, given its pods. An error about scales says why they are not known.
pub fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scales: &Result<Scales, String>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if pods.is_empty() {
        plan.notes
            .push(Note::normal("NoPods", "No matching pods found"));
    }
    let expected = match expected(budget, pods, scales) {
        Ok(expected) => expected,
        Err(why) => {
            plan.notes.push(Note::warning(
                "CalculateExpectedPodCountFailed",
                format!("Failed to calculate the number of expected pods: {why}"),
            ));
            plan.status = failed(budget, &why, now);
            plan.failure = Some(why);
            return plan;
        }
    };
    if needs_scales(budget) && pods.iter().any(|pod| pod.controller().is_none()) {
        plan.notes
            .push(Note::warning("UnmanagedPods", unmanaged(budget)));
    }
    let (disrupted, recheck) = disrupted(budget, pods, now, &mut plan.pod_notes);
    plan.again = recheck.map(|at| at.duration_since(now).try_into().unwrap_or_default());
    plan.status = status(budget, expected, healthy(pods, &disrupted), disrupted, now);
    plan
}

fn unmanaged(budget: &PodDisruptionBudget) -> String {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a \
         result, the status of the PDB cannot be calculated correctly, which may result in \
         undefined behavior. To account for these pods please set \".spec.minAvailable\" field of \
         the PDB to an integer value.",
        crate::go::label_selector(selector)
    )
}

fn expected(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scales: &Result<Scales, String>,
) -> Result<Expected, String> {
    let Some(spec) = &budget.spec else {
        return Ok(Expected::default());
    };
    let scale = || -> Result<i32, String> {
        let scales = scales.as_ref().map_err(Clone::clone)?;
        for pod in pods {
            let Some(owner) = pod.controller() else {
                continue;
            };
            if !scales.wanted.contains_key(&owner.uid) {
                return Err(format!("found no controllers for pod {:?}", pod.name()));
            }
        }
        Ok(scales.total())
    };
    if let Some(limit) = &spec.max_unavailable {
        let pods = scale()?;
        let healthy = (pods - scaled(limit, pods)?).max(0);
        return Ok(Expected { pods, healthy });
    }
    match &spec.min_available {
        Some(IntOrString::Int(healthy)) => Ok(Expected {
            pods: pods.len().try_into().unwrap_or(i32::MAX),
            healthy: *healthy,
        }),
        Some(limit) => {
            let pods = scale()?;
            let healthy = scaled(limit, pods)?;
            Ok(Expected { pods, healthy })
        }
        None => Ok(Expected::default()),
    }
}

/// The evicted pods that are still there, and when the first of them will have had its time.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
    notes: &mut Vec<(Arc<Pod>, Note)>,
) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let known = budget
        .status
        .as_ref()
        .and_then(|status| status.disrupted_pods.as_ref());
    let (mut still, mut recheck) = (BTreeMap::new(), None::<Timestamp>);
    for pod in pods.iter().filter(|pod| !pod.is_deleted()) {
        let Some(since) = known.and_then(|known| known.get(pod.name())) else {
            continue;
        };
        let deadline = since.0 + DELETION_TIMEOUT;
        if deadline < now {
            // Upstream names the namespace twice.
            let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
            let message = format!(
                "Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't"
            );
            notes.push((pod.clone(), Note::warning("NotDeleted", message)));
        } else {
            recheck = Some(recheck.map_or(deadline, |at| at.min(deadline)));
            still.insert(pod.name().to_owned(), since.clone());
        }
    }
    (still, recheck)
}

fn healthy(pods: &[Arc<Pod>], disrupted: &BTreeMap<String, Time>) -> i32 {
    let counted = pods
        .iter()
        .filter(|pod| !pod.is_deleted() && !disrupted.contains_key(pod.name()) && pod.is_ready());
    counted.count().try_into().unwrap_or(i32::MAX)
}

fn status(
    budget: &PodDisruptionBudget,
    expected: Expected,
    current_healthy: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let mut allowed = current_healthy - expected.healthy;
    if expected.pods <= 0 || allowed <= 0 {
        allowed = 0;
    }
    let before = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    let (status, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let mut conditions = before.conditions.clone().unwrap_or_default();
    set_condition(&mut conditions, status, reason, "", generation, now);
    let after = PodDisruptionBudgetStatus {
        current_healthy: Some(current_healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: Some(conditions),
    };
    (normal(&before) != after).then_some(after)
}

/// A status in which empty and missing are the same.
fn normal(status: &PodDisruptionBudgetStatus) -> PodDisruptionBudgetStatus {
    let mut status = status.clone();
    status.disrupted_pods = status.disrupted_pods.filter(|pods| !pods.is_empty());
    status
}

/// The status of a budget whose numbers are not known: nothing may be disrupted.
fn failed(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let mut after = budget.status.clone().unwrap_or_default();
    let observed = after.observed_generation;
    after.disruptions_allowed = Some(0);
    let conditions = after.conditions.get_or_insert_default();
    set_condition(conditions, "False", "SyncFailed", why, observed, now);
    (budget.status.as_ref() != Some(&after)).then_some(after)
}

fn set_condition(
    conditions: &mut Vec<Condition>,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let old = conditions
        .iter_mut()
        .find(|c| c.type_ == DISRUPTION_ALLOWED);
    let since = old.as_ref().filter(|old| old.status == status);
    let new = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or(Time(now), |old| old.last_transition_time.clone()),
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// In how long a pod's word that it will be disrupted is to be taken back; none if it holds, or it
/// gave none.
pub fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let said = pod.condition(&ConditionType::DisruptionTarget)?;
    let is_stale = said.status == ConditionStatus::True
        && said.reason.as_deref() != Some("TerminationByKubelet")
        && pod.is_active();
    let since = said
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left = STALE_DISRUPTION - now.duration_since(since);
    is_stale.then(|| left.try_into().unwrap_or_default())
}
