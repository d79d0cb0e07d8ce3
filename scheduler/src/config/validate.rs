//! Validation, with upstream's fields and words.

use api::field::{FieldError, aggregate};
use api::name;

use super::API_VERSION;
use super::wire::{
    Args, BalancedAllocationArgs, Configuration, FitArgs, Located, PodTopologySpreadArgs, Point,
    WireProfile,
};
use crate::framework::Plugin;

/// Plugins that were removed.
const REMOVED: [&str; 4] = [
    "AzureDiskLimits",
    "CinderLimits",
    "EBSLimits",
    "GCEPDLimits",
];

/// All that is wrong, in one line.
pub(super) fn validate(configuration: &Configuration, args: &[Located]) -> Result<(), String> {
    let mut errors = Vec::new();
    general(configuration, &mut errors);
    for (at, profile) in configuration.profiles.iter().enumerate() {
        of_profile(at, profile, configuration, args, &mut errors);
    }
    backoff(configuration, &mut errors);
    match errors.is_empty() {
        true => unknown(configuration),
        false => Err(aggregate(&errors)),
    }
}

/// Plugins that nobody knows: upstream finds out when it builds the framework.
fn unknown(configuration: &Configuration) -> Result<(), String> {
    for profile in &configuration.profiles {
        let sets = profile.plugins.points().map(|(_, set)| set);
        let sets = sets.into_iter().chain([&profile.plugins.multi_point]);
        for plugin in sets.flat_map(|set| &set.enabled) {
            if Plugin::named(&plugin.name).is_none() {
                return Err(format!(
                    "initializing profiles: creating profile for scheduler name {}: {} {:?} does not exist",
                    profile.scheduler_name.as_deref().unwrap_or_default(),
                    "plugin",
                    plugin.name
                ));
            }
        }
    }
    if configuration.extenders.is_empty() {
        Ok(())
    } else {
        Err("extenders: Forbidden: scheduler extenders are not supported".to_string())
    }
}

fn general(configuration: &Configuration, errors: &mut Vec<FieldError>) {
    let lease = &configuration.leader_election;
    if lease.leader_elect != Some(false) && lease.resource_lock != "leases" {
        errors.push(FieldError::invalid(
            "leaderElection.resourceLock",
            &*lease.resource_lock,
            "resourceLock value must be \"leases\"",
        ));
    }
    let parallelism = i64::from(configuration.parallelism.unwrap_or(16));
    if parallelism <= 0 {
        let detail = "should be an integer value greater than zero";
        errors.push(FieldError::invalid("parallelism", parallelism, detail));
    }
    percentage(
        "percentageOfNodesToScore",
        configuration.percentage_of_nodes_to_score,
        errors,
    );
}

fn backoff(configuration: &Configuration, errors: &mut Vec<FieldError>) {
    let initial = configuration.pod_initial_backoff_seconds.unwrap_or(1);
    let max = configuration.pod_max_backoff_seconds.unwrap_or(10);
    if initial <= 0 {
        let field = "podInitialBackoffSeconds";
        errors.push(FieldError::invalid(
            field,
            initial,
            "must be greater than 0",
        ));
    }
    if max < initial {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.push(FieldError::invalid("podMaxBackoffSeconds", max, detail));
    }
}

fn percentage(field: &str, value: Option<i32>, errors: &mut Vec<FieldError>) {
    if let Some(value) = value.filter(|value| !(0..=100).contains(value)) {
        let detail = "not in valid range [0-100]";
        errors.push(FieldError::invalid(field, i64::from(value), detail));
    }
}

