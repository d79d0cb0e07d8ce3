//! Equality: keys in any order, lists in theirs, numbers by kind and value (as Go compares decoded
//! values: `1` is not `1.0`).

use super::entries::by_key;
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

/// Equal objects mostly have their keys in the same order; else they are compared by hash.
fn objects_equal(one: Node<'_>, other: Node<'_>) -> bool {
    let (mut ours, mut theirs) = (one.children(), other.children());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(mine), Some(its)) if mine.key() == its.key() => {
                if mine != its {
                    return false;
                }
            }
            (Some(_), Some(_)) => break,
            _ => return false,
        }
    }
    let (ours, theirs) = (by_key(one), by_key(other));
    ours.len() == theirs.len() && ours.iter().all(|(key, mine)| theirs.get(key) == Some(mine))
}
