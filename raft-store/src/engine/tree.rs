//! A counted, copy-on-write B-tree from byte strings to values.
//!
//! A clone shares all nodes and costs one reference count; a later change copies only the nodes on
//! its path, and changes nodes that nobody else holds in place. So one writer keeps a tree that it
//! alone changes, and publishes clones that readers use without locks. Every inner node knows how
//! many keys lie below each child, which answers "how many keys in this range" in O(log n).
//!
//! The keys of a node lie in one buffer: copying a node is three block copies, not a reference
//! count per key, and a key costs its own bytes and 4 more.

use std::sync::Arc;

pub use iter::Iter;
use keys::Keys;

mod iter;
mod keys;

/// Entries of a leaf at most. Copying a full leaf of 40-byte keys moves about 5 KiB.
const LEAF_MAX: usize = 64;
/// Children of an inner node at most. Copying one touches each child's reference count.
const INNER_MAX: usize = 32;
/// How full nodes are when a tree is built at once: room for a few inserts before they split.
const FILL_PERCENT: usize = 90;

/// An ordered map; see the module.
#[derive(Debug)]
pub struct Tree<V> {
    root: Option<Arc<Node<V>>>,
}

#[derive(Debug, Clone)]
enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
}

#[derive(Debug, Clone)]
struct Leaf<V> {
    keys: Keys,
    values: Vec<V>,
}

/// `separators[i]` is above every key of `children[i]` and at most the first of `children[i + 1]`.
/// All leaves are at the same depth; no node is empty.
#[derive(Debug, Clone)]
struct Inner<V> {
    separators: Keys,
    children: Vec<Arc<Node<V>>>,
    counts: Vec<usize>,
}

/// A new right neighbour of a node that was split, and the separator before it.
type Split<V> = Option<(Vec<u8>, Arc<Node<V>>)>;

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Tree {
            root: self.root.clone(),
        }
    }
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Tree { root: None }
    }
}

impl<V> Tree<V> {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.count())
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|i| &leaf.values[i]),
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
            }
        }
    }

    /// How many keys are below `key`.
    pub fn rank(&self, key: &[u8]) -> usize {
        let mut below = 0;
        let mut node = self.root.as_deref();
        while let Some(current) = node {
            node = match current {
                Node::Leaf(leaf) => {
                    below += leaf.keys.search(key).unwrap_or_else(|i| i);
                    None
                }
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    below += inner.counts[..child].iter().sum::<usize>();
                    Some(&inner.children[child])
                }
            };
        }
        below
    }

    /// How many keys are at or above `start` and below `end` (`None`: no bound).
    pub fn count(&self, start: &[u8], end: Option<&[u8]>) -> usize {
        let below_end = end.map_or_else(|| self.len(), |end| self.rank(end));
        below_end.saturating_sub(self.rank(start))
    }

    /// The entries from `start` on and below `end` (`None`: no bound), ascending.
    pub fn range<'a>(&'a self, start: &[u8], end: Option<&'a [u8]>) -> Iter<'a, V> {
        Iter::new(self.root.as_deref(), start, end)
    }

    /// All entries, ascending.
    pub fn iter(&self) -> Iter<'_, V> {
        self.range(&[], None)
    }
}

impl<V: Clone> Tree<V> {
    /// Builds a tree from entries in ascending order of distinct keys, much faster than inserts.
    pub fn from_sorted(entries: impl IntoIterator<Item = (impl AsRef<[u8]>, V)>) -> Tree<V> {
        let mut builder = Builder::default();
        for (key, value) in entries {
            builder.push(key.as_ref(), value);
        }
        builder.finish()
    }

