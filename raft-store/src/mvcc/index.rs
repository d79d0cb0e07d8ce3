//! The index in memory: the latest version's metadata of every living key.
//!
//! It answers existence, compares (all but of values), counts and key lists without a read, and
//! says which version to read for a value. It is rebuilt from the Index space when a store is
//! opened; the values are not touched.

use super::keys::KeyMeta;
use super::leases::Leases;
use crate::engine::tree::{Builder, Tree};
use crate::engine::{Engine, EngineError, Space};

/// Key to metadata.
pub(super) type Index = Tree<KeyMeta>;

/// Reads the index, noting in `leases` which keys are attached to which lease.
pub(super) fn load(engine: &dyn Engine, leases: &mut Leases) -> Result<Index, EngineError> {
    let mut index = Builder::default();
    let mut cursor = engine.cursor(Space::Index);
    cursor.seek(&[]);
    while let Some((key, record)) = cursor.entry()? {
        let meta = KeyMeta::decode(record)?;
        if meta.lease != 0 {
            leases.attach(meta.lease, key);
        }
        index.push(key, meta);
        cursor.next();
    }
    Ok(index.finish())
}
