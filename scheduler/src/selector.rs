//! Selectors compiled to symbols: label selectors of affinity and spreading, and node selectors.
//!
//! What does not compile selects nothing, as upstream does with objects that slipped past
//! validation.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::intern::{Interner, Symbol, label};

/// How one label is judged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Rule {
    In(Box<[Symbol]>),
    NotIn(Box<[Symbol]>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Requirement {
    key: Symbol,
    rule: Rule,
}

impl Requirement {
    fn matches(&self, labels: &[(Symbol, Symbol)], interner: &Interner) -> bool {
        let value = label(labels, self.key);
        let number = || value.and_then(|value| interner.text(value).parse::<i64>().ok());
        match &self.rule {
            Rule::In(values) => value.is_some_and(|value| values.contains(&value)),
            Rule::NotIn(values) => !value.is_some_and(|value| values.contains(&value)),
            Rule::Exists => value.is_some(),
            Rule::DoesNotExist => value.is_none(),
            Rule::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Rule::LessThan(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

/// Conditions on labels that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Selector {
    /// Selects nothing.
    Nothing,
    /// Selects what fulfils all; everything if there are none. Sorted.
    All(Box<[Requirement]>),
}

impl Selector {
    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self, Selector::All(all) if all.is_empty())
    }

    /// Whether the labels are selected.
    pub(crate) fn matches(&self, labels: &[(Symbol, Symbol)], interner: &Interner) -> bool {
        match self {
            Selector::Nothing => false,
            Selector::All(all) => all.iter().all(|one| one.matches(labels, interner)),
        }
    }

    /// One label with its value that everything selected has.
    pub(crate) fn exact(&self) -> Option<(Symbol, Symbol)> {
        let Selector::All(all) = self else {
            return None;
        };
        all.iter().find_map(|one| match &one.rule {
            Rule::In(values) if values.len() == 1 => Some((one.key, values[0])),
            _ => None,
        })
    }

    /// metav1.LabelSelector: absent selects nothing, empty everything.
    pub(crate) fn of_labels(
        selector: Option<&meta::LabelSelector>,
        interner: &mut Interner,
    ) -> Self {
        let Some(selector) = selector else {
            return Selector::Nothing;
        };
        let mut all = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            all.push(equals(key, value, interner));
        }
        for one in selector.match_expressions.iter().flatten() {
            let values = one.values.as_deref().unwrap_or_default();
            match requirement(&one.key, &one.operator, values, interner) {
                Some(one) => all.push(one),
                None => return Selector::Nothing,
            }
        }
        Selector::sorted(all)
    }

    /// A map of labels to their values.
    pub(crate) fn of_map<'l>(
        labels: impl IntoIterator<Item = (&'l String, &'l String)>,
        interner: &mut Interner,
    ) -> Self {
        let all = labels
            .into_iter()
            .map(|(key, value)| equals(key, value, interner))
            .collect();
        Selector::sorted(all)
    }

    /// What both select.
    pub(crate) fn and(self, other: Selector) -> Self {
        match (self, other) {
            (Selector::All(one), Selector::All(two)) => {
                Selector::sorted(one.into_iter().chain(two).collect())
            }
            _ => Selector::Nothing,
        }
    }

    fn sorted(mut all: Vec<Requirement>) -> Self {
        all.sort_unstable();
        all.dedup();
        Selector::All(all.into())
    }
}

fn equals(key: &str, value: &str, interner: &mut Interner) -> Requirement {
    Requirement {
        key: interner.intern(key),
        rule: Rule::In(Box::new([interner.intern(value)])),
    }
}

fn requirement(
    key: &str,
    operator: &str,
    values: &[String],
    interner: &mut Interner,
) -> Option<Requirement> {
    let mut symbols = || -> Box<[Symbol]> {
        let mut symbols: Vec<_> = values.iter().map(|value| interner.intern(value)).collect();
        symbols.sort_unstable();
        symbols.into()
    };
    let rule = match (operator, values) {
        ("In", [_, ..]) => Rule::In(symbols()),
        ("NotIn", [_, ..]) => Rule::NotIn(symbols()),
        ("Exists", []) => Rule::Exists,
        ("DoesNotExist", []) => Rule::DoesNotExist,
        ("Gt", [value]) => Rule::GreaterThan(value.parse().ok()?),
        ("Lt", [value]) => Rule::LessThan(value.parse().ok()?),
        _ => return None,
    };
    let key = interner.intern(key);
    Some(Requirement { key, rule })
}

/// Whether a label selector selects labels, without compiling: for the rare question.
pub(crate) fn selects(
    selector: Option<&meta::LabelSelector>,
    labels: Option<&std::collections::BTreeMap<String, String>>,
) -> bool {
    let mut interner = Interner::default();
    let selector = Selector::of_labels(selector, &mut interner);
    let labels = interner.labels(labels.into_iter().flatten());
    selector.matches(&labels, &interner)
}

/// One term of a node selector: labels and the node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeTerm {
    /// None: the term has no label conditions.
    labels: Option<Selector>,
    /// Names that the node must, or must not, have: (in, name).
    names: Vec<(bool, Symbol)>,
}

