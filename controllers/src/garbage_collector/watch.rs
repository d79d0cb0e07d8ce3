//! What fills the graph: an informer of every resource, as far as metadata goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Informer, Informers, Queue, Subscription, View};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Task;
use super::graph::{Graph, Seen, Wake};
use super::identity::{Identity, Kind, Owner, Uid};
use super::plan::{FOREGROUND, ORPHAN};
use crate::apps::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use crate::catalog::Resource;
use crate::history::Revision;
use crate::job::Job;
use crate::metadata::Meta;
use crate::node::Node;
use crate::pod::Pod;
use crate::volumes::{Claim, Volume};

/// Events own nothing, nobody deletes them with their owners, and there are many.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// The graph, and who is woken by its changes.
#[derive(Clone)]
pub(super) struct Shared {
    graph: Arc<Mutex<Graph>>,
    queue: Queue<Task>,
}

impl Shared {
    pub(super) fn new(queue: &Queue<Task>) -> Self {
        Self {
            graph: Arc::default(),
            queue: queue.clone(),
        }
    }

    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whom a change concerns.
    pub(super) fn wake(&self, wakes: Vec<Wake>) {
        for wake in wakes {
            match wake {
                Wake::Delete(uid) => self.queue.add(Task::Delete(uid)),
                Wake::Later(uid) => {
                    let wait = super::pause(self.graph().looked(&uid));
                    self.queue.add_after(Task::Delete(uid), wait);
                }
                Wake::Orphan(uid) => self.queue.add(Task::Orphan(uid)),
                Wake::Report { dependent, owner } => {
                    self.queue.add(Task::Report(Box::new((dependent, owner))));
                }
            }
        }
    }

    fn changed(&self, kind: &Arc<Kind>, old: Option<&ObjectMeta>, new: Option<&ObjectMeta>) {
        let wakes = match (old, new) {
            (Some(old), Some(new)) if is_same(old, new) => return,
            (_, Some(new)) => {
                let mut graph = self.graph();
                let seen = seen(&mut graph, kind, new);
                graph.see(seen)
            }
            (Some(old), None) => {
                let mut graph = self.graph();
                let identity = identity(&mut graph, kind, old);
                graph.gone(&identity)
            }
            (None, None) => return,
        };
        self.wake(wakes);
    }
}

/// Whether nothing has changed that the graph knows.
fn is_same(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid == new.uid
        && old.owner_references == new.owner_references
        && old.finalizers == new.finalizers
        && old.deletion_timestamp.is_some() == new.deletion_timestamp.is_some()
}

pub(super) fn identity(graph: &mut Graph, kind: &Arc<Kind>, meta: &ObjectMeta) -> Identity {
    Identity {
        kind: kind.clone(),
        namespace: graph.namespace(meta.namespace.as_deref().unwrap_or_default()),
        name: meta.name.as_deref().unwrap_or_default().into(),
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
    }
}

fn seen(graph: &mut Graph, kind: &Arc<Kind>, meta: &ObjectMeta) -> Seen {
    let references = meta.owner_references.iter().flatten();
    let owners = references.map(|owner| Owner {
        kind: graph.kind(&owner.api_version, &owner.kind),
        name: owner.name.as_str().into(),
        uid: Uid::new(&owner.uid),
        blocks: owner.block_owner_deletion == Some(true),
    });
    let owners = owners.collect();
    let has = |finalizer| {
        meta.finalizers
            .iter()
            .flatten()
            .any(|found| found == finalizer)
    };
    Seen {
        identity: identity(graph, kind, meta),
        owners,
        being_deleted: meta.deletion_timestamp.is_some(),
        foreground: has(FOREGROUND),
        orphan: has(ORPHAN),
    }
}

/// The informers of all resources.
pub(super) struct Watches {
    informers: Informers,
    shared: Shared,
    by_resource: HashMap<(String, String, String), Watch>,
}

struct Watch {
    kind: Arc<Kind>,
    _subscription: Subscription,
    /// Ends an informer that nobody else uses.
    stop: Option<Informer<Meta>>,
}

impl Watches {
    pub(super) fn new(informers: Informers, shared: Shared) -> Self {
        Self {
            informers,
            shared,
            by_resource: HashMap::new(),
        }
    }

