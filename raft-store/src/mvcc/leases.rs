//! The granted leases and the keys attached to them.
//!
//! Only what the log says: who renews, and when a lease expires, is the lessor's business. Which
//! keys are attached is not stored; the index knows each key's lease.

use bytes::Bytes;

use super::keys::{self, LeaseRecord};
use crate::engine::tree::Tree;
use crate::engine::{Engine, EngineError, Space};

/// TTLs above this are refused, in seconds.
pub const MAX_LEASE_TTL: i64 = 9_000_000_000;

/// What the log says about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The TTL it was granted with, in seconds.
    pub granted_ttl: i64,
    /// What was left of it when a leader last checkpointed it, in seconds; 0: never, or renewed
    /// since.
    pub remaining_ttl: i64,
}

impl LeaseInfo {
    /// What a leader that knows nothing of renewals gives the lease, in seconds.
    pub fn left(&self) -> i64 {
        if self.remaining_ttl > 0 {
            self.remaining_ttl
        } else {
            self.granted_ttl
        }
    }
}

impl From<LeaseRecord> for LeaseInfo {
    fn from(lease: LeaseRecord) -> Self {
        LeaseInfo {
            granted_ttl: lease.granted_ttl,
            remaining_ttl: lease.remaining_ttl,
        }
    }
}

/// What happened to a lease, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// A lease was granted.
    Granted {
        /// Its ID.
        id: i64,
        /// Its TTL, in seconds.
        ttl: i64,
    },
    /// A lease was revoked; its keys are gone.
    Revoked {
        /// Its ID.
        id: i64,
    },
    /// A leader recorded how long a lease still has to live.
    Checkpointed {
        /// Its ID.
        id: i64,
        /// In seconds; 0 clears the record.
        remaining_ttl: i64,
    },
    /// A snapshot replaced the whole state: read the leases anew.
    Replaced,
}

/// The leases, shared and copied on write like the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    granted: Tree<LeaseRecord>,
    /// `lease ID ‖ key`.
    attached: Tree<()>,
}

impl Leases {
    /// Reads the granted leases; the index attaches the keys.
    pub(super) fn load(engine: &dyn Engine) -> Result<Leases, EngineError> {
        let mut leases = Leases::default();
        let mut cursor = engine.cursor(Space::Leases);
        cursor.seek(&[]);
        while let Some((key, record)) = cursor.entry()? {
            keys::lease_of_key(key)?;
            leases.granted.insert(key, LeaseRecord::decode(record)?);
            cursor.next();
        }
        Ok(leases)
    }

    pub(super) fn get(&self, id: i64) -> Option<LeaseRecord> {
        self.granted.get(&keys::lease_key(id)).copied()
    }

    pub(super) fn set(&mut self, id: i64, record: LeaseRecord) {
        self.granted.insert(&keys::lease_key(id), record);
    }

    pub(super) fn remove(&mut self, id: i64) {
        self.granted.remove(&keys::lease_key(id));
    }

    pub(super) fn attach(&mut self, id: i64, key: &[u8]) {
        self.attached.insert(&attachment(id, key), ());
    }

    pub(super) fn detach(&mut self, id: i64, key: &[u8]) {
        self.attached.remove(&attachment(id, key));
    }

    /// All leases, ascending by ID as an unsigned number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, LeaseRecord)> {
        self.granted.iter().filter_map(|(key, record)| {
            let id = <[u8; 8]>::try_from(key).ok()?;
            Some((i64::from_be_bytes(id), *record))
        })
    }

    /// The keys attached to a lease, ascending.
    pub(super) fn keys(&self, id: i64) -> Vec<Bytes> {
        let prefix = keys::lease_key(id);
        self.attached
            .range(&prefix, None)
            .map_while(|(entry, ())| entry.strip_prefix(&prefix))
            .map(Bytes::copy_from_slice)
            .collect()
    }
}

fn attachment(id: i64, key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(8 + key.len());
    entry.extend_from_slice(&keys::lease_key(id));
    entry.extend_from_slice(key);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_exactly_their_lease() {
        let mut leases = Leases::default();
        for (id, key) in [(1, "b"), (1, "a"), (2, "c"), (1 << 8, "d"), (-1, "e")] {
            leases.attach(id, key.as_bytes());
        }
        assert_eq!(leases.keys(1), ["a", "b"]);
        assert_eq!(leases.keys(2), ["c"]);
        assert_eq!(leases.keys(-1), ["e"]);
        assert!(leases.keys(3).is_empty());
        leases.detach(1, b"a");
        assert_eq!(leases.keys(1), ["b"]);
    }
}
