//! Ascending iteration.

use super::{Inner, Leaf, Node};

/// The entries of a range, ascending.
#[derive(Debug)]
pub struct Iter<'a, V> {
    /// The inner nodes above the leaf, each with the child to visit next.
    stack: Vec<(&'a Inner<V>, usize)>,
    leaf: Option<(&'a Leaf<V>, usize)>,
    end: Option<&'a [u8]>,
}

impl<'a, V> Iter<'a, V> {
    pub(super) fn new(root: Option<&'a Node<V>>, start: &[u8], end: Option<&'a [u8]>) -> Self {
        let mut iter = Iter {
            stack: Vec::new(),
            leaf: None,
            end,
        };
        let mut node = root;
        while let Some(current) = node {
            node = match current {
                Node::Leaf(leaf) => {
                    iter.leaf = Some((leaf, leaf.keys.search(start).unwrap_or_else(|i| i)));
                    None
                }
                Node::Inner(inner) => {
                    let child = inner.child_of(start);
                    iter.stack.push((inner, child + 1));
                    Some(&inner.children[child])
                }
            };
        }
        iter
    }

    /// The leftmost leaf of the next subtree.
    fn next_leaf(&mut self) -> Option<&'a Leaf<V>> {
        let mut node: &'a Node<V> = loop {
            let (inner, next) = self.stack.last_mut()?;
            if let Some(child) = inner.children.get(*next) {
                *next += 1;
                break child;
            }
            self.stack.pop();
        };
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => {
                    self.stack.push((inner, 1));
                    node = inner.children.first()?;
                }
            }
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at) = self.leaf.as_mut()?;
            if let Some(value) = leaf.values.get(*at) {
                let key = leaf.keys.get(*at);
                if self.end.is_some_and(|end| key >= end) {
                    self.leaf = None;
                    return None;
                }
                *at += 1;
                return Some((key, value));
            }
            self.leaf = self.next_leaf().map(|leaf| (leaf, 0));
        }
    }
}
