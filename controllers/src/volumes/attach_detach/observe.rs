//! What is known of volumes, pods, nodes and VolumeAttachments, and whom their changes wake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::{Index, Informer, Informers, Queue, Subscription, View};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};

use super::plan::{self, Attachment, World};
use super::{Key, attachment_name, keeps_volumes, split, unique_name};
use crate::node::Node;
use crate::pod::Pod;
use crate::volumes::{Claim, Volume, claim_keys, claim_name};

/// Only nodes with this have their volumes attached from here.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node, as far as volumes go.
impl Node {
    /// Whether it says that it has a volume mounted.
    pub(super) fn uses(&self, volume: &str) -> bool {
        self.status.volumes_in_use.iter().any(|name| name == volume)
    }

    fn is_managed(&self) -> bool {
        self.annotation(MANAGED).is_some()
    }

    fn for_volume(&self, volume: &str) -> plan::Node {
        let taints = &self.spec.taints;
        plan::Node {
            is_ready: self.is_ready(),
            is_out_of_service: taints.iter().any(|taint| taint.key == OUT_OF_SERVICE),
            uses_volume: self.uses(volume),
        }
    }

    /// The volumes that its status names.
    fn volumes(&self) -> impl Iterator<Item = &String> {
        let attached = self
            .status
            .volumes_attached
            .iter()
            .map(|volume| &volume.name);
        attached.chain(&self.status.volumes_in_use)
    }

    /// Whether a change matters to its volumes.
    fn differs(&self, other: &Node) -> bool {
        let parts = |node: &Node| (node.is_managed(), node.for_volume(""));
        parts(self) != parts(other)
            || self.status.volumes_in_use != other.status.volumes_in_use
            || self.status.volumes_attached != other.status.volumes_attached
    }
}

/// The informers and indexes.
#[derive(Clone)]
pub(super) struct Informed {
    pub(super) nodes: Informer<Node>,
    pods: Informer<Pod>,
    pods_by_claim: Index<Pod>,
    pods_by_node: Index<Pod>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    volumes_by_name: Index<Volume>,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
    attachments_by_node: Index<VolumeAttachment>,
    attachments_by_volume: Index<VolumeAttachment>,
    nodes_by_volume: Index<Node>,
}

impl Informed {
    pub(super) fn new(informers: &Informers) -> Self {
        let (nodes, pods) = (informers.of::<Node>(), informers.of::<Pod>());
        let (claims, volumes) = (informers.of::<Claim>(), informers.of::<Volume>());
        let attachments = informers.of::<VolumeAttachment>();
        Self {
            pods_by_claim: pods.index("claim", claim_keys),
            pods_by_node: pods.index("node", |pod| vec![pod.spec.node_name.clone()]),
            volumes_by_name: volumes.index("unique-name", |volume| {
                csi_name(volume).into_iter().collect()
            }),
            attachments_by_node: attachments.index("node", |one| vec![one.spec.node_name.clone()]),
            attachments_by_volume: attachments.index("volume", |one| {
                one.spec
                    .source
                    .persistent_volume_name
                    .clone()
                    .into_iter()
                    .collect()
            }),
            nodes_by_volume: nodes.index("volume", |node| node.volumes().cloned().collect()),
            drivers: informers.of(),
            nodes,
            pods,
            claims,
            volumes,
            attachments,
        }
    }

    /// What is known of a volume.
    pub(super) fn world(&self, driver: &str, handle: &str) -> World {
        let name = unique_name(driver, handle);
        let volumes = self.volumes_by_name.get(&name);
        let found = self.drivers.get("", driver);
        let required = found.and_then(|driver| driver.spec.attach_required);
        let mut world = World {
            driver: driver.into(),
            handle: handle.into(),
            is_attachable: required != Some(false),
            ..World::default()
        };
        for volume in &volumes {
            for pod in self.pods_of(volume) {
                let node = pod.spec.node_name.clone();
                let known = self.nodes.get("", &node);
                if known.is_some_and(|node| node.is_managed()) {
                    world.wanted.entry(node).or_default().push(pod);
                }
            }
        }
        world.attachments = self.attachments_of(&volumes, driver, handle);
        world.volume = volumes.into_iter().next();
        let nodes = world.wanted.keys().chain(world.attachments.keys());
        let nodes: BTreeSet<&String> = nodes.collect();
        let known = nodes.into_iter().filter_map(|node| {
            let found = self.nodes.get("", node)?;
            Some((node.clone(), found.for_volume(&name)))
        });
        world.nodes = known.collect();
        world
    }

