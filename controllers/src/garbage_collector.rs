//! The garbage collector: what nobody owns any more goes, and what is deleted in the foreground or
//! lets go of its dependents gets its way.
//!
//! - [`graph`]: who depends on whom, by [`identity`]; [`watch`]: what fills it
//! - [`plan`]: what to do about one object; [`remote`]: how that is done

mod graph;
mod identity;
mod plan;
mod remote;
mod watch;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Queue, Recorder, Subscription};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::graph::Item;
use self::identity::{Identity, Uid};
use self::plan::{Action, ORPHAN, OwnerState};
use self::remote::{Found, Remote};
use self::watch::{Shared, Watches};
use crate::catalog::Catalog;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::metadata::Meta;

/// Kinds come and go; changes of definitions are looked at sooner.
const REFRESH: Duration = Duration::from_secs(30);
/// The same where it could not be asked.
const RETRY: Duration = Duration::from_secs(1);
/// A definition takes a moment to be served.
const SETTLE: Duration = Duration::from_millis(500);
const WORKERS: usize = 20;
/// Requests at a time for the dependents of one owner.
const REQUESTS: usize = 32;
/// What can be collected has these verbs.
const VERBS: [&str; 3] = ["delete", "list", "watch"];

/// What is woken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Perhaps an object can go.
    Delete(Uid),
    /// The dependents of an object lose it as owner.
    Orphan(Uid),
    /// A user is told that an object names an owner in another namespace.
    Report(Box<(Identity, Identity)>),
}

/// Collects garbage.
pub(crate) struct GarbageCollector {
    client: kube::Client,
    recorder: Recorder,
    shared: Shared,
    watches: Mutex<Watches>,
    catalog: RwLock<Arc<Catalog>>,
    /// Definitions have changed.
    stir: Arc<Notify>,
    _subscriptions: [Subscription; 2],
}

/// How long to leave an object alone that was looked at so often.
fn pause(looks: u8) -> Duration {
    let wait = Duration::from_millis(5).saturating_mul(1 << looks.min(20));
    wait.min(Duration::from_secs(1000))
}

#[async_trait]
impl Controller for GarbageCollector {
    type Key = Task;