fn of_profile(
    at: usize,
    profile: &WireProfile,
    configuration: &Configuration,
    args: &[Located],
    errors: &mut Vec<FieldError>,
) {
    let path = format!("profiles[{at}]");
    let name = profile.scheduler_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.schedulerName"), ""));
    }
    percentage(
        &format!("{path}.percentageOfNodesToScore"),
        profile.percentage_of_nodes_to_score,
        errors,
    );
    let removed = |plugin: &str| {
        REMOVED.contains(&plugin).then(|| {
            format!(
                "was invalid in version {API_VERSION:?} (KubeSchedulerConfiguration is version {API_VERSION:?})"
            )
        })
    };
    for (point, set) in profile.plugins.points() {
        for (i, plugin) in set.enabled.iter().enumerate() {
            if let Some(detail) = removed(&plugin.name) {
                let field = format!("{path}.plugins.{point}.enabled[{i}]");
                errors.push(FieldError::invalid(field, &*plugin.name, detail));
            }
        }
    }
    for (i, config) in profile.plugin_config.iter().enumerate() {
        let field = format!("{path}.pluginConfig[{i}]");
        if profile.plugin_config[..i]
            .iter()
            .any(|one| one.name == config.name)
        {
            errors.push(FieldError::duplicate(field.clone(), &*config.name));
        }
        if let Some(detail) = removed(&config.name) {
            errors.push(FieldError::invalid(field.clone(), &*config.name, detail));
        }
        let own = args
            .iter()
            .filter(|(profile, config, _)| (*profile, *config) == (at, i));
        for (_, _, args) in own {
            of_args(&format!("{field}.args"), args, errors);
        }
    }
    let before = &configuration.profiles[..at];
    if let Some(same) = before
        .iter()
        .position(|one| one.scheduler_name == profile.scheduler_name)
    {
        let other = format!("profiles[{same}].schedulerName");
        errors.push(FieldError::duplicate(
            format!("{path}.schedulerName"),
            &*other,
        ));
    }
    if profile.plugins.queue_sort != configuration.profiles[0].plugins.queue_sort {
        let field = format!("{path}.plugins.queueSort");
        let shown = format!("{:?}", profile.plugins.queue_sort.enabled);
        errors.push(FieldError::invalid(
            field,
            &*shown,
            "must be the same for all profiles",
        ));
    }
}

fn of_args(path: &str, args: &Args, errors: &mut Vec<FieldError>) {
    match args {
        Args::DefaultPreemption(args) => {
            let percentage = i64::from(args.min_candidate_nodes_percentage.unwrap_or(10));
            let absolute = i64::from(args.min_candidate_nodes_absolute.unwrap_or(100));
            let of = |field: &str| format!("{path}.{field}");
            let (first, second) = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute");
            if !(0..=100).contains(&percentage) {
                let detail = "not in valid range [0, 100]";
                errors.push(FieldError::invalid(of(first), percentage, detail));
            }
            if absolute < 0 {
                let detail = "not in valid range [0, inf)";
                errors.push(FieldError::invalid(of(second), absolute, detail));
            }
            if percentage == 0 && absolute == 0 {
                for (field, other) in [(first, second), (second, first)] {
                    let detail = format!("cannot be zero at the same time as {other}");
                    errors.push(FieldError::invalid(of(field), 0_i64, detail));
                }
            }
        }
        Args::InterPodAffinity(args) => {
            let weight = i64::from(args.hard_pod_affinity_weight.unwrap_or(1));
            if !(0..=100).contains(&weight) {
                let field = format!("{path}.hardPodAffinityWeight");
                errors.push(FieldError::invalid(
                    field,
                    weight,
                    "not in valid range [0, 100]",
                ));
            }
        }
        Args::BalancedAllocation(args) => balanced(path, args, errors),
        Args::Fit(args) => fit(path, args, errors),
        Args::PodTopologySpread(args) => spread(path, args, errors),
        Args::VolumeBinding(args) => {
            let seconds = args.bind_timeout_seconds.unwrap_or(600);
            if seconds < 0 {
                let field = format!("{path}.bindTimeoutSeconds");
                let detail = "invalid BindTimeoutSeconds, should not be a negative value";
                errors.push(FieldError::invalid(field, seconds, detail));
            }
            if args.shape.is_some() {
                let field = format!("{path}.shape");
                let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
                errors.push(FieldError::invalid(field, "shape", detail));
            }
        }
        Args::NodeAffinity(_) | Args::None => {}
    }
}

fn balanced(path: &str, args: &BalancedAllocationArgs, errors: &mut Vec<FieldError>) {
    for (i, resource) in args.resources.iter().enumerate() {
        let field = format!("{path}.resources[{i}]");
        if args.resources[..i]
            .iter()
            .any(|one| one.name == resource.name)
        {
            errors.push(FieldError::duplicate(
                format!("{field}.name"),
                &*resource.name,
            ));
        }
        if resource.weight != 1 {
            let field = format!("{field}.weight");
            errors.push(FieldError::invalid(field, resource.weight, "must be 1"));
        }
    }
}

fn label_name(field: &str, value: &str, errors: &mut Vec<FieldError>) {
    for complaint in name::label_key(value) {
        errors.push(FieldError::invalid(field, value, complaint));
    }
}

