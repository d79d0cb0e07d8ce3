//! How controllers are set up; the defaults are upstream's.

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_string()],
            cluster_name: "kubernetes".to_string(),
            root_ca: String::new(),
            terminated_pod_threshold: 12_500,
        }
    }
}
