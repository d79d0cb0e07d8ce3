//! Which plugins a profile runs where: defaults, multiPoint, and each extension point on its own.

use crate::framework::Plugin;
use crate::profile::Profile;

use super::wire::{Named, PluginSet, WirePlugins};

/// Upstream's plugins with the weights of those that score.
const DEFAULTS: &[(Plugin, i32)] = &[
    (Plugin::SchedulingGates, 0),
    (Plugin::PrioritySort, 0),
    (Plugin::NodeUnschedulable, 0),
    (Plugin::NodeName, 0),
    (Plugin::TaintToleration, 3),
    (Plugin::NodeAffinity, 2),
    (Plugin::NodePorts, 0),
    (Plugin::NodeResourcesFit, 1),
    (Plugin::VolumeRestrictions, 0),
    (Plugin::NodeVolumeLimits, 0),
    (Plugin::VolumeBinding, 0),
    (Plugin::VolumeZone, 0),
    (Plugin::PodTopologySpread, 2),
    (Plugin::InterPodAffinity, 2),
    (Plugin::DynamicResources, 2),
    (Plugin::DefaultPreemption, 0),
    (Plugin::NodeResourcesBalancedAllocation, 1),
    (Plugin::ImageLocality, 1),
    (Plugin::DefaultBinder, 0),
];

fn pre_filters(plugin: Plugin) -> bool {
    matches!(
        plugin,
        Plugin::NodeAffinity
            | Plugin::NodePorts
            | Plugin::NodeResourcesFit
            | Plugin::VolumeRestrictions
            | Plugin::NodeVolumeLimits
            | Plugin::VolumeBinding
            | Plugin::VolumeZone
            | Plugin::PodTopologySpread
            | Plugin::InterPodAffinity
            | Plugin::DynamicResources
    )
}

fn filters(plugin: Plugin) -> bool {
    pre_filters(plugin)
        || matches!(
            plugin,
            Plugin::NodeUnschedulable | Plugin::NodeName | Plugin::TaintToleration
        )
}

fn scores(plugin: Plugin) -> bool {
    matches!(
        plugin,
        Plugin::TaintToleration
            | Plugin::NodeAffinity
            | Plugin::NodeResourcesFit
            | Plugin::VolumeBinding
            | Plugin::PodTopologySpread
            | Plugin::InterPodAffinity
            | Plugin::DynamicResources
            | Plugin::NodeResourcesBalancedAllocation
            | Plugin::ImageLocality
    )
}

fn post_filters(plugin: Plugin) -> bool {
    matches!(plugin, Plugin::DynamicResources | Plugin::DefaultPreemption)
}

fn gates(plugin: Plugin) -> bool {
    plugin == Plugin::SchedulingGates
}

/// Fills in what a profile runs.
pub(super) fn enable(wire: &WirePlugins, profile: &mut Profile) {
    let everywhere = merge(&wire.multi_point);
    profile.pre_filters = at(&wire.pre_filter, &everywhere, pre_filters)
        .into_iter()
        .map(first)
        .collect();
    profile.filters = at(&wire.filter, &everywhere, filters)
        .into_iter()
        .map(first)
        .collect();
    profile.post_filters = at(&wire.post_filter, &everywhere, post_filters)
        .into_iter()
        .map(first)
        .collect();
    // A plugin that scores without a weight has 1.
    profile.scores = at(&wire.score, &everywhere, scores)
        .into_iter()
        .map(|(plugin, weight)| (plugin, i64::from(if weight == 0 { 1 } else { weight })))
        .collect();
    profile.has_gates = !at(&wire.pre_enqueue, &everywhere, gates).is_empty();
}

fn first((plugin, _): (Plugin, i32)) -> Plugin {
    plugin
}

fn named(one: &Named) -> Option<(Plugin, i32)> {
    Some((Plugin::named(&one.name)?, one.weight.unwrap_or(0)))
}

fn disables(set: &PluginSet, plugin: Plugin) -> bool {
    set.disabled
        .iter()
        .any(|one| one.name == "*" || one.name == plugin.name())
}

/// The defaults as multiPoint changes them: those disabled left out, those named again replaced in
/// their place, others appended.
fn merge(set: &PluginSet) -> Vec<(Plugin, i32)> {
    let custom: Vec<_> = set.enabled.iter().filter_map(named).collect();
    let mut merged: Vec<_> = DEFAULTS
        .iter()
        .filter(|(plugin, _)| !disables(set, *plugin))
        .map(|default| {
            *custom
                .iter()
                .find(|(plugin, _)| *plugin == default.0)
                .unwrap_or(default)
        })
        .collect();
    for one in custom {
        if !merged.iter().any(|(plugin, _)| *plugin == one.0) {
            merged.push(one);
        }
    }
    merged
}

/// The plugins of one extension point: those that multiPoint enables and the point does not
/// disable, overridden by the point's own, which come first if they are new.
fn at(
    set: &PluginSet,
    everywhere: &[(Plugin, i32)],
    belongs: fn(Plugin) -> bool,
) -> Vec<(Plugin, i32)> {
    let own: Vec<_> = set.enabled.iter().filter_map(named).collect();
    let of_all = everywhere.iter().filter(|(plugin, _)| belongs(*plugin));
    let of_all: Vec<_> = of_all
        .filter(|(plugin, _)| !disables(set, *plugin))
        .copied()
        .collect();
    let is_override = |plugin: Plugin| of_all.iter().any(|(one, _)| *one == plugin);
    let overriding = own.iter().filter(|(plugin, _)| is_override(*plugin));
    let added = own
        .iter()
        .filter(|(plugin, _)| !is_override(*plugin) && belongs(*plugin));
    let rest = of_all
        .iter()
        .filter(|(plugin, _)| !own.iter().any(|(one, _)| one == plugin));
    overriding.chain(added).chain(rest).copied().collect()
}
