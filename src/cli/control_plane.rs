//! The flags of the controllers and the scheduler, in a master and by themselves, and of every process
//! that reaches the API from outside.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::store::given;

/// `trireme controller-manager`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme controller-manager --kubeconfig /etc/trireme/controller-manager.kubeconfig
  trireme controller-manager --config /etc/trireme/controller-manager.yaml --controllers '*,-ttl'
  trireme controller-manager --kubeconfig k --servers https://10.0.0.1:6443,https://10.0.0.2:6443")]
pub(crate) struct ControllerManagerArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    controllers: ControllersFlags,
    #[command(flatten)]
    election: ElectionFlags,
}

impl ControllerManagerArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        let own = [given(&self.process), given(&self.controllers)].concat();
        [own, given(&self.election)].concat()
    }
}

/// `trireme scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme scheduler --kubeconfig /etc/trireme/scheduler.kubeconfig
  trireme scheduler --kubeconfig k --scheduler-config profiles.yaml")]
pub(crate) struct SchedulerArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    own: SchedulerFlags,
    #[command(flatten)]
    election: ElectionFlags,
}

impl SchedulerArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        let own = [given(&self.process), given(&self.own)].concat();
        [own, given(&self.election)].concat()
    }
}

/// `trireme cloud-controller-manager`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme cloud-controller-manager --kubeconfig k --load-balancer-pools 192.0.2.0/24,198.51.100.10-198.51.100.20
  trireme cloud-controller-manager --kubeconfig k --cloud-provider grpc --cloud-provider-address 127.0.0.1:7000")]
pub(crate) struct CloudArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    own: CloudFlags,
    #[command(flatten)]
    election: ElectionFlags,
}

impl CloudArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        let own = [given(&self.process), given(&self.own)].concat();
        [own, given(&self.election)].concat()
    }
}

/// Of every process that reaches the API from outside.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ProcessFlags {
    /// The name of the process; unique in the cluster [default: the machine's name]
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    name: Option<String>,
    /// The API and who asks, as kubectl reads it
    #[arg(long, value_name = "FILE", help_heading = "API")]
    kubeconfig: Option<String>,
    /// All API servers, in place of the one that the kubeconfig names
    #[arg(long, value_name = "URL,...", help_heading = "API")]
    servers: Vec<String>,
    /// Where health and metrics are served in plain text, on loopback only [default: nowhere]
    #[arg(long, value_name = "URL,...", help_heading = "Observation")]
    listen_metrics_urls: Vec<String>,
    /// What is logged: a level or a filter [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Observation")]
    log_level: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Observation")]
    log_format: Option<String>,
    /// Where traces are sent by OTLP over gRPC [default: nowhere]
    #[arg(long, value_name = "URL", help_heading = "Observation")]
    otlp_endpoint: Option<String>,
}

/// Of the controllers.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ControllersFlags {
    /// Which controllers run: names, -NAME for not, * for all that are on by default [default: *]
    #[arg(
        long,
        value_name = "NAME,...",
        allow_hyphen_values = true,
        help_heading = "Controllers"
    )]
    controllers: Vec<String>,
    /// The name of the cluster [default: kubernetes]
    #[arg(long, value_name = "NAME", help_heading = "Controllers")]
    cluster_name: Option<String>,
    /// The authorities of API servers' certificates, which pods are told [default: none are told]
    #[arg(long, value_name = "FILE", help_heading = "Controllers")]
    root_ca_file: Option<String>,
    /// The authority that signs certificates which are asked for [default: nobody does]
    #[arg(long, value_name = "FILE", help_heading = "Controllers")]
    cluster_signing_cert_file: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "Controllers")]
    cluster_signing_key_file: Option<String>,
    /// The longest that its certificates live [default: 8760h]
    #[arg(long, value_name = "TIME", help_heading = "Controllers")]
    cluster_signing_duration: Option<String>,
    /// The key that signs tokens of service accounts in secrets [default: of a master,
    /// service-account-key-file]
    #[arg(long, value_name = "FILE", help_heading = "Controllers")]
    service_account_private_key_file: Option<String>,
    /// So many pods that have ended are kept; 0 keeps all [default: 12500]
    #[arg(long, value_name = "NUMBER", help_heading = "Controllers")]
    terminated_pod_gc_threshold: Option<String>,
    /// Whether nodes are given blocks of cluster-cidr for their pods [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Controllers")]
    allocate_node_cidrs: Option<String>,
    /// The network of pods, one block per family of addresses
    #[arg(long, value_name = "CIDR,...", help_heading = "Controllers")]
    cluster_cidr: Vec<String>,
    /// The length of the prefix of a node's block of IPv4 [default: 24]
    #[arg(long, value_name = "BITS", help_heading = "Controllers")]
    node_cidr_mask_size_ipv4: Option<String>,
    /// The same of IPv6 [default: 64]
    #[arg(long, value_name = "BITS", help_heading = "Controllers")]
    node_cidr_mask_size_ipv6: Option<String>,
}