    /// Sets a key; returns the value it had.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        self.update(key, |_| value)
    }

    /// Sets a key to what `change` makes of the value it has; returns that value.
    pub fn update(&mut self, key: &[u8], change: impl FnOnce(Option<&V>) -> V) -> Option<V> {
        let Some(root) = &mut self.root else {
            let mut leaf = Leaf::default();
            leaf.keys.push(key);
            leaf.values.push(change(None));
            self.root = Some(Arc::new(Node::Leaf(leaf)));
            return None;
        };
        let (old, split) = Arc::make_mut(root).update(key, change);
        if let Some((separator, right)) = split {
            let mut separators = Keys::default();
            separators.push(&separator);
            let counts = vec![root.count(), right.count()];
            let children = vec![root.clone(), right];
            *root = Arc::new(Node::Inner(Inner {
                separators,
                children,
                counts,
            }));
        }
        old
    }

    /// Removes a key; returns the value it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        // Looked up first: a missing key must not copy its path.
        self.get(key)?;
        let root = self.root.as_mut()?;
        let old = Arc::make_mut(root).remove(key);
        if root.width() == 0 {
            self.root = None;
        }
        while let Some(Node::Inner(inner)) = self.root.as_deref()
            && inner.children.len() == 1
        {
            self.root = inner.children.first().cloned();
        }
        old
    }
}

impl<V> Node<V> {
    /// How many keys lie below.
    fn count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.values.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// How many entries or children the node itself has.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.values.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => INNER_MAX,
        }
    }
}

impl<V: Clone> Node<V> {
    fn update(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&V>) -> V,
    ) -> (Option<V>, Split<V>) {
        match self {
            Node::Leaf(leaf) => leaf.update(key, change),
            Node::Inner(inner) => inner.update(key, change),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.keys.search(key).ok()?;
                leaf.keys.remove(at);
                Some(leaf.values.remove(at))
            }
            Node::Inner(inner) => inner.remove(key),
        }
    }

    /// Appends the right neighbour, which `separator` keeps apart from this node.
    fn append(&mut self, separator: &[u8], right: &Node<V>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.values.extend_from_slice(&right.values);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.separators.push(separator);
                left.separators.append(&right.separators);
                left.children.extend_from_slice(&right.children);
                left.counts.extend_from_slice(&right.counts);
            }
            _ => unreachable!("siblings are at the same depth"),
        }
    }
}

impl<V> Default for Leaf<V> {
    fn default() -> Self {
        Leaf {
            keys: Keys::default(),
            values: Vec::new(),
        }
    }
}

impl<V: Clone> Leaf<V> {
    fn update(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&V>) -> V,
    ) -> (Option<V>, Split<V>) {
        let at = match self.keys.search(key) {
            Ok(at) => {
                let value = change(Some(&self.values[at]));
                return (Some(std::mem::replace(&mut self.values[at], value)), None);
            }
            Err(at) => at,
        };
        self.keys.insert(at, key);
        grow(&mut self.values);
        self.values.insert(at, change(None));
        if self.values.len() <= LEAF_MAX {
            return (None, None);
        }
        // An append splits off only itself, so that ascending inserts fill their leaves.
        let last = self.values.len() - 1;
        let middle = if at == last { last } else { last.div_ceil(2) };
        let right = Leaf {
            keys: self.keys.split_off(middle),
            values: self.values.split_off(middle),
        };
        let separator = keys::separator(self.keys.get(middle - 1), right.keys.get(0));
        (None, Some((separator, Arc::new(Node::Leaf(right)))))
    }
}

impl<V> Inner<V> {
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }
}

