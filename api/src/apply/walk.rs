//! Walks over documents along their schema: which fields there are, what differs, what a merge
//! gives, what is left when some are removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::atom::{Atom, Place, element};
use super::set::{Set, Step};
use crate::doc::{Doc, Id, Kind, New, Node};
use crate::schema::{List, Topology, Type};

/// Objects whose keys are in different orders are compared key by key, beyond this many pairs by hash.
const PAIRS_MAX: usize = 1024;

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
                path.push(Step::Field(child.key().to_string().into()));
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
    fields(node, Place::Root(schema)).1
}

/// Whether a value is owned itself, and what in it is.
fn fields(node: Node<'_>, place: Place<'_>) -> (bool, Set) {
    let mut set = Set::default();
    match place.atom(Some(node)) {
        Atom::Leaf => return (true, set),
        Atom::List(list) => {
            let items = by_step(Some(node), list);
            for same in items.chunk_by(|one, other| one.0 == other.0) {
                // A duplicate has no one value.
                let below = match same {
                    [(_, item)] => fields(*item, Place::Shaped(&list.item, Topology::Natural)).1,
                    _ => Set::default(),
                };
                set.push(same[0].0.clone(), true, below);
            }
        }
        atom => {
            let mut hint = 0;
            for child in node.children() {
                let (name, place) = atom.enter(child.key(), &mut hint);
                let (is_owned, below) = fields(child, place.unwrap_or(Place::Untyped));
                let is_bare = child.is_null() || child.kind() == Kind::Object && child.is_empty();
                let is_member = is_owned || is_bare || !atom.names(child.key());
                if is_member || !below.is_empty() {
                    set.push(Step::Field(name()), is_member, below);
                }
            }
        }
    }
    set.finish();
    (false, set)
}

/// The elements of a list by what tells them apart, in that order; those that nothing tells apart are
/// left out.
fn by_step<'d>(node: Option<Node<'d>>, list: &List) -> Vec<(Step, Node<'d>)> {
    let items = node.into_iter().flat_map(Node::children);
    let mut items: Vec<_> = items
        .filter_map(|item| Some((element(list, item).ok()?, item)))
        .collect();
    items.sort_by(|one, other| one.0.cmp(&other.0));
    items
}

/// What differs.
pub(super) fn compare(old: Node<'_>, new: Node<'_>, schema: &Type) -> Comparison {
    let mut comparison = Comparison::default();
    differ(Some(old), Some(new), Place::Root(schema), &mut comparison);
    comparison
}

/// What became of a value as a whole.
#[derive(Clone, Copy, Default)]
struct Marks {
    removed: bool,
    modified: bool,
    added: bool,
}

impl Comparison {
    /// Takes in what became of the value behind a step.
    fn push(&mut self, marks: Marks, below: Self, step: impl Fn() -> Step) {
        let sets = [
            (&mut self.removed, marks.removed, below.removed),
            (&mut self.modified, marks.modified, below.modified),
            (&mut self.added, marks.added, below.added),
        ];
        for (set, is_member, below) in sets {
            if is_member || !below.is_empty() {
                set.push(step(), is_member, below);
            }
        }
    }

    fn finish(&mut self) {
        self.removed.finish();
        self.modified.finish();
        self.added.finish();
    }
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

/// What differs within two values goes into `found`; what became of them as a whole is returned.
fn differ(
    old: Option<Node<'_>>,
    new: Option<Node<'_>>,
    place: Place<'_>,
    found: &mut Comparison,
) -> Marks {
    match common(old, new, place) {
        Atom::Leaf => {
            if let (Some(old), Some(new)) = (old, new) {
                return Marks {
                    modified: old != new,
                    ..Marks::default()
                };
            }
        }
        Atom::List(list) => differ_lists(old, new, list, found),
        atom => {
            let mut hint = 0;
            each_pair(old, new, |key, old, new| {
                let (name, place) = atom.enter(key, &mut hint);
                let mut below = Comparison::default();
                let place = place.unwrap_or(Place::Untyped);
                let marks = differ(old, new, place, &mut below);
                found.push(marks, below, || Step::Field(name()));
            });
            found.finish();
        }
    }
    Marks {
        added: old.is_none(),
        removed: old.is_some() && new.is_none(),
        modified: false,
    }
}

fn differ_lists(old: Option<Node<'_>>, new: Option<Node<'_>>, list: &List, found: &mut Comparison) {
    if old.is_some() && old == new {
        return;
    }
    let (before, after) = (by_step(old, list), by_step(new, list));
    let (mut before, mut after) = (&before[..], &after[..]);
    loop {
        let step = match (before.first(), after.first()) {
            (Some((mine, _)), Some((its, _))) => mine.min(its),
            (Some((step, _)), None) | (None, Some((step, _))) => step,
            (None, None) => return,
        };
        let ours = take_same(&mut before, step);
        let theirs = take_same(&mut after, step);
        let mut below = Comparison::default();
        let marks = differ_elements(ours, theirs, list, &mut below);
        found.push(marks, below, || step.clone());
    }
}

/// The elements in front that are told apart by a step.
fn take_same<'i, 'd>(items: &mut &'i [(Step, Node<'d>)], step: &Step) -> &'i [(Step, Node<'d>)] {
    let count = items.iter().take_while(|item| item.0 == *step).count();
    let (same, rest) = items.split_at(count);
    *items = rest;
    same
}

