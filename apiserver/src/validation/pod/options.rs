//! What a spec may have because its old one has it: rules came later than objects.

use super::{resources, scheduling, security, walk};
use crate::validation::{At, Errors, labels};

/// How strictly a pod's spec is judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// It is a pod's own, not a template's.
    pub is_pod: bool,
    /// Selectors of affinities may have values that no label can have.
    pub any_selector_value: bool,
    /// So may required node affinities.
    pub any_affinity_value: bool,
    /// Selectors of spread constraints may be wrong.
    pub any_spread_selector: bool,
    /// Label keys of spread constraints are judged as before 1.34.
    pub old_spread_keys: bool,
    /// Huge pages may be requested in parts.
    pub any_huge_pages: bool,
    /// Projected tokens may stand anywhere.
    pub any_token_path: bool,
    /// Sysctls may reach into the host's namespaces.
    pub any_host_sysctl: bool,
    /// The annotation of what deletion costs may be wrong.
    pub any_deletion_cost: bool,
    /// Tolerations may compare numbers.
    pub comparing_tolerations: bool,
    /// User namespaces go with the host's network.
    pub host_network_users: bool,
    /// User namespaces go with raw devices.
    pub device_users: bool,
    /// Init containers may be restarted by a resize.
    pub restarting_init: bool,
}

impl Options {
    /// For a pod; an old one if it is changed.
    pub fn for_pod(old: Option<At<'_>>) -> Self {
        Self {
            is_pod: true,
            ..Self::for_template(old)
        }
    }

    /// For whatever has `metadata` and `spec` of a pod.
    pub fn for_template(old: Option<At<'_>>) -> Self {
        let Some(old) = old.filter(|old| old.is_set()) else {
            return Self::default();
        };
        let spec = old.get("spec");
        let annotations = old.path(&["metadata", "annotations"]);
        let spreads = spec.get("topologySpreadConstraints");
        Self {
            is_pod: false,
            any_selector_value: scheduling::pod_affinity_terms(spec)
                .any(|term| fails(|errors| scheduling::term_selectors(errors, term, false))),
            any_affinity_value: scheduling::required_node_terms(spec).any(labels::has_bad_value),
            any_spread_selector: spreads.items().any(|spread| {
                fails(|errors| labels::selector(errors, spread.get("labelSelector"), false))
            }),
            old_spread_keys: spreads
                .items()
                .any(|spread| fails(|errors| scheduling::label_keys(errors, spread))),
            any_huge_pages: has_indivisible_pages(spec),
            any_token_path: super::projected::has_foreign_token_path(spec),
            any_host_sysctl: fails(|errors| security::host_sysctls(errors, spec)),
            any_deletion_cost: !super::annotations::is_cost_good(annotations),
            comparing_tolerations: spec
                .get("tolerations")
                .items()
                .any(|at| ["Lt", "Gt"].contains(&at.get("operator").str())),
            host_network_users: has_user_namespace(spec) && spec.get("hostNetwork").flag(),
            device_users: has_user_namespace(spec)
                && walk::all_containers(spec).any(|at| !at.get("volumeDevices").is_empty()),
            restarting_init: spec
                .get("initContainers")
                .items()
                .any(|at| !walk::is_sidecar(at) && restarts_on_resize(at)),
        }
    }
}

/// Whether a pod has users of its own.
pub(crate) fn has_user_namespace(spec: At<'_>) -> bool {
    spec.get("hostUsers").opt_flag() == Some(false)
}

/// Whether a container must be restarted to be resized.
pub(crate) fn restarts_on_resize(container: At<'_>) -> bool {
    let mut policies = container.get("resizePolicy").items();
    policies.any(|at| at.get("restartPolicy").str() == "RestartContainer")
}

/// Whether checks find something.
pub(crate) fn fails(checks: impl FnOnce(&mut Errors)) -> bool {
    let mut errors = Errors::default();
    checks(&mut errors);
    !errors.is_empty()
}

fn has_indivisible_pages(spec: At<'_>) -> bool {
    let lists = walk::all_containers(spec).flat_map(|container| {
        let resources = container.get("resources");
        [resources.get("limits"), resources.get("requests")]
    });
    lists
        .chain([spec.get("overhead")])
        .flat_map(At::items)
        .any(|at| resources::is_huge_page(at.key()) && !resources::is_divisible(at))
}
