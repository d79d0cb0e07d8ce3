//! How controllers are set up; the defaults are upstream's.

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_string()],
            cluster_name: "kubernetes".to_string(),
            node_ipam: crate::node_ipam::Settings::default(),
            cloud: crate::cloud::Config::None,
            autoscaling: crate::horizontal_pod_autoscaling::plan::Settings::default(),
        }
    }
}
