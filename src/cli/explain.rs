//! The flags of `trireme explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::output::Format;

/// `trireme explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme explain pod web-0
  trireme explain pod web-0 -n shop -o json
  trireme explain pod web-0 --kubeconfig k --scheduler-config profiles.yaml")]
pub(crate) struct ExplainArguments {
    #[command(subcommand)]
    pub(crate) subject: ExplainSubject,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainSubject {
    /// Explain why a pod is pending: what each plugin of the scheduler says of each node now
    ///
    /// Reads pods, nodes and whatever else a scheduler looks at, and decides as a scheduler would. It
    /// changes nothing, and works with any cluster.
    Pod(ExplainPod),
}

/// `trireme explain pod`.
#[derive(Debug, Args)]
pub(crate) struct ExplainPod {
    /// The name of the pod
    pub(crate) name: String,
    /// Its namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// The way to the API [default: KUBECONFIG, ~/.kube/config, that of `trireme dev`]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The KubeSchedulerConfiguration of the scheduler [default: upstream's defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) scheduler_config: Option<PathBuf>,
}