    /// The pods that use a volume through the claim it is bound to.
    fn pods_of(&self, volume: &Volume) -> Vec<Arc<Pod>> {
        let Some(reference) = &volume.spec.claim_ref else {
            return Vec::new();
        };
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        let claim = self.claims.get(namespace, name).filter(|claim| {
            claim.status.phase == "Bound"
                && claim.spec.volume_name == volume.name()
                && reference.uid.as_deref() == Some(claim.uid())
        });
        let Some(claim) = claim else {
            return Vec::new();
        };
        let mut pods = self.pods_by_claim.get(&claim.key());
        pods.retain(|pod| {
            let mut volumes = pod.spec.volumes.iter();
            let is_its = volumes.any(|volume| {
                claim_name(pod, volume) == name
                    && (volume.claim_name.is_some() || claim.is_made_for(pod))
            });
            keeps_volumes(pod) && is_its
        });
        pods
    }

    /// The VolumeAttachments of a volume by node, also of one whose object is gone.
    fn attachments_of(
        &self,
        volumes: &[Arc<Volume>],
        driver: &str,
        handle: &str,
    ) -> BTreeMap<String, Attachment> {
        let by_volume = volumes
            .iter()
            .flat_map(|volume| self.attachments_by_volume.get(volume.name()));
        let unique = unique_name(driver, handle);
        let by_node = self.nodes_by_volume.get(&unique).into_iter();
        let by_node = by_node.filter_map(|node| {
            let name = attachment_name(handle, driver, node.name());
            self.attachments.get("", &name)
        });
        let all = by_volume.chain(by_node);
        all.map(|one| (one.spec.node_name.clone(), attachment(&one)))
            .collect()
    }

    /// The volumes that VolumeAttachments say are attached to a node.
    pub(super) fn attached_to(&self, node: &str) -> Vec<String> {
        let all = self.attachments_by_node.get(node);
        let attached = all.iter().filter(|one| {
            let status = one.status.as_ref();
            one.metadata.deletion_timestamp.is_none()
                && status.is_some_and(|status| status.attached)
        });
        attached.filter_map(|one| self.name_of(one)).collect()
    }

    /// The unique name of a VolumeAttachment's volume: its object knows, else its node.
    fn name_of(&self, attachment: &VolumeAttachment) -> Option<String> {
        let name = attachment.spec.source.persistent_volume_name.as_deref();
        let volume = name.and_then(|name| self.volumes.get("", name));
        if let Some(name) = volume.and_then(|volume| csi_name(&volume)) {
            return Some(name);
        }
        let node = self.nodes.get("", &attachment.spec.node_name)?;
        let is_it = |unique: &&String| {
            split(unique).is_some_and(|(driver, handle)| {
                attachment_name(handle, driver, node.name()) == attachment.name()
            })
        };
        node.volumes().find(is_it).cloned()
    }

    /// The volumes of a pod's claims.
    fn names_of_pod(&self, pod: &Pod) -> Vec<String> {
        let volumes = pod.spec.volumes.iter();
        let names = volumes.filter_map(|volume| {
            let claim = self.claims.get(pod.namespace(), &claim_name(pod, volume))?;
            csi_name(&*self.volumes.get("", &claim.spec.volume_name)?)
        });
        names.collect()
    }

