//! Walks over documents along their schema: which fields there are, what differs, what a merge
//! gives, what is left when some are removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::atom::{Atom, Place, element};
use super::set::{Set, Step};
use crate::doc::{Doc, Id, Kind, New, Node};
use crate::schema::{List, Topology, Type};

/// What changed between two documents.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) modified: Set,
    pub(super) added: Set,
}

/// Complaints about a document, each with its path, in upstream's words.
pub(super) fn validate(node: Node<'_>, schema: &Type) -> Result<(), String> {
    let mut errors = Vec::new();
    check(node, Place::Root(schema), &mut Vec::new(), &mut errors);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn check(node: Node<'_>, place: Place<'_>, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    if node.is_null() {
        return;
    }
    let complain = |path: &[Step], text: &str, errors: &mut Vec<String>| {
        errors.push(format!("{}: {text}", super::set::path_text(path)));
    };
    match place.atom(Some(node)) {
        Atom::Leaf => {}
        Atom::List(list) => {
            if node.kind() != Kind::List {
                return complain(path, &format!("expected list, got {node}"), errors);
            }
            let mut seen = HashSet::new();
            for (at, item) in node.children().enumerate() {
                match element(list, item) {
                    Err(error) => complain(path, &format!("element {at}: {error}"), errors),
                    Ok(step) => {
                        if !seen.insert(step.to_string()) {
                            complain(path, &format!("duplicate entries for key {step}"), errors);
                        }
                        path.push(step);
                        check(
                            item,
                            Place::Shaped(&list.item, Topology::Natural),
                            path,
                            errors,
                        );
                        path.pop();
                    }
                }
            }
        }
        atom => {
            if node.kind() != Kind::Object {
                return complain(path, &format!("expected map, got {node}"), errors);
            }
            for child in node.children() {
                path.push(Step::Field(child.key().to_string()));
                match atom.child(child.key()) {
                    Some(place) => check(child, place, path, errors),
                    None => complain(path, "field not declared in schema", errors),
                }
                path.pop();
            }
        }
    }
}

/// Every field that is set.
pub(super) fn field_set(node: Node<'_>, schema: &Type) -> Set {
    let mut set = Set::default();
    fields(node, Place::Root(schema), &mut Vec::new(), &mut set);
    set
}

fn fields(node: Node<'_>, place: Place<'_>, path: &mut Vec<Step>, set: &mut Set) {
    match place.atom(Some(node)) {
        Atom::Leaf => set.insert(path),
        Atom::List(list) => {
            let mut count: HashMap<String, usize> = HashMap::new();
            let steps: Vec<(Step, Node<'_>)> = node
                .children()
                .filter_map(|item| Some((element(list, item).ok()?, item)))
                .collect();
            for (step, _) in &steps {
                *count.entry(step.to_string()).or_default() += 1;
            }
            for (step, item) in steps {
                let is_single = count[&step.to_string()] == 1;
                path.push(step);
                if is_single {
                    fields(
                        item,
                        Place::Shaped(&list.item, Topology::Natural),
                        path,
                        set,
                    );
                }
                set.insert(path);
                path.pop();
            }
        }
        atom => {
            for child in node.children() {
                let place = atom.child(child.key()).unwrap_or(Place::Untyped);
                path.push(Step::Field(child.key().to_string()));
                fields(child, place, path, set);
                let is_bare = child.is_null() || child.kind() == Kind::Object && child.is_empty();
                if is_bare || !atom.names(child.key()) {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

/// What differs.
pub(super) fn compare(old: Node<'_>, new: Node<'_>, schema: &Type) -> Comparison {
    let mut comparison = Comparison::default();
    differ(
        Some(old),
        Some(new),
        Place::Root(schema),
        &mut Vec::new(),
        &mut comparison,
    );
    comparison
}

fn is_void(node: Option<Node<'_>>) -> bool {
    node.is_none_or(|node| {
        node.is_null() || node.is_empty() && matches!(node.kind(), Kind::List | Kind::Object)
    })
}

/// The atom for two values; of different kinds they are leaves.
fn common<'s>(old: Option<Node<'_>>, new: Option<Node<'_>>, place: Place<'s>) -> Atom<'s> {
    if is_void(old) && is_void(new) {
        return Atom::Leaf;
    }
    let fits = |atom: &Atom<'_>, node: Option<Node<'_>>| {
        node.is_none_or(|node| match atom {
            Atom::Leaf => true,
            Atom::List(_) => matches!(node.kind(), Kind::List | Kind::Null),
            _ => matches!(node.kind(), Kind::Object | Kind::Null),
        })
    };
    let atom = place.atom(new.or(old));
    if fits(&atom, old) && fits(&atom, new) {
        atom
    } else {
        Atom::Leaf
    }
}

fn differ(
    old: Option<Node<'_>>,
    new: Option<Node<'_>>,
    place: Place<'_>,
    path: &mut Vec<Step>,
    found: &mut Comparison,
) {
    let atom = common(old, new, place);
    match atom {
        Atom::Leaf => {
            if let (Some(old), Some(new)) = (old, new) {
                if old != new {
                    found.modified.insert(path);
                }
                return;
            }
        }
        Atom::List(list) => differ_lists(old, new, list, path, found),
        atom => {
            for (key, old, new) in zip(old, new) {
                let place = atom.child(key).unwrap_or(Place::Untyped);
                path.push(Step::Field(key.to_string()));
                differ(old, new, place, path, found);
                path.pop();
            }
        }
    }
    match (old, new) {
        (None, _) => found.added.insert(path),
        (_, None) => found.removed.insert(path),
        _ => {}
    }
}

fn differ_lists(
    old: Option<Node<'_>>,
    new: Option<Node<'_>>,
    list: &List,
    path: &mut Vec<Step>,
    found: &mut Comparison,
) {
    let by_step = |node: Option<Node<'_>>| {
        let mut items: BTreeMap<Step, Vec<Id>> = BTreeMap::new();
        for item in node.into_iter().flat_map(Node::children) {
            if let Ok(step) = element(list, item) {
                items.entry(step).or_default().push(item.id());
            }
        }
        items
    };
    let (before, after) = (by_step(old), by_step(new));
    let steps: Vec<&Step> = before
        .keys()
        .chain(after.keys().filter(|s| !before.contains_key(s)))
        .collect();
    for step in steps {
        let nodes = |doc: Option<Node<'_>>, items: &BTreeMap<Step, Vec<Id>>| -> Vec<Id> {
            doc.and_then(|_| items.get(step))
                .cloned()
                .unwrap_or_default()
        };
        let (ours, theirs) = (nodes(old, &before), nodes(new, &after));
        let old_at = |id: &Id| old.map(|node| node.doc().node(*id));
        let new_at = |id: &Id| new.map(|node| node.doc().node(*id));
        let place = Place::Shaped(&list.item, Topology::Natural);
        path.push(step.clone());
        match (&ours[..], &theirs[..]) {
            ([] | [_], [] | [_]) => {
                let (one, other) = (
                    ours.first().and_then(old_at),
                    theirs.first().and_then(new_at),
                );
                differ(one, other, place, path, found);
            }
            ([_, _, ..], [_, _, ..]) => {
                if !ours.iter().map(old_at).eq(theirs.iter().map(new_at)) {
                    found.modified.insert(path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(single) = theirs.first().and_then(new_at) {
                    differ(None, Some(single), place, path, found);
                }
                found.removed.insert(path);
            }
            (_, _) => {
                if let Some(single) = ours.first().and_then(old_at) {
                    differ(Some(single), None, place, path, found);
                }
                found.added.insert(path);
            }
        }
        path.pop();
    }
}

/// The keys of two objects with their values.
fn zip<'d>(
    old: Option<Node<'d>>,
    new: Option<Node<'d>>,
) -> Vec<(&'d str, Option<Node<'d>>, Option<Node<'d>>)> {
    let mut all = Vec::new();
    let mut known = HashMap::new();
    for child in old.into_iter().flat_map(Node::children) {
        known.insert(child.key(), all.len());
        all.push((child.key(), Some(child), None));
    }
    for child in new.into_iter().flat_map(Node::children) {
        match known.get(child.key()) {
            Some(at) => all[*at].2 = Some(child),
            None => all.push((child.key(), None, Some(child))),
        }
    }
    all
}

/// A live object with a configuration merged into it.
pub(super) fn merge(live: Node<'_>, config: Node<'_>, schema: &Type) -> Doc {
    let mut out = Doc::new();
    if let Some(top) = merged(&mut out, Some(live), Some(config), Place::Root(schema)) {
        out.set_root(top);
    }
    out
}

fn merged(
    out: &mut Doc,
    live: Option<Node<'_>>,
    config: Option<Node<'_>>,
    place: Place<'_>,
) -> Option<Id> {
    match common(live, config, place) {
        Atom::Leaf => config.or(live).map(|node| out.graft(node)),
        Atom::List(list) => Some(merged_list(out, live, config, list)),
        atom => {
            let object = out.make(New::Object);
            for (key, live, config) in zip(live, config) {
                let place = atom.child(key).unwrap_or(Place::Untyped);
                if let Some(value) = merged(out, live, config, place) {
                    out.cells[value.index()].key = out.add_text(key);
                    out.link_last(object, value);
                }
            }
            Some(object)
        }
    }
}

/// Elements of both lists: the configuration's in its order, the live ones where they stood.
fn merged_list(out: &mut Doc, live: Option<Node<'_>>, config: Option<Node<'_>>, list: &List) -> Id {
    let steps = |node: Option<Node<'_>>| -> Vec<(Step, Id)> {
        let items = node.into_iter().flat_map(Node::children);
        items
            .filter_map(|item| Some((element(list, item).ok()?, item.id())))
            .collect()
    };
    let (left, right) = (steps(live), steps(config));
    let mut observed_left: BTreeMap<&Step, Option<Id>> = BTreeMap::new();
    for (step, id) in &left {
        // A duplicate has no one value to merge with.
        observed_left
            .entry(step)
            .and_modify(|known| *known = None)
            .or_insert(Some(*id));
    }
    let observed_right: BTreeMap<&Step, Id> = right.iter().map(|(step, id)| (step, *id)).collect();
    let mut shared = right
        .iter()
        .map(|(step, _)| step)
        .filter(|step| observed_left.contains_key(step));
    let mut next_shared = shared.next();
    let result = out.make(New::List);
    let place = Place::Shaped(&list.item, Topology::Natural);
    let live_at = |id: Option<Id>| live.zip(id).map(|(node, id)| node.doc().node(id));
    let config_at = |id: Id| config.map(|node| node.doc().node(id));
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            let step = &left[l].0;
            if *step == right[r].0 {
                done.insert(step);
                let old = live_at(observed_left.get(step).copied().flatten());
                push_merged(out, result, old, config_at(right[r].1), place);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            let is_early =
                observed_right.contains_key(step) && next_shared.is_some_and(|next| next != step);
            if is_early {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            let (step, id) = &left[l];
            if !observed_right.contains_key(step) {
                push_merged(out, result, live_at(Some(*id)), None, place);
                l += 1;
                continue;
            } else if done.contains(step) {
                l += 1;
            }
        }
        if r < right.len() {
            let (step, id) = &right[r];
            done.insert(step);
            let old = live_at(observed_left.get(step).copied().flatten());
            push_merged(out, result, old, config_at(*id), place);
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    result
}

fn push_merged(
    out: &mut Doc,
    list: Id,
    live: Option<Node<'_>>,
    config: Option<Node<'_>>,
    place: Place<'_>,
) {
    if let Some(value) = merged(out, live, config, place) {
        out.push_id(list, value);
    }
}

/// What is left of a document without some fields.
pub(super) fn remove(node: Node<'_>, unwanted: &Set, schema: &Type) -> Doc {
    let mut out = Doc::new();
    if let Some(top) = remaining(&mut out, node, unwanted, Place::Root(schema)) {
        out.set_root(top);
    }
    out
}

fn remaining(out: &mut Doc, node: Node<'_>, unwanted: &Set, place: Place<'_>) -> Option<Id> {
    match place.atom(Some(node)) {
        // What is owned as a whole and reached by a path into it goes as a whole.
        Atom::Leaf => match node.kind() {
            Kind::List | Kind::Object => None,
            _ => Some(out.graft(node)),
        },
        Atom::List(list) => {
            let result = out.make(New::List);
            let place = Place::Shaped(&list.item, Topology::Natural);
            for item in node.children() {
                let step = element(list, item).ok();
                if step.as_ref().is_some_and(|step| unwanted.has_step(step)) {
                    continue;
                }
                let below = step.as_ref().and_then(|step| unwanted.below(step));
                let kept = match below {
                    Some(below) => remaining(out, item, below, place),
                    None => Some(out.graft(item)),
                };
                if let Some(kept) = kept {
                    out.push_id(result, kept);
                }
            }
            (!out.node(result).is_empty()).then_some(result)
        }
        atom => {
            let result = out.make(New::Object);
            for child in node.children() {
                let step = Step::Field(child.key().to_string());
                if unwanted.has_step(&step) {
                    continue;
                }
                let kept = match unwanted.below(&step) {
                    Some(below) => remaining(
                        out,
                        child,
                        below,
                        atom.child(child.key()).unwrap_or(Place::Untyped),
                    ),
                    None => Some(out.graft(child)),
                };
                // What became empty is null for now: it is still somebody's, perhaps.
                let kept = kept.unwrap_or_else(|| out.make(New::Null));
                out.cells[kept.index()].key = out.add_text(child.key());
                out.link_last(result, kept);
            }
            (!out.node(result).is_empty()).then_some(result)
        }
    }
}

/// A set in which the fields that the schema names and that have members below are members too.
pub(super) fn with_named(set: &Set, schema: &Type) -> Set {
    named(set, Some(Place::Root(schema)))
}

fn named(set: &Set, place: Option<Place<'_>>) -> Set {
    let object = Doc::new();
    let atom = place.map(|place| place.atom(Some(object.root())));
    let extra = set.children().filter_map(|(step, _)| match (step, atom) {
        (Step::Field(name), Some(atom)) if atom.names(name) => Some(step.clone()),
        _ => None,
    });
    set.mapped(extra.collect(), |step, child| {
        let below = match (step, atom) {
            (Step::Field(name), Some(atom)) => atom.child(name),
            (Step::Key(_), Some(Atom::List(list))) => {
                Some(Place::Shaped(&list.item, Topology::Natural))
            }
            _ => None,
        };
        named(child, below)
    })
}
