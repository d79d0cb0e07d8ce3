//! A profile: which plugins run, with which arguments and weights.

use std::time::Duration;

use crate::framework::{Defaults, Plugin};

/// How one kind of pod is scheduled.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The scheduler name that pods ask for.
    pub name: String,
    /// Plugins that look at a pod before nodes are judged.
    pub pre_filters: Vec<Plugin>,
    /// Plugins that judge nodes.
    pub filters: Vec<Plugin>,
    /// Plugins that try to make room.
    pub post_filters: Vec<Plugin>,
    /// Plugins that rate nodes, with weights.
    pub scores: Vec<(Plugin, i64)>,
    /// Whether pods with gates wait.
    pub has_gates: bool,
    /// The share of feasible nodes that is enough; 0 follows the size of the cluster.
    pub percentage: u32,
    /// What pods are compiled with.
    pub defaults: Defaults,
    /// Arguments of NodeResourcesFit.
    pub fit: Fit,
    /// The resources that NodeResourcesBalancedAllocation looks at.
    pub balanced: Vec<String>,
    /// What a placed pod's required affinity is worth to those it is about.
    pub hard_affinity_weight: i64,
    /// Preferences of placed pods do not count for pods without preferences.
    pub ignores_existing_preferences: bool,
    /// How many candidates preemption looks at.
    pub preemption: Preemption,
    /// How long volumes may take to be bound.
    pub bind_timeout: Duration,
}

/// Arguments of NodeResourcesFit.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Extended resources that somebody else looks after.
    pub ignored: Vec<String>,
    /// And such prefixes.
    pub ignored_groups: Vec<String>,
    /// How nodes are rated.
    pub strategy: Strategy,
    /// By which resources, with weights.
    pub resources: Vec<(String, i64)>,
}

impl Fit {
    /// Whether an extended resource is not looked at.
    pub fn ignores(&self, name: &str) -> bool {
        let group = name.split('/').next().unwrap_or(name);
        self.ignored.iter().any(|one| one == name)
            || self.ignored_groups.iter().any(|one| one == group)
    }
}

/// How NodeResourcesFit rates nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// The emptier the better.
    LeastAllocated,
    /// The fuller the better.
    MostAllocated,
    /// By a broken line: points of utilization in percent and score from 0 to 100.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// How many candidates preemption looks at.
#[derive(Debug, Clone, Copy)]
pub struct Preemption {
    /// At least this share of nodes.
    pub percentage: usize,
    /// And at least so many.
    pub absolute: usize,
}

impl Default for Profile {
    fn default() -> Self {
        crate::config::Config::default()
            .profiles
            .into_iter()
            .next()
            .unwrap_or_else(|| Profile::bare("default-scheduler"))
    }
}

impl Profile {
    /// A profile without plugins and with upstream's arguments.
    pub(crate) fn bare(name: &str) -> Self {
        Profile {
            name: name.to_string(),
            pre_filters: Vec::new(),
            filters: Vec::new(),
            post_filters: Vec::new(),
            scores: Vec::new(),
            has_gates: false,
            percentage: 0,
            defaults: Defaults::default(),
            fit: Fit {
                ignored: Vec::new(),
                ignored_groups: Vec::new(),
                strategy: Strategy::LeastAllocated,
                resources: vec![("cpu".to_string(), 1), ("memory".to_string(), 1)],
            },
            balanced: vec!["cpu".to_string(), "memory".to_string()],
            hard_affinity_weight: 1,
            ignores_existing_preferences: false,
            preemption: Preemption {
                percentage: 10,
                absolute: 100,
            },
            bind_timeout: Duration::from_secs(600),
        }
    }
}
