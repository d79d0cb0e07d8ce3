//! The writes of one batch.

use super::Space;

/// Writes that happen together, in order. All bytes lie in one buffer, so that a batch of many
/// small records costs few allocations; a cleared batch keeps its buffers.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ops: Vec<Placed>,
}

/// One write of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets a key.
    Put(&'a [u8], &'a [u8]),
    /// Removes a key, which may be missing.
    Delete(&'a [u8]),
    /// Removes a key that was put exactly once since it last was missing. Cheaper than `Delete`:
    /// RocksDB drops the pair as soon as the two meet.
    DeleteOnce(&'a [u8]),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteOnce,
}

/// Where a write's key and value lie in the buffer; they follow each other.
#[derive(Debug, Clone, Copy)]
struct Placed {
    space: Space,
    kind: Kind,
    start: usize,
    key_end: usize,
    end: usize,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(space, Kind::Put, key, value);
    }

    /// Removes a key; see [`Op::Delete`].
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(space, Kind::Delete, key, &[]);
    }

    /// Removes a key that was put once; see [`Op::DeleteOnce`].
    pub fn delete_once(&mut self, space: Space, key: &[u8]) {
        self.push(space, Kind::DeleteOnce, key, &[]);
    }

    /// How many bytes the keys and values take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Forgets all writes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ops.clear();
    }

    /// The writes in order.
    pub fn ops(&self) -> impl Iterator<Item = (Space, Op<'_>)> {
        self.ops.iter().map(|placed| {
            let key = &self.bytes[placed.start..placed.key_end];
            let op = match placed.kind {
                Kind::Put => Op::Put(key, &self.bytes[placed.key_end..placed.end]),
                Kind::Delete => Op::Delete(key),
                Kind::DeleteOnce => Op::DeleteOnce(key),
            };
            (placed.space, op)
        })
    }

    fn push(&mut self, space: Space, kind: Kind, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ops.push(Placed {
            space,
            kind,
            start,
            key_end,
            end: self.bytes.len(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_back_in_order() {
        let mut batch = Batch::default();
        batch.put(Space::Kv, b"a", b"1");
        batch.delete(Space::Index, b"b");
        batch.delete_once(Space::Kv, b"");
        assert_eq!(
            batch.ops().collect::<Vec<_>>(),
            [
                (Space::Kv, Op::Put(b"a", b"1")),
                (Space::Index, Op::Delete(b"b")),
                (Space::Kv, Op::DeleteOnce(b"")),
            ]
        );
        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0);
    }
}
