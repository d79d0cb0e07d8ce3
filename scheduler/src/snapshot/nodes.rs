//! One node: what it has, what is taken, and by whom.

use std::sync::Arc;

use crate::intern::{FxMap, Interner, Labels, Symbol};
use crate::views::Node;
use crate::views::pod::HostPort;

use super::{NONE, Placed};

/// cpu in millis, the rest in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral: i64,
}

/// A resource counted under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) name: Symbol,
    pub(crate) allocatable: i64,
    pub(crate) requested: i64,
    /// The node knows the resource, if only with 0.
    pub(crate) is_offered: bool,
}

/// A node with the totals that filters and scores read. Scanned by the hundred for every pod, so
/// what is read most comes first.
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    pub(crate) id: u32,
    pub(crate) name: Symbol,
    /// Whether there is an object; without one just its pods are remembered.
    pub(crate) exists: bool,
    pub(crate) unschedulable: bool,
    /// Has taints that keep pods off.
    pub(crate) repels: bool,
    /// Has taints that pods had better avoid.
    pub(crate) discourages: bool,
    pub(crate) pods_max: i64,
    pub(crate) allocatable: Amounts,
    pub(crate) requested: Amounts,
    /// cpu and memory as scoring counts them.
    pub(crate) assumed: (i64, i64),
    pub(crate) pods: Vec<Arc<Placed>>,
    /// By topology.
    pub(crate) domains: Vec<u32>,
    pub(crate) labels: Labels,
    pub(crate) scalars: Vec<Scalar>,
    pub(crate) ports: Vec<HostPort>,
    /// Size by name.
    pub(crate) images: FxMap<Symbol, i64>,
    pub(crate) zone: (Option<Symbol>, Option<Symbol>),
    pub(crate) node: Arc<Node>,
}

impl NodeInfo {
    pub(super) fn new(id: u32, name: Symbol, topologies: usize) -> Self {
        NodeInfo {
            id,
            name,
            exists: false,
            unschedulable: false,
            repels: false,
            discourages: false,
            pods_max: 0,
            allocatable: Amounts::default(),
            requested: Amounts::default(),
            assumed: (0, 0),
            pods: Vec::new(),
            domains: vec![NONE; topologies],
            labels: Labels::default(),
            scalars: Vec::new(),
            ports: Vec::new(),
            images: FxMap::default(),
            zone: (None, None),
            node: Arc::default(),
        }
    }

    /// Takes what the object says, all but labels.
    pub(super) fn describe(&mut self, node: &Arc<Node>, interner: &mut Interner) {
        self.unschedulable = node.unschedulable;
        self.repels = node
            .taints
            .iter()
            .any(|taint| taint.effect != "PreferNoSchedule");
        self.discourages = node
            .taints
            .iter()
            .any(|taint| taint.effect == "PreferNoSchedule");
        self.pods_max = node.pods;
        self.allocatable = Amounts {
            cpu: node.allocatable.cpu,
            memory: node.allocatable.memory,
            ephemeral: node.allocatable.ephemeral,
        };
        for scalar in &mut self.scalars {
            (scalar.allocatable, scalar.is_offered) = (0, false);
        }
        for (name, amount) in &node.allocatable.scalars {
            let scalar = self.scalar(interner.intern(name));
            (scalar.allocatable, scalar.is_offered) = (*amount, true);
        }
        let images = node.images.iter();
        self.images = images
            .map(|(name, size)| (interner.intern(name), *size))
            .collect();
        self.node = Arc::clone(node);
    }

    /// The object is gone.
    pub(super) fn forget(&mut self) {
        let mut blank = NodeInfo::new(self.id, self.name, 0);
        blank.domains = std::mem::take(&mut self.domains);
        for placed in std::mem::take(&mut self.pods) {
            blank.add(&placed);
        }
        *self = blank;
    }

    /// A resource counted under its name.
    pub(crate) fn scalar(&mut self, name: Symbol) -> &mut Scalar {
        let at = self.scalars.iter().position(|one| one.name == name);
        let at = at.unwrap_or_else(|| {
            self.scalars.push(Scalar {
                name,
                allocatable: 0,
                requested: 0,
                is_offered: false,
            });
            self.scalars.len() - 1
        });
        &mut self.scalars[at]
    }

    /// Such a resource, if the node has it or pods on it asked for it.
    pub(crate) fn find_scalar(&self, name: Symbol) -> Option<&Scalar> {
        self.scalars.iter().find(|one| one.name == name)
    }

    /// Puts a pod on the node.
    pub(crate) fn add(&mut self, placed: &Arc<Placed>) {
        self.total(placed, 1);
        self.ports.extend(placed.pod.ports.iter().cloned());
        self.pods.push(Arc::clone(placed));
    }

    /// Takes a pod off the node; false if it is not there.
    pub(crate) fn remove(&mut self, placed: &Placed) -> bool {
        let uid = placed.pod.uid();
        let Some(at) = self.pods.iter().position(|one| one.pod.uid() == uid) else {
            return false;
        };
        let placed = self.pods.swap_remove(at);
        self.total(&placed, -1);
        for port in &placed.pod.ports {
            if let Some(at) = self.ports.iter().position(|one| one == port) {
                self.ports.swap_remove(at);
            }
        }
        true
    }

    fn total(&mut self, placed: &Placed, sign: i64) {
        let requests = &placed.pod.requests;
        self.requested.cpu += sign * requests.cpu;
        self.requested.memory += sign * requests.memory;
        self.requested.ephemeral += sign * requests.ephemeral;
        self.assumed.0 += sign * placed.pod.assumed.0;
        self.assumed.1 += sign * placed.pod.assumed.1;
        for (name, amount) in &placed.scalars {
            self.scalar(*name).requested += sign * amount;
        }
    }
}
