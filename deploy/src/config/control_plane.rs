//! The settings of what acts on objects: the controllers and the scheduler, within a master or as
//! processes of their own. Named as the flags of kube-controller-manager and kube-scheduler.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::values::{CloudProvider, LogFormat, Span, Url, text, texts};
use super::{Problem, Settings, StoreConfig};

/// What is elected, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ElectionConfig {
    /// For so long after its last renewal others leave a leader's Lease alone. Default: 15 s.
    #[serde(with = "text")]
    pub leader_elect_lease_duration: Span,
    /// A leader that could not renew its Lease for so long leads no more. Default: 10 s.
    #[serde(with = "text")]
    pub leader_elect_renew_deadline: Span,
    /// Between renewals. Default: 2 s.
    #[serde(with = "text")]
    pub leader_elect_retry_period: Span,
}

impl Default for ElectionConfig {
    fn default() -> Self {
        Self {
            leader_elect_lease_duration: Span::from_millis(15_000),
            leader_elect_renew_deadline: Span::from_millis(10_000),
            leader_elect_retry_period: Span::from_millis(2_000),
        }
    }
}

impl ElectionConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.leader_elect_lease_duration <= self.leader_elect_renew_deadline {
            problems.push(Problem {
                key: "leader-elect-lease-duration",
                message: "give more than leader-elect-renew-deadline: nobody may take over \
                          before the leader has given up"
                    .into(),
            });
        }
        // client-go draws its retries from up to 1.2 times the period.
        if self.leader_elect_renew_deadline.0 <= self.leader_elect_retry_period.0.mul_f64(1.2) {
            problems.push(Problem {
                key: "leader-elect-renew-deadline",
                message: "give more than 1.2 times leader-elect-retry-period".into(),
            });
        }
        problems
    }
}

/// The controllers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ControllersConfig {
    /// Which run: names, `-name` for not, `*` for all that are on by default. Default: `*`.
    #[serde(with = "texts")]
    pub controllers: Vec<String>,
    /// The name of the cluster. Default: `kubernetes`.
    #[serde(with = "text")]
    pub cluster_name: String,
    /// The authorities of API servers' certificates, which pods are told. Default: pods are told none.
    pub root_ca_file: Option<PathBuf>,
    /// The authority that signs certificates which are asked for. Default: nobody does.
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The longest that its certificates live. Default: a year.
    #[serde(with = "text")]
    pub cluster_signing_duration: Span,
    /// The key that signs tokens of service accounts which are kept in secrets. Default: of a master,
    /// `service-account-key-file`; elsewhere nobody signs them.
    pub service_account_private_key_file: Option<PathBuf>,
    /// So many pods that have ended are kept; 0 keeps all. Default: 12500.
    #[serde(with = "text")]
    pub terminated_pod_gc_threshold: usize,
    /// Whether nodes are given blocks of `cluster-cidr` for their pods. Default: false.
    #[serde(with = "text")]
    pub allocate_node_cidrs: bool,
    /// The network of pods, one block per family of addresses.
    #[serde(with = "texts")]
    pub cluster_cidr: Vec<String>,
    /// The length of the prefix of a node's block of IPv4. Default: 24.
    #[serde(with = "text")]
    pub node_cidr_mask_size_ipv4: u8,
    /// The same of IPv6. Default: 64.
    #[serde(with = "text")]
    pub node_cidr_mask_size_ipv6: u8,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        Self {
            controllers: vec!["*".into()],
            cluster_name: "kubernetes".into(),
            root_ca_file: None,
            cluster_signing_cert_file: None,
            cluster_signing_key_file: None,
            cluster_signing_duration: Span::from_millis(365 * 24 * 3_600_000),
            service_account_private_key_file: None,
            terminated_pod_gc_threshold: 12_500,
            allocate_node_cidrs: false,
            cluster_cidr: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
        }
    }
}

impl ControllersConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.cluster_signing_cert_file.is_some() != self.cluster_signing_key_file.is_some() {
            problems.push(Problem {
                key: "cluster-signing-cert-file",
                message: "give it with cluster-signing-key-file, or neither".into(),
            });
        }
        if self.allocate_node_cidrs && self.cluster_cidr.is_empty() {
            problems.push(Problem {
                key: "cluster-cidr",
                message: "give the network that allocate-node-cidrs takes from".into(),
            });
        }
        problems
    }
}

/// What acts on objects in a master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ControlPlaneConfig {
    /// Whether the controllers run. Default: true.
    #[serde(with = "text")]
    pub enable_controllers: bool,
    /// Whether the scheduler runs. Default: true.
    #[serde(with = "text")]
    pub enable_scheduler: bool,
    /// The controllers.
    #[serde(flatten)]
    pub controllers: ControllersConfig,
    /// A KubeSchedulerConfiguration. Default: upstream's defaults.
    pub scheduler_config: Option<PathBuf>,
    /// A directory of manifests that is kept applied. Default: none.
    pub manifests_dir: Option<PathBuf>,
    /// How all of them are elected.
    #[serde(flatten)]
    pub election: ElectionConfig,
}

impl Default for ControlPlaneConfig {
    fn default() -> Self {
        Self {
            enable_controllers: true,
            enable_scheduler: true,
            controllers: ControllersConfig::default(),
            scheduler_config: None,
            manifests_dir: None,
            election: ElectionConfig::default(),
        }
    }
}

impl ControlPlaneConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        [self.controllers.problems(), self.election.problems()].concat()
    }
}