/// What differs between elements that one step leads to. Duplicates are compared as a whole.
fn differ_elements(
    ours: &[(Step, Node<'_>)],
    theirs: &[(Step, Node<'_>)],
    list: &List,
    found: &mut Comparison,
) -> Marks {
    let place = Place::Shaped(&list.item, Topology::Natural);
    match (ours, theirs) {
        ([] | [_], [] | [_]) => {
            let old = ours.first().map(|item| item.1);
            let new = theirs.first().map(|item| item.1);
            differ(old, new, place, found)
        }
        ([_, _, ..], [_, _, ..]) => Marks {
            modified: ours.iter().map(|i| i.1).ne(theirs.iter().map(|i| i.1)),
            ..Marks::default()
        },
        ([_, _, ..], _) => {
            let new = theirs.first().map(|item| item.1);
            let marks = new.map(|new| differ(None, Some(new), place, found));
            Marks {
                removed: true,
                ..marks.unwrap_or_default()
            }
        }
        (_, _) => {
            let old = ours.first().map(|item| item.1);
            let marks = old.map(|old| differ(Some(old), None, place, found));
            Marks {
                added: true,
                ..marks.unwrap_or_default()
            }
        }
    }
}

/// Goes over the keys of two objects with their values: mostly both have the same ones in the same
/// order.
fn each_pair<'d>(
    old: Option<Node<'d>>,
    new: Option<Node<'d>>,
    mut visit: impl FnMut(&'d str, Option<Node<'d>>, Option<Node<'d>>),
) {
    let mut ours = old.into_iter().flat_map(Node::children);
    let mut theirs = new.into_iter().flat_map(Node::children);
    let (mut mine, mut its) = (ours.next(), theirs.next());
    while mine.map(Node::key) == its.map(Node::key) || mine.is_none() || its.is_none() {
        let Some(either) = mine.or(its) else { return };
        visit(either.key(), mine, its);
        (mine, its) = (ours.next(), theirs.next());
    }
    let ours: Vec<Node<'d>> = mine.into_iter().chain(ours).collect();
    let mut theirs: Vec<Option<Node<'d>>> = its.into_iter().chain(theirs).map(Some).collect();
    let places: HashMap<&str, usize> = match ours.len() * theirs.len() > PAIRS_MAX {
        true => (theirs.iter().enumerate())
            .filter_map(|(at, node)| Some((node.as_ref()?.key(), at)))
            .collect(),
        false => HashMap::new(),
    };
    for mine in ours {
        let key = mine.key();
        let place = match places.is_empty() {
            true => theirs
                .iter()
                .position(|node| node.is_some_and(|node| node.key() == key)),
            false => places.get(key).copied(),
        };
        visit(key, Some(mine), place.and_then(|at| theirs[at].take()));
    }
    for its in theirs.into_iter().flatten() {
        visit(its.key(), None, Some(its));
    }
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
            each_pair(live, config, |key, live, config| {
                let place = atom.child(key).unwrap_or(Place::Untyped);
                if let Some(value) = merged(out, live, config, place) {
                    out.cells[value.index()].key = out.add_text(key);
                    out.link_last(object, value);
                }
            });
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
                let step = Step::Field(child.key().to_string().into());
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
    set.mapped(|step, child| {
        let (is_named, below) = match (step, atom) {
            (Step::Field(name), Some(atom)) => (atom.names(name), atom.child(name)),
            (Step::Key(_), Some(Atom::List(list))) => {
                let place = Place::Shaped(&list.item, Topology::Natural);
                (false, Some(place))
            }
            _ => (false, None),
        };
        (is_named, named(child, below))
    })
}
