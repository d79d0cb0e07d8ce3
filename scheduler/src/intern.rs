//! Strings as small numbers: labels are compared and hashed as pairs of `u32`.
//!
//! Symbols are never freed one by one. [`crate::cache::Cache`] rebuilds its snapshot, and the
//! interner with it, once far more strings were seen than are in use.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A hash map for small keys that no user chooses to collide.
pub(crate) type FxMap<K, V> = HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// The multiply-rotate hash of rustc: a few cycles for an integer.
#[derive(Default)]
pub(crate) struct FxHasher(u64);

impl FxHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for FxHasher {
    fn finish(&self) -> u64 {
        // The table takes its bucket from the low bits, which a product leaves poor.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}

/// An interned string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(u32);

/// The strings behind the symbols.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    // Keyed by what users write, hence the standard hasher, which resists chosen collisions.
    known: HashMap<Arc<str>, Symbol>,
    texts: Vec<Arc<str>>,
}

impl Interner {
    /// The symbol of a string, new if need be.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.known.get(text) {
            return *symbol;
        }
        let symbol = Symbol(self.texts.len() as u32);
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.known.insert(text, symbol);
        symbol
    }

    /// The symbol of a string that was seen before.
    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        self.known.get(text).copied()
    }

    /// The string.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        &self.texts[symbol.0 as usize]
    }

    /// How many strings are held.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// Interned labels, sorted by key.
pub(crate) type Labels = Box<[(Symbol, Symbol)]>;

/// The value of a label.
pub(crate) fn label(labels: &[(Symbol, Symbol)], key: Symbol) -> Option<Symbol> {
    // Objects carry some ten labels: a scan beats a search.
    labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

impl Interner {
    /// Labels as symbols.
    pub(crate) fn labels<'l>(
        &mut self,
        labels: impl IntoIterator<Item = (&'l String, &'l String)>,
    ) -> Labels {
        let mut pairs: Vec<_> = labels
            .into_iter()
            .map(|(key, value)| (self.intern(key), self.intern(value)))
            .collect();
        pairs.sort_unstable();
        pairs.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_one_symbol() {
        let mut interner = Interner::default();
        let a = interner.intern("a");
        assert_eq!(interner.intern("a"), a);
        assert_ne!(interner.intern("b"), a);
        assert_eq!(interner.text(a), "a");
        assert_eq!(interner.find("c"), None);
        assert_eq!(interner.len(), 2);
    }
}
