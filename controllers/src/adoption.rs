//! Who controls what: a controller takes what its selector selects and nobody controls, and lets go
//! of what it selects no more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use client::{Index, Informer, Key, Queue, Subscription, View, errors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::controller::Error;
use crate::selector::Selector;

/// Whether `owner` controls the object.
pub fn is_controlled_by<V: View, O: View>(object: &V, owner: &O) -> bool {
    object
        .controller()
        .is_some_and(|found| found.uid == owner.uid())
}

/// The reference by which an object names its controller.
pub fn controller_ref<O: Resource + View>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::API_VERSION.into(),
        kind: O::KIND.into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The keys of an index of objects by their controller: its uid; for orphans, each of their labels
/// in their namespace, and the namespace.
pub fn by_controller<V: View>(object: &V) -> Vec<String> {
    if let Some(owner) = object.controller() {
        return vec![owner.uid.clone()];
    }
    let namespace = object.namespace();
    let labels = object.meta().labels.iter().flatten();
    let labels = labels.map(|(key, value)| label_key(namespace, Some((key, value))));
    std::iter::once(label_key(namespace, None))
        .chain(labels)
        .collect()
}

/// The keys under which an owner finds in that index what it may have a say in: its own objects, and
/// the orphans that it may select.
pub fn candidate_keys<O: View>(owner: &O, selector: &Selector) -> [String; 2] {
    [owner.uid().into(), selector_key(owner, selector)]
}

/// The key of an index of owners by a label that all they select has, so that an orphan's owners are
/// found by its labels; an owner without such a label is found by its namespace.
pub fn selector_key<O: View>(owner: &O, selector: &Selector) -> String {
    label_key(owner.namespace(), selector.exact_label())
}

fn label_key(namespace: &str, label: Option<(&str, &str)>) -> String {
    match label {
        Some((key, value)) => format!("{namespace}/{key}={value}"),
        None => format!("{namespace}/"),
    }
}

/// An owner that selects what it owns.
pub trait Selects {
    /// Its selector.
    fn selector(&self) -> &Selector;
}

/// The keys of an index of owners by what they select.
fn by_selector<O: View + Selects>(owner: &O) -> Vec<String> {
    vec![selector_key(owner, owner.selector())]
}

/// An index of objects by their controller.
pub fn index_by_controller<V: Owned>(informer: &Informer<V>) -> Index<V> {
    informer.index("controller", by_controller::<V>)
}

/// What `owner` may have a say in.
pub fn candidates<O: View + Selects, V: View>(index: &Index<V>, owner: &O) -> Vec<Arc<V>> {
    let keys = candidate_keys(owner, owner.selector());
    keys.iter().flat_map(|key| index.get(key)).collect()
}

/// The time by which an owner is woken later for each object that it has. An owner of 10 000 pods
/// looks at all of them each time, and at most ten times a second this way; one of ten is woken at
/// once.
const REST_PER_OBJECT: Duration = Duration::from_micros(10);

/// Wakes owners when one of what they own changes, or an orphan that they select. `saw` is told of
/// the object before.
pub fn wake_owners<O: Owned + Selects, V: Owned>(
    objects: &Informer<V>,
    owners: &Informer<O>,
    queue: &Queue<Key>,
    saw: impl Fn(&V) + Send + Sync + 'static,
) -> Subscription {
    wake_owners_as(objects, owners, queue, |key| key, saw)
}

/// The same for a queue whose keys are more than the owners' keys.
pub fn wake_owners_as<O: Owned + Selects, V: Owned, K: Clone + Ord + Send + Sync + 'static>(
    objects: &Informer<V>,
    owners: &Informer<O>,
    queue: &Queue<K>,
    as_key: fn(Key) -> K,
    saw: impl Fn(&V) + Send + Sync + 'static,
) -> Subscription {
    let by_selector = owners.index("selector", by_selector::<O>);
    let by_controller = index_by_controller(objects);
    let queue = queue.clone();
    objects.on_change(move |old, new| {
        if let Some(object) = new.or(old) {
            saw(object);
        }
        let controller =
            |object: Option<&Arc<V>>| object.and_then(|object| object.controller().cloned());
        let (before, after) = (controller(old), controller(new));
        let namespace = new.or(old).map_or("", |object| object.namespace());
        let is_other = before != after;
        for owner in before.iter().filter(|_| is_other).chain(&after) {
            if owner.kind == O::KIND && owner.api_version == O::API_VERSION {
                let count = by_controller.count(&owner.uid);
                let rest = REST_PER_OBJECT * u32::try_from(count).unwrap_or(u32::MAX);
                let key = as_key(Key::new(namespace, &owner.name));
                match rest < Duration::from_millis(1) {
                    true => queue.add(key),
                    false => queue.add_after(key, rest),
                }
            }
        }
        let labels = |object: &Arc<V>| object.meta().labels.clone();
        let is_new_orphan = is_other || old.map(labels) != new.map(labels);
        if let Some(orphan) = new.filter(|_| after.is_none() && is_new_orphan) {
            let keys = self::by_controller(&**orphan);
            for owner in keys.iter().flat_map(|key| by_selector.get(key)) {
                if owner.selector().matches(orphan.meta().labels.as_ref()) {
                    queue.add(as_key(Key::of(&*owner)));
                }
            }
        }
    })
}

