//! Admission policies and their bindings.

use std::collections::HashSet;

use api::field::FieldError;
use api::name;

use super::{match_conditions, rule_with_operations, warn_static};
use crate::kinds::conditions;
use crate::kinds::facts::{Facts, Generation, Status, subdomain};
use crate::validation::{At, Errors, labels, same};

const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;
const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const POLICY: Facts = Facts {
    unconditional: false,
    generation: Generation::Of(&["spec"]),
    warnings: |_, new, _, told| warn_static(new, told),
    ..Facts::PLAIN
};

/// What is particular about policies that validate.
pub const VALIDATING_POLICY: Facts = Facts {
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    create: |_, new, errors| validating(errors, new, false),
    update: |_, new, old, errors| validating(errors, new, keeps_conditions(new, old)),
    sub_update: |_, new, _, errors| {
        let status = new.get("status");
        let warnings = status.path(&["typeChecking", "expressionWarnings"]);
        for warning in warnings.items() {
            errors.need(warning.get("warning"), "");
            if warning.get("fieldRef").str().trim().is_empty() {
                errors.required(warning.get("fieldRef"), "");
            }
        }
        conditions::validate(errors, status.get("conditions"));
    },
    ..POLICY
};

/// What is particular about policies that mutate.
pub const MUTATING_POLICY: Facts = Facts {
    create: |_, new, errors| mutating(errors, new, false),
    update: |_, new, old, errors| mutating(errors, new, keeps_conditions(new, old)),
    ..POLICY
};

/// What is particular about bindings of policies that validate.
pub const VALIDATING_BINDING: Facts = Facts {
    create: |_, new, errors| validating_binding(errors, new),
    update: |_, new, _, errors| validating_binding(errors, new),
    ..POLICY
};

/// What is particular about bindings of policies that mutate.
pub const MUTATING_BINDING: Facts = Facts {
    create: |_, new, errors| mutating_binding(errors, new),
    update: |_, new, _, errors| mutating_binding(errors, new),
    ..POLICY
};

/// Conditions that did not change are not judged again.
fn keeps_conditions(new: At<'_>, old: At<'_>) -> bool {
    let (now, before) = (new.get("spec"), old.get("spec"));
    same(now.get("paramKind"), before.get("paramKind"))
        && same(now.get("matchConditions"), before.get("matchConditions"))
}

/// What policies of both kinds have in common.
fn common(errors: &mut Errors, spec: At<'_>, is_mutating: bool, keeps_conditions: bool) {
    need_set(errors, spec.get("failurePolicy"), &FAILURE_POLICIES);
    if spec.has("paramKind") {
        param_kind(errors, spec.get("paramKind"));
    }
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        match_resources(errors, constraints);
        errors.need(constraints.get("resourceRules"), "");
        if is_mutating {
            mutating_operations(errors, constraints);
        }
    } else {
        errors.required(constraints, "");
    }
    if !keeps_conditions {
        match_conditions(errors, spec.get("matchConditions"));
    }
    for variable in spec.get("variables").items() {
        let (variable_name, expression) = (variable.get("name"), variable.get("expression"));
        if variable_name.str().trim().is_empty() {
            errors.required(variable_name, "name is not specified");
        } else if !is_identifier(variable_name.str()) {
            errors.invalid(variable_name, "must be a valid CEL identifier");
        }
        if expression.str().trim().is_empty() {
            errors.required(expression, "expression is not specified");
        }
    }
}

/// A pointer that must be set, to one of some texts.
fn need_set(errors: &mut Errors, at: At<'_>, known: &[&str]) {
    match at.is_set() {
        true => errors.one_of(at, known),
        false => errors.required(at, ""),
    }
}

fn is_identifier(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(is_inner)
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !RESERVED.contains(&text)
}