    /// Watches these resources and no others. What is no longer served is forgotten, unless its
    /// server only does not answer.
    pub(super) fn follow<'r>(
        &mut self,
        resources: impl Iterator<Item = &'r Resource>,
        is_stale: impl Fn(&str) -> bool,
    ) {
        let resources = resources.filter(|found| !IGNORED.contains(&(&found.group, &found.name)));
        let mut wanted: HashMap<_, &Resource> =
            resources.map(|found| (key(found), found)).collect();
        let gone = self
            .by_resource
            .keys()
            .filter(|key| !wanted.contains_key(key) && !is_stale(&group_version(key)));
        for key in gone.cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
        wanted.retain(|key, _| !self.by_resource.contains_key(key));
        for (key, resource) in wanted {
            let watch = self.watch(resource);
            self.by_resource.insert(key, watch);
        }
        self.shared.graph().shrink();
    }

    fn watch(&self, resource: &Resource) -> Watch {
        let kind = self
            .shared
            .graph()
            .kind(&resource.api_version(), &resource.kind);
        let mut stop = None;
        // What others watch anyway is not held twice.
        let subscription = match (&*resource.group, &*resource.version, &*resource.name) {
            ("", "v1", "pods") => self.subscribe::<Pod>(&kind),
            ("", "v1", "nodes") => self.subscribe::<Node>(&kind),
            ("", "v1", "namespaces") => self.subscribe::<Namespace>(&kind),
            ("", "v1", "services") => self.subscribe::<Service>(&kind),
            ("", "v1", "endpoints") => self.subscribe::<Endpoints>(&kind),
            ("", "v1", "serviceaccounts") => self.subscribe::<ServiceAccount>(&kind),
            ("", "v1", "persistentvolumes") => self.subscribe::<Volume>(&kind),
            ("", "v1", "persistentvolumeclaims") => self.subscribe::<Claim>(&kind),
            ("apps", "v1", "replicasets") => self.subscribe::<ReplicaSet>(&kind),
            ("apps", "v1", "deployments") => self.subscribe::<Deployment>(&kind),
            ("apps", "v1", "statefulsets") => self.subscribe::<StatefulSet>(&kind),
            ("apps", "v1", "daemonsets") => self.subscribe::<DaemonSet>(&kind),
            ("apps", "v1", "controllerrevisions") => self.subscribe::<Revision>(&kind),
            ("batch", "v1", "jobs") => self.subscribe::<Job>(&kind),
            ("discovery.k8s.io", "v1", "endpointslices") => self.subscribe::<EndpointSlice>(&kind),
            (group, version, name) => {
                let informer = self.informers.of_resource::<Meta>(group, version, name);
                let subscription = self.subscribe_to(&informer, &kind);
                stop = Some(informer);
                subscription
            }
        };
        Watch {
            kind,
            _subscription: subscription,
            stop,
        }
    }

    fn subscribe<V: View + k8s_openapi::Resource>(&self, kind: &Arc<Kind>) -> Subscription {
        self.subscribe_to(&self.informers.of::<V>(), kind)
    }

    fn subscribe_to<V: View>(&self, informer: &Informer<V>, kind: &Arc<Kind>) -> Subscription {
        let (shared, kind) = (self.shared.clone(), kind.clone());
        informer.on_change(move |old, new| {
            shared.changed(&kind, old.map(|old| old.meta()), new.map(|new| new.meta()));
        })
    }

    /// The objects of a resource that is served no more are gone, for all that is known.
    fn forget(&mut self, key: &(String, String, String)) {
        let Some(watch) = self.by_resource.remove(key) else {
            return;
        };
        if let Some(informer) = &watch.stop {
            self.informers.stop(informer);
        }
        let mut graph = self.shared.graph();
        let gone = graph.seen_of_kind(&watch.kind);
        let wakes = gone
            .iter()
            .flat_map(|identity| graph.gone(identity))
            .collect();
        drop(graph);
        self.shared.wake(wakes);
    }
}

fn key(resource: &Resource) -> (String, String, String) {
    let Resource {
        group,
        version,
        name,
        ..
    } = resource;
    (group.clone(), version.clone(), name.clone())
}

fn group_version((group, version, _): &(String, String, String)) -> String {
    match &**group {
        "" => version.clone(),
        group => format!("{group}/{version}"),
    }
}
