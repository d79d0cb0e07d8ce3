//! The settings of an API server (`trireme apiserver`, and `trireme server` with a member of the
//! store), named as kube-apiserver's flags where those fit.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::values::{ByteSize, LogFormat, Span, Url, text, texts};
use super::{ControlPlaneConfig, Problem, Settings, StoreConfig};

/// By which of their addresses nodes are reached, the preferred ones first.
const ADDRESS_TYPES: [&str; 5] = [
    "Hostname",
    "InternalDNS",
    "InternalIP",
    "ExternalDNS",
    "ExternalIP",
];

/// Who may be asked what users may do.
const MODES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];

/// What an API server needs besides its store.
///
/// README.md has the table of defaults and meanings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ApiConfig {
    /// Where clients of the API connect. Default: `https://0.0.0.0:6443`.
    #[serde(with = "text")]
    pub listen_api_url: Url,
    /// Where other machines reach this server. Default: the listen URL.
    #[serde(with = "texts")]
    pub advertise_api_urls: Vec<Url>,
    /// The certificate that clients of the API see.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub tls_private_key_file: Option<PathBuf>,
    /// The authorities of client certificates.
    pub api_client_ca_file: Option<PathBuf>,
    /// The key that signs tokens of service accounts; public keys in it are believed too.
    pub service_account_key_file: Option<PathBuf>,
    /// The issuer of those tokens. Default: `https://kubernetes.default.svc.cluster.local`.
    #[serde(with = "text")]
    pub service_account_issuer: String,
    /// Tokens and who they stand for, as kube-apiserver reads them.
    pub token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials are let through to authorization. Default: true.
    #[serde(with = "text")]
    pub anonymous_auth: bool,
    /// Identity providers, and where requests without credentials are let through: an
    /// AuthenticationConfiguration. Instead of `oidc-…`.
    pub authentication_config: Option<PathBuf>,
    /// A server that knows further tokens, as a kubeconfig. Default: none.
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long its answers hold. Default: 2m.
    #[serde(with = "text")]
    pub authentication_token_webhook_cache_ttl: Span,
    /// An identity provider. Default: none.
    pub oidc_issuer_url: Option<String>,
    /// For whom its tokens must be.
    pub oidc_client_id: Option<String>,
    /// Its authorities. Default: the machine's.
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name. Default: `sub`.
    #[serde(with = "text")]
    pub oidc_username_claim: String,
    /// What stands before the name; `-` is nothing. Default: the issuer and `#`, but for `email`.
    pub oidc_username_prefix: Option<String>,
    /// The claim with the user's groups. Default: none.
    pub oidc_groups_claim: Option<String>,
    /// What stands before groups. Default: nothing.
    pub oidc_groups_prefix: Option<String>,
    /// The algorithms of signatures. Default: `RS256`.
    #[serde(with = "texts")]
    pub oidc_signing_algs: Vec<String>,
    /// `KEY=VALUE` pairs that tokens must have.
    #[serde(with = "texts")]
    pub oidc_required_claim: Vec<String>,
    /// The authorities of front proxies, which say in headers who asks. Default: none.
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Their common names; none means all of the authorities.
    #[serde(with = "texts")]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name. Default: `X-Remote-User`.
    #[serde(with = "texts")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers with the user's UID. Default: `X-Remote-Uid`.
    #[serde(with = "texts")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers with groups. Default: `X-Remote-Group`.
    #[serde(with = "texts")]
    pub requestheader_group_headers: Vec<String>,
    /// What headers with extra values start with. Default: `X-Remote-Extra-`.
    #[serde(with = "texts")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// Who says what users may do, in order. Default: `Node,RBAC`.
    #[serde(with = "texts")]
    pub authorization_mode: Vec<String>,
    /// The server that mode Webhook asks, as a kubeconfig.
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// How long it is believed when it allows. Default: 5m.
    #[serde(with = "text")]
    pub authorization_webhook_cache_authorized_ttl: Span,
    /// How long it is believed when it does not. Default: 30s.
    #[serde(with = "text")]
    pub authorization_webhook_cache_unauthorized_ttl: Span,
    /// The network of Services. Default: `10.96.0.0/12`.
    #[serde(with = "text")]
    pub service_cluster_ip_range: String,
    /// How many HTTP/2 requests in one make their client connect anew, so that clients spread over
    /// all servers; up to 0.02. Default: 0.
    #[serde(with = "text")]
    pub goaway_chance: f64,
    /// How far the past reaches: the servers together have the store forget what is older. 0 leaves that to
    /// others. Default: 5 min.
    #[serde(with = "text")]
    pub etcd_compaction_interval: Span,
    /// How long the server goes on, not ready any more, when it is told to stop. Default: 0.
    #[serde(with = "text")]
    pub shutdown_delay_duration: Span,
    /// With the next one, how many requests may run at once; priority levels share them. Default: 400.
    #[serde(with = "text")]
    pub max_requests_inflight: u32,
    /// See the last one. Default: 200.
    #[serde(with = "text")]
    pub max_mutating_requests_inflight: u32,
    /// While the process needs more memory, lists, new watches and new objects are refused with 429; 0 is
    /// no limit. Default: 0.
    #[serde(with = "text")]
    pub memory_limit: ByteSize,
    /// What is encrypted at rest, and how. Default: nothing.
    pub encryption_provider_config: Option<PathBuf>,
    /// What of requests is recorded. Default: nothing.
    pub audit_policy_file: Option<PathBuf>,
    /// Where it is recorded; `-` means standard output. Default: nowhere.
    pub audit_log_path: Option<PathBuf>,
    /// The size in megabytes at which the audit log is put aside; 0 means 100. Default: 0.
    #[serde(with = "text")]
    pub audit_log_maxsize: u64,
    /// How many old audit logs are kept; 0 means all. Default: 0.
    #[serde(with = "text")]
    pub audit_log_maxbackup: usize,
    /// How many days old audit logs are kept; 0 means forever. Default: 0.
    #[serde(with = "text")]
    pub audit_log_maxage: u64,
    /// The server that audit events are sent to, as a kubeconfig. Default: none.
    pub audit_webhook_config_file: Option<PathBuf>,
    /// The certificate that the server shows to kubelets.
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    pub kubelet_client_key: Option<PathBuf>,
    /// The authorities of kubelets' certificates. Without any, all certificates will do.
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// By which of their addresses nodes are reached. Default: as kube-apiserver.
    #[serde(with = "texts")]
    pub kubelet_preferred_address_types: Vec<String>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen_api_url: Url {
                secure: true,
                host: "0.0.0.0".into(),
                port: 6443,
            },
            advertise_api_urls: Vec::new(),
            tls_cert_file: None,
            tls_private_key_file: None,
            api_client_ca_file: None,
            service_account_key_file: None,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            token_auth_file: None,
            anonymous_auth: true,
            authentication_config: None,
            authentication_token_webhook_config_file: None,
            authentication_token_webhook_cache_ttl: Span::from_millis(120_000),
            oidc_issuer_url: None,
            oidc_client_id: None,
            oidc_ca_file: None,
            oidc_username_claim: "sub".into(),
            oidc_username_prefix: None,
            oidc_groups_claim: None,
            oidc_groups_prefix: None,
            oidc_signing_algs: vec!["RS256".into()],
            oidc_required_claim: Vec::new(),
            requestheader_client_ca_file: None,
            requestheader_allowed_names: Vec::new(),
            requestheader_username_headers: vec!["X-Remote-User".into()],
            requestheader_uid_headers: vec!["X-Remote-Uid".into()],
            requestheader_group_headers: vec!["X-Remote-Group".into()],
            requestheader_extra_headers_prefix: vec!["X-Remote-Extra-".into()],
            authorization_mode: vec!["Node".into(), "RBAC".into()],
            authorization_webhook_config_file: None,
            authorization_webhook_cache_authorized_ttl: Span::from_millis(300_000),
            authorization_webhook_cache_unauthorized_ttl: Span::from_millis(30_000),
            service_cluster_ip_range: "10.96.0.0/12".into(),
            goaway_chance: 0.0,
            etcd_compaction_interval: Span::from_millis(300_000),
            shutdown_delay_duration: Span::from_millis(0),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            memory_limit: ByteSize(0),
            encryption_provider_config: None,
            audit_policy_file: None,
            audit_log_path: None,
            audit_log_maxsize: 0,
            audit_log_maxbackup: 0,
            audit_log_maxage: 0,
            audit_webhook_config_file: None,
            kubelet_client_certificate: None,
            kubelet_client_key: None,
            kubelet_certificate_authority: None,
            kubelet_preferred_address_types: ADDRESS_TYPES.map(str::to_string).to_vec(),
        }
    }
}

