//! Label selectors as objects have them, ready to be asked.

use std::collections::BTreeMap;
use std::fmt;

use api::selector::{LabelSelector, Operator, Requirement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A `metav1.LabelSelector`, parsed once.
///
/// What cannot be parsed selects nothing; the API server refuses such objects, so none is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Option<LabelSelector>);

impl Selector {
    /// The selector that an object has; an absent one selects nothing.
    pub fn new(selector: Option<&meta::LabelSelector>) -> Self {
        Self(selector.and_then(|selector| parse(selector).ok()))
    }

    /// Selects objects that have all of these labels; none selects nothing, as in a Service or a
    /// ReplicationController.
    pub fn of_labels(labels: &Labels) -> Self {
        let all = labels
            .iter()
            .map(|(key, value)| requirement(key, "In", std::slice::from_ref(value)));
        let all: Option<Vec<_>> = all.map(Result::ok).collect();
        let requirements = all.filter(|all| !all.is_empty());
        Self(requirements.map(|requirements| LabelSelector { requirements }))
    }

    /// Whether labels are selected.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        let find = |key: &str| labels?.get(key).map(String::as_str);
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches_by(find))
    }

    /// Whether it selects everything: it is there and has no conditions.
    pub fn selects_all(&self) -> bool {
        self.0.as_ref().is_some_and(LabelSelector::is_empty)
    }

    /// A label that everything selected has, if there is one: what an index can look for.
    pub fn exact_label(&self) -> Option<(&str, &str)> {
        let requirements = &self.0.as_ref()?.requirements;
        let mut exact = requirements.iter().filter(|one| is_exact(one));
        exact.find_map(|one| Some((one.key.as_str(), one.values.first()?.as_str())))
    }

    /// The same selector that also asks for a label, as an object has it.
    pub fn with_label(&self, key: &str, value: &str) -> Value {
        let mut labels = BTreeMap::from([(key, value)]);
        let mut expressions = Vec::new();
        for one in self.0.iter().flat_map(|selector| &selector.requirements) {
            if one.operator == Operator::Equals {
                if let Some(value) = one.values.first().filter(|_| one.key != key) {
                    labels.insert(&one.key, value);
                }
                continue;
            }
            let operator = match one.operator {
                Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                _ => "DoesNotExist",
            };
            expressions.push(match one.values.is_empty() {
                true => json!({"key": one.key, "operator": operator}),
                false => json!({"key": one.key, "operator": operator, "values": one.values}),
            });
        }
        match expressions.is_empty() {
            true => json!({"matchLabels": labels}),
            false => json!({"matchLabels": labels, "matchExpressions": expressions}),
        }
    }

    /// The labels of `matchLabels`.
    pub fn match_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|selector| &selector.requirements);
        let equal = all.filter(|one| one.operator == Operator::Equals);
        equal.filter_map(|one| Some((one.key.as_str(), one.values.first()?.as_str())))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let selector = Option::<meta::LabelSelector>::deserialize(from)?;
        Ok(Self::new(selector.as_ref()))
    }
}

/// As in a query; empty for one that selects everything, and nothing.
impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|selector| selector.fmt(out))
    }
}

fn is_exact(one: &Requirement) -> bool {
    matches!(one.operator, Operator::Equals | Operator::In) && one.values.len() == 1
}

fn parse(selector: &meta::LabelSelector) -> Result<LabelSelector, String> {
    let mut requirements = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        let values = vec![value.clone()];
        requirements.push(Requirement::new(key, Operator::Equals, values)?);
    }
    for one in selector.match_expressions.iter().flatten() {
        let values = one.values.as_deref().unwrap_or_default();
        requirements.push(requirement(&one.key, &one.operator, values)?);
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(LabelSelector { requirements })
}

/// A condition on a label as objects spell it; a node selector's `Gt` and `Lt` too.
pub fn requirement(key: &str, operator: &str, values: &[String]) -> Result<Requirement, String> {
    let operator = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        other => return Err(format!("{other:?} is not a valid selector operator")),
    };
    Requirement::new(key, operator, values.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    fn selector(value: Value) -> Selector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_selector_asks_for_labels_and_expressions() {
        let one = selector(json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "old", "operator": "DoesNotExist"}]}));
        assert!(one.matches(Some(&labels(&[("app", "web"), ("tier", "back")]))));
        assert!(!one.matches(Some(&labels(&[("app", "web")]))));
        assert!(!one.matches(Some(&labels(&[
            ("app", "web"),
            ("tier", "back"),
            ("old", "")
        ]))));
        assert!(!one.matches(None));
        assert_eq!(one.exact_label(), Some(("app", "web")));
        let more = one.with_label("hash", "x");
        assert_eq!(more["matchLabels"], json!({"app": "web", "hash": "x"}));
        let back = selector(more);
        assert!(back.matches(Some(&labels(&[
            ("app", "web"),
            ("tier", "back"),
            ("hash", "x")
        ]))));
        assert!(!back.matches(Some(&labels(&[("app", "web"), ("tier", "back")]))));
    }

    #[test]
    fn absent_selects_nothing_and_empty_everything() {
        assert!(!selector(Value::Null).matches(None));
        assert!(selector(json!({})).matches(None) && selector(json!({})).selects_all());
        assert!(!Selector::of_labels(&Labels::new()).matches(None));
        assert!(Selector::of_labels(&labels(&[("a", "b")])).matches(Some(&labels(&[("a", "b")]))));
    }
}
