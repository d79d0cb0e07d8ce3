//! Equality: keys in any order, lists in theirs, numbers by kind and value (as Go compares decoded
//! values: `1` is not `1.0`).

use super::{Doc, Kind, Node};

impl PartialEq for Doc {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.kind() != other.kind() {
            return false;
        }
        match self.kind() {
            Kind::Null | Kind::False | Kind::True => true,
            Kind::Int => self.as_i64() == other.as_i64(),
            Kind::Number => {
                self.as_number() == other.as_number() || self.as_f64() == other.as_f64()
            }
            Kind::String => self.as_str() == other.as_str(),
            Kind::List => self.children().eq(other.children()),
            Kind::Object => objects_equal(*self, *other),
        }
    }
}

/// Equal objects mostly have their keys in the same order; what is not next is searched.
fn objects_equal(one: Node<'_>, other: Node<'_>) -> bool {
    let mut expected = other.children();
    for child in one.children() {
        let next = expected.next().filter(|node| node.key() == child.key());
        if next.or_else(|| other.get(child.key())) != Some(child) {
            return false;
        }
    }
    expected.next().is_none()
}
