//! What the scheduler keeps of each object: the fields it reads, quantities as integers.
//!
//! A decoded pod costs ten times its bytes; these cost about as much as the bytes. Serde skips
//! whatever a view does not list. [`pod`] is the largest and has its own file.

pub mod cluster;
pub mod node;
pub mod pod;
pub mod storage;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use cluster::{Namespace, PodDisruptionBudget, ReplicaSet, ReplicationController};
pub use cluster::{Service, StatefulSet};
pub use node::Node;
pub use pod::Pod;
pub use storage::{
    CsiDriver, CsiNode, CsiStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass,
    VolumeAttachment,
};

/// Drops what no plugin reads from an object's metadata.
fn trim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.finalizers = None;
    metadata.generate_name = None;
    metadata.self_link = None;
}

/// A name that an object which was read always has.
pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// The namespace of an object, empty for those without.
pub(crate) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

/// A quantity in units, 0 if it is none.
pub(crate) fn units(text: &Text) -> i64 {
    // Most quantities are plain numbers or come with a binary suffix: parsed without allocating.
    let text = &*text.0;
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let scale = match &text[digits.len()..] {
        "" => Some(1),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        _ => None,
    };
    if let (Some(scale), Ok(number)) = (scale, digits.parse::<i64>())
        && let Some(product) = number.checked_mul(scale)
    {
        return product;
    }
    api::values::quantity::Quantity::parse(text).map_or(0, |quantity| quantity.units())
}

/// A quantity in thousandths, 0 if it is none.
fn millis(text: &Text) -> i64 {
    let plain = text.0.strip_suffix('m');
    if let Some(Ok(number)) = plain.map(str::parse::<i64>) {
        return number;
    }
    api::values::quantity::Quantity::parse(&text.0).map_or(0, |quantity| quantity.millis())
}

/// Amounts of resources: millis of cpu, bytes, counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of ephemeral storage.
    pub ephemeral: i64,
    /// Extended resources, huge pages and the like, sorted by name.
    pub scalars: Vec<(String, i64)>,
}

/// Whether a resource is counted as a whole number under its name: extended resources, huge pages,
/// prefixed native resources and attachable volumes.
pub(crate) fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

impl Requests {
    /// Nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalars.is_empty()
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral,
            _ => self.scalar(name),
        }
    }

    fn scalar(&self, name: &str) -> i64 {
        let at = self
            .scalars
            .binary_search_by(|(known, _)| (**known).cmp(name));
        at.map_or(0, |at| self.scalars[at].1)
    }

    fn slot(&mut self, name: &str) -> Option<&mut i64> {
        Some(match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral,
            _ if is_scalar(name) => {
                let at = self
                    .scalars
                    .binary_search_by(|(known, _)| (**known).cmp(name));
                let at = at.unwrap_or_else(|at| {
                    self.scalars.insert(at, (name.to_string(), 0));
                    at
                });
                &mut self.scalars[at].1
            }
            _ => return None,
        })
    }

    /// Takes a list of quantities as an object holds it.
    pub(crate) fn of<'q>(list: impl IntoIterator<Item = (&'q String, &'q Text)>) -> Self {
        let mut requests = Requests::default();
        for (name, quantity) in list {
            let amount = if name == "cpu" {
                millis(quantity)
            } else {
                units(quantity)
            };
            if let Some(slot) = requests.slot(name) {
                *slot = amount;
            }
        }
        requests
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, i64)> {
        let plain = [
            ("cpu", self.cpu),
            ("memory", self.memory),
            ("ephemeral-storage", self.ephemeral),
        ];
        let scalars = self.scalars.iter().map(|(name, amount)| (&**name, *amount));
        plain.into_iter().chain(scalars)
    }

    fn add(&mut self, other: &Requests) {
        for (name, amount) in other.each() {
            if let Some(slot) = self.slot(name) {
                *slot = slot.saturating_add(amount);
            }
        }
    }

    fn max(&mut self, other: &Requests) {
        for (name, amount) in other.each() {
            if let Some(slot) = self.slot(name) {
                *slot = (*slot).max(amount);
            }
        }
    }

    fn set(&mut self, name: &str, amount: i64) {
        if let Some(slot) = self.slot(name) {
            *slot = amount;
        }
    }
}
