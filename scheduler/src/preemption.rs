//! Who makes way for a pod that fits nowhere.
//!
//! Pure, as the cycle is. On each node where it may help, all pods of lower priority are imagined
//! away; if the pod would fit, as many as possible are imagined back, first those whose disruption
//! budget is spent. Of the nodes that remain the one is chosen that hurts least.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cycle::{Diagnosis, Imagined, Nominated, State, look};
use crate::filters::dynamic_resources;
use crate::framework::{Failure, Plugin, Rejection};
use crate::intern::FxMap;
use crate::profile::Profile;
use crate::selector::selects;
use crate::snapshot::{NodeInfo, Placed, PodInfo, Snapshot};
use crate::views::{Pod, PodDisruptionBudget, namespace};

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
const UNDER_WAY: &str = "not eligible due to a terminating pod on the nominated node.";

/// Pods to evict from a node.
#[derive(Debug, Clone)]
pub struct Eviction {
    /// The node.
    pub node: String,
    /// Who goes, most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them overdraw a budget.
    pub violations: usize,
}

/// What PostFilter comes to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whom to evict, if that helps.
    pub eviction: Option<Eviction>,
    /// The pod's nomination is void.
    pub clears_nomination: bool,
    /// What is added to the pod's message.
    pub message: String,
}

/// What preemption looks at besides the snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'c> {
    /// All disruption budgets.
    pub budgets: &'c [Arc<PodDisruptionBudget>],
    /// Nominations.
    pub nominated: &'c Nominated,
    /// For pods that have not started.
    pub now: Timestamp,
    /// Where the search for candidates begins.
    pub seed: u64,
}

/// Runs PostFilter: devices have their say, then preemption.
pub fn post_filter(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    diagnosis: &Diagnosis,
    circumstances: &Circumstances<'_>,
) -> Outcome {
    let mut outcome = Outcome {
        eviction: None,
        clears_nomination: false,
        message: String::new(),
    };
    let state = look(snapshot, pod, profile).ok();
    let mut reasons: Vec<String> = Vec::new();
    for plugin in &profile.post_filters {
        match plugin {
            Plugin::DynamicResources => {
                let reason = match &state {
                    Some(state) => dynamic_resources::post_filter(state),
                    None => "no new claims to deallocate",
                };
                reasons.push(reason.to_string());
            }
            Plugin::DefaultPreemption => {
                match preempt(
                    snapshot,
                    pod,
                    profile,
                    state.as_ref(),
                    diagnosis,
                    circumstances,
                ) {
                    Ok(eviction) => {
                        outcome.eviction = Some(eviction);
                        return outcome;
                    }
                    Err(refusal) => {
                        outcome.clears_nomination |= refusal.is_futile;
                        reasons.push(format!("preemption: {}", refusal.message));
                    }
                }
            }
            _ => {}
        }
    }
    outcome.message = reasons.join(", ");
    outcome
}

/// Why nobody is evicted.
struct Refusal {
    message: String,
    /// Nothing would help, so that a nomination is void.
    is_futile: bool,
}

fn preempt(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    state: Option<&State<'_>>,
    diagnosis: &Diagnosis,
    circumstances: &Circumstances<'_>,
) -> Result<Eviction, Refusal> {
    if let Some(message) = ineligible(snapshot, pod, diagnosis) {
        return Err(Refusal {
            message: message.to_string(),
            is_futile: false,
        });
    }
    let potential = diagnosis.resolvable(snapshot);
    let mut statuses = Vec::new();
    let mut candidates = Vec::new();
    if let Some(state) = state.filter(|_| !potential.is_empty()) {
        let wanted = wanted(profile, potential.len());
        let mut search = Search {
            state,
            circumstances,
            covers: FxMap::default(),
        };
        let first = circumstances.seed as usize % potential.len();
        for id in potential[first..].iter().chain(&potential[..first]) {
            match search.victims(snapshot.node(*id)) {
                Ok(candidate) => candidates.push(candidate),
                Err(rejection) => statuses.push((*id, rejection)),
            }
            let is_gentle = |one: &Candidate| one.violations == 0;
            if candidates.len() >= wanted && candidates.iter().any(is_gentle) {
                break;
            }
        }
    }
    best(candidates, circumstances.now).map_or_else(
        || {
            let others = Rejection::last(Plugin::DefaultPreemption, NOT_HELPFUL);
            let diagnosis = Diagnosis::of(snapshot.node_count(), statuses, Some(others));
            Err(Refusal {
                message: diagnosis.message(),
                is_futile: true,
            })
        },
        |best| {
            Ok(Eviction {
                node: snapshot
                    .interner
                    .text(snapshot.node(best.node).name)
                    .to_string(),
                victims: best
                    .victims
                    .iter()
                    .map(|one| Arc::clone(&one.pod))
                    .collect(),
                violations: best.violations,
            })
        },
    )
}

/// Why a pod may not evict others at all, or not again.
fn ineligible(snapshot: &Snapshot, pod: &PodInfo, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.pod.never_preempts {
        return Some(NEVER);
    }
    let nominated = snapshot.node_named(&pod.pod.nominated_node)?;
    let is_final = diagnosis
        .rejection(nominated.id)
        .is_some_and(|one| one.is_final);
    let is_leaving =
        |placed: &Arc<Placed>| placed.pod.priority < pod.pod.priority && placed.pod.is_preempted;
    (!is_final && nominated.pods.iter().any(is_leaving)).then_some(UNDER_WAY)
}

/// How many candidates are enough.
fn wanted(profile: &Profile, nodes: usize) -> usize {
    let share = nodes * profile.preemption.percentage / 100;
    share.max(profile.preemption.absolute).min(nodes)
}

