//! Who depends on whom, in the whole cluster.
//!
//! Objects are nodes under their uids. An owner that somebody names but that no watch has shown is a
//! *virtual* node: its coordinates are only what a dependent says. What the watches show, and what
//! live reads find absent, changes the graph; each change tells which objects to look at again. The
//! graph decides nothing: see [`super::plan`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::identity::{Identity, Kind, Owner, Uid};

/// So many owners are known to be absent without asking again.
const ABSENT_MAX: usize = 500;

/// An object as a watch shows it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    pub(crate) owners: Vec<Owner>,
    pub(crate) being_deleted: bool,
    /// It has the finalizer of foreground deletion.
    pub(crate) foreground: bool,
    /// It has the finalizer of orphaning.
    pub(crate) orphan: bool,
}

/// What to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Perhaps it can go.
    Delete(Uid),
    /// The same, but not at once: it was looked at just now.
    Later(Uid),
    /// Its dependents are to lose it as owner.
    Orphan(Uid),
    /// It names an owner that is in another namespace.
    Report {
        dependent: Identity,
        owner: Identity,
    },
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    owners: Box<[Owner]>,
    /// Most objects have none.
    #[allow(
        clippy::box_collection,
        reason = "a pointer takes a sixth of an empty set, in every node"
    )]
    dependents: Option<Box<HashSet<Uid>>>,
    is_virtual: bool,
    being_deleted: bool,
    /// Deletion in the foreground has begun. It stays so.
    deleting_dependents: bool,
    /// As the last watch event showed it: both flags only while the object is being deleted.
    foreground: bool,
    orphan: bool,
    /// How often it was looked at in vain since it last changed.
    looks: u8,
}

impl Node {
    fn dependents(&self) -> impl Iterator<Item = &Uid> {
        self.dependents.iter().flat_map(|set| set.iter())
    }
}

/// What a worker needs to know of one node.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) identity: Identity,
    pub(crate) is_virtual: bool,
    pub(crate) being_deleted: bool,
    pub(crate) deleting_dependents: bool,
    /// Somebody depends on it.
    pub(crate) has_dependents: bool,
    /// A dependent holds it back.
    pub(crate) is_blocked: bool,
    /// Dependents that hold it back and that nobody has deleted yet.
    pub(crate) to_delete: Vec<Uid>,
    /// A dependent that itself waits for its dependents: perhaps there is a cycle.
    pub(crate) waiting_dependent: Option<Identity>,
}

/// The graph.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Uid, Node>,
    kinds: HashSet<Arc<Kind>>,
    namespaces: HashSet<Arc<str>>,
    absent: Absent,
}

impl Graph {
    /// The shared form of a kind.
    pub(crate) fn kind(&mut self, api_version: &str, kind: &str) -> Arc<Kind> {
        let kind = Kind::new(api_version, kind);
        if let Some(known) = self.kinds.get(&kind) {
            return known.clone();
        }
        let kind = Arc::new(kind);
        self.kinds.insert(kind.clone());
        kind
    }

    /// The shared form of a namespace's name.
    pub(crate) fn namespace(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.namespaces.insert(name.clone());
        name
    }

    /// Forgets the kinds and namespaces that nothing has any more.
    pub(crate) fn shrink(&mut self) {
        self.kinds.retain(|kind| Arc::strong_count(kind) > 1);
        self.namespaces.retain(|name| Arc::strong_count(name) > 1);
        self.nodes.shrink_to_fit();
    }

    /// An owner is known not to exist.
    pub(crate) fn is_absent(&mut self, identity: &Identity) -> bool {
        self.absent.has(identity)
    }

    /// A live read has found that an owner does not exist.
    pub(crate) fn note_absent(&mut self, identity: Identity) {
        self.absent.add(identity);
    }

