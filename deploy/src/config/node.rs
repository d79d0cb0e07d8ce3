//! The settings of `trireme node`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::values::{Span, text, texts};
use super::{Problem, ProcessConfig, Settings};

/// A pair such as `disk=ssd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Before the sign.
    pub key: String,
    /// Behind it.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        let wrong = || format!("`{text}` is not KEY=VALUE");
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        if key.is_empty() {
            return Err(wrong());
        }
        let [key, value] = [key, value].map(str::to_string);
        Ok(Label { key, value })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The settings of a process that runs hollow nodes.
///
/// README.md has the table of defaults and meanings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// How it reaches the API and is looked at.
    #[serde(flatten)]
    pub process: ProcessConfig,
    /// How many hollow nodes. Default: 0.
    #[serde(with = "text")]
    pub hollow: u32,
    /// Names of nodes are this, a dash and a number. Default: `node`.
    #[serde(with = "text")]
    pub node_prefix: String,
    /// The number of the first one. Default: 1.
    #[serde(with = "text")]
    pub first_node: u32,
    /// The name of the only node, whose own the kubeconfig is. Default: none.
    pub hostname_override: Option<String>,
    /// Whether requests of nodes impersonate them, over connections that all share; otherwise the
    /// kubeconfig is the only node's own. Default: true.
    #[serde(with = "text")]
    pub impersonate: bool,
    /// Labels of all nodes.
    #[serde(with = "texts")]
    pub node_labels: Vec<Label>,
    /// Taints of all nodes, as `key=value:Effect`.
    #[serde(with = "texts")]
    pub register_with_taints: Vec<String>,
    /// What each node has of each resource, over the default of 8 CPUs, 32Gi, 110 pods.
    #[serde(with = "texts")]
    pub node_capacity: Vec<Label>,
    /// Where nodes are. Default: `198.18.0.0/15`.
    #[serde(with = "text")]
    pub node_cidr: String,
    /// Where their pods are, a /24 each, unless Nodes say otherwise. Default: `10.128.0.0/9`.
    #[serde(with = "text")]
    pub pod_cidr: String,
    /// How long containers take to start. Default: 0.
    #[serde(with = "text")]
    pub pod_start_after: Span,
    /// How long they then take to be ready. Default: 0.
    #[serde(with = "text")]
    pub pod_ready_after: Span,
    /// How long they take to stop. Default: their grace period.
    pub pod_stop_after: Option<String>,
    /// How long containers of Jobs run whose commands do not tell. Default: 1 s.
    #[serde(with = "text")]
    pub job_run_time: Span,
    /// A regular expression for images that cannot be pulled. Default: those of Kubernetes' own tests.
    pub unpullable_images: Option<String>,
    /// A regular expression for images whose containers end by themselves. Default: none.
    pub short_lived_images: Option<String>,
    /// What is wrong with the nodes: none, crash, not-ready or slow=TIME. Default: none.
    #[serde(with = "text")]
    pub failure: String,
    /// Between signs of life in the Node's status. Default: 5 min.
    #[serde(with = "text")]
    pub node_status_report_frequency: Span,
    /// For so long a renewal of a node's Lease holds. Default: 40 s.
    #[serde(with = "text")]
    pub node_lease_duration: Span,
    /// How many writes are under way at a time. Default: 64.
    #[serde(with = "text")]
    pub writers: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            hollow: 0,
            node_prefix: "node".into(),
            first_node: 1,
            hostname_override: None,
            impersonate: true,
            node_labels: Vec::new(),
            register_with_taints: Vec::new(),
            node_capacity: Vec::new(),
            node_cidr: "198.18.0.0/15".into(),
            pod_cidr: "10.128.0.0/9".into(),
            pod_start_after: Span::from_millis(0),
            pod_ready_after: Span::from_millis(0),
            pod_stop_after: None,
            job_run_time: Span::from_millis(1_000),
            unpullable_images: None,
            short_lived_images: None,
            failure: "none".into(),
            node_status_report_frequency: Span::from_millis(300_000),
            node_lease_duration: Span::from_millis(40_000),
            writers: 64,
        }
    }
}

impl Settings for NodeConfig {
    fn resolve(&mut self) {
        if self.hostname_override.is_some() {
            self.hollow = self.hollow.max(1);
            self.impersonate = false;
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.process.problems();
        let mut wrong = |key, message: &str| {
            problems.push(Problem {
                key,
                message: message.into(),
            });
        };
        if self.hollow == 0 {
            wrong(
                "hollow",
                "say how many hollow nodes: this version runs no containers",
            );
        }
        if !self.impersonate && self.hollow > 1 {
            wrong(
                "impersonate",
                "a kubeconfig is of one node: use true, or one process for each",
            );
        }
        if let Some(span) = &self.pod_stop_after
            && let Err(message) = span.parse::<Span>()
        {
            wrong("pod-stop-after", &message);
        }
        if self.node_lease_duration < Span::from_millis(4_000) {
            wrong("node-lease-duration", "use 4s or more");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn loaded(flags: &[(&str, &str)]) -> Result<NodeConfig, super::super::ConfigError> {
        load(&Sources::of_flags(flags))
    }

    #[test]
    fn settings_are_read_and_mistakes_are_told() {
        let config = loaded(&[
            ("kubeconfig", "k"),
            ("hollow", "3"),
            ("node-labels", "a=b,c="),
        ])
        .unwrap();
        assert_eq!(config.node_labels[1].to_string(), "c=");
        let one = loaded(&[("kubeconfig", "k"), ("hostname-override", "n")]).unwrap();
        assert!(one.hollow == 1 && !one.impersonate);
        let error = loaded(&[
            ("hollow", "3"),
            ("impersonate", "false"),
            ("pod-stop-after", "x"),
        ]);
        let error = error.unwrap_err().to_string();
        for part in ["kubeconfig:", "impersonate:", "pod-stop-after:"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(
            loaded(&[])
                .unwrap_err()
                .to_string()
                .contains("runs no containers")
        );
        let error = loaded(&[("hollows", "3")]).unwrap_err().to_string();
        assert!(error.contains("did you mean `hollow`"), "{error}");
    }
}
