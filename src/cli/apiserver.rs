//! The flags of `trireme apiserver` and `trireme server`: one for every setting of the configuration
//! file, named alike.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::store::{StoreFlags, given};

/// `trireme server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme server --config /etc/trireme/server.yaml
  trireme server --config /etc/trireme/server.yaml --listen-api-url https://10.0.0.1:6443")]
pub(crate) struct ServerArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    store: StoreFlags,
    #[command(flatten)]
    api: ApiFlags,
}

impl ServerArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        [given(&self.store), given(&self.api)].concat()
    }
}

/// `trireme apiserver`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme apiserver --config /etc/trireme/apiserver.yaml
  trireme apiserver --config /etc/trireme/apiserver.yaml --etcd-servers https://10.0.0.1:2379,https://10.0.0.2:2379")]
pub(crate) struct ApiServerArguments {
    /// A YAML file with settings
    #[arg(long, value_name = "FILE", env = "TRIREME_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    own: ApiServerFlags,
    #[command(flatten)]
    api: ApiFlags,
}

impl ApiServerArguments {
    /// The flags that were given, by key.
    pub(crate) fn flags(&self) -> Vec<(String, Vec<String>)> {
        [given(&self.own), given(&self.api)].concat()
    }
}

#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ApiServerFlags {
    /// The server's name; unique in the cluster [default: default]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    name: Option<String>,
    /// The members of the store, or of any etcd [default: https://127.0.0.1:2379]
    #[arg(long, value_name = "URL,...", help_heading = "Store")]
    etcd_servers: Vec<String>,
    /// The authorities of the store's certificates
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    etcd_cafile: Option<String>,
    /// The certificate to connect to the store with
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    etcd_certfile: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    etcd_keyfile: Option<String>,
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

