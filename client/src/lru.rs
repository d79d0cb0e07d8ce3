//! A map that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of bounded size.
pub struct Lru<K, V> {
    most: usize,
    clock: u64,
    entries: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty map of so many entries at most.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            clock: 0,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// An entry, which is used by this.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.clock += 1;
        if let Some(key) = self.by_use.remove(used) {
            self.by_use.insert(self.clock, key);
        }
        *used = self.clock;
        Some(value)
    }

    /// Makes or replaces an entry; another may be forgotten.
    pub fn put(&mut self, key: K, value: V) {
        self.clock += 1;
        self.by_use.insert(self.clock, key.clone());
        if let Some((used, _)) = self.entries.insert(key, (self.clock, value)) {
            self.by_use.remove(&used);
        }
        if self.entries.len() > self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_is_forgotten() {
        let mut map = Lru::new(2);
        map.put("a", 1);
        map.put("b", 2);
        assert_eq!(map.get_mut(&"a"), Some(&mut 1));
        map.put("c", 3);
        assert_eq!(map.get_mut(&"b"), None);
        map.put("a", 4);
        map.put("d", 5);
        assert_eq!(map.get_mut(&"a"), Some(&mut 4));
        assert_eq!(map.get_mut(&"c"), None);
        assert_eq!((map.entries.len(), map.by_use.len()), (2, 2));
    }
}
