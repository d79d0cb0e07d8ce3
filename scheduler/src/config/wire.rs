//! The configuration as it is written.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde_json::Value;

use crate::framework::Plugin;

use super::{ConfigError, DEFAULT_SCHEDULER, shape};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Configuration {
    pub(super) parallelism: Option<i32>,
    pub(super) leader_election: LeaderElection,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    pub(super) pod_initial_backoff_seconds: Option<i64>,
    pub(super) pod_max_backoff_seconds: Option<i64>,
    pub(super) profiles: Vec<WireProfile>,
    pub(super) extenders: Vec<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaderElection {
    pub(super) leader_elect: Option<bool>,
    pub(super) resource_lock: String,
    pub(super) resource_name: String,
    pub(super) resource_namespace: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireProfile {
    pub(super) scheduler_name: Option<String>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    pub(super) plugins: WirePlugins,
    pub(super) plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WirePlugins {
    pub(super) pre_enqueue: PluginSet,
    pub(super) queue_sort: PluginSet,
    pub(super) pre_filter: PluginSet,
    pub(super) filter: PluginSet,
    pub(super) post_filter: PluginSet,
    pub(super) pre_score: PluginSet,
    pub(super) score: PluginSet,
    pub(super) reserve: PluginSet,
    pub(super) permit: PluginSet,
    pub(super) pre_bind: PluginSet,
    pub(super) bind: PluginSet,
    pub(super) post_bind: PluginSet,
    pub(super) multi_point: PluginSet,
}

impl WirePlugins {
    /// The extension points by name, multiPoint left out.
    pub(super) fn points(&self) -> [(&'static str, &PluginSet); 12] {
        [
            ("preEnqueue", &self.pre_enqueue),
            ("queueSort", &self.queue_sort),
            ("preFilter", &self.pre_filter),
            ("filter", &self.filter),
            ("postFilter", &self.post_filter),
            ("preScore", &self.pre_score),
            ("score", &self.score),
            ("reserve", &self.reserve),
            ("permit", &self.permit),
            ("preBind", &self.pre_bind),
            ("bind", &self.bind),
            ("postBind", &self.post_bind),
        ]
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct PluginSet {
    pub(super) enabled: Vec<Named>,
    pub(super) disabled: Vec<Named>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) weight: Option<i32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PluginConfig {
    pub(super) name: String,
    pub(super) args: Value,
}

/// Arguments of the plugins that take some.
#[derive(Debug, Clone)]
pub(super) enum Args {
    None,
    DefaultPreemption(DefaultPreemptionArgs),
    InterPodAffinity(InterPodAffinityArgs),
    NodeAffinity(NodeAffinityArgs),
    BalancedAllocation(BalancedAllocationArgs),
    Fit(FitArgs),
    PodTopologySpread(PodTopologySpreadArgs),
    VolumeBinding(VolumeBindingArgs),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DefaultPreemptionArgs {
    pub(super) min_candidate_nodes_percentage: Option<i32>,
    pub(super) min_candidate_nodes_absolute: Option<i32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct InterPodAffinityArgs {
    pub(super) hard_pod_affinity_weight: Option<i32>,
    pub(super) ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeAffinityArgs {
    pub(super) added_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BalancedAllocationArgs {
    pub(super) resources: Vec<ResourceSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResourceSpec {
    pub(super) name: String,
    /// 0 is upstream's way to leave it out.
    pub(super) weight: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FitArgs {
    pub(super) ignored_resources: Vec<String>,
    pub(super) ignored_resource_groups: Vec<String>,
    pub(super) scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScoringStrategy {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) resources: Vec<ResourceSpec>,
    pub(super) requested_to_capacity_ratio: Option<Ratio>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        ScoringStrategy {
            kind: "LeastAllocated".to_string(),
            resources: Vec::new(),
            requested_to_capacity_ratio: None,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ratio {
    pub(super) shape: Vec<Point>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Point {
    pub(super) utilization: i32,
    pub(super) score: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodTopologySpreadArgs {
    pub(super) default_constraints: Vec<TopologySpreadConstraint>,
    pub(super) defaulting_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VolumeBindingArgs {
    pub(super) bind_timeout_seconds: Option<i64>,
    pub(super) shape: Option<Value>,
}

impl Configuration {
    /// With upstream's defaults.
    pub(super) fn defaulted(mut self) -> Self {
        if self.profiles.is_empty() {
            self.profiles.push(WireProfile::default());
        }
        if let [only] = &mut self.profiles[..] {
            only.scheduler_name
                .get_or_insert_with(|| DEFAULT_SCHEDULER.to_string());
        }
        let or = |text: &mut String, default: &str| {
            if text.is_empty() {
                *text = default.to_string();
            }
        };
        or(&mut self.leader_election.resource_lock, "leases");
        or(&mut self.leader_election.resource_namespace, "kube-system");
        or(&mut self.leader_election.resource_name, "kube-scheduler");
        self.parallelism.get_or_insert(16);
        self.pod_initial_backoff_seconds.get_or_insert(1);
        self.pod_max_backoff_seconds.get_or_insert(10);
        self
    }
}

impl WireProfile {
    /// The arguments of a plugin, defaults if there are none.
    pub(super) fn args(&self, plugin: Plugin) -> Result<Args, ConfigError> {
        let config = self
            .plugin_config
            .iter()
            .find(|one| one.name == plugin.name());
        let value = config.map(|one| one.args.clone()).unwrap_or_default();
        parse_args(plugin, value)
    }
}

fn parse_args(plugin: Plugin, value: Value) -> Result<Args, ConfigError> {
    fn decode<T: serde::de::DeserializeOwned + Default>(value: Value) -> Result<T, ConfigError> {
        if value.is_null() {
            return Ok(T::default());
        }
        serde_json::from_value(value).map_err(|error| ConfigError(error.to_string()))
    }
    Ok(match plugin {
        Plugin::DefaultPreemption => Args::DefaultPreemption(decode(value)?),
        Plugin::InterPodAffinity => Args::InterPodAffinity(decode(value)?),
        Plugin::NodeAffinity => Args::NodeAffinity(decode(value)?),
        Plugin::NodeResourcesBalancedAllocation => {
            let mut args: BalancedAllocationArgs = decode(value)?;
            for resource in &mut args.resources {
                if resource.weight == 0 {
                    resource.weight = 1;
                }
            }
            Args::BalancedAllocation(args)
        }
        Plugin::NodeResourcesFit => {
            let mut args: FitArgs = decode(value)?;
            if let Some(strategy) = &mut args.scoring_strategy {
                for resource in strategy.resources.iter_mut().filter(|one| one.weight == 0) {
                    resource.weight = 1;
                }
            }
            Args::Fit(args)
        }
        Plugin::PodTopologySpread => {
            let mut args: PodTopologySpreadArgs = decode(value)?;
            if args.defaulting_type.is_empty() {
                args.defaulting_type = "System".to_string();
            }
            Args::PodTopologySpread(args)
        }
        Plugin::VolumeBinding => Args::VolumeBinding(decode(value)?),
        _ => Args::None,
    })
}

/// Where arguments are, and the arguments.
pub(super) type Located = (usize, usize, Args);

/// All arguments that are given, with strict complaints about them.
pub(super) fn args(
    configuration: &Configuration,
    strict: &mut Vec<String>,
) -> Result<Vec<Located>, ConfigError> {
    let mut found = Vec::new();
    for (i, profile) in configuration.profiles.iter().enumerate() {
        for (j, config) in profile.plugin_config.iter().enumerate() {
            let Some(plugin) = Plugin::named(&config.name) else {
                continue;
            };
            let place = format!(
                "decoding .profiles[{i}].pluginConfig[{j}]: decoding args for plugin {plugin}: "
            );
            let kind = config.args.get("kind").and_then(Value::as_str);
            let wanted = format!("{plugin}Args");
            if let Some(kind) = kind.filter(|kind| *kind != wanted) {
                let group = "kubescheduler.config.k8s.io";
                return Err(ConfigError(format!(
                    "decoding .profiles[{i}].pluginConfig[{j}]: args for plugin {plugin} were not of type {wanted}.{group}, got {kind}.{group}"
                )));
            }
            let mut complaints = Vec::new();
            shape::check_args(plugin, &config.args, &mut complaints);
            if !complaints.is_empty() {
                strict.push(format!(
                    "{place}strict decoding error: {}",
                    complaints.join(", ")
                ));
            }
            let args = parse_args(plugin, config.args.clone())
                .map_err(|error| ConfigError(format!("{place}{error}")))?;
            found.push((i, j, args));
        }
    }
    Ok(found)
}
