//! Who is interested in a key, among many exact keys and overlapping ranges.
//!
//! Exact keys are hashed. Ranges lie in a treap ordered by their start, where every node knows the
//! highest end below it, so that finding all ranges around a key takes O(log n + found).

use std::collections::HashMap;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::range::{KeyRange, Upper};

/// A map from key ranges to values that can be asked for all values around a key.
#[derive(Debug)]
pub struct Interest<T> {
    keys: HashMap<Bytes, T>,
    ranges: Tree<T>,
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    end: Upper,
    value: T,
    /// Heap order by priority keeps the tree balanced. It is a hash of the range, so that the
    /// shape of the tree does not depend on a source of randomness.
    priority: u64,
    /// The highest end of this subtree.
    highest: Upper,
    left: Tree<T>,
    right: Tree<T>,
}

impl<T> Default for Interest<T> {
    fn default() -> Self {
        Interest {
            keys: HashMap::new(),
            ranges: None,
        }
    }
}

impl<T: Default> Interest<T> {
    /// The value of a range, added when it is not there.
    pub fn entry(&mut self, range: &KeyRange) -> &mut T {
        match range {
            KeyRange::Key(key) => self.keys.entry(key.clone()).or_default(),
            KeyRange::Range(start, end) => {
                if get(&mut self.ranges, start, end).is_none() {
                    let node = Box::new(Node::new(start.clone(), end.clone()));
                    self.ranges = Some(insert(self.ranges.take(), node));
                }
                match get(&mut self.ranges, start, end) {
                    Some(value) => value,
                    None => unreachable!("the range has just been inserted"),
                }
            }
        }
    }

    /// Changes the value of a range if it is there, and removes it if `change` says so.
    pub fn retain(&mut self, range: &KeyRange, change: impl FnOnce(&mut T) -> bool) {
        match range {
            KeyRange::Key(key) => {
                if let Some(value) = self.keys.get_mut(key)
                    && !change(value)
                {
                    self.keys.remove(key);
                }
            }
            KeyRange::Range(start, end) => {
                if let Some(value) = get(&mut self.ranges, start, end)
                    && !change(value)
                {
                    self.ranges = remove(self.ranges.take(), start, end);
                }
            }
        }
    }

    /// Calls `found` with the value of every range that contains the key.
    pub fn around(&self, key: &[u8], mut found: impl FnMut(&T)) {
        if let Some(value) = self.keys.get(key) {
            found(value);
        }
        visit(&self.ranges, key, &mut found);
    }

    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_none()
    }
}

impl<T: Default> Node<T> {
    fn new(start: Bytes, end: Upper) -> Node<T> {
        let mut hash = Xxh3::new();
        hash.update(&start);
        if let Upper::Below(end) = &end {
            hash.update(b"\0");
            hash.update(end);
        }
        Node {
            priority: hash.digest(),
            highest: end.clone(),
            value: T::default(),
            left: None,
            right: None,
            start,
            end,
        }
    }
}

impl<T> Node<T> {
    fn precedes(&self, start: &Bytes, end: &Upper) -> bool {
        (&self.start, &self.end) < (start, end)
    }

    fn is(&self, start: &Bytes, end: &Upper) -> bool {
        (&self.start, &self.end) == (start, end)
    }

    /// Recomputes what depends on the children.
    fn updated(mut self: Box<Self>) -> Box<Self> {
        let below = [&self.left, &self.right].into_iter().flatten();
        let highest = below.map(|n| &n.highest).chain([&self.end]).max();
        if let Some(highest) = highest.cloned() {
            self.highest = highest;
        }
        self
    }
}

fn get<'a, T>(tree: &'a mut Tree<T>, start: &Bytes, end: &Upper) -> Option<&'a mut T> {
    let node = tree.as_mut()?;
    if node.is(start, end) {
        return Some(&mut node.value);
    }
    match node.precedes(start, end) {
        true => get(&mut node.right, start, end),
        false => get(&mut node.left, start, end),
    }
}

fn visit<T>(tree: &Tree<T>, key: &[u8], found: &mut impl FnMut(&T)) {
    let Some(node) = tree else { return };
    if !node.highest.admits(key) {
        return;
    }
    visit(&node.left, key, found);
    if &node.start[..] <= key {
        if node.end.admits(key) {
            found(&node.value);
        }
        visit(&node.right, key, found);
    }
}