fn validating(errors: &mut Errors, new: At<'_>, keeps_conditions: bool) {
    let spec = new.get("spec");
    common(errors, spec, false, keeps_conditions);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(validations, detail);
        errors.required(annotations, detail);
        return;
    }
    for validation in validations.items() {
        one_validation(errors, validation);
    }
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(annotations, detail);
    }
    let policy = new.path(&["metadata", "name"]).str();
    let mut keys = HashSet::new();
    for annotation in annotations.items() {
        let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
        let qualified = format!("{policy}/{}", key.str());
        for complaint in name::label_key(&qualified) {
            errors.invalid_value(key, qualified.as_str(), complaint);
        }
        match value.str().trim().len() {
            0 => errors.required(value, "valueExpression is not specified"),
            bytes if bytes > ANNOTATION_BYTES_MAX => {
                let detail = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
                errors.required(value, detail);
            }
            _ => {}
        }
        if !keys.insert(key.str()) {
            errors.duplicate(key);
        }
    }
}

fn one_validation(errors: &mut Errors, at: At<'_>) {
    const EMPTY: &str = "must be non-empty if specified";
    if at.get("expression").str().trim().is_empty() {
        errors.required(at.get("expression"), "expression is not specified");
    }
    for field in ["messageExpression", "message"] {
        let text = at.get(field);
        if !text.is_empty() && text.str().trim().is_empty() {
            errors.invalid(text, EMPTY);
        }
    }
    let message = at.get("message");
    if message.str().trim().contains(['\n', '\r']) {
        errors.invalid(message, "must not contain line breaks");
    }
    if at.has("reason") {
        let known = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        errors.one_of(at.get("reason"), &known);
    }
}