/// How a process of its own reaches the API and is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ProcessConfig {
    /// The name of the process; unique in the cluster. Default: the machine's name.
    pub name: Option<String>,
    /// The API and who asks, as kubectl reads it.
    pub kubeconfig: Option<PathBuf>,
    /// All API servers, in place of the one that the kubeconfig names.
    #[serde(with = "texts")]
    pub servers: Vec<Url>,
    /// Where `/healthz`, `/livez`, `/readyz` and `/metrics` are served in plain text; on loopback only.
    /// Default: nowhere.
    #[serde(with = "texts")]
    pub listen_metrics_urls: Vec<Url>,
    /// What is logged. Default: `info`.
    #[serde(with = "text")]
    pub log_level: String,
    /// How log lines look. Default: text.
    #[serde(with = "text")]
    pub log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC. Default: nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        let store = StoreConfig::default();
        Self {
            name: None,
            kubeconfig: None,
            servers: Vec::new(),
            listen_metrics_urls: Vec::new(),
            log_level: store.log_level,
            log_format: store.log_format,
            otlp_endpoint: None,
        }
    }
}

impl ProcessConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.kubeconfig.is_none() {
            problems.push(Problem {
                key: "kubeconfig",
                message: "give the file that says where the API is and who asks".into(),
            });
        }
        let far = |url: &&Url| url.secure || !url.is_loopback();
        if let Some(url) = self.listen_metrics_urls.iter().find(far) {
            problems.push(Problem {
                key: "listen-metrics-urls",
                message: format!(
                    "{url}: use http and a loopback address, such as http://127.0.0.1:10257"
                ),
            });
        }
        problems
    }
}

/// `trireme controller-manager`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerManagerConfig {
    /// How it reaches the API and is looked at.
    #[serde(flatten)]
    pub process: ProcessConfig,
    /// The controllers.
    #[serde(flatten)]
    pub controllers: ControllersConfig,
    /// How it is elected.
    #[serde(flatten)]
    pub election: ElectionConfig,
}

impl Settings for ControllerManagerConfig {
    fn problems(&self) -> Vec<Problem> {
        let own = [self.process.problems(), self.controllers.problems()].concat();
        [own, self.election.problems()].concat()
    }
}

/// `trireme scheduler`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SchedulerConfig {
    /// How it reaches the API and is looked at.
    #[serde(flatten)]
    pub process: ProcessConfig,
    /// A KubeSchedulerConfiguration. Default: upstream's defaults.
    pub scheduler_config: Option<PathBuf>,
    /// How it is elected.
    #[serde(flatten)]
    pub election: ElectionConfig,
}

impl Settings for SchedulerConfig {
    fn problems(&self) -> Vec<Problem> {
        [self.process.problems(), self.election.problems()].concat()
    }
}

/// `trireme cloud-controller-manager`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct CloudConfig {
    /// How it reaches the API and is looked at.
    #[serde(flatten)]
    pub process: ProcessConfig,
    /// Which controllers run: names, `-name` for not, `*` for all that are on by default. Default: `*`.
    #[serde(with = "texts")]
    pub controllers: Vec<String>,
    /// The name of the cluster. Default: `kubernetes`.
    #[serde(with = "text")]
    pub cluster_name: String,
    /// Which place the cluster runs in: local or grpc. Default: local.
    #[serde(with = "text")]
    pub cloud_provider: CloudProvider,
    /// Of local: addresses for Services of type LoadBalancer, as blocks or `FROM-TO`.
    #[serde(with = "texts")]
    pub load_balancer_pools: Vec<String>,
    /// Of grpc: where the provider listens, as `HOST:PORT`.
    pub cloud_provider_address: Option<String>,
    /// How it is elected.
    #[serde(flatten)]
    pub election: ElectionConfig,
}

impl Default for CloudConfig {
    fn default() -> Self {
        let controllers = ControllersConfig::default();
        Self {
            process: ProcessConfig::default(),
            controllers: controllers.controllers,
            cluster_name: controllers.cluster_name,
            cloud_provider: CloudProvider::Local,
            load_balancer_pools: Vec::new(),
            cloud_provider_address: None,
            election: ElectionConfig::default(),
        }
    }
}

impl Settings for CloudConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = [self.process.problems(), self.election.problems()].concat();
        if self.cloud_provider == CloudProvider::Grpc && self.cloud_provider_address.is_none() {
            problems.push(Problem {
                key: "cloud-provider-address",
                message: "give the HOST:PORT where the provider listens".into(),
            });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ServerConfig, Sources, load};
    use super::*;

    #[test]
    fn a_manager_says_what_it_lacks_and_what_is_out_of_proportion() {
        let error = load::<ControllerManagerConfig>(&Sources::of_flags(&[
            ("leader-elect-lease-duration", "5s"),
            ("listen-metrics-urls", "http://10.0.0.1:1"),
        ]));
        let error = error.unwrap_err().to_string();
        for part in ["kubeconfig:", "leader-elect-lease-duration:", "loopback"] {
            assert!(error.contains(part), "{error}");
        }
        let config: ControllerManagerConfig = load(&Sources::of_flags(&[
            ("kubeconfig", "k"),
            ("controllers", "*,-ttl"),
        ]))
        .unwrap();
        assert_eq!(config.controllers.controllers, ["*", "-ttl"]);
    }

    #[test]
    fn a_master_runs_everything_unless_it_is_told_otherwise() {
        let config = ServerConfig::default().control_plane;
        assert!(config.enable_controllers && config.enable_scheduler);
    }
}
