//! Informers: objects of one kind in memory, kept as the API server has them by one shared watch, and
//! those who want to know of changes.
//!
//! What an informer promises: changes come one after another, in the order in which the server made
//! them; between two of them an object may have changed more than once. An object that was deleted and
//! made anew is told as a deletion and a creation. A deletion tells how the object was last. After a
//! time without the server, what is told is the difference. Objects come without `managedFields`.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::future::join_all;
use seams::{Seams, Tasks};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::key::View;
use crate::store::{Change, Index, IndexBy, Store};

mod follow;
mod lenient;
mod lines;

/// An informer that is behind asks again after this.
const CATCH_UP_RETRY: Duration = Duration::from_millis(100);
/// So long a new leader waits for what happened before its term: servers of other makers may say
/// nothing of how far a watch has come.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// Which objects of a kind an informer holds; all by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Those of one namespace.
    pub namespace: Option<String>,
    /// Those that a label selector picks.
    pub labels: Option<String>,
    /// Those that a field selector picks.
    pub fields: Option<String>,
}

/// Where the objects of an informer are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    group: String,
    version: String,
    resource: String,
    selection: Selection,
    is_metadata_only: bool,
}

/// Makes informers, one for each type and selection; who asks for the same gets the same.
///
/// Informers live as long as the tasks that they were made with, whoever leads and whoever uses them: who
/// comes to lead later starts from what is there.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Inner>,
    /// What was asked for through this handle.
    used: Arc<Mutex<Vec<Arc<Progress>>>>,
}

/// How far an informer has come.
struct Progress {
    /// It has had all objects at least once.
    is_synced: watch::Sender<bool>,
    /// The resourceVersion up to which it knows everything.
    version: watch::Sender<i64>,
    /// Makes it ask again from there: the answer begins with what it does not know, and with how far
    /// the server is.
    ask_again: Notify,
}

impl Progress {
    async fn synced(&self) {
        // The sender lives as long as this does.
        let _ = self.is_synced.subscribe().wait_for(|is| *is).await;
    }

    async fn caught_up(&self, revision: i64) {
        self.synced().await;
        let mut version = self.version.subscribe();
        while *version.borrow() < revision {
            self.ask_again.notify_one();
            let known = version.wait_for(|version| *version >= revision);
            let _ = timeout(CATCH_UP_RETRY, known).await;
        }
    }
}

struct Inner {
    client: kube::Client,
    seams: Seams,
    tasks: Tasks,
    known: Mutex<HashMap<(TypeId, Source), Box<dyn Any + Send>>>,
}

impl Informers {
    /// Informers that ask by a client and end with tasks.
    pub fn new(client: kube::Client, seams: &Seams, tasks: &Tasks) -> Self {
        let inner = Inner {
            client,
            seams: seams.clone(),
            tasks: tasks.clone(),
            known: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            used: Arc::default(),
        }
    }

    /// A handle that remembers by itself what is asked for through it; see [`Self::synced`].
    pub fn handle(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            used: Arc::default(),
        }
    }

    /// All objects of a type.
    pub fn of<V: View + k8s_openapi::Resource>(&self) -> Informer<V> {
        self.selected(Selection::default())
    }

    /// Some objects of a type.
    pub fn selected<V: View + k8s_openapi::Resource>(&self, selection: Selection) -> Informer<V> {
        self.informer(Source {
            group: V::GROUP.to_string(),
            version: V::VERSION.to_string(),
            resource: V::URL_PATH_SEGMENT.to_string(),
            selection,
            is_metadata_only: false,
        })
    }

    /// The metadata of all objects of a resource, whose name need not be known before; see [`crate::Partial`].
    pub fn of_resource<V: View>(&self, group: &str, version: &str, resource: &str) -> Informer<V> {
        self.informer(Source {
            group: group.to_string(),
            version: version.to_string(),
            resource: resource.to_string(),
            selection: Selection::default(),
            is_metadata_only: true,
        })
    }

    fn informer<V: View>(&self, source: Source) -> Informer<V> {
        let mut known = lock(&self.inner.known);
        let key = (TypeId::of::<V>(), source.clone());
        let found = known.get(&key).and_then(|any| any.downcast_ref());
        let informer = found.cloned().unwrap_or_else(|| {
            let tasks = self.inner.tasks.child();
            let informer = Informer::<V>::new(tasks.clone());
            known.insert(key, Box::new(informer.clone()));
            let (client, seams) = (self.inner.client.clone(), self.inner.seams.clone());
            let following = follow::follow(source, client, informer.shared.clone(), seams);
            let ends = tasks.token();
            tasks.spawn("informer", async move {
                tokio::select! {
                    () = following => {}
                    () = ends.cancelled() => {}
                }
            });
            informer
        });
        lock(&self.used).push(informer.shared.progress.clone());
        informer
    }

    /// Ends an informer that nobody needs any more, such as that of a resource which is no longer served.
    pub fn stop<V: View>(&self, informer: &Informer<V>) {
        informer.shared.tasks.cancel();
        let is_it = |any: &Box<dyn Any + Send>| {
            let known = any.downcast_ref::<Informer<V>>();
            known.is_some_and(|known| Arc::ptr_eq(&known.shared, &informer.shared))
        };
        lock(&self.inner.known).retain(|_, any| !is_it(any));
    }

    /// Waits until all informers that were asked for through this handle have their objects.
    pub async fn synced(&self) {
        let used = lock(&self.used).clone();
        for progress in used {
            progress.synced().await;
        }
    }

    /// The same, and until they know all that had happened at a revision: a new leader must not act on
    /// what was before the last writes of the one before.
    pub async fn caught_up(&self, revision: i64) {
        self.synced().await;
        let used = lock(&self.used).clone();
        let all = used.iter().map(|progress| progress.caught_up(revision));
        if timeout(CATCH_UP_MAX, join_all(all)).await.is_err() {
            tracing::warn!(
                revision,
                "informers do not know whether they are up to date"
            );
        }
    }
}

