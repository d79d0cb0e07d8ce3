//! How controllers are set up; the defaults are upstream's.

/// Settings of all controllers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which controllers run: names, `-name` for not, `*` for all that are on by default.
    pub controllers: Vec<String>,
    /// The name of the cluster.
    pub cluster_name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_string()],
            cluster_name: "kubernetes".to_string(),
        }
    }
}