/// All values are texts here: the configuration reads and checks them, whatever their source.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ApiFlags {
    /// Where clients of the API connect [default: https://0.0.0.0:6443]
    #[arg(long, value_name = "URL", help_heading = "API")]
    listen_api_url: Option<String>,
    /// Where other machines reach this server [default: the listen URL]
    #[arg(long, value_name = "URL,...", help_heading = "API")]
    advertise_api_urls: Vec<String>,
    /// The certificate that clients of the API see
    #[arg(long, value_name = "FILE", help_heading = "API")]
    tls_cert_file: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "API")]
    tls_private_key_file: Option<String>,
    /// The authorities of client certificates
    #[arg(long, value_name = "FILE", help_heading = "API")]
    api_client_ca_file: Option<String>,
    /// The key that signs tokens of service accounts
    #[arg(long, value_name = "FILE", help_heading = "API")]
    service_account_key_file: Option<String>,
    /// The issuer of those tokens [default: https://kubernetes.default.svc.cluster.local]
    #[arg(long, value_name = "URL", help_heading = "API")]
    service_account_issuer: Option<String>,
    /// Tokens and who they stand for, as kube-apiserver reads them
    #[arg(long, value_name = "FILE", help_heading = "API")]
    token_auth_file: Option<String>,
    /// Whether requests without credentials are let through to authorization [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "API")]
    anonymous_auth: Option<String>,
    /// Identity providers, as an AuthenticationConfiguration [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    authentication_config: Option<String>,
    /// A server that knows further tokens, as a kubeconfig [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    authentication_token_webhook_config_file: Option<String>,
    /// How long its answers hold [default: 2m]
    #[arg(long, value_name = "TIME", help_heading = "Access")]
    authentication_token_webhook_cache_ttl: Option<String>,
    /// An identity provider [default: none]
    #[arg(long, value_name = "URL", help_heading = "Access")]
    oidc_issuer_url: Option<String>,
    /// For whom its tokens must be
    #[arg(long, value_name = "ID", help_heading = "Access")]
    oidc_client_id: Option<String>,
    /// Its authorities [default: the machine's]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    oidc_ca_file: Option<String>,
    /// The claim that is the user's name [default: sub]
    #[arg(long, value_name = "CLAIM", help_heading = "Access")]
    oidc_username_claim: Option<String>,
    /// What stands before the name; - is nothing [default: the issuer and #]
    #[arg(long, value_name = "TEXT", help_heading = "Access")]
    oidc_username_prefix: Option<String>,
    /// The claim with the user's groups [default: none]
    #[arg(long, value_name = "CLAIM", help_heading = "Access")]
    oidc_groups_claim: Option<String>,
    /// What stands before groups [default: nothing]
    #[arg(long, value_name = "TEXT", help_heading = "Access")]
    oidc_groups_prefix: Option<String>,
    /// The algorithms of signatures [default: RS256]
    #[arg(long, value_name = "ALGORITHM,...", help_heading = "Access")]
    oidc_signing_algs: Vec<String>,
    /// Claims that tokens must have [default: none]
    #[arg(long, value_name = "KEY=VALUE,...", help_heading = "Access")]
    oidc_required_claim: Vec<String>,
    /// The authorities of front proxies, which say in headers who asks [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    requestheader_client_ca_file: Option<String>,
    /// Their common names [default: all of the authorities]
    #[arg(long, value_name = "NAME,...", help_heading = "Access")]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name [default: X-Remote-User]
    #[arg(long, value_name = "HEADER,...", help_heading = "Access")]
    requestheader_username_headers: Vec<String>,
    /// Headers with the user's UID [default: X-Remote-Uid]
    #[arg(long, value_name = "HEADER,...", help_heading = "Access")]
    requestheader_uid_headers: Vec<String>,
    /// Headers with groups [default: X-Remote-Group]
    #[arg(long, value_name = "HEADER,...", help_heading = "Access")]
    requestheader_group_headers: Vec<String>,
    /// What headers with extra values start with [default: X-Remote-Extra-]
    #[arg(long, value_name = "PREFIX,...", help_heading = "Access")]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Who says what users may do: AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook [default: Node,RBAC]
    #[arg(long, value_name = "MODE,...", help_heading = "Access")]
    authorization_mode: Vec<String>,
    /// The server that mode Webhook asks, as a kubeconfig
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    authorization_webhook_config_file: Option<String>,
    /// How long it is believed when it allows [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = "Access")]
    authorization_webhook_cache_authorized_ttl: Option<String>,
    /// How long it is believed when it does not [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Access")]
    authorization_webhook_cache_unauthorized_ttl: Option<String>,
    /// The network of Services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR", help_heading = "API")]
    service_cluster_ip_range: Option<String>,
    /// How many HTTP/2 requests in one make their client connect anew [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "API")]
    goaway_chance: Option<String>,
    /// How long the server goes on, not ready any more, when it is told to stop [default: 0]
    #[arg(long, value_name = "TIME", help_heading = "API")]
    shutdown_delay_duration: Option<String>,
    /// With the next one, how many requests may run at once [default: 400]
    #[arg(long, value_name = "NUMBER", help_heading = "API")]
    max_requests_inflight: Option<String>,
    /// See the last one [default: 200]
    #[arg(long, value_name = "NUMBER", help_heading = "API")]
    max_mutating_requests_inflight: Option<String>,
    /// The memory beyond which lists, new watches and new objects are refused [default: 0, no limit]
    #[arg(long, value_name = "SIZE", help_heading = "API")]
    memory_limit: Option<String>,
    /// What is encrypted at rest, and how [default: nothing]
    #[arg(long, value_name = "FILE", help_heading = "API")]
    encryption_provider_config: Option<String>,
    /// What of requests is recorded [default: nothing]
    #[arg(long, value_name = "FILE", help_heading = "Audit")]
    audit_policy_file: Option<String>,
    /// Where it is recorded; - means standard output [default: nowhere]
    #[arg(long, value_name = "FILE", help_heading = "Audit")]
    audit_log_path: Option<String>,
    /// The size in megabytes at which the audit log is put aside [default: 100]
    #[arg(long, value_name = "NUMBER", help_heading = "Audit")]
    audit_log_maxsize: Option<String>,
    /// How many old audit logs are kept [default: all]
    #[arg(long, value_name = "NUMBER", help_heading = "Audit")]
    audit_log_maxbackup: Option<String>,
    /// How many days old audit logs are kept [default: forever]
    #[arg(long, value_name = "NUMBER", help_heading = "Audit")]
    audit_log_maxage: Option<String>,
    /// The server that audit events are sent to, as a kubeconfig [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Audit")]
    audit_webhook_config_file: Option<String>,
    /// The certificate to show to kubelets
    #[arg(long, value_name = "FILE", help_heading = "API")]
    kubelet_client_certificate: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = "API")]
    kubelet_client_key: Option<String>,
    /// The authorities of kubelets' certificates [default: all certificates will do]
    #[arg(long, value_name = "FILE", help_heading = "API")]
    kubelet_certificate_authority: Option<String>,
    /// By which addresses nodes are reached [default: Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP]
    #[arg(long, value_name = "TYPE,...", help_heading = "API")]
    kubelet_preferred_address_types: Vec<String>,
}
