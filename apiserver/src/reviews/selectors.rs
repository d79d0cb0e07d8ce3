//! The selectors of a question. What cannot be understood is left out, which makes the question one
//! about more, and is said in the answer.

use api::doc::Node;
use api::name;
use api::selector::{FieldSelector, FieldTerm, LabelSelector, Operator, Requirement};

use super::texts;
use crate::validation::{At, Errors};

/// The selectors, as far as they are understood.
#[derive(Default)]
pub(super) struct Selectors {
    pub(super) fields: Option<FieldSelector>,
    pub(super) labels: Option<LabelSelector>,
    are_fields_incomplete: bool,
    are_labels_incomplete: bool,
}

impl Selectors {
    pub(super) fn of(resource: Option<Node<'_>>) -> Self {
        let get = |key: &str| {
            resource
                .and_then(|node| node.get(key))
                .filter(|node| !node.is_null())
        };
        let mut selectors = Self::default();
        if let Some(node) = get("fieldSelector") {
            let (terms, is_incomplete) = read(node, FieldSelector::parse, field_term);
            selectors.are_fields_incomplete = is_incomplete;
            selectors.fields = match terms {
                Read::Raw(fields) => Some(fields),
                Read::List(terms) => (!terms.is_empty()).then_some(FieldSelector { terms }),
            };
        }
        if let Some(node) = get("labelSelector") {
            let (terms, is_incomplete) = read(node, LabelSelector::parse, requirement);
            selectors.are_labels_incomplete = is_incomplete;
            selectors.labels = match terms {
                Read::Raw(labels) => Some(labels),
                Read::List(requirements) => {
                    (!requirements.is_empty()).then_some(LabelSelector { requirements })
                }
            };
        }
        selectors
    }

    /// What the answer says about what was left out.
    pub(super) fn evaluation_error(&self) -> String {
        let one = |key: &str, is_incomplete: bool, is_used: bool| {
            let how = if is_used {
                "partially ignored"
            } else {
                "ignored"
            };
            is_incomplete.then(|| format!("spec.resourceAttributes.{key} {how} due to parse error"))
        };
        let both = [
            one(
                "fieldSelector",
                self.are_fields_incomplete,
                self.fields.is_some(),
            ),
            one(
                "labelSelector",
                self.are_labels_incomplete,
                self.labels.is_some(),
            ),
        ];
        both.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

enum Read<S, T> {
    Raw(S),
    List(Vec<T>),
}

/// A selector as text or as a list, and whether something was left out.
fn read<S, T>(
    node: Node<'_>,
    parse: impl Fn(&str) -> Result<S, String>,
    term: impl Fn(Node<'_>) -> Option<T>,
) -> (Read<S, T>, bool) {
    let raw = node.text(&["rawSelector"]);
    let list = node
        .get("requirements")
        .into_iter()
        .flat_map(Node::children);
    let list: Vec<Node<'_>> = list.collect();
    if !raw.is_empty() && list.is_empty() {
        return match parse(raw) {
            Ok(parsed) => (Read::Raw(parsed), false),
            Err(_) => (Read::List(Vec::new()), true),
        };
    }
    let terms: Vec<T> = list.iter().filter_map(|node| term(*node)).collect();
    let is_incomplete = terms.len() < list.len();
    (Read::List(terms), is_incomplete)
}

fn field_term(node: Node<'_>) -> Option<FieldTerm> {
    let mut values = node.get("values").map(texts).unwrap_or_default();
    let is_negated = match node.text(&["operator"]) {
        "In" => false,
        "NotIn" => true,
        _ => return None,
    };
    let value = values.pop().filter(|_| values.is_empty())?;
    Some(FieldTerm {
        field: node.text(&["key"]).to_string(),
        value,
        is_negated,
    })
}

fn requirement(node: Node<'_>) -> Option<Requirement> {
    let operator = match node.text(&["operator"]) {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    let values = node.get("values").map(texts).unwrap_or_default();
    Requirement::new(node.text(&["key"]), operator, values).ok()
}

/// What is wrong with the selectors. Operators that only newer servers know are no error.
pub(super) fn validate(errors: &mut Errors, resource: At<'_>) {
    for (key, is_labels) in [("fieldSelector", false), ("labelSelector", true)] {
        let selector = resource.get(key);
        if selector.is_set() {
            validate_one(errors, selector, is_labels);
        }
    }
}

fn validate_one(errors: &mut Errors, selector: At<'_>, is_labels: bool) {
    let (raw, list) = (selector.get("rawSelector"), selector.get("requirements"));
    if !raw.is_empty() && !list.is_empty() {
        errors.invalid(raw, "may not specified at the same time as requirements");
    }
    if raw.is_empty() && list.is_empty() {
        let path = errors.path(selector);
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.required(list, why);
    }
    for item in list.items() {
        let (key, values) = (item.get("key"), item.get("values"));
        if !is_labels && key.str().is_empty() {
            errors.required(key, "must be specified");
        }
        match item.get("operator").str() {
            "In" | "NotIn" => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.need(values, why);
            }
            "Exists" | "DoesNotExist" => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.deny(values, why);
            }
            _ => {}
        }
        if is_labels {
            errors.names(key, name::label_key);
            for value in values.items() {
                errors.names(value, name::label_value);
            }
        }
    }
}