fn fit(path: &str, args: &FitArgs, errors: &mut Vec<FieldError>) {
    for (i, resource) in args.ignored_resources.iter().enumerate() {
        label_name(&format!("{path}.ignoredResources[{i}]"), resource, errors);
    }
    for (i, group) in args.ignored_resource_groups.iter().enumerate() {
        let field = format!("{path}.ignoredResourceGroups[{i}]");
        if group.contains('/') {
            let detail = "resource group name can't contain '/'";
            errors.push(FieldError::invalid(field.clone(), &**group, detail));
        }
        label_name(&field, group, errors);
    }
    let Some(strategy) = &args.scoring_strategy else {
        return;
    };
    let path = format!("{path}.scoringStrategy");
    let known = [
        "LeastAllocated",
        "MostAllocated",
        "RequestedToCapacityRatio",
    ];
    if !known.contains(&&*strategy.kind) {
        errors.push(FieldError::not_supported(
            format!("{path}.type"),
            &*strategy.kind,
            &known,
        ));
    }
    for (i, resource) in strategy.resources.iter().enumerate() {
        if !(1..=100).contains(&resource.weight) {
            let detail = format!(
                "resource weight of {} not in valid range (0, 100]",
                resource.name
            );
            let field = format!("{path}.resources[{i}].weight");
            errors.push(FieldError::invalid(field, resource.weight, detail));
        }
    }
    let ratio = format!("{path}.requestedToCapacityRatio");
    let is_ratio = strategy.kind == "RequestedToCapacityRatio";
    match (&strategy.requested_to_capacity_ratio, is_ratio) {
        (None, true) => {
            let detail = "must be specified when type is RequestedToCapacityRatio";
            errors.push(FieldError::required(ratio, detail));
        }
        (Some(given), true) => shape(&format!("{ratio}.shape"), &given.shape, errors),
        (Some(_), false) => {
            let detail = "must be nil when type is not RequestedToCapacityRatio";
            errors.push(FieldError::forbidden(ratio, detail));
        }
        (None, false) => {}
    }
}

fn shape(path: &str, points: &[Point], errors: &mut Vec<FieldError>) {
    if points.is_empty() {
        errors.push(FieldError::required(
            path,
            "at least one point must be specified",
        ));
        return;
    }
    let falls = points
        .windows(2)
        .position(|two| two[0].utilization >= two[1].utilization);
    if let Some(at) = falls {
        let field = format!("{path}[{}].utilization", at + 1);
        let value = i64::from(points[at + 1].utilization);
        errors.push(FieldError::invalid(
            field,
            value,
            "values must be sorted in increasing order",
        ));
    }
    for (i, point) in points.iter().enumerate() {
        for (field, value, most) in [
            ("utilization", point.utilization, 100),
            ("score", point.score, 10),
        ] {
            if !(0..=most).contains(&value) {
                let field = format!("{path}[{i}].{field}");
                let detail = format!("not in valid range [0, {most}]");
                errors.push(FieldError::invalid(field, i64::from(value), detail));
            }
        }
    }
}

fn spread(path: &str, args: &PodTopologySpreadArgs, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.defaultingType");
    let kind = &*args.defaulting_type;
    if !["System", "List"].contains(&kind) {
        errors.push(FieldError::not_supported(field, kind, &["System", "List"]));
    } else if kind == "System" && !args.default_constraints.is_empty() {
        errors.push(FieldError::invalid(
            field,
            kind,
            "when .defaultConstraints are not empty",
        ));
    }
    for (i, one) in args.default_constraints.iter().enumerate() {
        let path = format!("{path}.defaultConstraints[{i}]");
        if one.max_skew <= 0 {
            let field = format!("{path}.maxSkew");
            let value = i64::from(one.max_skew);
            errors.push(FieldError::invalid(
                field,
                value,
                "not in valid range (0, inf)",
            ));
        }
        let field = format!("{path}.topologyKey");
        match &*one.topology_key {
            "" => errors.push(FieldError::required(field, "can not be empty")),
            key => label_name(&field, key, errors),
        }
        let field = format!("{path}.whenUnsatisfiable");
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        match &*one.when_unsatisfiable {
            "" => errors.push(FieldError::required(field, "can not be empty")),
            action if known.contains(&action) => {}
            action => errors.push(FieldError::not_supported(field, action, &known)),
        }
        if one.label_selector.is_some() {
            let detail = "constraint must not define a selector, as they deduced for each pod";
            errors.push(FieldError::forbidden(
                format!("{path}.labelSelector"),
                detail,
            ));
        }
        let is_same = |other: &&k8s_openapi::api::core::v1::TopologySpreadConstraint| {
            (&other.topology_key, &other.when_unsatisfiable)
                == (&one.topology_key, &one.when_unsatisfiable)
        };
        if args.default_constraints[..i]
            .iter()
            .any(|other| is_same(&other))
        {
            let value = format!("{{{}, {}}}", one.topology_key, one.when_unsatisfiable);
            errors.push(FieldError::duplicate(path, &*value));
        }
    }
}