/// Wakes objects when they change themselves; `gone` is told of those that are gone.
pub fn wake_changed<O: Owned>(
    owners: &Informer<O>,
    queue: &Queue<Key>,
    gone: impl Fn(&O) + Send + Sync + 'static,
) -> Subscription {
    let queue = queue.clone();
    owners.on_change(move |old, new| {
        if let (Some(old), None) = (old, new) {
            gone(old);
        }
        if let Some(owner) = new.or(old) {
            queue.add(Key::of(&**owner));
        }
    })
}

/// What an owner has to do about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is its own.
    Own,
    /// It takes it.
    Adopt,
    /// It lets go of it.
    Release,
    /// Nothing: it is none of its business.
    Foreign,
}

/// What an owner has to do about an object that matches its selector, or not.
pub fn claim<O: View, V: View>(owner: &O, object: &V, is_match: bool) -> Claim {
    let is_going = owner.is_deleted();
    if let Some(controller) = object.controller() {
        return match (controller.uid == owner.uid(), is_match) {
            (false, _) => Claim::Foreign,
            (true, true) => Claim::Own,
            (true, false) if is_going => Claim::Foreign,
            (true, false) => Claim::Release,
        };
    }
    let is_taken =
        is_match && !is_going && !object.is_deleted() && owner.namespace() == object.namespace();
    if is_taken {
        Claim::Adopt
    } else {
        Claim::Foreign
    }
}

/// Why an object could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The owner is not what the cache says.
    #[error("can't adopt {kind} {namespace}/{name} ({uid}): {cause}")]
    CannotAdopt {
        /// The kind of the object.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// What is wrong with the owner.
        cause: String,
    },
    /// The API server refused.
    #[error("{}", errors::message(.0))]
    Request(#[from] kube::Error),
}

impl From<ClaimError> for Error {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Request(error) => Self::Api(error),
            other => Self::other(other.to_string()),
        }
    }
}

/// A kind that owns or is owned: in a namespace, known by `kube::Api`.
pub trait Owned:
    View + Resource<Scope = NamespaceResourceScope> + Metadata<Ty = ObjectMeta> + Clone + fmt::Debug
{
}

impl<V> Owned for V where
    V: View
        + Resource<Scope = NamespaceResourceScope>
        + Metadata<Ty = ObjectMeta>
        + Clone
        + fmt::Debug
{
}

/// Those of `objects` that are `owner`'s own, after it took what it selects and let go of what it
/// does not. `is_match` says what it selects.
///
/// Before the first adoption the owner itself is read from the server: a cache may not know yet that
/// it is going, and what it would take then would never be let go of.
pub async fn claim_all<O: Owned, V: Owned>(
    client: &Client,
    owner: &O,
    objects: impl IntoIterator<Item = Arc<V>>,
    is_match: impl Fn(&V) -> bool,
) -> Result<Vec<Arc<V>>, ClaimError> {
    let mut own = Vec::new();
    let mut may_adopt = None;
    let mut failed = None;
    for object in objects {
        let done = match claim(owner, &*object, is_match(&object)) {
            Claim::Foreign => continue,
            Claim::Own => Ok(true),
            Claim::Release => release(client, owner, &*object).await.map(|()| false),
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(recheck(client, owner).await);
                }
                match may_adopt.clone().unwrap_or(Ok(())) {
                    Ok(()) => adopt(client, owner, &*object).await,
                    Err(cause) => Err(cannot_adopt(&*object, cause)),
                }
            }
        };
        match done {
            Ok(true) => own.push(object),
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(own), Err)
}

