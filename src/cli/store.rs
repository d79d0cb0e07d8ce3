//! The flags of `trireme store`: one for every setting of the configuration file, named alike.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

/// `trireme store`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme store --config /etc/trireme/store.yaml
  trireme store --name a --data-dir /tmp/a --insecure --listen-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  trireme store --config /etc/trireme/store.yaml --join https://10.0.0.1:2380")]
pub(crate) struct StoreArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    settings: StoreFlags,
}

impl StoreArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        given(&self.settings)
    }
}

/// The flags that were given, by key.
pub(super) fn given(settings: &impl Serialize) -> Vec<(String, Vec<String>)> {
    let Ok(Value::Object(flags)) = serde_json::to_value(settings) else {
        return Vec::new();
    };
    let text = |value: Value| value.as_str().map(str::to_string);
    let given = flags.into_iter().map(|(key, value)| match value {
        Value::Array(values) => (key, values.into_iter().filter_map(text).collect()),
        one => (key, text(one).into_iter().collect::<Vec<_>>()),
    });
    given.filter(|(_, values)| !values.is_empty()).collect()
}

/// All values are texts here: the configuration reads and checks them, whatever their source.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct StoreFlags {
    /// The member's name; unique in the cluster [default: default]
    #[arg(long, value_name = "NAME", help_heading = "Member")]
    name: Option<String>,
    /// Where the member keeps everything [default: /var/lib/trireme/store]
    #[arg(long, value_name = "DIR", help_heading = "Member")]
    data_dir: Option<String>,
    /// Where clients connect [default: https://127.0.0.1:2379]
    #[arg(long, value_name = "URL,...", help_heading = "Member")]
    listen_client_urls: Vec<String>,
    /// What clients are told to connect to [default: the listen URLs]
    #[arg(long, value_name = "URL,...", help_heading = "Member")]
    advertise_client_urls: Vec<String>,
    /// Where peers connect [default: https://127.0.0.1:2380]
    #[arg(long, value_name = "URL,...", help_heading = "Member")]
    listen_peer_urls: Vec<String>,
    /// Where health and metrics are served in plain text, on loopback only [default: nowhere]
    #[arg(long, value_name = "URL,...", help_heading = "Member")]
    listen_metrics_urls: Vec<String>,

    /// What peers are told to connect to [default: the listen URLs]
    #[arg(long, value_name = "URL,...", help_heading = "Cluster")]
    initial_advertise_peer_urls: Vec<String>,
    /// The founding members of a new cluster [default: this one alone]
    #[arg(long, value_name = "NAME=URL,...", help_heading = "Cluster")]
    initial_cluster: Vec<String>,
    /// Tells clusters with equal member URLs apart [default: trireme]
    #[arg(long, value_name = "TOKEN", help_heading = "Cluster")]
    initial_cluster_token: Option<String>,
    /// Peer URLs of a running cluster to join: as a learner first, with a vote when caught up
    #[arg(long, value_name = "URL,...", help_heading = "Cluster")]
    join: Vec<String>,
    /// With --join: stay a learner
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Cluster")]
    learner: Option<String>,

    /// The certificate that clients see
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    cert_file: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    key_file: Option<String>,
    /// The authorities whose client certificates are let in
    #[arg(
        long,
        value_name = "FILE",
        alias = "client-ca-file",
        help_heading = "Certificates"
    )]
    trusted_ca_file: Option<String>,
    /// The certificate that peers see, as server and as client
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    peer_cert_file: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    peer_key_file: Option<String>,
    /// The authorities of the peers' certificates
    #[arg(
        long,
        value_name = "FILE",
        alias = "peer-client-ca-file",
        help_heading = "Certificates"
    )]
    peer_trusted_ca_file: Option<String>,
    /// Plain text on loopback addresses instead, for trials
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Certificates")]
    insecure: Option<String>,

    /// How often a leader tells the others that it is alive [default: 150ms]
    #[arg(long, value_name = "TIME", help_heading = "Tuning")]
    heartbeat_interval: Option<String>,
    /// How long a leader may be silent before others stand for election; equal on all members
    /// [default: 450ms]
    #[arg(long, value_name = "TIME", help_heading = "Tuning")]
    election_timeout: Option<String>,
    /// Live bytes from which on writes are refused [default: 16GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Tuning")]
    quota_backend_bytes: Option<String>,
    /// Disk kept in reserve, given up when the rest is used [default: 256MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Tuning")]
    reserve_bytes: Option<String>,
    /// What the retention counts: periodic or revision [default: periodic]
    #[arg(long, value_name = "MODE", help_heading = "Tuning")]
    auto_compaction_mode: Option<String>,
    /// History to keep: a time (a bare number is hours) or a number of revisions; 0 leaves
    /// compaction to clients [default: 0]
    #[arg(long, value_name = "TIME|N", help_heading = "Tuning")]
    auto_compaction_retention: Option<String>,
    /// Memory for the caches together [default: 56MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Tuning")]
    memory_budget: Option<String>,
    /// The largest request [default: 1536KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Tuning")]
    max_request_bytes: Option<String>,
    /// How often idle watches that asked for it are told of progress [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Tuning")]
    watch_progress_notify_interval: Option<String>,
    /// How often members compare the hashes of their data [default: 1m]
    #[arg(long, value_name = "TIME", help_heading = "Tuning")]
    corrupt_check_time: Option<String>,
    /// The bound on a graceful stop [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Tuning")]
    shutdown_timeout: Option<String>,

    /// A level (error, warn, info, debug, trace) or a filter such as info,raft_store::wal=debug
    /// [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Telemetry")]
    log_level: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Telemetry")]
    log_format: Option<String>,
    /// Where traces are sent by OTLP over gRPC, such as http://127.0.0.1:4317 [default: nowhere]
    #[arg(long, value_name = "URL", help_heading = "Telemetry")]
    otlp_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};
    use deploy::config::{self, StoreConfig};

    use super::*;

    fn arguments(line: &str) -> StoreArguments {
        let words = ["trireme", "store"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            crate::cli::Command::Store(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_setting_has_a_flag_and_every_flag_a_setting() {
        let command = Cli::command();
        let store = command.find_subcommand("store").unwrap();
        let flags = store
            .get_arguments()
            .filter_map(|argument| argument.get_long());
        let mut flags: Vec<String> = flags.map(str::to_string).collect();
        flags.retain(|flag| !["config", "help", "version"].contains(&flag.as_str()));
        let mut keys = config::keys::<StoreConfig>();
        flags.sort();
        keys.sort();
        assert_eq!(flags, keys);
    }

    #[test]
    fn every_setting_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        for key in config::keys::<StoreConfig>() {
            assert!(
                readme.contains(&format!("| `{key}` |")),
                "README.md lacks {key}"
            );
        }
    }

    #[test]
    fn only_what_was_given_overrides() {
        let flags = arguments("--name a --listen-peer-urls http://a:1 --listen-peer-urls http://b:2 --client-ca-file x --insecure").flags();
        let flag = |key: &str| {
            flags
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, values)| values.join(" "))
        };
        assert_eq!(flags.len(), 4, "{flags:?}");
        assert_eq!(flag("listen-peer-urls").unwrap(), "http://a:1 http://b:2");
        assert_eq!(flag("trusted-ca-file").unwrap(), "x");
        assert_eq!(flag("insecure").unwrap(), "true");
        assert_eq!(arguments("--insecure=false").flags()[0].1, ["false"]);
        assert!(arguments("").flags().is_empty());
    }
}