fn mutating(errors: &mut Errors, new: At<'_>, keeps_conditions: bool) {
    let spec = new.get("spec");
    common(errors, spec, true, keeps_conditions);
    errors.need(
        spec.get("mutations"),
        "mutations must contain at least one item",
    );
    for mutation in spec.get("mutations").items() {
        one_mutation(errors, mutation);
    }
    errors.need_one_of(spec.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
}

fn one_mutation(errors: &mut Errors, at: At<'_>) {
    const TYPES: [(&str, &str); 2] = [
        ("ApplyConfiguration", "applyConfiguration"),
        ("JSONPatch", "jsonPatch"),
    ];
    let kind = at.get("patchType");
    if !errors.need(kind, "") {
        return;
    }
    let Some((_, own)) = TYPES.iter().find(|(known, _)| *known == kind.str()) else {
        return errors.not_supported(kind, &["ApplyConfiguration", "JSONPatch"]);
    };
    for (_, field) in TYPES {
        let patch = at.get(field);
        match (field == *own, patch.is_set()) {
            (true, false) => {
                let detail = format!("must be specified when patchType is {}", kind.str());
                errors.required(patch, detail);
            }
            (true, true) if patch.get("expression").str().trim().is_empty() => {
                errors.required(patch.get("expression"), "");
            }
            (false, true) => {
                let shown = format!("{{{field}}}");
                let detail = format!("must not be specified when patchType is {}", kind.str());
                errors.invalid_value(patch, shown.as_str(), detail);
            }
            _ => {}
        }
    }
}

fn param_kind(errors: &mut Errors, at: At<'_>) {
    let (api_version, kind) = (at.get("apiVersion"), at.get("kind"));
    if errors.need(api_version, "") {
        let text = api_version.str();
        let (group, version) = text.split_once('/').unwrap_or(("", text));
        if text.matches('/').count() > 1 {
            errors.invalid(
                api_version,
                format!("unexpected GroupVersion string: {text}"),
            );
        } else {
            let complaints = name::dns_1123_subdomain(group);
            if !group.is_empty() && !complaints.is_empty() {
                errors.invalid_value(api_version, group, complaints.join(","));
            }
            let complaints = name::dns_1035_label(version);
            if version.is_empty() {
                errors.invalid(api_version, "version must be specified");
            } else if !complaints.is_empty() {
                errors.invalid_value(api_version, version, complaints.join(","));
            }
        }
    }
    if errors.need(kind, "") {
        let complaints = name::dns_1035_label(&kind.str().to_lowercase());
        if !complaints.is_empty() {
            let rest = complaints.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {rest}");
            errors.invalid(kind, detail);
        }
    }
}

fn match_resources(errors: &mut Errors, at: At<'_>) {
    if !at.is_set() {
        return;
    }
    need_set(errors, at.get("matchPolicy"), &["Equivalent", "Exact"]);
    for selector in ["namespaceSelector", "objectSelector"] {
        match at.has(selector) {
            true => labels::selector(errors, at.get(selector), false),
            false => errors.required(at.get(selector), ""),
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in at.get(rules).items() {
            let mut seen = HashSet::new();
            for resource in rule.get("resourceNames").items() {
                errors.names(resource, name::path_segment);
                if !seen.insert(resource.str()) {
                    errors.duplicate(resource);
                }
            }
            rule_with_operations(errors, rule);
        }
    }
}

/// Deletion cannot be mutated. Upstream does not tell which rule it is.
fn mutating_operations(errors: &mut Errors, at: At<'_>) {
    let path = errors.path(at) + ".resourceRules.operations";
    let rules = at.get("resourceRules").items();
    for operation in rules.flat_map(|rule| rule.get("operations").items()) {
        if !MUTATING_OPERATIONS.contains(&operation.str()) {
            let known = &MUTATING_OPERATIONS;
            errors.push(FieldError::not_supported(
                path.as_str(),
                operation.str(),
                known,
            ));
        }
    }
}

fn binding(errors: &mut Errors, spec: At<'_>) {
    if errors.need(spec.get("policyName"), "") {
        errors.names(spec.get("policyName"), subdomain);
    }
    param_ref(errors, spec.get("paramRef"));
    match_resources(errors, spec.get("matchResources"));
}

fn param_ref(errors: &mut Errors, at: At<'_>) {
    const ONE: &str = "name and selector are mutually exclusive";
    if !at.is_set() {
        return;
    }
    let (param_name, selector) = (at.get("name"), at.get("selector"));
    if !param_name.is_empty() {
        errors.names(param_name, name::path_segment);
        if selector.is_set() {
            errors.forbidden(param_name, ONE);
        }
    }
    if selector.is_set() {
        labels::selector(errors, selector, false);
        if !param_name.is_empty() {
            errors.forbidden(selector, ONE);
        }
    }
    if param_name.is_empty() && !selector.is_set() {
        errors.required(at, "one of name or selector must be specified");
    }
    errors.need_one_of(at.get("parameterNotFoundAction"), &["Deny", "Allow"]);
}

fn validating_binding(errors: &mut Errors, new: At<'_>) {
    let spec = new.get("spec");
    binding(errors, spec);
    let actions = spec.get("validationActions");
    let mut seen = HashSet::new();
    for action in actions.items() {
        errors.one_of(action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.str()) {
            errors.duplicate(action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure \
                      information in the API response and headers serves no purpose)";
        errors.invalid(actions, detail);
    }
    errors.need(actions, "at least one validation action is required");
}

fn mutating_binding(errors: &mut Errors, new: At<'_>) {
    let spec = new.get("spec");
    binding(errors, spec);
    mutating_operations(errors, spec.get("matchResources"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    const CONSTRAINTS: &str = r#"{"matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},
        "resourceRules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}]}"#;

    #[test]
    fn wrong_policies_are_told() {
        let good = format!(
            r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{{"name":"a"}},"spec":{{
            "failurePolicy":"Fail","paramKind":{{"apiVersion":"v1","kind":"ConfigMap"}},"matchConstraints":{CONSTRAINTS},
            "variables":[{{"name":"x","expression":"1"}}],"validations":[{{"expression":"true","message":"m","reason":"Invalid"}}],
            "auditAnnotations":[{{"key":"k","valueExpression":"'v'"}}]}}}}"#
        );
        cases(
            &VALIDATING_POLICY,
            &good,
            &[
                Case::create(
                    "spec failurePolicy",
                    "-",
                    &["spec.failurePolicy: Required value"],
                ),
                Case::create(
                    "spec matchConstraints",
                    "-",
                    &["spec.matchConstraints: Required value"],
                ),
                Case::create(
                    "spec matchConstraints resourceRules",
                    "[]",
                    &["spec.matchConstraints.resourceRules: Required value"],
                ),
                Case::create(
                    "spec matchConstraints namespaceSelector",
                    "-",
                    &["spec.matchConstraints.namespaceSelector: Required value"],
                ),
                Case::create(
                    "spec paramKind apiVersion",
                    r#""a/b/c""#,
                    &[
                        r#"spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                    ],
                ),
                Case::create(
                    "spec variables 0 name",
                    r#""for""#,
                    &[
                        r#"spec.variables[0].name: Invalid value: "for": must be a valid CEL identifier"#,
                    ],
                ),
                Case::create(
                    "spec validations 0 expression",
                    r#"" ""#,
                    &[
                        "spec.validations[0].expression: Required value: expression is not specified",
                    ],
                ),
                Case::create(
                    "spec validations 0 reason",
                    r#""x""#,
                    &[
                        r#"spec.validations[0].reason: Unsupported value: "x": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge""#,
                    ],
                ),
                Case::create(
                    "spec validations 0 message",
                    "\"a\\nb\"",
                    &[
                        r#"spec.validations[0].message: Invalid value: "a\nb": must not contain line breaks"#,
                    ],
                ),
                Case::create(
                    "spec auditAnnotations 1",
                    r#"{"key":"k","valueExpression":"1"}"#,
                    &[r#"spec.auditAnnotations[1].key: Duplicate value: "k""#],
                ),
            ],
        );
        let good = format!(
            r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicy","metadata":{{"name":"a"}},"spec":{{
            "failurePolicy":"Fail","matchConstraints":{CONSTRAINTS},"reinvocationPolicy":"Never",
            "mutations":[{{"patchType":"JSONPatch","jsonPatch":{{"expression":"[]"}}}}]}}}}"#
        );
        cases(
            &MUTATING_POLICY,
            &good,
            &[
                Case::create(
                    "spec mutations",
                    "[]",
                    &["spec.mutations: Required value: mutations must contain at least one item"],
                ),
                Case::create(
                    "spec mutations 0 patchType",
                    r#""x""#,
                    &[
                        r#"spec.mutations[0].patchType: Unsupported value: "x": supported values: "ApplyConfiguration", "JSONPatch""#,
                    ],
                ),
                Case::create(
                    "spec mutations 0 applyConfiguration",
                    r#"{"expression":"1"}"#,
                    &[
                        r#"spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch"#,
                    ],
                ),
                Case::create(
                    "spec matchConstraints resourceRules 0 operations 0",
                    r#""DELETE""#,
                    &[
                        r#"spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#,
                    ],
                ),
            ],
        );
    }

    #[test]
    fn wrong_bindings_are_told() {
        let good = r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"a"},
            "spec":{"policyName":"p","paramRef":{"name":"n","parameterNotFoundAction":"Deny"},"validationActions":["Deny"]}}"#;
        cases(
            &VALIDATING_BINDING,
            good,
            &[
                Case::create(
                    "spec policyName",
                    r#""""#,
                    &["spec.policyName: Required value"],
                ),
                Case::create(
                    "spec paramRef selector",
                    "{}",
                    &[
                        "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                        "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                    ],
                ),
                Case::create(
                    "spec paramRef parameterNotFoundAction",
                    "-",
                    &["spec.paramRef.parameterNotFoundAction: Required value"],
                ),
                Case::create(
                    "spec validationActions",
                    "[]",
                    &[
                        "spec.validationActions: Required value: at least one validation action is required",
                    ],
                ),
                Case::create(
                    "spec validationActions 1",
                    r#""Warn""#,
                    &[
                        r#"spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn…"#,
                    ],
                ),
            ],
        );
    }
}