type Handler<V> = Box<dyn Fn(Option<&Arc<V>>, Option<&Arc<V>>) + Send + Sync>;

struct Subscriber<V> {
    is_wanted: Arc<AtomicBool>,
    handler: Handler<V>,
}

struct Shared<V> {
    store: Arc<RwLock<Store<V>>>,
    /// Locked while changes are made and told, so that all are told in order.
    subscribers: Mutex<Vec<Subscriber<V>>>,
    progress: Arc<Progress>,
    tasks: Tasks,
}

/// All objects of a kind, or some, as the API server has them.
pub struct Informer<V> {
    shared: Arc<Shared<V>>,
    view: PhantomData<V>,
}

impl<V> Clone for Informer<V> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            view: PhantomData,
        }
    }
}

impl<V: View> Informer<V> {
    fn new(tasks: Tasks) -> Self {
        let shared = Shared {
            store: Arc::default(),
            subscribers: Mutex::default(),
            progress: Arc::new(Progress {
                is_synced: watch::Sender::new(false),
                version: watch::Sender::new(0),
                ask_again: Notify::new(),
            }),
            tasks,
        };
        Self {
            shared: Arc::new(shared),
            view: PhantomData,
        }
    }

    fn store(&self) -> RwLockReadGuard<'_, Store<V>> {
        let store = self.shared.store.read();
        store.unwrap_or_else(PoisonError::into_inner)
    }

    /// One object. Objects of the cluster are in the namespace "".
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<V>> {
        self.store().get(namespace, name)
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<V>> {
        self.store().list()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<V>> {
        self.store().in_namespace(namespace)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.store().len()
    }

    /// There are no objects.
    pub fn is_empty(&self) -> bool {
        self.store().is_empty()
    }

    /// An index; who asks for one of the same name gets the same.
    pub fn index(&self, name: &'static str, by: IndexBy<V>) -> Index<V> {
        Index::new(&self.shared.store, name, by)
    }

    /// Tells changes: what there was and what there is now. What is there already is told first, as
    /// new. The handler must be quick, and must not subscribe to the same informer.
    pub fn on_change(
        &self,
        handler: impl Fn(Option<&Arc<V>>, Option<&Arc<V>>) + Send + Sync + 'static,
    ) -> Subscription {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let mut subscribers = lock(&self.shared.subscribers);
        for object in self.list() {
            handler(None, Some(&object));
        }
        subscribers.push(Subscriber {
            is_wanted: is_wanted.clone(),
            handler: Box::new(handler),
        });
        Subscription { is_wanted }
    }

    /// It has had all objects at least once.
    pub fn is_synced(&self) -> bool {
        *self.shared.progress.is_synced.borrow()
    }

    /// Waits until it has had all objects.
    pub async fn synced(&self) {
        self.shared.progress.synced().await;
    }
}

impl<V: View> Shared<V> {
    /// The objects are as they were at a version.
    fn knows(&self, version: Option<&str>) {
        // Versions of servers that do not count are compared with nothing.
        let version = version.and_then(|version| version.parse().ok());
        if let Some(version) = version {
            self.progress.version.send_replace(version);
        }
    }

    /// Changes the objects and tells it.
    fn change<C>(&self, change: impl FnOnce(&mut Store<V>) -> C)
    where
        C: IntoIterator<Item = Change<V>>,
    {
        let mut subscribers = lock(&self.subscribers);
        let changes = {
            let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut store)
        };
        let is_wanted = |one: &Subscriber<V>| one.is_wanted.load(Ordering::Acquire);
        subscribers.retain(is_wanted);
        for (old, new) in changes {
            for one in subscribers.iter().filter(|one| is_wanted(one)) {
                (one.handler)(old.as_ref(), new.as_ref());
            }
        }
    }
}

/// As long as it lives, changes are told.
#[derive(Debug)]
#[must_use = "changes are told as long as the subscription lives"]
pub struct Subscription {
    is_wanted: Arc<AtomicBool>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