impl ApiConfig {
    fn problems(&self) -> Vec<Problem> {
        let needed = [
            (
                "tls-cert-file",
                &self.tls_cert_file,
                "the certificate that clients see",
            ),
            (
                "tls-private-key-file",
                &self.tls_private_key_file,
                "the key of tls-cert-file",
            ),
        ];
        let missing = needed.into_iter().filter(|(_, file, _)| file.is_none());
        let mut problems: Vec<Problem> = missing
            .map(|(key, _, what)| Problem {
                key,
                message: format!("give {what}: the API is served over TLS alone"),
            })
            .collect();
        if !(0.0..=0.02).contains(&self.goaway_chance) {
            problems.push(Problem {
                key: "goaway-chance",
                message: "give a share from 0 to 0.02".into(),
            });
        }
        if self.kubelet_client_certificate.is_some() != self.kubelet_client_key.is_some() {
            problems.push(Problem {
                key: "kubelet-client-certificate",
                message: "give it with kubelet-client-key, or neither".into(),
            });
        }
        problems.extend(self.access_problems());
        if !self.listen_api_url.secure {
            problems.push(Problem {
                key: "listen-api-url",
                message: "use https: the API is served over TLS alone".into(),
            });
        }
        problems
    }
}

impl ApiConfig {
    /// What is wrong with who may ask and who says what they may do.
    fn access_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |key, message: String| problems.push(Problem { key, message });
        if self.oidc_issuer_url.is_some() != self.oidc_client_id.is_some() {
            let message = "give it with oidc-client-id, or neither".into();
            wrong("oidc-issuer-url", message);
        }
        if self.oidc_issuer_url.is_some() && self.authentication_config.is_some() {
            let message = "give it or oidc-issuer-url, not both".into();
            wrong("authentication-config", message);
        }
        let unknown = |mode: &&String| !MODES.contains(&mode.as_str());
        if let Some(mode) = self.authorization_mode.iter().find(unknown) {
            let message = format!("{mode:?} is not known; give some of {}", MODES.join(", "));
            wrong("authorization-mode", message);
        }
        let asks = self.authorization_mode.iter().any(|mode| mode == "Webhook");
        if asks != self.authorization_webhook_config_file.is_some() {
            let message = "give it with mode Webhook in authorization-mode, or neither".into();
            wrong("authorization-webhook-config-file", message);
        }
        problems
    }
}