    /// What is known of a node.
    pub(crate) fn item(&self, uid: &Uid) -> Option<Item> {
        let node = self.nodes.get(uid)?;
        let mut item = Item {
            identity: node.identity.clone(),
            is_virtual: node.is_virtual,
            being_deleted: node.being_deleted,
            deleting_dependents: node.deleting_dependents,
            has_dependents: node.dependents.is_some(),
            is_blocked: false,
            to_delete: Vec::new(),
            waiting_dependent: None,
        };
        for dependent in node.dependents() {
            let Some(found) = self.nodes.get(dependent) else {
                continue;
            };
            if found.deleting_dependents {
                item.waiting_dependent = Some(found.identity.clone());
            }
            if found
                .owners
                .iter()
                .any(|owner| owner.uid == *uid && owner.blocks)
            {
                item.is_blocked = true;
                if !found.being_deleted {
                    item.to_delete.push(dependent.clone());
                }
            }
        }
        Some(item)
    }

    /// A node was looked at and nothing could be done: how often that was so before.
    pub(crate) fn looked(&mut self, uid: &Uid) -> u8 {
        let Some(node) = self.nodes.get_mut(uid) else {
            return 0;
        };
        let before = node.looks;
        node.looks = before.saturating_add(1);
        before
    }

    /// Whom to orphan when an owner goes.
    pub(crate) fn dependents(&self, uid: &Uid) -> Vec<Identity> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(Node::dependents);
        let dependents = dependents.filter_map(|uid| self.nodes.get(uid));
        dependents.map(|node| node.identity.clone()).collect()
    }

    /// The objects of a kind that watches have shown.
    pub(crate) fn seen_of_kind(&self, kind: &Arc<Kind>) -> Vec<Identity> {
        let nodes = self.nodes.values().filter(|node| !node.is_virtual);
        let nodes = nodes.filter(|node| Arc::ptr_eq(&node.identity.kind, kind));
        nodes.map(|node| node.identity.clone()).collect()
    }

    /// A watch has shown an object.
    pub(crate) fn see(&mut self, seen: Seen) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let uid = seen.identity.uid.clone();
        if self.nodes.contains_key(&uid) {
            self.observe(&uid, &seen.identity, &mut wakes);
            self.reown(&uid, seen.owners, &mut wakes);
        } else {
            let node = Node {
                identity: seen.identity,
                owners: seen.owners.into(),
                dependents: None,
                is_virtual: false,
                being_deleted: false,
                deleting_dependents: false,
                foreground: false,
                orphan: false,
                looks: 0,
            };
            let owners = node.owners.clone();
            self.nodes.insert(uid.clone(), node);
            self.link(&uid, &owners, &mut wakes);
        }
        let Some(node) = self.nodes.get_mut(&uid) else {
            return wakes;
        };
        node.looks = 0;
        node.being_deleted |= seen.being_deleted;
        let (foreground, orphan) = (
            seen.being_deleted && seen.foreground,
            seen.being_deleted && seen.orphan,
        );
        let (was_foreground, was_orphan) = (node.foreground, node.orphan);
        (node.foreground, node.orphan) = (foreground, orphan);
        if orphan && !was_orphan {
            wakes.push(Wake::Orphan(uid));
        } else if foreground && !was_foreground {
            node.deleting_dependents = true;
            wakes.extend(node.dependents().cloned().map(Wake::Delete));
            wakes.push(Wake::Delete(uid));
        }
        wakes
    }

    /// A watch has shown that an object is gone.
    pub(crate) fn gone(&mut self, identity: &Identity) -> Vec<Wake> {
        let mut wakes = Vec::new();
        if self.nodes.contains_key(&identity.uid) {
            self.remove(identity, &mut wakes);
        }
        wakes
    }

    /// A live read has shown that there is no such object.
    pub(crate) fn verified_absent(&mut self, identity: &Identity) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let Some(node) = self.nodes.get(&identity.uid) else {
            return wakes;
        };
        let is_same = node.identity == *identity;
        let (matching, others) = self.dependents_by_match(&identity.uid, identity);
        let keeps = match node.is_virtual {
            // Its coordinates are what dependents say, and some say otherwise.
            true => !others.is_empty(),
            // A watch has shown it elsewhere.
            false => !is_same,
        };
        if !keeps {
            self.remove(identity, &mut wakes);
            return wakes;
        }
        let is_virtual = node.is_virtual;
        if !matching.is_empty() {
            self.absent.add(identity.clone());
            wakes.extend(matching.into_iter().map(Wake::Delete));
        }
        if is_virtual && is_same {
            let next = self.alternate(&others, identity);
            if let (Some(next), Some(node)) = (next, self.nodes.get_mut(&identity.uid)) {
                node.identity = next;
                wakes.push(Wake::Later(identity.uid.clone()));
            }
        }
        wakes
    }

    /// A node that was virtual is shown by a watch: perhaps elsewhere than its dependents say.
    fn observe(&mut self, uid: &Uid, identity: &Identity, wakes: &mut Vec<Wake>) {
        let Some(node) = self.nodes.get_mut(uid).filter(|node| node.is_virtual) else {
            return;
        };
        node.is_virtual = false;
        if node.identity == *identity {
            return;
        }
        node.identity = identity.clone();
        let (_, doubtful) = self.dependents_by_match(uid, identity);
        for dependent in doubtful {
            if let Some(node) = self.nodes.get(&dependent) {
                let elsewhere = node.identity.namespace != identity.namespace;
                if !identity.namespace.is_empty() && elsewhere {
                    wakes.extend(report(node, uid));
                }
            }
            wakes.push(Wake::Delete(dependent));
        }
    }

    /// An object has other owners than before, perhaps.
    fn reown(&mut self, uid: &Uid, owners: Vec<Owner>, wakes: &mut Vec<Wake>) {
        let Some(node) = self.nodes.get_mut(uid) else {
            return;
        };
        if *node.owners == *owners {
            return;
        }
        let old = std::mem::replace(&mut node.owners, owners.into());
        let new = node.owners.clone();
        for before in &old {
            let now = new.iter().find(|owner| owner.uid == before.uid);
            let blocks = now.is_some_and(|owner| owner.blocks);
            if before.blocks && !blocks && self.nodes.contains_key(&before.uid) {
                wakes.push(Wake::Delete(before.uid.clone()));
            }
            if now.is_none() {
                self.unlink(uid, &before.uid);
            }
        }
        let added = new
            .iter()
            .filter(|owner| old.iter().all(|before| before.uid != owner.uid));
        let added: Vec<Owner> = added.cloned().collect();
        self.link(uid, &added, wakes);
    }

    /// Enters an object as dependent of its owners.
    fn link(&mut self, uid: &Uid, owners: &[Owner], wakes: &mut Vec<Wake>) {
        let Some(namespace) = self
            .nodes
            .get(uid)
            .map(|node| node.identity.namespace.clone())
        else {
            return;
        };
        let mut is_doubtful = false;
        for owner in owners {
            let Some(node) = self.nodes.get_mut(&owner.uid) else {
                let node = Node {
                    identity: owner.identity(&namespace),
                    owners: Box::default(),
                    dependents: Some(Box::new(HashSet::from([uid.clone()]))),
                    is_virtual: true,
                    being_deleted: false,
                    deleting_dependents: false,
                    foreground: false,
                    orphan: false,
                    looks: 0,
                };
                self.nodes.insert(owner.uid.clone(), node);
                wakes.push(Wake::Delete(owner.uid.clone()));
                continue;
            };
            node.dependents.get_or_insert_default().insert(uid.clone());
            let is_elsewhere = node.identity.namespace != namespace;
            let is_namespaced = !node.identity.namespace.is_empty();
            let is_foreign = is_namespaced && is_elsewhere && !node.is_virtual;
            // The owner could be a namespaced one that a cluster-scoped object names in error.
            let is_unclear = is_elsewhere && (is_namespaced || node.is_virtual);
            is_doubtful |= is_unclear || !owner.names(&node.identity);
            if is_foreign && let Some(node) = self.nodes.get(uid) {
                wakes.extend(report(node, &owner.uid));
            }
        }
        if is_doubtful {
            wakes.push(Wake::Delete(uid.clone()));
        }
    }

    fn unlink(&mut self, uid: &Uid, owner: &Uid) {
        if let Some(node) = self.nodes.get_mut(owner)
            && let Some(dependents) = &mut node.dependents
        {
            dependents.remove(uid);
            if dependents.is_empty() {
                node.dependents = None;
            }
        }
    }

    fn remove(&mut self, identity: &Identity, wakes: &mut Vec<Wake>) {
        let Some(node) = self.nodes.remove(&identity.uid) else {
            return;
        };
        for owner in &node.owners {
            self.unlink(&identity.uid, &owner.uid);
        }
        if node.dependents.is_some() {
            self.absent.add(identity.clone());
        }
        wakes.extend(node.dependents().cloned().map(Wake::Delete));
        for owner in &node.owners {
            // Perhaps this was the last that the owner waited for.
            if self
                .nodes
                .get(&owner.uid)
                .is_some_and(|owner| owner.deleting_dependents)
            {
                wakes.push(Wake::Delete(owner.uid.clone()));
            }
        }
    }

    /// The dependents of a node that name exactly this object, and those that name another one with
    /// its uid. One that names it twice can be among both.
    fn dependents_by_match(&self, uid: &Uid, identity: &Identity) -> (Vec<Uid>, Vec<Uid>) {
        let (mut matching, mut others) = (Vec::new(), Vec::new());
        let Some(node) = self.nodes.get(uid) else {
            return (matching, others);
        };
        for dependent in node.dependents() {
            let Some(found) = self.nodes.get(dependent) else {
                continue;
            };
            let is_reachable =
                identity.namespace.is_empty() || identity.namespace == found.identity.namespace;
            let mut references = found
                .owners
                .iter()
                .filter(|owner| owner.uid == *uid)
                .peekable();
            let is_named = references.peek().is_some();
            let (mut is_match, mut is_other) = (false, is_named && !is_reachable);
            if is_reachable {
                for owner in references {
                    match owner.names(identity) {
                        true => is_match = true,
                        false => is_other = true,
                    }
                }
            }
            if is_match {
                matching.push(dependent.clone());
            }
            if is_other {
                others.push(dependent.clone());
            }
        }
        (matching, others)
    }

    /// Other coordinates that dependents give for an absent owner: the next after those that were
    /// tried, then again from the first.
    fn alternate(&self, dependents: &[Uid], absent: &Identity) -> Option<Identity> {
        let nobody: Arc<str> = "".into();
        let is_of_cluster = absent.namespace.is_empty();
        let found = dependents
            .iter()
            .filter_map(|uid| self.nodes.get(uid))
            .flat_map(|node| {
                let owners = node.owners.iter().filter(|owner| owner.uid == absent.uid);
                owners.map(|owner| {
                    // The kind of what is absent is known to have no namespaces.
                    let namespace = match is_of_cluster && owner.kind == absent.kind {
                        true => &nobody,
                        false => &node.identity.namespace,
                    };
                    owner.identity(namespace)
                })
            });
        let found: Vec<Identity> = found.filter(|found| found != absent).collect();
        let next = found.iter().filter(|found| *found > absent).min();
        next.or_else(|| found.iter().min()).cloned()
    }
}

/// A dependent names an owner that is not in its namespace.
fn report(dependent: &Node, owner: &Uid) -> Option<Wake> {
    let owner = dependent.owners.iter().find(|found| found.uid == *owner)?;
    Some(Wake::Report {
        owner: owner.identity(&dependent.identity.namespace),
        dependent: dependent.identity.clone(),
    })
}

/// The owners that were found absent last; what was used longest ago is forgotten first.
#[derive(Debug, Default)]
struct Absent {
    entries: HashMap<Identity, u64>,
    tick: u64,
}

impl Absent {
    fn add(&mut self, identity: Identity) {
        self.tick += 1;
        self.entries.insert(identity, self.tick);
        if self.entries.len() > ABSENT_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, tick)| **tick);
            let oldest = oldest.map(|(identity, _)| identity.clone());
            oldest.and_then(|identity| self.entries.remove(&identity));
        }
    }

    fn has(&mut self, identity: &Identity) -> bool {
        self.tick += 1;
        let tick = self.tick;
        self.entries
            .get_mut(identity)
            .map(|entry| *entry = tick)
            .is_some()
    }
}

#[cfg(test)]
mod tests;
