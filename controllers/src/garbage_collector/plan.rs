//! What to do about an object whose owners are gone or going.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::graph::Item;
use super::identity::Uid;

/// The finalizer of an object that waits until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to lose it as owner first.
pub(crate) const ORPHAN: &str = "orphan";

/// What a live read says of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It exists and stays.
    Solid,
    /// It does not exist.
    Dangling,
    /// It waits until its dependents are gone.
    Waiting,
}

impl OwnerState {
    /// The state of an owner as it is stored, if at all.
    pub(crate) fn of(owner: Option<&ObjectMeta>, reference: &OwnerReference) -> Self {
        let same = owner.filter(|owner| owner.uid.as_ref() == Some(&reference.uid));
        match same {
            None => Self::Dangling,
            Some(owner) if owner.deletion_timestamp.is_some() && has(owner, FOREGROUND) => {
                Self::Waiting
            }
            Some(_) => Self::Solid,
        }
    }
}

/// What happens to the dependents of an object that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Look at these first.
    Wake(Vec<Uid>),
    /// Nothing holds it back any more.
    RemoveFinalizer(&'static str),
    /// It has other owners: these references go.
    RemoveOwners(Vec<String>),
    /// No owner holds it.
    Delete {
        policy: Policy,
        /// First, no owner waits for it any more, because it may wait for the owner.
        unblock: bool,
    },
}

/// What can be said without a look at the server; none if that needs one.
pub(crate) fn at_once(item: &Item) -> Option<Action> {
    if item.being_deleted && !item.deleting_dependents {
        // It goes by itself; its dependents are looked at when it is gone.
        return Some(Action::Nothing);
    }
    if item.deleting_dependents && !item.is_virtual && item.is_blocked {
        return Some(Action::Wake(item.to_delete.clone()));
    }
    None
}

/// What to do with an object, as it is stored, whose owners are in these states.
pub(crate) fn decide(
    item: &Item,
    live: &ObjectMeta,
    owners: &[(&OwnerReference, OwnerState)],
) -> Action {
    if item.deleting_dependents {
        return match item.is_blocked {
            true => Action::Wake(item.to_delete.clone()),
            false => Action::RemoveFinalizer(FOREGROUND),
        };
    }
    if owners.is_empty() {
        return Action::Nothing;
    }
    let any = |state| owners.iter().any(|(_, found)| *found == state);
    if any(OwnerState::Solid) {
        // What waits for its dependents would wait for ever if the reference stayed.
        let gone = owners
            .iter()
            .filter(|(_, state)| *state != OwnerState::Solid);
        let gone: Vec<String> = gone.map(|(owner, _)| owner.uid.clone()).collect();
        return match gone.is_empty() {
            true => Action::Nothing,
            false => Action::RemoveOwners(gone),
        };
    }
    if any(OwnerState::Waiting) && item.has_dependents {
        return Action::Delete {
            policy: Policy::Foreground,
            unblock: item.waiting_dependent.is_some(),
        };
    }
    let policy = match (has(live, ORPHAN), has(live, FOREGROUND)) {
        (true, _) => Policy::Orphan,
        (_, true) => Policy::Foreground,
        _ => Policy::Background,
    };
    Action::Delete {
        policy,
        unblock: false,
    }
}

fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    let mut finalizers = meta.finalizers.iter().flatten();
    finalizers.any(|found| found == finalizer)
}

/// A merge patch that takes references away from an object as it was read; none if it has none.
pub(crate) fn without_owners(live: &ObjectMeta, uids: &[String]) -> Option<Value> {
    let owners = live.owner_references.as_deref().unwrap_or_default();
    let rest = owners.iter().filter(|owner| !uids.contains(&owner.uid));
    let rest: Vec<&OwnerReference> = rest.collect();
    (rest.len() < owners.len()).then(|| patch(live, "ownerReferences", json!(rest)))
}

/// A merge patch after which no owner waits for an object; none if none does.
pub(crate) fn unblocked(live: &ObjectMeta) -> Option<Value> {
    let mut owners = live.owner_references.clone().unwrap_or_default();
    let blocking = owners
        .iter_mut()
        .filter(|owner| owner.block_owner_deletion == Some(true));
    let changed = blocking.map(|owner| owner.block_owner_deletion = Some(false));
    (changed.count() > 0).then(|| patch(live, "ownerReferences", json!(owners)))
}

/// A merge patch that takes a finalizer away from an object as it was read; none if it has not got
/// it.
pub(crate) fn without_finalizer(live: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let rest = live
        .finalizers
        .iter()
        .flatten()
        .filter(|found| *found != finalizer);
    let rest: Vec<&String> = rest.collect();
    has(live, finalizer).then(|| patch(live, "finalizers", json!(rest)))
}