    /// The volumes that a node has or shall have.
    fn names_of_node(&self, node: &Node) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = node.volumes().cloned().collect();
        let attachments = self.attachments_by_node.get(node.name());
        names.extend(attachments.iter().filter_map(|one| self.name_of(one)));
        let pods = self.pods_by_node.get(node.name());
        names.extend(pods.iter().flat_map(|pod| self.names_of_pod(pod)));
        names
    }

    /// Wakes volumes and nodes by changes of whatever they depend on.
    pub(super) fn wake(&self, queue: &Queue<Key>) -> Vec<Subscription> {
        vec![
            self.wake_by_pods(queue),
            self.wake_by_claims(queue),
            self.wake_by_volumes(queue),
            self.wake_by_attachments(queue),
            self.wake_by_nodes(queue),
            self.wake_by_drivers(queue),
        ]
    }

    fn wake_by_pods(&self, queue: &Queue<Key>) -> Subscription {
        let (informed, queue) = (self.clone(), queue.clone());
        self.pods.on_change(move |old, new| {
            let kept = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| keeps_volumes(pod));
            if kept(old) != kept(new) {
                let pod = new.or(old);
                let names = pod.map(|pod| informed.names_of_pod(pod));
                wake_all(&queue, names.unwrap_or_default());
            }
        })
    }

    fn wake_by_claims(&self, queue: &Queue<Key>) -> Subscription {
        let (informed, queue) = (self.clone(), queue.clone());
        self.claims.on_change(move |old, new| {
            for claim in old.into_iter().chain(new) {
                let volume = informed.volumes.get("", &claim.spec.volume_name);
                wake_all(&queue, volume.and_then(|volume| csi_name(&volume)));
            }
        })
    }

    fn wake_by_volumes(&self, queue: &Queue<Key>) -> Subscription {
        let queue = queue.clone();
        self.volumes.on_change(move |old, new| {
            for volume in old.into_iter().chain(new) {
                wake_all(&queue, csi_name(volume));
            }
        })
    }

    fn wake_by_attachments(&self, queue: &Queue<Key>) -> Subscription {
        let (informed, queue) = (self.clone(), queue.clone());
        self.attachments.on_change(move |old, new| {
            if let Some(attachment) = new.or(old) {
                wake_all(&queue, informed.name_of(attachment));
                queue.add(Key::Node(attachment.spec.node_name.as_str().into()));
            }
        })
    }

    fn wake_by_nodes(&self, queue: &Queue<Key>) -> Subscription {
        let (informed, queue) = (self.clone(), queue.clone());
        self.nodes.on_change(move |old, new| {
            let is_same = old.zip(new).is_some_and(|(old, new)| !new.differs(old));
            if let Some(node) = new.or(old).filter(|_| !is_same) {
                wake_all(&queue, informed.names_of_node(node));
                queue.add(Key::Node(node.name().into()));
            }
        })
    }

    fn wake_by_drivers(&self, queue: &Queue<Key>) -> Subscription {
        let (informed, queue) = (self.clone(), queue.clone());
        self.drivers.on_change(move |old, new| {
            let Some(driver) = new.or(old) else {
                return;
            };
            for volume in informed.volumes.list() {
                let source = volume.spec.csi.as_ref();
                if source.is_some_and(|source| source.driver == driver.name()) {
                    wake_all(&queue, csi_name(&volume));
                }
            }
        })
    }
}

fn wake_all(queue: &Queue<Key>, names: impl IntoIterator<Item = String>) {
    for name in names {
        queue.add(Key::Volume(name.into()));
    }
}

/// The unique name of a driver's volume.
fn csi_name(volume: &Volume) -> Option<String> {
    let source = volume.spec.csi.as_ref()?;
    Some(unique_name(&source.driver, &source.volume_handle))
}

fn attachment(one: &VolumeAttachment) -> Attachment {
    let status = one.status.clone().unwrap_or_default();
    let message = |error: Option<k8s_openapi::api::storage::v1::VolumeError>| {
        error.map(|error| error.message.unwrap_or_default())
    };
    Attachment {
        name: one.name().into(),
        is_attached: status.attached,
        deleted_at: one.metadata.deletion_timestamp.as_ref().map(|at| at.0),
        attach_error: message(status.attach_error),
        detach_error: message(status.detach_error),
    }
}