impl NodeTerm {
    /// The term, None if it is empty: such a term selects no node.
    pub(crate) fn new(term: &core::NodeSelectorTerm, interner: &mut Interner) -> Option<Self> {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        if expressions.is_empty() && fields.is_empty() {
            return None;
        }
        let labels = if expressions.is_empty() {
            None
        } else {
            let all: Option<Vec<_>> = expressions
                .iter()
                .map(|one| {
                    let values = one.values.as_deref().unwrap_or_default();
                    requirement(&one.key, &one.operator, values, interner)
                })
                .collect();
            Some(all.map_or(Selector::Nothing, Selector::sorted))
        };
        let mut names = Vec::new();
        for one in fields {
            match (&*one.key, &*one.operator, one.values.as_deref()) {
                ("metadata.name", operator @ ("In" | "NotIn"), Some([name])) => {
                    names.push((operator == "In", interner.intern(name)));
                }
                _ => {
                    return Some(NodeTerm {
                        labels: Some(Selector::Nothing),
                        names: Vec::new(),
                    });
                }
            }
        }
        Some(NodeTerm { labels, names })
    }

    /// Whether a node fulfils the term.
    pub(crate) fn matches(
        &self,
        name: Symbol,
        labels: &[(Symbol, Symbol)],
        interner: &Interner,
    ) -> bool {
        self.names
            .iter()
            .all(|(is_in, one)| (*one == name) == *is_in)
            && self
                .labels
                .as_ref()
                .is_none_or(|selector| selector.matches(labels, interner))
    }

    /// The one node that the term can select: None if several, Some(None) if terms conflict.
    pub(crate) fn only_node(&self) -> Option<Option<Symbol>> {
        let mut wanted = self.names.iter().filter(|(is_in, _)| *is_in);
        let (_, first) = wanted.next()?;
        Some(wanted.all(|(_, name)| name == first).then_some(*first))
    }
}

/// The hard node constraints of a pod, a volume or a profile: a map of labels and terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeRequirement {
    /// spec.nodeSelector.
    selector: Option<Selector>,
    /// Terms of which one must hold; None without required affinity.
    terms: Option<Vec<NodeTerm>>,
}

impl NodeRequirement {
    /// Of a pod's spec.nodeSelector and required node affinity.
    pub(crate) fn new<'l>(
        labels: impl IntoIterator<Item = (&'l String, &'l String)>,
        required: Option<&core::NodeSelector>,
        interner: &mut Interner,
    ) -> Self {
        let selector = Selector::of_map(labels, interner);
        let terms = required.map(|required| {
            required
                .node_selector_terms
                .iter()
                .filter_map(|term| NodeTerm::new(term, interner))
                .collect()
        });
        NodeRequirement {
            selector: (!selector.is_everything()).then_some(selector),
            terms,
        }
    }

    /// Whether every node fulfils it.
    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_none() && self.terms.is_none()
    }

    /// Whether a node fulfils it.
    pub(crate) fn matches(
        &self,
        name: Symbol,
        labels: &[(Symbol, Symbol)],
        interner: &Interner,
    ) -> bool {
        self.selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels, interner))
            && self.terms.as_ref().is_none_or(|terms| {
                terms
                    .iter()
                    .any(|term| term.matches(name, labels, interner))
            })
    }

    /// The nodes that the terms name, if each names one: None if any node may do.
    pub(crate) fn only_nodes(&self) -> Option<Vec<Symbol>> {
        let terms = self.terms.as_ref().filter(|terms| !terms.is_empty())?;
        let mut names = Vec::new();
        for term in terms {
            names.extend(term.only_node()?);
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn labels(interner: &mut Interner, pairs: &[(&str, &str)]) -> crate::intern::Labels {
        let owned: Vec<(String, String)> = pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        interner.labels(owned.iter().map(|(k, v)| (k, v)))
    }

    #[test]
    fn label_selectors_select() {
        let mut interner = Interner::default();
        let of = labels(&mut interner, &[("app", "web"), ("tier", "2")]);
        for (selector, want) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "Bad"}]}),
                false,
            ),
        ] {
            let parsed: Option<meta::LabelSelector> = from_value(selector.clone()).unwrap();
            let compiled = Selector::of_labels(parsed.as_ref(), &mut interner);
            assert_eq!(compiled.matches(&of, &interner), want, "{selector}");
        }
    }

    #[test]
    fn node_terms_are_alternatives_and_empty_ones_select_nothing() {
        let mut interner = Interner::default();
        let of = labels(&mut interner, &[("zone", "a"), ("cores", "8")]);
        let node = interner.intern("n1");
        for (terms, want) in [
            (json!([]), false),
            (json!([{}]), false),
            (
                json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}]),
                true,
            ),
            (
                json!([{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["8"]}]}]),
                false,
            ),
            (
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
                true,
            ),
            (
                json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]),
                false,
            ),
            (
                json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]),
                true,
            ),
        ] {
            let selector: core::NodeSelector =
                from_value(json!({"nodeSelectorTerms": terms})).unwrap();
            let compiled = NodeRequirement::new([], Some(&selector), &mut interner);
            assert_eq!(compiled.matches(node, &of, &interner), want, "{terms}");
        }
    }
}