impl<V: Clone> Inner<V> {
    fn update(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&V>) -> V,
    ) -> (Option<V>, Split<V>) {
        let at = self.child_of(key);
        let (old, split) = Arc::make_mut(&mut self.children[at]).update(key, change);
        let Some((separator, right)) = split else {
            self.counts[at] += usize::from(old.is_none());
            return (old, None);
        };
        self.counts[at] = self.children[at].count();
        self.counts.insert(at + 1, right.count());
        grow(&mut self.children);
        self.children.insert(at + 1, right);
        self.separators.insert(at, &separator);
        if self.children.len() <= INNER_MAX {
            return (old, None);
        }
        let last = self.children.len() - 1;
        let middle = if at + 1 == last {
            last
        } else {
            last.div_ceil(2)
        };
        let right_separators = self.separators.split_off(middle);
        let separator = self.separators.pop();
        let right = Inner {
            separators: right_separators,
            children: self.children.split_off(middle),
            counts: self.counts.split_off(middle),
        };
        (old, Some((separator, Arc::new(Node::Inner(right)))))
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = self.child_of(key);
        let old = Arc::make_mut(&mut self.children[at]).remove(key);
        self.counts[at] -= usize::from(old.is_some());
        if self.children[at].width() == 0 {
            self.children.remove(at);
            self.counts.remove(at);
            if self.separators.len() > 0 {
                self.separators.remove(at.saturating_sub(1));
            }
        } else if self.children[at].width() < self.children[at].max() / 4 {
            self.merge_around(at);
        }
        old
    }

    /// Joins a small child with a neighbour, unless the two would be nearly full together and
    /// soon split again.
    fn merge_around(&mut self, at: usize) {
        let fits = |left: usize| {
            let (Some(l), Some(r)) = (self.children.get(left), self.children.get(left + 1)) else {
                return false;
            };
            l.width() + r.width() <= l.max() * 3 / 4
        };
        let left = match at.checked_sub(1) {
            Some(before) if fits(before) => before,
            _ if fits(at) => at,
            _ => return,
        };
        let right = self.children.remove(left + 1);
        let moved = self.counts.remove(left + 1);
        let separator = self.separators.remove(left);
        Arc::make_mut(&mut self.children[left]).append(&separator, &right);
        self.counts[left] += moved;
    }
}

/// Makes room for one more without doubling: nodes are copied at their exact size all the time,
/// so that spare room would mostly be waste.
fn grow<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact(4);
    }
}

/// Builds a tree level by level from entries in ascending order of distinct keys.
#[derive(Debug)]
pub struct Builder<V> {
    leaf: Leaf<V>,
    /// Finished leaves with the separators before them (the first has an empty one).
    level: Vec<(Vec<u8>, Arc<Node<V>>)>,
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        Builder {
            leaf: Leaf::default(),
            level: Vec::new(),
        }
    }
}

impl<V: Clone> Builder<V> {
    /// Adds the next entry.
    pub fn push(&mut self, key: &[u8], value: V) {
        let width = self.leaf.values.len();
        if width == LEAF_MAX * FILL_PERCENT / 100 {
            let separator = keys::separator(self.leaf.keys.get(width - 1), key);
            self.close_leaf();
            self.level
                .push((separator, Arc::new(Node::Leaf(Leaf::default()))));
        } else if self.level.is_empty() {
            self.level
                .push((Vec::new(), Arc::new(Node::Leaf(Leaf::default()))));
        }
        self.leaf.keys.push(key);
        self.leaf.values.push(value);
    }

    /// Puts the open leaf, copied to its exact size, in the place that was reserved for it.
    fn close_leaf(&mut self) {
        if let Some((_, place)) = self.level.last_mut() {
            *place = Arc::new(Node::Leaf(self.leaf.clone()));
        }
        self.leaf.keys.clear();
        self.leaf.values.clear();
    }

    /// The tree of all entries.
    pub fn finish(mut self) -> Tree<V> {
        self.close_leaf();
        let mut level = self.level;
        while level.len() > 1 {
            level = level
                .chunks(INNER_MAX * FILL_PERCENT / 100)
                .map(|group| (group[0].0.clone(), Arc::new(Node::Inner(join(group)))))
                .collect();
        }
        Tree {
            root: level.pop().map(|(_, root)| root),
        }
    }
}

fn join<V>(group: &[(Vec<u8>, Arc<Node<V>>)]) -> Inner<V> {
    let mut separators = Keys::default();
    for (separator, _) in &group[1..] {
        separators.push(separator);
    }
    Inner {
        separators,
        children: group.iter().map(|(_, child)| child.clone()).collect(),
        counts: group.iter().map(|(_, child)| child.count()).collect(),
    }
}

#[cfg(test)]
mod tests;
