//! What plugins are: their names, what they answer, which changes interest them.
//!
//! The plugins are upstream's, so they are an enum and each is a file of functions in
//! [`crate::filters`] and [`crate::scores`]: a call is a jump, the compiler checks that none is
//! forgotten, and a profile is a list of names.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::resource::v1 as resource;

use crate::views::{
    CsiDriver, CsiNode, CsiStorageCapacity, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    StorageClass, VolumeAttachment,
};

/// The largest score a plugin gives.
pub(crate) const MAX_SCORE: i64 = 100;

macro_rules! plugins {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A plugin, by upstream's name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Plugin {
            $($(#[$doc])* $name,)*
        }

        impl Plugin {
            /// All of them, in upstream's default order.
            pub const ALL: &[Plugin] = &[$(Plugin::$name,)*];

            /// The name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Plugin::$name => stringify!($name),)*
                }
            }
        }
    };
}

plugins! {
    /// Pods wait until their gates are gone.
    SchedulingGates,
    /// By priority, then by time.
    PrioritySort,
    /// Cordoned nodes are for those who tolerate that.
    NodeUnschedulable,
    /// spec.nodeName.
    NodeName,
    /// Taints and tolerations.
    TaintToleration,
    /// Node selectors and node affinity.
    NodeAffinity,
    /// Ports of the host.
    NodePorts,
    /// Enough cpu, memory and the rest.
    NodeResourcesFit,
    /// Disks that exclude each other.
    VolumeRestrictions,
    /// How many volumes a node takes.
    NodeVolumeLimits,
    /// Claims that are bound, or can be.
    VolumeBinding,
    /// Volumes of a zone.
    VolumeZone,
    /// Spread over zones and nodes.
    PodTopologySpread,
    /// Near to some pods, far from others.
    InterPodAffinity,
    /// Devices.
    DynamicResources,
    /// Others make way.
    DefaultPreemption,
    /// cpu and memory used evenly.
    NodeResourcesBalancedAllocation,
    /// Where the images are already.
    ImageLocality,
    /// Writes the binding.
    DefaultBinder,
}

impl Plugin {
    /// The plugin of a name.
    pub fn named(name: &str) -> Option<Plugin> {
        Plugin::ALL
            .iter()
            .copied()
            .find(|plugin| plugin.name() == name)
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A set of plugins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plugins(u32);

impl Plugins {
    /// Adds one.
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u32;
    }

    /// Whether one is in it.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u32) != 0
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Plugin> {
        Plugin::ALL
            .iter()
            .copied()
            .filter(move |plugin| self.contains(*plugin))
    }
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        let mut set = Plugins::default();
        plugins.into_iter().for_each(|plugin| set.insert(plugin));
        set
    }
}

/// Why a plugin says no: thousands of nodes may say no to one pod, so the common case, one fixed
/// sentence, allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasons {
    /// One reason.
    One(Cow<'static, str>),
    /// Several.
    Many(Vec<Cow<'static, str>>),
}

impl Reasons {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Reasons::One(one) => std::slice::from_ref(one),
            Reasons::Many(many) => many,
        };
        all.iter().map(|reason| &**reason)
    }
}

/// A plugin's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Who says it.
    pub plugin: Plugin,
    /// Evicting pods would not help (UnschedulableAndUnresolvable).
    pub is_final: bool,
    /// Why.
    pub reasons: Reasons,
}

impl Rejection {
    /// A no that others could make a yes by going away.
    pub(crate) fn new(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection {
            plugin,
            is_final: false,
            reasons: Reasons::One(reason.into()),
        }
    }

    /// A no whatever others do.
    pub(crate) fn last(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection {
            is_final: true,
            ..Rejection::new(plugin, reason)
        }
    }

    /// The reasons in one line.
    pub fn message(&self) -> String {
        self.reasons.iter().collect::<Vec<_>>().join(", ")
    }
}

/// Why a plugin gives no yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The pod does not go there.
    Rejected(Rejection),
    /// The plugin could not tell.
    Error(String),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Failure::Rejected(rejection)
    }
}

/// What a plugin answers about a node.
pub(crate) type Verdict = Result<(), Failure>;

/// Parts of a profile that pods are compiled with.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Spread constraints of pods without any.
    pub constraints: Vec<core::TopologySpreadConstraint>,
    /// They are upstream's own, under which nodes need not have all labels.
    pub is_system: bool,
    /// Node affinity that every pod of the profile has in addition.
    pub added: Option<core::NodeAffinity>,
}

impl Default for Defaults {
    fn default() -> Self {
        let constraint = |key: &str, max_skew| core::TopologySpreadConstraint {
            topology_key: key.to_string(),
            when_unsatisfiable: "ScheduleAnyway".to_string(),
            max_skew,
            ..Default::default()
        };
        Defaults {
            constraints: vec![
                constraint("kubernetes.io/hostname", 3),
                constraint("topology.kubernetes.io/zone", 5),
            ],
            is_system: true,
            added: None,
        }
    }
}

