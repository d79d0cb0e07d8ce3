//! Which objects a quota counts, if it does not count all.

use super::qos::qos_class;
use crate::at::At;

/// Whether a scope holds an object.
pub(super) type Matches = fn(&Scope<'_>, At<'_>) -> bool;

/// One of a quota's scopes.
pub(super) struct Scope<'q> {
    name: &'q str,
    operator: &'q str,
    values: Vec<&'q str>,
}

impl Scope<'_> {
    /// Whether one of the values that an object has, or the lack of any, is what is selected.
    fn selects(&self, found: &[&str]) -> bool {
        let has = |value: &&str| self.values.contains(value);
        match self.operator {
            "Exists" => !found.is_empty(),
            "DoesNotExist" => found.is_empty(),
            "In" => found.iter().any(has),
            "NotIn" => found.is_empty() || !found.iter().all(has),
            _ => false,
        }
    }
}

/// Whether all scopes of a quota hold.
pub(super) fn all(quota: At<'_>, mut holds: impl FnMut(&Scope<'_>) -> bool) -> bool {
    let spec = quota.get("spec");
    let plain = spec.get("scopes").items().map(|scope| Scope {
        name: scope.str(),
        operator: "Exists",
        values: Vec::new(),
    });
    let selected = spec.path(&["scopeSelector", "matchExpressions"]).items();
    let selected = selected.map(|expression| Scope {
        name: expression.get("scopeName").str(),
        operator: expression.get("operator").str(),
        values: expression.get("values").items().map(At::str).collect(),
    });
    plain.chain(selected).all(|scope| holds(&scope))
}

/// Whether a scope holds a pod.
pub(super) fn pod(scope: &Scope<'_>, pod: At<'_>) -> bool {
    match scope.name {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => {
            let class = pod.path(&["spec", "priorityClassName"]).str();
            scope.selects(&[class][usize::from(class.is_empty())..])
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether a scope holds a claim.
pub(super) fn claim(scope: &Scope<'_>, claim: At<'_>) -> bool {
    if scope.name != "VolumeAttributesClass" {
        return false;
    }
    let classes = [
        claim.path(&["spec", "volumeAttributesClassName"]).str(),
        claim
            .path(&["status", "currentVolumeAttributesClassName"])
            .str(),
        claim
            .path(&["status", "modifyVolumeStatus"])
            .get("targetVolumeAttributesClassName")
            .str(),
    ];
    let classes: Vec<&str> = classes
        .into_iter()
        .filter(|class| !class.is_empty())
        .collect();
    scope.selects(&classes)
}

/// A pod that ends by itself at some time.
pub(super) fn is_terminating(pod: At<'_>) -> bool {
    let deadline = pod.path(&["spec", "activeDeadlineSeconds"]).opt_int();
    deadline.is_some_and(|seconds| seconds >= 0)
}

fn crosses_namespaces(pod: At<'_>) -> bool {
    let affinity = pod.path(&["spec", "affinity"]);
    let crosses =
        |term: At<'_>| !term.get("namespaces").is_empty() || term.has("namespaceSelector");
    ["podAffinity", "podAntiAffinity"].into_iter().any(|which| {
        let which = affinity.get(which);
        let mut required = which
            .get("requiredDuringSchedulingIgnoredDuringExecution")
            .items();
        let mut preferred = which
            .get("preferredDuringSchedulingIgnoredDuringExecution")
            .items();
        required.any(crosses) || preferred.any(|term| crosses(term.get("podAffinityTerm")))
    })
}
