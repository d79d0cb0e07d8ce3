//! How controllers are set up; the defaults are upstream's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settings of all controllers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which controllers run: names, `-name` for not, `*` for all that are on by default.
    pub controllers: Vec<String>,
    /// The name of the cluster.
    pub cluster_name: String,
    /// The certificates, in PEM, by which pods know API servers; empty: pods are told none.
    pub root_ca: String,
    /// So many pods that have ended are kept; 0 keeps all.
    pub terminated_pod_threshold: usize,
    /// Signs the tokens of service accounts that are kept in secrets; none: nobody here does.
    pub token_signer: Option<TokenSigner>,
    /// So long a token in a secret may go unused before it is marked, and then before it goes.
    pub legacy_token_period: Duration,
    /// From which blocks nodes get their pods' addresses.
    pub node_ipam: crate::node_ipam::Settings,
    /// Which place the cluster runs in.
    pub cloud: crate::cloud::Config,
    /// Times and tolerance of autoscalers.
    pub autoscaling: crate::horizontal_pod_autoscaling::plan::Settings,
}

/// Signs tokens.
#[derive(Clone)]
pub struct TokenSigner(Arc<Sign>);

type Sign = dyn Fn(&str) -> Result<String, String> + Send + Sync;

impl TokenSigner {
    /// A signer that makes a token of claims, in JSON, or says why it cannot.
    pub fn new(sign: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }

    pub(crate) fn sign(&self, claims: &str) -> Result<String, String> {
        (self.0)(claims)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenSigner")
    }
}

/// Two are the same if they are one.
impl PartialEq for TokenSigner {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_string()],
            cluster_name: "kubernetes".to_string(),
            root_ca: String::new(),
            terminated_pod_threshold: 12_500,
            token_signer: None,
            legacy_token_period: Duration::from_secs(365 * 24 * 60 * 60),
            node_ipam: crate::node_ipam::Settings::default(),
            cloud: crate::cloud::Config::None,
            autoscaling: crate::horizontal_pod_autoscaling::plan::Settings::default(),
        }
    }
}
