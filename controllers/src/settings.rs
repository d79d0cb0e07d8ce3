//! How controllers are set up; the defaults are upstream's.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of all controllers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which controllers run: names, `-name` for not, `*` for all that are on by default.
    pub controllers: Vec<String>,
    /// The name of the cluster.
    pub cluster_name: String,
    /// From which blocks nodes get their pods' addresses.
    pub node_ipam: crate::node_ipam::Settings,
    /// Which place the cluster runs in.
    pub cloud: crate::cloud::Config,
    /// Times and tolerance of autoscalers.
    pub autoscaling: crate::horizontal_pod_autoscaling::plan::Settings,
    /// Who signs certificates that are asked for; without, nobody does.
    pub signer: Option<Signer>,
}

/// The authority that signs certificates which are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The file with its certificate.
    pub certificate: PathBuf,
    /// The file with its key.
    pub key: PathBuf,
    /// The longest that its certificates live.
    pub life: Duration,
}

impl Signer {
    /// An authority whose certificates live a year, as upstream's do.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        Self {
            certificate,
            key,
            life: YEAR,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_string()],
            cluster_name: "kubernetes".to_string(),
            node_ipam: crate::node_ipam::Settings::default(),
            cloud: crate::cloud::Config::None,
            autoscaling: crate::horizontal_pod_autoscaling::plan::Settings::default(),
            signer: None,
        }
    }
}
