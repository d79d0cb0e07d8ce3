//! Values in messages as Go writes them, since users and tests search for those messages.

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A label selector as `%v` writes it.
pub fn label_selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let mut labels = String::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        let _ = write!(labels, "{key}: {value},");
    }
    let mut expressions = String::new();
    for one in selector.match_expressions.iter().flatten() {
        let values = one.values.as_deref().unwrap_or_default().join(" ");
        let (key, operator) = (&one.key, &one.operator);
        let _ = write!(
            expressions,
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"
        );
    }
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
