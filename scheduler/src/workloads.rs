//! Which pods are siblings: what services and owners select. Pods without constraints of their own
//! are spread among their siblings.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::intern::{FxMap, Symbol};
use crate::selector::Selector;
use crate::snapshot::{Placed, Snapshot};
use crate::views::{Pod, ReplicaSet, ReplicationController, Service, StatefulSet};
use crate::views::{name, namespace};

/// The kinds whose selectors tell siblings apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// What one owner selects.
#[derive(Debug, Clone, PartialEq)]
enum Selects {
    Map(BTreeMap<String, String>),
    Set(LabelSelector),
}

/// A class of pods, and who owns them.
type Known = (u32, Option<(Kind, Symbol)>);

/// Services and owners.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    /// By namespace, then name.
    services: HashMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    owners: HashMap<(Kind, String, String), Selects>,
    /// Answers until something changes: by class and owner.
    known: FxMap<Known, Option<Selector>>,
}

impl Workloads {
    /// A service that is new or has changed.
    pub(crate) fn set_service(&mut self, service: &Service) {
        let (namespace, name) = (namespace(&service.metadata), name(&service.metadata));
        match &service.spec.selector {
            Some(selector) if !selector.is_empty() => {
                let known = self.services.entry(namespace.to_string()).or_default();
                if known.get(name) != Some(selector) {
                    known.insert(name.to_string(), selector.clone());
                    self.known.clear();
                }
            }
            _ => self.remove_service(namespace, name),
        }
    }

    /// A service that is gone.
    pub(crate) fn remove_service(&mut self, namespace: &str, name: &str) {
        let known = self.services.get_mut(namespace);
        if known.is_some_and(|known| known.remove(name).is_some()) {
            self.known.clear();
        }
    }

    /// A replication controller that is new or has changed.
    pub(crate) fn set_replication_controller(&mut self, owner: &ReplicationController) {
        let selects = owner.spec.selector.clone().map(Selects::Map);
        self.set(Kind::ReplicationController, &owner.metadata, selects);
    }

    /// A replica set that is new or has changed.
    pub(crate) fn set_replica_set(&mut self, owner: &ReplicaSet) {
        let selects = owner.spec.selector.clone().map(Selects::Set);
        self.set(Kind::ReplicaSet, &owner.metadata, selects);
    }

    /// A stateful set that is new or has changed.
    pub(crate) fn set_stateful_set(&mut self, owner: &StatefulSet) {
        let selects = owner.spec.selector.clone().map(Selects::Set);
        self.set(Kind::StatefulSet, &owner.metadata, selects);
    }

    /// A replication controller that is gone.
    pub(crate) fn remove_replication_controller(&mut self, metadata: &ObjectMeta) {
        self.set(Kind::ReplicationController, metadata, None);
    }

    /// A replica set that is gone.
    pub(crate) fn remove_replica_set(&mut self, metadata: &ObjectMeta) {
        self.set(Kind::ReplicaSet, metadata, None);
    }

    /// A stateful set that is gone.
    pub(crate) fn remove_stateful_set(&mut self, metadata: &ObjectMeta) {
        self.set(Kind::StatefulSet, metadata, None);
    }

    fn set(&mut self, kind: Kind, metadata: &ObjectMeta, selects: Option<Selects>) {
        let key = (
            kind,
            namespace(metadata).to_string(),
            name(metadata).to_string(),
        );
        let is_news = match selects {
            Some(selects) if self.owners.get(&key) == Some(&selects) => false,
            Some(selects) => self.owners.insert(key, selects).is_some() || !self.known.is_empty(),
            None => self.owners.remove(&key).is_some(),
        };
        if is_news {
            self.known.clear();
        }
    }

    /// Forgets answers, whose symbols are another interner's. The rest is plain text.
    pub(crate) fn moved(mut self) -> Self {
        self.known.clear();
        self
    }
}

/// The controller that a pod belongs to, if its kind selects.
fn owner(pod: &Pod) -> Option<(Kind, &str)> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|one| one.controller == Some(true))?;
    let kind = match (&*owner.api_version, &*owner.kind) {
        ("v1", "ReplicationController") => Kind::ReplicationController,
        ("apps/v1", "ReplicaSet") => Kind::ReplicaSet,
        ("apps/v1", "StatefulSet") => Kind::StatefulSet,
        _ => return None,
    };
    Some((kind, &owner.name))
}

impl Snapshot {
    /// What selects a pod and its siblings; None if nothing does.
    pub(crate) fn siblings(&mut self, pod: &Pod, placed: &Placed) -> Option<Selector> {
        let owner = owner(pod);
        let symbol = owner.map(|(kind, name)| (kind, self.interner.intern(name)));
        let key = (placed.class, symbol);
        if let Some(known) = self.workloads.known.get(&key) {
            return known.clone();
        }
        let found = self.find_siblings(pod, owner);
        let found = (!found.is_everything()).then_some(found);
        self.workloads.known.insert(key, found.clone());
        found
    }

    fn find_siblings(&mut self, pod: &Pod, owner: Option<(Kind, &str)>) -> Selector {
        let labels = pod.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| {
            labels.is_some_and(|labels| labels.get(key) == Some(value))
        };
        let mut merged = BTreeMap::new();
        let services = self.workloads.services.get(pod.namespace());
        for selector in services.into_iter().flat_map(BTreeMap::values) {
            if selector.iter().all(has) {
                merged.extend(
                    selector
                        .iter()
                        .map(|(key, value)| (key.clone(), value.clone())),
                );
            }
        }
        let owner = owner.and_then(|(kind, name)| {
            let key = (kind, pod.namespace().to_string(), name.to_string());
            self.workloads.owners.get(&key)
        });
        match owner {
            Some(Selects::Map(map)) => {
                merged.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())));
                Selector::of_map(&merged, &mut self.interner)
            }
            Some(Selects::Set(set)) => {
                let of_owner = Selector::of_labels(Some(set), &mut self.interner);
                Selector::of_map(&merged, &mut self.interner).and(of_owner)
            }
            None => Selector::of_map(&merged, &mut self.interner),
        }
    }
}
