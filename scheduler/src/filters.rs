//! Where a pod can go: a file per plugin.
//!
//! Each has up to three functions: `facts` (upstream's PreFilter) looks once at pod and snapshot,
//! `filter` judges one node, `hint` tells whether a change may turn an earlier no into a yes.

pub(crate) mod dynamic_resources;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
pub(crate) mod node_name;
pub(crate) mod node_ports;
pub(crate) mod node_resources_fit;
pub(crate) mod node_unschedulable;
pub(crate) mod node_volume_limits;
pub(crate) mod pod_topology_spread;
pub(crate) mod scheduling_gates;
pub(crate) mod taint_toleration;
pub(crate) mod volume_binding;
pub(crate) mod volume_restrictions;
pub(crate) mod volume_zone;

use crate::cycle::{State, WhatIf};
use crate::framework::{Event, Plugin, Verdict};
use crate::snapshot::NodeInfo;
use crate::views::Pod;

/// What a plugin says about a node.
pub(crate) fn filter(
    plugin: Plugin,
    state: &State<'_>,
    node: &NodeInfo,
    what_if: &WhatIf,
) -> Verdict {
    match plugin {
        Plugin::NodeUnschedulable => node_unschedulable::filter(state, node),
        Plugin::NodeName => node_name::filter(state, node),
        Plugin::TaintToleration => taint_toleration::filter(state, node),
        Plugin::NodeAffinity => node_affinity::filter(state, node),
        Plugin::NodePorts => node_ports::filter(state, node),
        Plugin::NodeResourcesFit => node_resources_fit::filter(state, node),
        Plugin::VolumeRestrictions => volume_restrictions::filter(state, node, what_if),
        Plugin::NodeVolumeLimits => node_volume_limits::filter(state, node),
        Plugin::VolumeBinding => volume_binding::filter(state, node),
        Plugin::VolumeZone => volume_zone::filter(state, node),
        Plugin::PodTopologySpread => pod_topology_spread::filter(state, node, what_if),
        Plugin::InterPodAffinity => inter_pod_affinity::filter(state, node, what_if),
        Plugin::DynamicResources => dynamic_resources::filter(state, node),
        Plugin::SchedulingGates
        | Plugin::PrioritySort
        | Plugin::DefaultPreemption
        | Plugin::NodeResourcesBalancedAllocation
        | Plugin::ImageLocality
        | Plugin::DefaultBinder => Ok(()),
    }
}

/// Whether a change may make a pod schedulable that a plugin rejected.
pub(crate) fn hint(plugin: Plugin, pod: &Pod, event: &Event<'_>) -> bool {
    match plugin {
        Plugin::SchedulingGates => scheduling_gates::hint(pod, event),
        Plugin::NodeUnschedulable => node_unschedulable::hint(pod, event),
        Plugin::NodeName => node_name::hint(event),
        Plugin::TaintToleration => taint_toleration::hint(pod, event),
        Plugin::NodeAffinity => node_affinity::hint(pod, event),
        Plugin::NodePorts => node_ports::hint(pod, event),
        Plugin::NodeResourcesFit => node_resources_fit::hint(pod, event),
        Plugin::VolumeRestrictions => volume_restrictions::hint(pod, event),
        Plugin::NodeVolumeLimits => node_volume_limits::hint(pod, event),
        Plugin::VolumeBinding => volume_binding::hint(pod, event),
        Plugin::VolumeZone => volume_zone::hint(pod, event),
        Plugin::PodTopologySpread => pod_topology_spread::hint(pod, event),
        Plugin::InterPodAffinity => inter_pod_affinity::hint(pod, event),
        Plugin::DynamicResources => dynamic_resources::hint(pod, event),
        Plugin::PrioritySort
        | Plugin::DefaultPreemption
        | Plugin::NodeResourcesBalancedAllocation
        | Plugin::ImageLocality
        | Plugin::DefaultBinder => false,
    }
}