/// A node with those who would have to go.
struct Candidate {
    node: u32,
    /// Most important first.
    victims: Vec<Arc<Placed>>,
    violations: usize,
}

struct Search<'s, 'c> {
    state: &'s State<'c>,
    circumstances: &'s Circumstances<'s>,
    /// Whether a budget covers pods of a class: (budget, class).
    covers: FxMap<(usize, u32), bool>,
}

impl Search<'_, '_> {
    /// Who would have to leave a node.
    fn victims(&mut self, node: &NodeInfo) -> Result<Candidate, Rejection> {
        let priority = self.state.pod.pod.priority;
        let lower = node
            .pods
            .iter()
            .filter(|placed| placed.pod.priority < priority);
        let mut potential: Vec<Arc<Placed>> = lower.map(Arc::clone).collect();
        if potential.is_empty() {
            return Err(Rejection::last(Plugin::DefaultPreemption, NO_VICTIMS));
        }
        let mut imagined = Imagined::new(node);
        for placed in &potential {
            imagined.remove(self.state, placed);
        }
        self.fits(&imagined)?;
        self.sort(&mut potential);
        let (violating, others) = self.split(potential);
        let (mut victims, mut violations) = (Vec::new(), 0);
        let both = !violating.is_empty() && !others.is_empty();
        for (placed, violates) in violating
            .into_iter()
            .map(|one| (one, true))
            .chain(others.into_iter().map(|one| (one, false)))
        {
            imagined.add(self.state, &placed);
            if self.fits(&imagined).is_err() {
                imagined.remove(self.state, &placed);
                victims.push(placed);
                violations += usize::from(violates);
            }
        }
        if victims.is_empty() {
            return Err(Rejection::last(Plugin::DefaultPreemption, NO_VICTIMS));
        }
        if both {
            self.sort(&mut victims);
        }
        Ok(Candidate {
            node: node.id,
            victims,
            violations,
        })
    }

    fn fits(&self, imagined: &Imagined) -> Result<(), Rejection> {
        let nominated = self.circumstances.nominated;
        let verdict = self
            .state
            .filter_nominated(&imagined.node, &imagined.what_if, nominated);
        verdict.map_err(|failure| match failure {
            Failure::Rejected(rejection) => rejection,
            Failure::Error(error) => Rejection::last(Plugin::DefaultPreemption, error),
        })
    }

    /// Most important first: by priority, then by age.
    fn sort(&self, pods: &mut [Arc<Placed>]) {
        let now = self.circumstances.now;
        pods.sort_by(|one, other| {
            let key = |placed: &Placed| (Reverse(placed.pod.priority), started(&placed.pod, now));
            let by_name = || {
                (one.pod.namespace(), one.pod.name())
                    .cmp(&(other.pod.namespace(), other.pod.name()))
            };
            key(one).cmp(&key(other)).then_with(by_name)
        });
    }

    /// Those whose eviction overdraws a budget, and the others, each in their order.
    fn split(&mut self, pods: Vec<Arc<Placed>>) -> (Vec<Arc<Placed>>, Vec<Arc<Placed>>) {
        let budgets = self.circumstances.budgets;
        let mut left: Vec<i32> = budgets
            .iter()
            .map(|one| one.status.disruptions_allowed)
            .collect();
        let (mut violating, mut others) = (Vec::new(), Vec::new());
        for placed in pods {
            let mut violates = false;
            for (at, left) in left.iter_mut().enumerate() {
                let counted = &budgets[at].status.disrupted_pods;
                if self.covers(at, &placed) && !counted.contains_key(placed.pod.name()) {
                    *left -= 1;
                    violates |= *left < 0;
                }
            }
            if violates {
                &mut violating
            } else {
                &mut others
            }
            .push(placed);
        }
        (violating, others)
    }

    /// Whether a budget covers a pod. Without selector, or with an empty one, it covers nobody.
    fn covers(&mut self, at: usize, placed: &Placed) -> bool {
        let budget = &self.circumstances.budgets[at];
        *self.covers.entry((at, placed.class)).or_insert_with(|| {
            let selector = budget.spec.selector.as_ref();
            let is_empty = selector.is_none_or(|selector| {
                selector.match_labels.iter().flatten().next().is_none()
                    && selector.match_expressions.iter().flatten().next().is_none()
            });
            let labels = placed.pod.metadata.labels.as_ref();
            namespace(&budget.metadata) == placed.pod.namespace()
                && labels.is_some_and(|labels| !labels.is_empty())
                && !is_empty
                && selects(selector, labels)
        })
    }
}

fn started(pod: &Pod, now: Timestamp) -> Timestamp {
    pod.start_time.as_ref().map_or(now, |time| time.0)
}

/// The candidate that hurts least: fewest budgets overdrawn, then the least important most
/// important victim, the lowest sum of priorities, the fewest victims, the youngest of the most
/// important; of equals the first.
fn best(candidates: Vec<Candidate>, now: Timestamp) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let pods = || candidate.victims.iter().map(|one| &one.pod);
        let highest = pods().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        // Shifted so that many victims of negative priority do not look cheap.
        let sum: i64 = pods().map(|pod| i64::from(pod.priority) + (1 << 31)).sum();
        let most_important = pods().filter(|pod| pod.priority == highest);
        let earliest = most_important
            .map(|pod| started(pod, now))
            .min()
            .unwrap_or(now);
        (
            candidate.violations,
            highest,
            sum,
            candidate.victims.len(),
            Reverse(earliest),
        )
    })
}

/// The event and the condition that a victim gets.
pub fn notices(preemptor: &Pod, node: &str) -> (String, String) {
    (
        format!("Preempted by pod {} on node {node}", preemptor.uid()),
        format!(
            "{}: preempting to accommodate a higher priority pod",
            preemptor.scheduler_name
        ),
    )
}

#[cfg(test)]
mod tests;
