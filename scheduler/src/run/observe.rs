//! What changed: into the cache and the queue, and pods that it may help are tried again.
#![allow(
    clippy::redundant_closure,
    reason = "a variant is a function for one lifetime, the closure for any"
)]

use std::sync::Arc;

use client::View;

use super::{Term, gate, gate_of};
use crate::framework::{Action, Change, Event, Object, Plugin};
use crate::inbox::Changed;
use crate::queue::pod_actions;
use crate::snapshot::Snapshot;
use crate::views::{Node, Pod, name, namespace};

impl Term {
    /// Takes in all that informers told.
    pub(super) fn observe(&mut self) {
        self.observe_workloads();
        self.observe_storage();
        self.observe_devices();
        for (old, new) in self.inboxes.nodes.take() {
            self.node(old, new);
        }
        for (old, new) in self.inboxes.pods.take() {
            self.pod(old, new);
        }
    }

    fn observe_workloads(&mut self) {
        let snapshot = self.cache.snapshot_mut();
        for (old, new) in self.inboxes.namespaces.take() {
            match (new, old) {
                (Some(new), _) => snapshot.set_namespace(&new),
                (None, Some(old)) => snapshot.remove_namespace(name(&old.metadata)),
                (None, None) => {}
            }
        }
        let workloads = &mut snapshot.workloads;
        for (old, new) in self.inboxes.services.take() {
            match (new, old) {
                (Some(new), _) => workloads.set_service(&new),
                (None, Some(old)) => {
                    workloads.remove_service(namespace(&old.metadata), name(&old.metadata));
                }
                (None, None) => {}
            }
        }
        for (old, new) in self.inboxes.replication_controllers.take() {
            match (new, old) {
                (Some(new), _) => workloads.set_replication_controller(&new),
                (None, Some(old)) => workloads.remove_replication_controller(&old.metadata),
                (None, None) => {}
            }
        }
        for (old, new) in self.inboxes.replica_sets.take() {
            match (new, old) {
                (Some(new), _) => workloads.set_replica_set(&new),
                (None, Some(old)) => workloads.remove_replica_set(&old.metadata),
                (None, None) => {}
            }
        }
        for (old, new) in self.inboxes.stateful_sets.take() {
            match (new, old) {
                (Some(new), _) => workloads.set_stateful_set(&new),
                (None, Some(old)) => workloads.remove_stateful_set(&old.metadata),
                (None, None) => {}
            }
        }
    }

    fn observe_storage(&mut self) {
        let changes = self.inboxes.claims.take();
        self.each(
            changes,
            |change| Object::Claim(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_claim(new),
                None => snapshot.volumes.remove_claim(old.namespace(), old.name()),
            },
        );
        let changes = self.inboxes.volumes.take();
        self.each(
            changes,
            |change| Object::Volume(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_volume(new),
                None => snapshot.volumes.remove_volume(old.name()),
            },
        );
        let changes = self.inboxes.classes.take();
        self.each(
            changes,
            |change| Object::Class(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_class(new),
                None => snapshot.volumes.remove_class(name(&old.metadata)),
            },
        );
        let changes = self.inboxes.csi_nodes.take();
        self.each(
            changes,
            |change| Object::CsiNode(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_node(new),
                None => snapshot.volumes.remove_node(name(&old.metadata)),
            },
        );
        let changes = self.inboxes.csi_drivers.take();
        self.each(
            changes,
            |change| Object::CsiDriver(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_driver(new),
                None => snapshot.volumes.remove_driver(name(&old.metadata)),
            },
        );
        let changes = self.inboxes.capacities.take();
        self.each(
            changes,
            |change| Object::Capacity(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_capacity(new),
                None => {
                    let (namespace, name) = (namespace(&old.metadata), name(&old.metadata));
                    snapshot.volumes.remove_capacity(namespace, name);
                }
            },
        );
        let changes = self.inboxes.attachments.take();
        self.each(
            changes,
            |change| Object::Attachment(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.volumes.set_attachment(new),
                None => snapshot.volumes.remove_attachment(old),
            },
        );
    }

    fn observe_devices(&mut self) {
        let changes = self.inboxes.resource_claims.take();
        let any_claims = !changes.is_empty();
        self.each(
            changes,
            |change| Object::ResourceClaim(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.devices.set_claim(new),
                None => {
                    let (namespace, name) = (namespace(&old.metadata), name(&old.metadata));
                    snapshot.devices.remove_claim(namespace, name);
                }
            },
        );
        let changes = self.inboxes.slices.take();
        self.each(
            changes,
            |change| Object::ResourceSlice(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.devices.set_slice(new),
                None => snapshot.devices.remove_slice(name(&old.metadata)),
            },
        );
        let changes = self.inboxes.device_classes.take();
        self.each(
            changes,
            |change| Object::DeviceClass(change),
            |snapshot, old, new| match new {
                Some(new) => snapshot.devices.set_class(new),
                None => snapshot.devices.remove_class(name(&old.metadata)),
            },
        );
        if any_claims {
            let now = self.seams.clock.now();
            self.queue
                .ungate(Plugin::DynamicResources, now, gate_of!(self));
        }
    }