/// The settings of a master: a member of the store with an API server, controllers and scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// The member of the store.
    #[serde(flatten)]
    pub store: StoreConfig,
    /// The API server.
    #[serde(flatten)]
    pub api: ApiConfig,
    /// The controllers and the scheduler.
    #[serde(flatten)]
    pub control_plane: ControlPlaneConfig,
}

impl Settings for ServerConfig {
    fn resolve(&mut self) {
        self.store.resolve();
    }

    fn problems(&self) -> Vec<Problem> {
        let control_plane = self.control_plane.problems();
        [self.store.problems(), self.api.problems(), control_plane].concat()
    }
}

/// The settings of an API server whose store is elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ApiServerConfig {
    /// The server's name; unique in the cluster. Default: `default`.
    #[serde(with = "text")]
    pub name: String,
    /// The members of the store, or of any etcd. Default: `https://127.0.0.1:2379`.
    #[serde(with = "texts")]
    pub etcd_servers: Vec<Url>,
    /// The authorities of the store's certificates.
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate to connect to the store with.
    pub etcd_certfile: Option<PathBuf>,
    /// Its key.
    pub etcd_keyfile: Option<PathBuf>,
    /// What is logged. Default: `info`.
    #[serde(with = "text")]
    pub log_level: String,
    /// How log lines look. Default: text.
    #[serde(with = "text")]
    pub log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC. Default: nowhere.
    pub otlp_endpoint: Option<String>,
    /// The API server.
    #[serde(flatten)]
    pub api: ApiConfig,
}

impl Default for ApiServerConfig {
    fn default() -> Self {
        let store = StoreConfig::default();
        Self {
            name: "default".into(),
            etcd_servers: store.listen_client_urls,
            etcd_cafile: None,
            etcd_certfile: None,
            etcd_keyfile: None,
            log_level: store.log_level,
            log_format: store.log_format,
            otlp_endpoint: None,
            api: ApiConfig::default(),
        }
    }
}

impl Settings for ApiServerConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.api.problems();
        if self.etcd_servers.is_empty() {
            problems.push(Problem {
                key: "etcd-servers",
                message: "give the client URL of at least one member of the store".into(),
            });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    #[test]
    fn a_master_has_the_settings_of_both() {
        let config: ServerConfig = load(&Sources::of_flags(&[
            ("name", "a"),
            ("insecure", "true"),
            ("listen-client-urls", "http://127.0.0.1:1"),
            ("listen-peer-urls", "http://127.0.0.1:2"),
            ("tls-cert-file", "c"),
            ("tls-private-key-file", "k"),
            ("listen-api-url", "https://127.0.0.1:3"),
        ]))
        .unwrap();
        assert_eq!(config.store.name, "a");
        assert_eq!(config.api.listen_api_url.port, 3);
        let unknown = load::<ServerConfig>(&Sources::of_flags(&[("listen-api-urls", "x")]));
        let error = unknown.unwrap_err().to_string();
        assert!(error.contains("did you mean `listen-api-url`"), "{error}");
    }

    #[test]
    fn who_may_ask_is_said_completely() {
        let wrong = |flags: &[(&str, &str)]| {
            let tls = [("tls-cert-file", "c"), ("tls-private-key-file", "k")];
            let all = [&tls, flags].concat();
            load::<ApiServerConfig>(&Sources::of_flags(&all)).map_err(|error| error.to_string())
        };
        let config = wrong(&[("authorization-mode", "Node,RBAC")]).unwrap();
        assert_eq!(config.api.authorization_mode, ["Node", "RBAC"]);
        for (flags, key) in [
            (
                &[("authorization-mode", "Webhook")],
                "authorization-webhook-config-file",
            ),
            (&[("authorization-mode", "ABAC")], "\"ABAC\" is not known"),
            (&[("oidc-issuer-url", "https://a")], "oidc-client-id"),
        ] {
            let error = wrong(flags).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_server_without_a_certificate_is_refused() {
        let error = load::<ApiServerConfig>(&Sources::of_flags(&[]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("tls-cert-file"), "{error}");
    }
}
