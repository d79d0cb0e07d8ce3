//! KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): decoded strictly, defaulted and
//! validated as upstream does, compiled into profiles.

mod plugins;
mod shape;
mod validate;
mod wire;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::framework::{Defaults, Plugin};
use crate::profile::{Fit, Preemption, Profile, Strategy};
use wire::{Args, Configuration, WireProfile};

/// The group and version that is understood.
pub const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// The profile of pods that ask for none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// How the scheduler works.
#[derive(Debug, Clone)]
pub struct Config {
    /// By scheduler name.
    pub profiles: Vec<Profile>,
    /// How long a pod that did not fit waits at first.
    pub backoff_initial: Duration,
    /// And at most.
    pub backoff_max: Duration,
    /// The Lease that schedulers compete for: namespace and name.
    pub lease: (String, String),
    /// Whether they compete.
    pub leader_elect: bool,
    /// How many bindings are on their way at once.
    pub parallelism: usize,
}

impl Default for Config {
    fn default() -> Self {
        compile(&Configuration::default())
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// Reads a configuration in YAML or JSON.
    ///
    /// # Errors
    ///
    /// In upstream's words: syntax, unknown or repeated fields, other types, invalid values.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let (doc, repeated) = api::codec::yaml::parse(text.as_bytes())
            .map_err(|error| ConfigError(format!("error converting YAML to JSON: {error}")))?;
        let value: Value = serde_json::from_str(&doc.root().to_string())
            .map_err(|error| ConfigError(error.to_string()))?;
        let of = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        if (of("apiVersion"), of("kind")) != (API_VERSION, KIND) {
            return Err(ConfigError(format!(
                "no kind {:?} is registered for version {:?} in scheme",
                of("kind"),
                of("apiVersion")
            )));
        }
        let mut strict: Vec<String> = repeated.iter().map(ToString::to_string).collect();
        shape::check(&value, &mut strict);
        let configuration: Configuration = decode(value)?;
        let args = wire::args(&configuration, &mut strict)?;
        if !strict.is_empty() {
            return Err(ConfigError(format!(
                "strict decoding error: {}",
                strict.join(", ")
            )));
        }
        let configuration = configuration.defaulted();
        validate::validate(&configuration, &args).map_err(ConfigError)?;
        Ok(compile(&configuration))
    }

    /// The profile of a scheduler name.
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T, ConfigError> {
    serde_json::from_value(value).map_err(|error| ConfigError(error.to_string()))
}

fn compile(configuration: &Configuration) -> Config {
    let configuration = configuration.clone().defaulted();
    let seconds = |value: Option<i64>, or: u64| {
        Duration::from_secs(value.map_or(or, |value| value.max(0) as u64))
    };
    let lease = &configuration.leader_election;
    Config {
        profiles: configuration
            .profiles
            .iter()
            .map(|profile| profile_of(profile, &configuration))
            .collect(),
        backoff_initial: seconds(configuration.pod_initial_backoff_seconds, 1),
        backoff_max: seconds(configuration.pod_max_backoff_seconds, 10),
        lease: (
            lease.resource_namespace.clone(),
            lease.resource_name.clone(),
        ),
        leader_elect: lease.leader_elect.unwrap_or(true),
        parallelism: configuration.parallelism.unwrap_or(16).max(1) as usize,
    }
}

fn profile_of(wire: &WireProfile, configuration: &Configuration) -> Profile {
    let name = wire.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER);
    let mut profile = Profile::bare(name);
    let share = wire
        .percentage_of_nodes_to_score
        .or(configuration.percentage_of_nodes_to_score);
    profile.percentage = share.unwrap_or(0).max(0) as u32;
    plugins::enable(&wire.plugins, &mut profile);
    for plugin in Plugin::ALL {
        // Arguments that do not decode were refused before; defaults have none.
        if let Ok(args) = wire.args(*plugin) {
            apply(args, &mut profile);
        }
    }
    profile
}

/// Takes over the arguments of a plugin.
fn apply(args: Args, profile: &mut Profile) {
    match args {
        Args::None => {}
        Args::DefaultPreemption(args) => {
            profile.preemption = Preemption {
                percentage: args.min_candidate_nodes_percentage.unwrap_or(10).max(0) as usize,
                absolute: args.min_candidate_nodes_absolute.unwrap_or(100).max(0) as usize,
            };
        }
        Args::InterPodAffinity(args) => {
            profile.hard_affinity_weight = i64::from(args.hard_pod_affinity_weight.unwrap_or(1));
            profile.ignores_existing_preferences = args.ignore_preferred_terms_of_existing_pods;
        }
        Args::NodeAffinity(args) => profile.defaults.added = args.added_affinity,
        Args::BalancedAllocation(args) => {
            if !args.resources.is_empty() {
                profile.balanced = args.resources.into_iter().map(|one| one.name).collect();
            }
        }
        Args::Fit(args) => {
            let strategy = args.scoring_strategy.unwrap_or_default();
            let points = strategy
                .requested_to_capacity_ratio
                .unwrap_or_default()
                .shape;
            let points = points
                .iter()
                // Scores are given from 0 to 10.
                .map(|point| (i64::from(point.utilization), i64::from(point.score) * 10));
            profile.fit = Fit {
                ignored: args.ignored_resources,
                ignored_groups: args.ignored_resource_groups,
                strategy: match &*strategy.kind {
                    "MostAllocated" => Strategy::MostAllocated,
                    "RequestedToCapacityRatio" => {
                        Strategy::RequestedToCapacityRatio(points.collect())
                    }
                    _ => Strategy::LeastAllocated,
                },
                resources: match strategy.resources.is_empty() {
                    true => std::mem::take(&mut profile.fit.resources),
                    false => {
                        let resources = strategy.resources.into_iter();
                        resources.map(|one| (one.name, one.weight.max(1))).collect()
                    }
                },
            };
        }
        Args::PodTopologySpread(args) => {
            if args.defaulting_type == "List" {
                profile.defaults = Defaults {
                    constraints: args.default_constraints,
                    is_system: false,
                    added: profile.defaults.added.take(),
                };
            }
        }
        Args::VolumeBinding(args) => {
            let seconds = args.bind_timeout_seconds.unwrap_or(600).max(0) as u64;
            profile.bind_timeout = Duration::from_secs(seconds);
        }
    }
}

#[cfg(test)]
mod tests;
