//! Labels, annotations and label selectors.

use api::name;

use super::{At, Errors};

const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Labels, which are an object of strings or nothing.
pub fn labels(errors: &mut Errors, at: At<'_>) {
    for label in at.items() {
        for complaint in name::label_key(label.key()) {
            errors.invalid_value(at, label.key(), complaint);
        }
        for complaint in name::label_value(label.str()) {
            errors.invalid_value(at, label.str(), complaint);
        }
    }
}

/// Annotations, likewise; case does not matter in their keys.
pub fn annotations(errors: &mut Errors, at: At<'_>) {
    let mut bytes = 0;
    for annotation in at.items() {
        for complaint in name::label_key(&annotation.key().to_lowercase()) {
            errors.invalid_value(at, annotation.key(), complaint);
        }
        bytes += annotation.key().len() + annotation.str().len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(at, ANNOTATIONS_BYTES_MAX);
    }
}

/// A metav1.LabelSelector. Objects from before values were checked keep what they have:
/// `any_value`, which [`has_bad_value`] of the old object tells.
pub fn selector(errors: &mut Errors, at: At<'_>, any_value: bool) {
    labels(errors, at.get("matchLabels"));
    for expression in at.get("matchExpressions").items() {
        let values = expression.get("values");
        match expression.get("operator").str() {
            "In" | "NotIn" => {
                errors.need(
                    values,
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" => errors.deny(
                values,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            _ => errors.invalid(expression.get("operator"), "not a valid selector operator"),
        }
        errors.names(expression.get("key"), name::label_key);
        if !any_value {
            for value in values.items() {
                errors.names(value, name::label_value);
            }
        }
    }
}

/// Whether a selector has values that no label can have.
pub fn has_bad_value(selector: At<'_>) -> bool {
    selector
        .get("matchExpressions")
        .items()
        .flat_map(|expression| expression.get("values").items())
        .any(|value| !name::label_value(value.str()).is_empty())
}

/// Selects everything: neither labels nor expressions.
pub fn selects_all(selector: At<'_>) -> bool {
    selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty()
}

#[cfg(test)]
mod tests {
    use api::doc::Doc;

    use super::*;

    #[test]
    fn selectors_are_judged_as_upstream_does() {
        let doc = Doc::literal(
            r#"{"matchLabels":{"a b":"-"},"matchExpressions":[{"key":"a","operator":"In"},
                {"key":"a","operator":"Exists","values":["x"]},{"key":"","operator":"Is","values":["-"]}]}"#,
        );
        let mut errors = Errors::default();
        selector(&mut errors, At::root(&doc), false);
        let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        let starts = [
            r#"matchLabels: Invalid value: "a b": name part must consist"#,
            r#"matchLabels: Invalid value: "-": a valid label must be"#,
            "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            r#"matchExpressions[2].operator: Invalid value: "Is": not a valid selector operator"#,
            r#"matchExpressions[2].key: Invalid value: "": name part must be non-empty"#,
            r#"matchExpressions[2].key: Invalid value: "": name part must consist"#,
            r#"matchExpressions[2].values[0]: Invalid value: "-": a valid label must be"#,
        ];
        assert_eq!(texts.len(), starts.len(), "{texts:#?}");
        for (text, start) in texts.iter().zip(starts) {
            assert!(text.starts_with(start), "{text}\n{start}");
        }
        assert!(has_bad_value(At::root(&doc)));
    }
}