/// What happened to an object, in upstream's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action(u32);

impl Action {
    /// It is new.
    pub const ADD: Action = Action(1);
    /// It is gone.
    pub const DELETE: Action = Action(1 << 1);
    /// A node's allocatable changed.
    pub const NODE_ALLOCATABLE: Action = Action(1 << 2);
    /// A node's labels changed.
    pub const NODE_LABEL: Action = Action(1 << 3);
    /// A node's taints changed, or it was uncordoned.
    pub const NODE_TAINT: Action = Action(1 << 4);
    /// A pod's labels changed.
    pub const POD_LABEL: Action = Action(1 << 5);
    /// A pod asks for less.
    pub const POD_SCALE_DOWN: Action = Action(1 << 6);
    /// A pod tolerates more.
    pub const POD_TOLERATION: Action = Action(1 << 7);
    /// A pod's gates are gone.
    pub const POD_GATES: Action = Action(1 << 8);
    /// Claims were made for a pod.
    pub const POD_CLAIMS: Action = Action(1 << 9);
    /// Anything else changed.
    pub const UPDATE: Action = Action(1 << 10);

    /// Either.
    pub(crate) const fn or(self, other: Action) -> Action {
        Action(self.0 | other.0)
    }

    /// Whether one is among several.
    pub(crate) fn is_in(self, several: Action) -> bool {
        self.0 & several.0 != 0
    }

    fn name(self) -> &'static str {
        match self {
            Action::ADD => "Add",
            Action::DELETE => "Delete",
            Action::NODE_ALLOCATABLE => "UpdateNodeAllocatable",
            Action::NODE_LABEL => "UpdateNodeLabel",
            Action::NODE_TAINT => "UpdateNodeTaint",
            Action::POD_LABEL => "UpdatePodLabel",
            Action::POD_SCALE_DOWN => "UpdatePodScaleDown",
            Action::POD_TOLERATION => "UpdatePodToleration",
            Action::POD_GATES => "UpdatePodSchedulingGatesEliminated",
            Action::POD_CLAIMS => "UpdatePodGeneratedResourceClaim",
            _ => "Update",
        }
    }
}

/// An object before and after a change; one of the two may be absent.
#[derive(Debug)]
pub struct Change<'o, T> {
    /// Before.
    pub old: Option<&'o T>,
    /// After.
    pub new: Option<&'o T>,
}

impl<T> Clone for Change<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Change<'_, T> {}

/// What changed.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are the kinds")]
pub enum Object<'o> {
    Pod(Change<'o, Pod>),
    Node(Change<'o, Node>),
    Claim(Change<'o, PersistentVolumeClaim>),
    Volume(Change<'o, PersistentVolume>),
    Class(Change<'o, StorageClass>),
    CsiNode(Change<'o, CsiNode>),
    CsiDriver(Change<'o, CsiDriver>),
    Capacity(Change<'o, CsiStorageCapacity>),
    Attachment(Change<'o, VolumeAttachment>),
    ResourceClaim(Change<'o, resource::ResourceClaim>),
    ResourceSlice(Change<'o, resource::ResourceSlice>),
    DeviceClass(Change<'o, resource::DeviceClass>),
}

/// A change that may make pods schedulable.
#[derive(Debug, Clone, Copy)]
pub struct Event<'o> {
    /// What happened.
    pub action: Action,
    /// To what.
    pub object: Object<'o>,
}

impl Event<'_> {
    /// Upstream's label, for metrics.
    pub fn label(&self) -> String {
        let kind = match self.object {
            Object::Pod(change) => {
                let pod = change.new.or(change.old);
                match pod.is_some_and(Pod::is_assigned) {
                    true => "AssignedPod",
                    false => "UnschedulablePod",
                }
            }
            Object::Node(_) => "Node",
            Object::Claim(_) => "PersistentVolumeClaim",
            Object::Volume(_) => "PersistentVolume",
            Object::Class(_) => "storage.k8s.io/StorageClass",
            Object::CsiNode(_) => "storage.k8s.io/CSINode",
            Object::CsiDriver(_) => "storage.k8s.io/CSIDriver",
            Object::Capacity(_) => "storage.k8s.io/CSIStorageCapacity",
            Object::Attachment(_) => "storage.k8s.io/VolumeAttachment",
            Object::ResourceClaim(_) => "resource.k8s.io/ResourceClaim",
            Object::ResourceSlice(_) => "resource.k8s.io/ResourceSlice",
            Object::DeviceClass(_) => "resource.k8s.io/DeviceClass",
        };
        format!("{kind}{}", self.action.name())
    }
}