    fn start(context: &Context, queue: &Queue<Task>) -> Self {
        let shared = Shared::new(queue);
        // Own handle: a group whose server does not answer must hold nothing up.
        let informers = context.informers.handle();
        let mut watches = Watches::new(informers.clone(), shared.clone());
        // What every cluster serves is watched before it is asked, so that a new leader's graph is
        // complete.
        watches.follow(Catalog::built_in().allowing(&VERBS), |_| false);
        let stir = Arc::new(Notify::new());
        let on_change = |group, version, name| {
            let stir = stir.clone();
            let informer = informers.of_resource::<Meta>(group, version, name);
            informer.on_change(move |_, _| stir.notify_one())
        };
        let subscriptions = [
            on_change("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
            on_change("apiregistration.k8s.io", "v1", "apiservices"),
        ];
        Self {
            client: context.client.clone(),
            recorder: context.recorder("garbage-collector-controller"),
            shared,
            watches: Mutex::new(watches),
            catalog: RwLock::new(Arc::new(Catalog::built_in())),
            stir,
            _subscriptions: subscriptions,
        }
    }

    fn workers(&self) -> usize {
        WORKERS
    }

    async fn background(&self, _: &Queue<Task>) {
        loop {
            let wait = match self.refresh().await {
                Ok(()) => REFRESH,
                Err(error) => {
                    tracing::warn!(%error, "it is not known what the cluster serves");
                    RETRY
                }
            };
            let _ = timeout(wait, self.stir.notified()).await;
            sleep(SETTLE).await;
        }
    }

    async fn sync(&self, task: &Task) -> Result<Again, Error> {
        match task {
            Task::Delete(uid) => self.attempt(uid).await,
            Task::Orphan(uid) => self.orphan(uid).await,
            Task::Report(both) => {
                self.report(&both.0, &both.1);
                Ok(Again::Done)
            }
        }
    }
}

impl GarbageCollector {
    /// Takes in what the cluster serves now.
    async fn refresh(&self) -> kube::Result<()> {
        let catalog = Arc::new(Catalog::fetch(&self.client).await?);
        let is_new = *self.catalog() != *catalog;
        if is_new {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            watches.follow(catalog.allowing(&VERBS), |version| {
                catalog.stale.contains(version)
            });
            drop(watches);
            *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
        }
        Ok(())
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn remote(&self) -> Remote {
        Remote {
            client: self.client.clone(),
            catalog: self.catalog(),
        }
    }

    /// Deletes an object if none of its owners holds it.
    async fn attempt(&self, uid: &Uid) -> Result<Again, Error> {
        let Some(item) = self.shared.graph().item(uid) else {
            return Ok(Again::Done);
        };
        let remote = self.remote();
        if let Some(action) = plan::at_once(&item) {
            return self
                .apply(&remote, &item, &ObjectMeta::default(), action)
                .await;
        }
        let live = match remote.get(&item.identity).await? {
            Found::Live(live) => live,
            Found::Absent => {
                self.verified_absent(&item.identity);
                return Ok(Again::Done);
            }
            Found::Unknown => return Ok(self.later(uid)),
            Found::Nowhere => return Ok(Again::Done),
        };
        let references = match item.deleting_dependents {
            true => &[],
            false => live.owner_references.as_deref().unwrap_or_default(),
        };
        let mut owners = Vec::new();
        for reference in references {
            match self.state(&remote, &item, reference).await? {
                Some(Some(state)) => owners.push((reference, state)),
                Some(None) => return Ok(Again::Done),
                None => return Ok(self.later(uid)),
            }
        }
        let action = plan::decide(&item, &live, &owners);
        let again = self.apply(&remote, &item, &live, action).await?;
        // A virtual node is looked at until a watch shows it: it may have come and gone while the
        // watch was not there.
        match item.is_virtual {
            true => Ok(self.later(uid)),
            false => Ok(again),
        }
    }

    fn later(&self, uid: &Uid) -> Again {
        Again::After(pause(self.shared.graph().looked(uid)))
    }

    fn verified_absent(&self, identity: &Identity) {
        let wakes = self.shared.graph().verified_absent(identity);
        self.shared.wake(wakes);
    }

    /// The state of an owner: none if its kind is not known, none of it if nobody can be meant.
    async fn state(
        &self,
        remote: &Remote,
        item: &Item,
        reference: &OwnerReference,
    ) -> Result<Option<Option<OwnerState>>, Error> {
        let (of_cluster, mut owner) = {
            let mut graph = self.shared.graph();
            let mut owner = Identity {
                kind: graph.kind(&reference.api_version, &reference.kind),
                namespace: graph.namespace(""),
                name: reference.name.as_str().into(),
                uid: Uid::new(&reference.uid),
            };
            let of_cluster = owner.clone();
            if graph.is_absent(&owner) {
                return Ok(Some(Some(OwnerState::Dangling)));
            }
            owner.namespace = item.identity.namespace.clone();
            if graph.is_absent(&owner) {
                return Ok(Some(Some(OwnerState::Dangling)));
            }
            (of_cluster, owner)
        };
        if remote.is_namespaced(&owner) == Some(false) {
            owner = of_cluster;
        }
        Ok(match remote.get(&owner).await? {
            Found::Live(live) => Some(Some(OwnerState::of(Some(&live), reference))),
            Found::Absent => {
                self.shared.graph().note_absent(owner);
                Some(Some(OwnerState::Dangling))
            }
            Found::Unknown => None,
            Found::Nowhere => Some(None),
        })
    }

    async fn apply(
        &self,
        remote: &Remote,
        item: &Item,
        live: &ObjectMeta,
        action: Action,
    ) -> Result<Again, Error> {
        let identity = &item.identity;
        match action {
            Action::Nothing => {}
            Action::Wake(uids) => self
                .shared
                .wake(uids.into_iter().map(graph::Wake::Delete).collect()),
            Action::RemoveFinalizer(finalizer) => {
                remote
                    .patch(identity, |live| plan::without_finalizer(live, finalizer))
                    .await?;
            }
            Action::RemoveOwners(uids) => {
                remote
                    .patch(identity, |live| plan::without_owners(live, &uids))
                    .await?;
            }
            Action::Delete { policy, unblock } => {
                let mut read = live.clone();
                if unblock {
                    remote.patch(identity, plan::unblocked).await?;
                    if let Found::Live(live) = remote.get(identity).await? {
                        read = *live;
                    }
                }
                tracing::debug!(%identity, ?policy, "nobody owns it any more");
                if !remote.delete(identity, &read, policy).await? {
                    self.verified_absent(identity);
                }
            }
        }
        Ok(Again::Done)
    }

    /// Takes an owner from its dependents, and then its finalizer.
    async fn orphan(&self, uid: &Uid) -> Result<Again, Error> {
        let (owner, dependents) = {
            let graph = self.shared.graph();
            let Some(item) = graph.item(uid) else {
                return Ok(Again::Done);
            };
            (item.identity, graph.dependents(uid))
        };
        let remote = self.remote();
        let gone = [uid.to_string()];
        let results = stream::iter(dependents).map(|dependent| {
            let (remote, gone) = (&remote, &gone);
            async move {
                remote
                    .patch(&dependent, |live| plan::without_owners(live, gone))
                    .await
            }
        });
        let results: Vec<_> = results.buffer_unordered(REQUESTS).collect().await;
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        remote
            .patch(&owner, |live| plan::without_finalizer(live, ORPHAN))
            .await?;
        Ok(Again::Done)
    }

    fn report(&self, dependent: &Identity, owner: &Identity) {
        let object = ObjectReference {
            api_version: Some(dependent.kind.api_version.to_string()),
            kind: Some(dependent.kind.kind.to_string()),
            name: Some(dependent.name.to_string()),
            namespace: Some(dependent.namespace.to_string()),
            uid: Some(dependent.uid.to_string()),
            ..ObjectReference::default()
        };
        let namespace = &dependent.namespace;
        let message = format!("ownerRef {owner} does not exist in namespace {namespace:?}");
        self.recorder.event(
            &object,
            EventType::Warning,
            "OwnerRefInvalidNamespace",
            message,
        );
    }
}

#[cfg(test)]
mod tests;
