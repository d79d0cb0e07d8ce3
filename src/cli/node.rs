//! The flags of `trireme node`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::control_plane::ProcessFlags;
use super::store::given;

/// `trireme node`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme node --hollow 3 --kubeconfig ~/.local/state/trireme/dev/kubeconfig
  trireme node --hollow 5000 --kubeconfig k --pod-start-after 500ms --pod-stop-after 1s
  trireme node --hostname-override web-7 --kubeconfig /etc/trireme/node.kubeconfig")]
pub(crate) struct NodeArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    own: NodeFlags,
}

impl NodeArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        [given(&self.process), given(&self.own)].concat()
    }
}

/// All values are texts here: the configuration reads and checks them, whatever their source.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
struct NodeFlags {
    /// How many hollow nodes
    #[arg(long, value_name = "N", help_heading = "Nodes")]
    hollow: Option<String>,
    /// Names of nodes are this, a dash and a number [default: node]
    #[arg(long, value_name = "NAME", help_heading = "Nodes")]
    node_prefix: Option<String>,
    /// The number of the first one [default: 1]
    #[arg(long, value_name = "N", help_heading = "Nodes")]
    first_node: Option<String>,
    /// The name of the only node, whose own the kubeconfig is, as `trireme join` writes it
    #[arg(long, value_name = "NAME", help_heading = "Nodes")]
    hostname_override: Option<String>,
    /// Whether nodes are impersonated over shared connections; otherwise the kubeconfig is the only
    /// node's own [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Nodes")]
    impersonate: Option<String>,
    /// Labels of all nodes
    #[arg(long, value_name = "KEY=VALUE,...", help_heading = "Nodes")]
    node_labels: Vec<String>,
    /// Taints of all nodes, given at registration
    #[arg(long, value_name = "KEY=VALUE:EFFECT,...", help_heading = "Nodes")]
    register_with_taints: Vec<String>,
    /// What each node has [default: cpu=8,memory=32Gi,ephemeral-storage=100Gi,pods=110]
    #[arg(long, value_name = "RESOURCE=QUANTITY,...", help_heading = "Nodes")]
    node_capacity: Vec<String>,
    /// Where nodes are [default: 198.18.0.0/15]
    #[arg(long, value_name = "CIDR", help_heading = "Nodes")]
    node_cidr: Option<String>,
    /// Where their pods are, a /24 each, unless Nodes say otherwise [default: 10.128.0.0/9]
    #[arg(long, value_name = "CIDR", help_heading = "Nodes")]
    pod_cidr: Option<String>,
    /// Between signs of life in the Node's status [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = "Nodes")]
    node_status_report_frequency: Option<String>,
    /// For so long a renewal of a node's Lease holds [default: 40s]
    #[arg(long, value_name = "TIME", help_heading = "Nodes")]
    node_lease_duration: Option<String>,
    /// What is wrong with the nodes: none, crash, not-ready or slow=TIME [default: none]
    #[arg(long, value_name = "FAILURE", help_heading = "Nodes")]
    failure: Option<String>,
    /// How long containers take to start [default: 0]
    #[arg(long, value_name = "TIME", help_heading = "Pods")]
    pod_start_after: Option<String>,
    /// How long they then take to be ready [default: 0]
    #[arg(long, value_name = "TIME", help_heading = "Pods")]
    pod_ready_after: Option<String>,
    /// How long they take to stop [default: their grace period]
    #[arg(long, value_name = "TIME", help_heading = "Pods")]
    pod_stop_after: Option<String>,
    /// How long containers of Jobs run whose commands do not tell [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Pods")]
    job_run_time: Option<String>,
    /// Images that cannot be pulled [default: those of Kubernetes' own tests]
    #[arg(long, value_name = "REGEX", help_heading = "Pods")]
    unpullable_images: Option<String>,
    /// Images whose containers end by themselves, as those of Jobs do [default: none]
    #[arg(long, value_name = "REGEX", help_heading = "Pods")]
    short_lived_images: Option<String>,
    /// How many writes are under way at a time [default: 64]
    #[arg(long, value_name = "N", help_heading = "Pods")]
    writers: Option<String>,
}
