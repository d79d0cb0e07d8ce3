//! The flags of `trireme init`, `trireme join`, `trireme token` and `trireme certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use deploy::config::values::Url;
use deploy::join::bundle::BundleKey;
use deploy::join::discovery::Pin;

use crate::output::Format;

/// Where a machine keeps what it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArguments {
    /// The name of this machine; unique in the cluster [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The address or host name under which other machines reach this one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// The directory of certificates and configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/trireme")]
    pub(crate) dir: PathBuf,
    /// Where the store keeps its data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/trireme/store")]
    pub(crate) data_dir: PathBuf,
    /// Further names of the API, such as that of a load balancer
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) names: Vec<String>,
    /// Where clients reach the API whichever master is up [default: this master]
    #[arg(long, value_name = "URL")]
    pub(crate) control_plane: Option<Url>,
    /// The port of the API
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub(crate) api_port: u16,
    /// The port of the store for clients
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    pub(crate) client_port: u16,
    /// The port of the store for its peers
    #[arg(long, value_name = "PORT", default_value_t = 2380)]
    pub(crate) peer_port: u16,
    /// Write the administrator's way in to this kubeconfig as well, beside what it holds
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// `trireme init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme init --address 10.0.0.1
  trireme init --address 10.0.0.1 --control-plane https://api.example.com:6443 --kubeconfig /root/.kube/config")]
pub(crate) struct InitArguments {
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
}

/// `trireme join`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme join https://10.0.0.1:6443 --token abcdef.0123456789abcdef --pin sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  trireme join https://10.0.0.1:6443 --token abcdef.0123456789abcdef --pin sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef --address 10.0.0.2 --certificate-key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
pub(crate) struct JoinArguments {
    /// The API of any master
    #[arg(value_name = "URL")]
    pub(crate) server: Url,
    /// The token, as `trireme token create` printed it
    #[arg(long, env = "TRIREME_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// The pin of the cluster's authority; repeatable
    #[arg(
        long = "pin",
        required_unless_present = "without_pin",
        value_name = "sha256:HEX"
    )]
    pub(crate) pins: Vec<Pin>,
    /// Believe every cluster that knows the token
    #[arg(long, conflicts_with = "pins")]
    pub(crate) without_pin: bool,
    /// Become a master: the key, as `trireme token create --master` printed it
    #[arg(
        long,
        env = "TRIREME_CERTIFICATE_KEY",
        hide_env_values = true,
        value_name = "HEX"
    )]
    pub(crate) certificate_key: Option<BundleKey>,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
}

/// `trireme token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme token create
  trireme token create --master --ttl 2h
  trireme token list
  trireme token delete abcdef")]
pub(crate) struct TokenArguments {
    #[command(subcommand)]
    pub(crate) action: TokenCommand,
    /// The administrator's kubeconfig
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/trireme/admin.kubeconfig"
    )]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print the command that joins with it
    Create {
        /// For how long it is good; 0 for ever
        #[arg(long, value_name = "TIME", default_value = "24h")]
        ttl: deploy::config::values::Span,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Also store what a master needs, sealed with a key that is printed and kept nowhere
        #[arg(long)]
        master: bool,
        /// With --master: the directory of this master
        #[arg(long, value_name = "DIR", default_value = "/etc/trireme")]
        dir: PathBuf,
    },
    /// Show all tokens
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Delete tokens
    Delete {
        /// Tokens, or their first six letters
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

/// `trireme certs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme certs list
  trireme certs renew")]
pub(crate) struct CertsArguments {
    #[command(subcommand)]
    pub(crate) action: CertsCommand,
    /// The directory of this machine
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/etc/trireme"
    )]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Show the certificates of this machine, and until when they are good
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Renew what is due; a master that runs does so by itself
    Renew,
}
