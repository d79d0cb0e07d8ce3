//! Which nodes a DaemonSet's pods fit on: a node's name, labels and taints decide, never its load.

use std::collections::BTreeMap;

use api::selector::Requirement;
use client::View;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Taint, Toleration};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::Node;
use crate::selector::requirement;
use crate::template::Template;

/// Taints that all daemons bear, with their effects: those of nodes that are not well.
const BORNE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The taint that daemons in their node's network bear: some of them bring the network up.
const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// Whether a daemon belongs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does.
    Run,
    /// It is not brought there, but one that is there stays.
    Stay,
    /// It does not.
    Leave,
}

/// What a template asks of nodes.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    node_name: String,
    node_selector: BTreeMap<String, String>,
    /// One of these terms must hold; none: no node is refused.
    terms: Option<Vec<Term>>,
    tolerations: Vec<Toleration>,
}

/// All of these must hold; a term that asks for nothing, or for nonsense, never holds.
#[derive(Debug)]
struct Term(Option<(Vec<Requirement>, Vec<NodeSelectorRequirement>)>);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    node_selector: BTreeMap<String, String>,
    affinity: k8s_openapi::api::core::v1::Affinity,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

impl Placement {
    /// What a template asks of nodes.
    pub(crate) fn new(template: &Template) -> Self {
        let mut template = template.value();
        let spec = Spec::deserialize(template["spec"].take()).unwrap_or_default();
        let mut tolerations = spec.tolerations;
        tolerations.extend(borne(spec.host_network));
        let required = spec.affinity.node_affinity;
        let required =
            required.and_then(|all| all.required_during_scheduling_ignored_during_execution);
        let terms =
            required.map(|required| required.node_selector_terms.into_iter().map(Term::new));
        Self {
            node_name: spec.node_name,
            node_selector: spec.node_selector,
            terms: terms.map(Iterator::collect),
            tolerations,
        }
    }

    /// Whether a daemon belongs on a node.
    pub(crate) fn fit(&self, node: &Node) -> Fit {
        let is_named = self.node_name.is_empty() || self.node_name == node.name();
        if !is_named || !self.is_selected(node) {
            return Fit::Leave;
        }
        let mut taints = node.spec.taints.iter().filter(|taint| !self.bears(taint));
        let (mut keeps_away, mut drives_out) = (false, false);
        taints.by_ref().for_each(|taint| {
            keeps_away |= matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
            drives_out |= taint.effect == "NoExecute";
        });
        match (keeps_away, drives_out) {
            (false, _) => Fit::Run,
            (true, false) => Fit::Stay,
            (true, true) => Fit::Leave,
        }
    }

    fn is_selected(&self, node: &Node) -> bool {
        let labels = node.meta().labels.as_ref();
        let label = |key: &str| labels?.get(key).map(String::as_str);
        let mut wanted = self.node_selector.iter();
        wanted.all(|(key, value)| label(key) == Some(value))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }

    fn bears(&self, taint: &Taint) -> bool {
        self.tolerations
            .iter()
            .any(|toleration| bears(toleration, taint))
    }
}

impl Term {
    fn new(term: k8s_openapi::api::core::v1::NodeSelectorTerm) -> Self {
        let labels = term.match_expressions.unwrap_or_default();
        let fields = term.match_fields.unwrap_or_default();
        if labels.is_empty() && fields.is_empty() {
            return Self(None);
        }
        let parse = |one: &NodeSelectorRequirement| {
            requirement(
                &one.key,
                &one.operator,
                one.values.as_deref().unwrap_or_default(),
            )
            .ok()
        };
        let labels: Option<Vec<_>> = labels.iter().map(parse).collect();
        Self(labels.map(|labels| (labels, fields)))
    }

    fn holds(&self, node: &Node) -> bool {
        let Some((labels, fields)) = &self.0 else {
            return false;
        };
        let known = node.meta().labels.as_ref();
        let label = |key: &str| known?.get(key).map(String::as_str);
        let is_named = |field: &NodeSelectorRequirement| {
            let is_one = field
                .values
                .iter()
                .flatten()
                .any(|value| value == node.name());
            match (field.key.as_str(), field.operator.as_str()) {
                ("metadata.name", "In") => is_one,
                ("metadata.name", "NotIn") => !is_one,
                _ => false,
            }
        };
        labels.iter().all(|one| one.matches(label(&one.key))) && fields.iter().all(is_named)
    }
}

/// Whether a toleration bears a taint.
pub(crate) fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let says = |field: &Option<String>, value: &str| {
        field
            .as_deref()
            .is_none_or(|text| text.is_empty() || text == value)
    };
    says(&toleration.effect, &taint.effect)
        && says(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        }
}

fn borne(host_network: bool) -> impl Iterator<Item = Toleration> {
    let network = host_network.then_some((NETWORK_UNAVAILABLE, "NoSchedule"));
    BORNE
        .into_iter()
        .chain(network)
        .map(|(key, effect)| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        })
}

/// Makes a pod one for a node: it bears what daemons bear, and fits on no other node.
pub(crate) fn pin(pod: &mut Value, node: &str) {
    let spec = &mut pod["spec"];
    let host_network = spec["hostNetwork"] == true;
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for toleration in borne(host_network).map(|toleration| json!(toleration)) {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec["tolerations"] = Value::Array(tolerations);
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
        json!([{"matchFields": [field]}]);
}