/// A change of one list of an object's metadata, if the object is still as it was read.
fn patch(live: &ObjectMeta, field: &str, list: Value) -> Value {
    json!({"metadata": {
        "uid": live.uid,
        "resourceVersion": live.resource_version,
        field: list,
    }})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::identity::{Identity, Kind};
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity {
            kind: Arc::new(Kind::new("v1", "Pod")),
            namespace: "a".into(),
            name: name.into(),
            uid: Uid::new(name),
        }
    }

    fn item() -> Item {
        Item {
            identity: identity("p"),
            is_virtual: false,
            being_deleted: false,
            deleting_dependents: false,
            has_dependents: false,
            is_blocked: false,
            to_delete: Vec::new(),
            waiting_dependent: None,
        }
    }

    fn live(finalizers: &[&str]) -> ObjectMeta {
        ObjectMeta {
            finalizers: Some(finalizers.iter().map(ToString::to_string).collect()),
            ..ObjectMeta::default()
        }
    }

    fn decided(item: &Item, finalizers: &[&str], states: &[OwnerState]) -> Action {
        let owners: Vec<OwnerReference> = (0..states.len())
            .map(|at| OwnerReference {
                uid: format!("o{at}"),
                ..OwnerReference::default()
            })
            .collect();
        let owners: Vec<_> = owners.iter().zip(states.iter().copied()).collect();
        decide(item, &live(finalizers), &owners)
    }

    const fn delete(policy: Policy) -> Action {
        Action::Delete {
            policy,
            unblock: false,
        }
    }

    #[test]
    fn an_object_goes_with_the_last_of_its_owners() {
        use OwnerState::{Dangling, Solid, Waiting};
        let plain = item();
        for (finalizers, states, want) in [
            (&[][..], &[][..], Action::Nothing),
            (&[], &[Solid], Action::Nothing),
            (
                &[],
                &[Solid, Dangling, Waiting],
                Action::RemoveOwners(vec!["o1".into(), "o2".into()]),
            ),
            (&[], &[Dangling, Dangling], delete(Policy::Background)),
            (&[], &[Dangling, Waiting], delete(Policy::Background)),
            (&[ORPHAN, FOREGROUND], &[Dangling], delete(Policy::Orphan)),
            (&[FOREGROUND], &[Dangling], delete(Policy::Foreground)),
        ] {
            assert_eq!(decided(&plain, finalizers, states), want, "{states:?}");
        }
    }

    #[test]
    fn what_has_dependents_goes_in_the_foreground_with_its_owner() {
        let mut parent = item();
        parent.has_dependents = true;
        assert_eq!(
            decided(&parent, &[], &[OwnerState::Waiting]),
            delete(Policy::Foreground)
        );
        parent.waiting_dependent = Some(identity("child"));
        let want = Action::Delete {
            policy: Policy::Foreground,
            unblock: true,
        };
        assert_eq!(decided(&parent, &[], &[OwnerState::Waiting]), want);
    }

    #[test]
    fn what_waits_for_dependents_waits_for_those_that_block() {
        let mut owner = item();
        (owner.being_deleted, owner.deleting_dependents) = (true, true);
        assert_eq!(at_once(&owner), None);
        assert_eq!(
            decided(&owner, &[], &[]),
            Action::RemoveFinalizer(FOREGROUND)
        );
        owner.is_blocked = true;
        owner.to_delete = vec![Uid::new("child")];
        assert_eq!(at_once(&owner), Some(Action::Wake(vec![Uid::new("child")])));
        owner.deleting_dependents = false;
        assert_eq!(
            at_once(&owner),
            Some(Action::Nothing),
            "its own finalizers are others' business"
        );
    }

    #[test]
    fn patches_hold_only_for_what_was_read() {
        let owner = |uid: &str, blocks| OwnerReference {
            uid: uid.into(),
            block_owner_deletion: Some(blocks),
            ..OwnerReference::default()
        };
        let live = ObjectMeta {
            uid: Some("u".into()),
            resource_version: Some("7".into()),
            owner_references: Some(vec![owner("a", true), owner("b", false)]),
            finalizers: Some(vec![FOREGROUND.into(), "x".into()]),
            ..ObjectMeta::default()
        };
        let patch = without_owners(&live, &["a".into()]).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(
            patch["metadata"]["ownerReferences"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert!(without_owners(&live, &["c".into()]).is_none());
        let patch = unblocked(&live).unwrap();
        assert_eq!(
            patch["metadata"]["ownerReferences"][0]["blockOwnerDeletion"],
            false
        );
        let patch = without_finalizer(&live, FOREGROUND).unwrap();
        assert_eq!(patch["metadata"]["finalizers"], json!(["x"]));
        assert!(without_finalizer(&live, ORPHAN).is_none());
    }
}