    /// Puts changes of one kind into the snapshot and tells the queue of each.
    fn each<V: View>(
        &mut self,
        changes: Vec<Changed<V>>,
        object: fn(Change<'_, V>) -> Object<'_>,
        apply: impl Fn(&mut Snapshot, &V, Option<&Arc<V>>),
    ) {
        for (old, new) in changes {
            let Some(any) = new.as_ref().or(old.as_ref()) else {
                continue;
            };
            apply(self.cache.snapshot_mut(), any, new.as_ref());
            let action = match (&old, &new) {
                (None, _) => Action::ADD,
                (Some(_), Some(_)) => Action::UPDATE,
                (Some(_), None) => Action::DELETE,
            };
            let object = object(Change {
                old: old.as_deref(),
                new: new.as_deref(),
            });
            self.happened(&Event { action, object }, |_| true);
        }
    }

    fn node(&mut self, old: Option<Arc<Node>>, new: Option<Arc<Node>>) {
        let change = Change {
            old: old.as_deref(),
            new: new.as_deref(),
        };
        let object = Object::Node(change);
        match (&old, &new) {
            (None, Some(new)) => {
                self.cache.set_node(new);
                let action = Action::ADD;
                self.happened(&Event { action, object }, |_| true);
            }
            (Some(old), Some(new)) => {
                // Heartbeats change nothing that is looked at.
                let Some(actions) = node_actions(old, new) else {
                    return;
                };
                self.cache.set_node(new);
                for action in actions {
                    self.happened(&Event { action, object }, |_| true);
                }
            }
            (Some(old), None) => {
                let action = Action::DELETE;
                self.happened(&Event { action, object }, |_| true);
                self.cache.remove_node(old.name());
            }
            (None, None) => {}
        }
    }

    fn pod(&mut self, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>) {
        match (old, new) {
            (Some(old), Some(new)) if old.uid() != new.uid() => {
                self.pod_gone(&old);
                self.pod_seen(None, &new);
            }
            (old, Some(new)) => self.pod_seen(old.as_deref(), &new),
            (Some(old), None) => self.pod_gone(&old),
            (None, None) => {}
        }
    }

    fn pod_seen(&mut self, old: Option<&Pod>, new: &Arc<Pod>) {
        if new.is_assigned() {
            self.assigned(old, new);
            return;
        }
        if self.config.profile(&new.scheduler_name).is_none() {
            return;
        }
        let now = self.seams.clock.now();
        if let Some(flight) = self.in_flight.get_mut(new.uid()) {
            flight.queued.pod = Arc::clone(new);
            return;
        }
        let Some(old) = old else {
            self.queue.add(new, now, gate_of!(self));
            self.metrics.came("active", "UnschedulablePodAdd", 1);
            return;
        };
        if old.metadata.resource_version == new.metadata.resource_version {
            return;
        }
        self.queue.update(old, new, now, gate_of!(self));
        if !old.nominated_node.is_empty() && old.nominated_node != new.nominated_node {
            let priority = old.priority;
            self.left(old, |pod| pod.priority <= priority);
        }
    }

    fn assigned(&mut self, old: Option<&Pod>, new: &Arc<Pod>) {
        self.cache.set_pod(new);
        let before = old.filter(|old| old.is_assigned());
        if before.is_none() {
            self.queue.delete(new.uid());
            self.notes.remove(new.uid());
        }
        let change = Change {
            old: before,
            new: Some(&**new),
        };
        let object = Object::Pod(change);
        let actions = before.map_or_else(|| vec![Action::ADD], |old| pod_actions(old, new));
        for action in actions {
            self.happened(&Event { action, object }, |_| true);
        }
    }

    fn pod_gone(&mut self, old: &Pod) {
        self.notes.remove(old.uid());
        self.queue.delete(old.uid());
        if self.cache.remove_pod(old.uid()) {
            self.left(old, |_| true);
        } else if !old.nominated_node.is_empty() {
            let priority = old.priority;
            self.left(old, |pod| pod.priority <= priority);
        }
    }
}

/// What of a node changed that may matter to somebody; None if nothing that is looked at did.
fn node_actions(old: &Node, new: &Node) -> Option<Vec<Action>> {
    let uncordoned = old.unschedulable && !new.unschedulable;
    let known = [
        (uncordoned || old.taints != new.taints, Action::NODE_TAINT),
        (
            old.allocatable != new.allocatable || old.pods != new.pods,
            Action::NODE_ALLOCATABLE,
        ),
        (
            old.metadata.labels != new.metadata.labels,
            Action::NODE_LABEL,
        ),
    ];
    let changed = known.into_iter().filter(|(changed, _)| *changed);
    let actions: Vec<_> = changed.map(|(_, action)| action).collect();
    let is_seen =
        !actions.is_empty() || old.images != new.images || old.unschedulable != new.unschedulable;
    is_seen.then_some(actions)
}