/// Of the scheduler.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SchedulerFlags {
    /// A KubeSchedulerConfiguration [default: upstream's defaults]
    #[arg(long, value_name = "FILE", help_heading = "Scheduler")]
    scheduler_config: Option<String>,
}

/// Of the controllers that know the place.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CloudFlags {
    /// Which controllers run: names, -NAME for not, * for all that are on by default [default: *]
    #[arg(
        long,
        value_name = "NAME,...",
        allow_hyphen_values = true,
        help_heading = "Controllers"
    )]
    controllers: Vec<String>,
    /// The name of the cluster [default: kubernetes]
    #[arg(long, value_name = "NAME", help_heading = "Controllers")]
    cluster_name: Option<String>,
    /// Which place the cluster runs in: local or grpc [default: local]
    #[arg(long, value_name = "PROVIDER", help_heading = "Cloud")]
    cloud_provider: Option<String>,
    /// Of local: addresses for Services of type LoadBalancer
    #[arg(long, value_name = "CIDR|FROM-TO,...", help_heading = "Cloud")]
    load_balancer_pools: Vec<String>,
    /// Of grpc: where the provider listens
    #[arg(long, value_name = "HOST:PORT", help_heading = "Cloud")]
    cloud_provider_address: Option<String>,
}

/// Of whatever is elected.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ElectionFlags {
    /// For so long after its last renewal others leave a leader's Lease alone [default: 15s]
    #[arg(long, value_name = "TIME", help_heading = "Election")]
    leader_elect_lease_duration: Option<String>,
    /// A leader that could not renew its Lease for so long leads no more [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Election")]
    leader_elect_renew_deadline: Option<String>,
    /// Between renewals [default: 2s]
    #[arg(long, value_name = "TIME", help_heading = "Election")]
    leader_elect_retry_period: Option<String>,
}

/// Of a master.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ControlPlaneFlags {
    /// Whether the controllers run [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Controllers")]
    enable_controllers: Option<String>,
    /// Whether the scheduler runs [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Scheduler")]
    enable_scheduler: Option<String>,
    /// A directory of manifests that is kept applied, the same on all masters [default: none]
    #[arg(long, value_name = "DIR", help_heading = "Manifests")]
    manifests_dir: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    controllers: ControllersFlags,
    #[command(flatten)]
    #[serde(flatten)]
    scheduler: SchedulerFlags,
    #[command(flatten)]
    #[serde(flatten)]
    election: ElectionFlags,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use deploy::config::{
        self, CloudConfig, ControllerManagerConfig, NodeConfig, SchedulerConfig, ServerConfig,
    };

    use crate::cli::Cli;

    fn flags(subcommand: &str) -> Vec<String> {
        let command = Cli::command();
        let command = command.find_subcommand(subcommand).unwrap();
        let flags = command.get_arguments().filter_map(|one| one.get_long());
        let own = ["config", "help", "version"];
        let mut flags: Vec<String> = flags
            .filter(|flag| !own.contains(flag))
            .map(str::to_string)
            .collect();
        flags.sort();
        flags
    }

    #[test]
    fn every_setting_has_a_flag_and_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        for (subcommand, mut keys) in [
            ("server", config::keys::<ServerConfig>()),
            (
                "controller-manager",
                config::keys::<ControllerManagerConfig>(),
            ),
            ("cloud-controller-manager", config::keys::<CloudConfig>()),
            ("scheduler", config::keys::<SchedulerConfig>()),
            ("node", config::keys::<NodeConfig>()),
        ] {
            keys.sort();
            assert_eq!(flags(subcommand), keys, "{subcommand}");
            for key in keys {
                assert!(
                    readme.contains(&format!("`{key}`")),
                    "README.md lacks {key}"
                );
            }
        }
    }
}