/// Adds a node that is not in the tree yet.
fn insert<T>(tree: Tree<T>, mut new: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut node) = tree else { return new };
    if new.priority > node.priority {
        (new.left, new.right) = split(Some(node), &new.start, &new.end);
        return new.updated();
    }
    match node.precedes(&new.start, &new.end) {
        true => node.right = Some(insert(node.right.take(), new)),
        false => node.left = Some(insert(node.left.take(), new)),
    }
    node.updated()
}

/// Parts the tree into what precedes the range and what follows it.
fn split<T>(tree: Tree<T>, start: &Bytes, end: &Upper) -> (Tree<T>, Tree<T>) {
    let Some(mut node) = tree else {
        return (None, None);
    };
    if node.precedes(start, end) {
        let (before, after) = split(node.right.take(), start, end);
        node.right = before;
        (Some(node.updated()), after)
    } else {
        let (before, after) = split(node.left.take(), start, end);
        node.left = after;
        (before, Some(node.updated()))
    }
}

fn remove<T>(tree: Tree<T>, start: &Bytes, end: &Upper) -> Tree<T> {
    let mut node = tree?;
    if node.is(start, end) {
        return join(node.left.take(), node.right.take());
    }
    match node.precedes(start, end) {
        true => node.right = remove(node.right.take(), start, end),
        false => node.left = remove(node.left.take(), start, end),
    }
    Some(node.updated())
}

/// Joins two trees of which the first precedes the second.
fn join<T>(before: Tree<T>, after: Tree<T>) -> Tree<T> {
    match (before, after) {
        (None, tree) | (tree, None) => tree,
        (Some(mut a), Some(mut b)) => Some(match a.priority > b.priority {
            true => {
                a.right = join(a.right.take(), Some(b));
                a.updated()
            }
            false => {
                b.left = join(Some(a), b.left.take());
                b.updated()
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = KeyRange> {
        (vec(0u8..4, 0..3), vec(0u8..4, 0..3)).prop_filter_map("empty range", |(key, end)| {
            KeyRange::of_watch(&Bytes::from(key), &Bytes::from(end))
        })
    }

    fn depth<T>(tree: &Tree<T>) -> usize {
        let below = |node: &Node<T>| depth(&node.left).max(depth(&node.right));
        tree.as_ref().map_or(0, |node| 1 + below(node))
    }

    proptest! {
        /// Against a plain list: what is around a key after any additions and removals.
        #[test]
        fn finds_what_a_list_finds(
            steps in vec((ranges(), any::<bool>()), 0..60),
            probes in vec(vec(0u8..4, 0..4), 10),
        ) {
            let mut interest: Interest<u32> = Interest::default();
            let mut list: Vec<(KeyRange, u32)> = Vec::new();
            for (range, add) in steps {
                let at = list.iter().position(|(r, _)| *r == range);
                if add {
                    *interest.entry(&range) += 1;
                    match at {
                        Some(at) => list[at].1 += 1,
                        None => list.push((range, 1)),
                    }
                } else {
                    interest.retain(&range, |count| { *count -= 1; *count > 0 });
                    if let Some(at) = at {
                        list[at].1 -= 1;
                        list.retain(|(_, count)| *count > 0);
                    }
                }
            }
            prop_assert_eq!(interest.is_empty(), list.is_empty());
            for probe in probes {
                let mut found = Vec::new();
                interest.around(&probe, |count| found.push(*count));
                let around = list.iter().filter(|(range, _)| range.contains(&probe));
                let mut expected: Vec<u32> = around.map(|(_, count)| *count).collect();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn stays_balanced_when_ranges_come_in_order() {
        let mut interest: Interest<u32> = Interest::default();
        for n in 0..10_000 {
            let key = Bytes::from(format!("/registry/pods/{n:05}/"));
            let end = Bytes::from(format!("/registry/pods/{n:05}0"));
            *interest.entry(&KeyRange::Range(key, Upper::Below(end))) = n;
        }
        assert!(depth(&interest.ranges) < 50);
        let mut found = Vec::new();
        interest.around(b"/registry/pods/04711/a", |n| found.push(*n));
        assert_eq!(found, [4711]);
    }
}