fn cannot_adopt<V: Owned>(object: &V, cause: String) -> ClaimError {
    ClaimError::CannotAdopt {
        kind: V::KIND,
        namespace: object.namespace().into(),
        name: object.name().into(),
        uid: object.uid().into(),
        cause,
    }
}

/// Whether the owner is there still, and stays.
async fn recheck<O: Owned>(client: &Client, owner: &O) -> Result<(), String> {
    let (namespace, name) = (owner.namespace(), owner.name());
    let fresh = Api::<O>::namespaced(client.clone(), namespace)
        .get(name)
        .await;
    let fresh = fresh.map_err(|error| {
        format!(
            "can't recheck DeletionTimestamp: {}",
            errors::message(&error)
        )
    })?;
    if fresh.uid() != owner.uid() {
        return Err(format!(
            "can't recheck DeletionTimestamp: original {} {namespace}/{name} is gone: got uid {}, wanted {}",
            O::KIND,
            fresh.uid(),
            owner.uid(),
        ));
    }
    match &fresh.meta().deletion_timestamp {
        Some(at) => Err(format!(
            "{namespace}/{name} has just been deleted at {}",
            at.0
        )),
        None => Ok(()),
    }
}

/// Whether the object could be taken; one that is gone cannot.
async fn adopt<O: Owned, V: Owned>(
    client: &Client,
    owner: &O,
    object: &V,
) -> Result<bool, ClaimError> {
    match patch_owners(client, object, json!([controller_ref(owner)])).await {
        Ok(()) => Ok(true),
        Err(error) if errors::is_not_found(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An object that is gone, or another by now, or has lost its owner, needs no release.
async fn release<O: Owned, V: Owned>(
    client: &Client,
    owner: &O,
    object: &V,
) -> Result<(), ClaimError> {
    let gone = json!([{"$patch": "delete", "uid": owner.uid()}]);
    match patch_owners(client, object, gone).await {
        Err(error) if !errors::is_not_found(&error) && !errors::is_invalid(&error) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// The uid makes the server refuse a patch of another object of this name.
async fn patch_owners<V: Owned>(
    client: &Client,
    object: &V,
    owners: Value,
) -> Result<(), kube::Error> {
    let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": owners}});
    let api = Api::<V>::namespaced(client.clone(), object.namespace());
    let done = api
        .patch(
            object.name(),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await;
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Pod;

    fn pod(metadata: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn owned_by(uid: &str) -> Value {
        json!({"namespace": "ns", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
               "name": "rs", "uid": uid, "controller": true}]})
    }

    /// Upstream's TestClaimPods, retold.
    #[test]
    fn an_owner_takes_orphans_it_selects_and_lets_go_of_what_it_does_not() {
        let owner = pod(json!({"namespace": "ns", "name": "rs", "uid": "1"}));
        let going = pod(json!({"namespace": "ns", "name": "rs", "uid": "1",
                                "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let orphan = pod(json!({"namespace": "ns"}));
        let dying = pod(json!({"namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let own = pod(owned_by("1"));
        let cases = [
            (&owner, &orphan, true, Claim::Adopt),
            (&owner, &orphan, false, Claim::Foreign),
            (&owner, &dying, true, Claim::Foreign),
            (
                &owner,
                &pod(json!({"namespace": "other"})),
                true,
                Claim::Foreign,
            ),
            (&owner, &own, true, Claim::Own),
            (&owner, &own, false, Claim::Release),
            (&owner, &pod(owned_by("2")), true, Claim::Foreign),
            (&going, &orphan, true, Claim::Foreign),
            (&going, &own, true, Claim::Own),
            (&going, &own, false, Claim::Foreign),
        ];
        for (at, (owner, object, is_match, expected)) in cases.into_iter().enumerate() {
            assert_eq!(claim(owner, object, is_match), expected, "case {at}");
        }
    }

    #[test]
    fn owners_and_orphans_find_each_other_by_a_label() {
        let selector: Selector =
            serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
        let owner = pod(json!({"namespace": "ns", "uid": "1"}));
        let orphan = by_controller(&pod(
            json!({"namespace": "ns", "labels": {"app": "web", "x": "y"}}),
        ));
        let keys = candidate_keys(&owner, &selector);
        assert!(orphan.contains(&keys[1]) && orphan.contains(&selector_key(&owner, &selector)));
        assert_eq!(by_controller(&pod(owned_by("1"))), [keys[0].clone()]);
        let all: Selector = serde_json::from_value(json!({})).unwrap();
        assert!(orphan.contains(&selector_key(&owner, &all)));
    }
}
