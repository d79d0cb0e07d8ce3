//! The key space of the engine, on one page. Format 1.
//!
//! | Space     | Key                    | Value | Lives |
//! |-----------|------------------------|-------|-------|
//! | Kv        | `escaped key ‖ !rev`   | [`VersionRecord`] | from the write until it is superseded at or below the compact revision and collected |
//! | Index     | `key`                  | [`KeyMeta`] | while the key exists |
//! | Revisions | `rev`                  | [`RevisionRecord`] | until the compact revision has passed it and it is collected |
//! | Meta      | `state`                | [`StateRecord`] | always; rewritten with every apply batch |
//! | Meta      | `gc`                   | [`GcRecord`] | once history was collected |
//! | Meta      | `membership`           | position ‖ opaque bytes | once a membership was applied |
//! | Meta      | `alarms`               | [`AlarmsRecord`] | once an alarm was raised |
//! | Leases    | `lease ID`             | [`LeaseRecord`] | from grant to revocation |
//!
//! Numbers in keys are big endian, so that they sort; `!rev` is the bitwise complement, so that the
//! newest version of a key comes first. An escaped key sorts like the key and is no prefix of
//! another: a zero byte becomes `00 FF`, and `00 01` ends it. Numbers in values are LEB128 varints
//! (`v`) or 64-bit little endian. Values of Kv and Revisions end with a CRC32C over key and value,
//! so that a record in the wrong place is noticed too.

use bytes::{Buf, BufMut, Bytes};

use crate::engine::{EngineError, Space};
use crate::position::LogPosition;

/// The format that this program reads and writes.
pub(super) const FORMAT: u8 = 1;

pub(super) const STATE: &[u8] = b"state";
pub(super) const GC: &[u8] = b"gc";
pub(super) const MEMBERSHIP: &[u8] = b"membership";
pub(super) const ALARMS: &[u8] = b"alarms";

const CRC_BYTES: usize = 4;
const TOMBSTONE: u8 = 1;

/// Appends the part of a Kv key that is the same for all versions of `key`.
pub(super) fn escape_into(key: &[u8], out: &mut Vec<u8>) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 0xFF]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

/// The Kv key of a version.
pub(super) fn version_key(key: &[u8], revision: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 12);
    version_key_into(key, revision, &mut out);
    out
}

/// Like [`version_key`], replacing what is in `out`.
pub(super) fn version_key_into(key: &[u8], revision: i64, out: &mut Vec<u8>) {
    out.clear();
    escape_into(key, out);
    out.extend_from_slice(&(!(revision as u64)).to_be_bytes());
}

/// A Kv key below every version of `key` and above all versions of lower keys.
pub(super) fn before_versions(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    escape_into(key, &mut out);
    out
}

/// Turns the escaped part of a Kv key into one above all versions of its key.
pub(super) fn after_versions(escaped: &[u8]) -> Vec<u8> {
    let mut out = escaped.to_vec();
    if let Some(last) = out.last_mut() {
        *last += 1;
    }
    out
}

/// Splits a Kv key into its escaped part and the revision.
pub(super) fn split_version_key(key: &[u8]) -> Result<(&[u8], i64), EngineError> {
    match key.split_last_chunk::<8>() {
        Some((escaped, revision)) if escaped.ends_with(&[0, 1]) => {
            Ok((escaped, !u64::from_be_bytes(*revision) as i64))
        }
        _ => Err(EngineError::corrupt(Space::Kv, "a key is malformed")),
    }
}

/// The key of an escaped part that [`split_version_key`] returned.
pub(super) fn unescape(escaped: &[u8]) -> Bytes {
    let body = &escaped[..escaped.len().saturating_sub(2)];
    if !body.contains(&0) {
        return Bytes::copy_from_slice(body);
    }
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == 0 {
            bytes.next();
        }
    }
    out.into()
}

/// The key of a record in Revisions.
pub(super) fn revision_key(revision: i64) -> [u8; 8] {
    (revision as u64).to_be_bytes()
}

/// The key of a record in Leases.
pub(super) fn lease_key(id: i64) -> [u8; 8] {
    (id as u64).to_be_bytes()
}

/// One version of one key: `flags, create v, version v, lease v, value, crc`; a tombstone has
/// only flags and crc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VersionRecord {
    /// The key was deleted.
    Tombstone,
    /// The key was put.
    Put {
        create: i64,
        version: i64,
        lease: i64,
        value: Bytes,
    },
}

impl VersionRecord {
    /// Encodes a put under its Kv key, replacing what is in `out`.
    pub(super) fn encode_put(key: &[u8], meta: &KeyMeta, value: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.push(0);
        put_varint(out, meta.create as u64);
        put_varint(out, meta.version as u64);
        put_varint(out, meta.lease as u64);
        out.extend_from_slice(value);
        seal(key, out);
    }

    /// Encodes a tombstone under its Kv key, replacing what is in `out`.
    pub(super) fn encode_tombstone(key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.push(TOMBSTONE);
        seal(key, out);
    }

    /// Whether a record is a tombstone, without verifying it.
    pub(super) fn is_tombstone(record: &[u8]) -> bool {
        record.first().is_some_and(|flags| flags & TOMBSTONE != 0)
    }

    /// Decodes and verifies a record. The value shares the record's memory.
    pub(super) fn decode(key: &[u8], record: Bytes) -> Result<VersionRecord, EngineError> {
        let mut body = unseal(Space::Kv, key, record)?;
        let corrupt = |_| EngineError::corrupt(Space::Kv, "a version does not decode");
        if body.try_get_u8().map_err(corrupt)? & TOMBSTONE != 0 {
            return Ok(VersionRecord::Tombstone);
        }
        Ok(VersionRecord::Put {
            create: get_varint(Space::Kv, &mut body)? as i64,
            version: get_varint(Space::Kv, &mut body)? as i64,
            lease: get_varint(Space::Kv, &mut body)? as i64,
            value: body,
        })
    }
}

/// What the index knows of the latest version of a key:
/// `create v, mod v, version v, lease v, value length v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct KeyMeta {
    pub(super) create: i64,
    pub(super) modified: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) value_len: u32,
}

impl KeyMeta {
    /// Encodes the record, replacing what is in `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        put_varint(out, self.create as u64);
        put_varint(out, self.modified as u64);
        put_varint(out, self.version as u64);
        put_varint(out, self.lease as u64);
        put_varint(out, self.value_len.into());
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<KeyMeta, EngineError> {
        let mut next = || get_varint(Space::Index, &mut record);
        Ok(KeyMeta {
            create: next()? as i64,
            modified: next()? as i64,
            version: next()? as i64,
            lease: next()? as i64,
            value_len: next()? as u32,
        })
    }
}

/// What one revision changed: `hash, count v, changes, crc`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RevisionRecord {
    /// The chained hash of everything up to this revision.
    pub(super) hash: u64,
    /// In the order of the operations; no key twice.
    pub(super) changes: Vec<ChangeRecord>,
}

/// One change: `kind, key length v, key, previous v, previous value length v`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangeRecord {
    pub(super) delete: bool,
    pub(super) key: Bytes,
    /// The `mod_revision` of the version before; 0 when there was none.
    pub(super) previous: i64,
    /// The length of that version's value.
    pub(super) previous_len: u32,
}

impl RevisionRecord {
    /// Starts a record in `out`; the changes follow, then [`RevisionRecord::finish`].
    pub(super) fn begin(hash: u64, count: usize, out: &mut Vec<u8>) {
        out.clear();
        out.put_u64_le(hash);
        put_varint(out, count as u64);
    }

    /// Appends a change to a record that was begun.
    pub(super) fn push(
        delete: bool,
        key: &[u8],
        previous: i64,
        previous_len: u32,
        out: &mut Vec<u8>,
    ) {
        out.push(delete.into());
        put_varint(out, key.len() as u64);
        out.extend_from_slice(key);
        put_varint(out, previous as u64);
        put_varint(out, previous_len.into());
    }

    /// Seals a record with its key.
    pub(super) fn finish(key: &[u8], out: &mut Vec<u8>) {
        seal(key, out);
    }

    pub(super) fn decode(key: &[u8], record: Bytes) -> Result<RevisionRecord, EngineError> {
        let corrupt = || EngineError::corrupt(Space::Revisions, "a revision does not decode");
        let mut body = unseal(Space::Revisions, key, record)?;
        let next = |body: &mut Bytes| get_varint(Space::Revisions, body);
        let hash = body.try_get_u64_le().map_err(|_| corrupt())?;
        let count = next(&mut body)? as usize;
        // A change takes at least 4 bytes: a wrong count must not reserve memory.
        let mut changes = Vec::with_capacity(count.min(body.len() / 4));
        for _ in 0..count {
            let delete = body.try_get_u8().map_err(|_| corrupt())? != 0;
            let key_len = next(&mut body)? as usize;
            if key_len > body.len() {
                return Err(corrupt());
            }
            changes.push(ChangeRecord {
                delete,
                key: body.split_to(key_len),
                previous: next(&mut body)? as i64,
                previous_len: next(&mut body)? as u32,
            });
        }
        Ok(RevisionRecord { hash, changes })
    }
}

/// The revision of a key in Revisions.
pub(super) fn revision_of_key(key: &[u8]) -> Result<i64, EngineError> {
    let bytes = <[u8; 8]>::try_from(key)
        .map_err(|_| EngineError::corrupt(Space::Revisions, "a key is malformed"))?;
    Ok(u64::from_be_bytes(bytes) as i64)
}

/// The applied state in a few numbers:
/// `format, applied?, term, index, revision, hash, compact, written, seed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateRecord {
    /// The last applied log entry.
    pub(super) applied: Option<LogPosition>,
    /// The current revision. A fresh store is at 1.
    pub(super) revision: i64,
    /// The chained hash at that revision.
    pub(super) hash: u64,
    /// The lowest readable revision; 0 while nothing was compacted.
    pub(super) compact: i64,
    /// Bytes of all versions ever written; see [`GcRecord::collected`].
    pub(super) written: u64,
    /// What tells the member IDs of this cluster from those of the one it was restored from.
    pub(super) seed: u64,
}

impl Default for StateRecord {
    fn default() -> Self {
        StateRecord {
            applied: None,
            revision: 1,
            hash: 0,
            compact: 0,
            written: 0,
            seed: 0,
        }
    }
}

impl StateRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let applied = self.applied.unwrap_or_default();
        let mut out = vec![FORMAT, self.applied.is_some().into()];
        for number in [
            applied.term,
            applied.index,
            self.revision as u64,
            self.hash,
            self.compact as u64,
            self.written,
            self.seed,
        ] {
            out.put_u64_le(number);
        }
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<StateRecord, EngineError> {
        let corrupt = || EngineError::corrupt(Space::Meta, "the state does not decode");
        let format = record.try_get_u8().map_err(|_| corrupt())?;
        if format != FORMAT {
            return Err(EngineError::Format {
                found: format,
                supported: FORMAT,
            });
        }
        if record.len() != 1 + 7 * 8 {
            return Err(corrupt());
        }
        let applied = record.get_u8() != 0;
        let position = LogPosition {
            term: record.get_u64_le(),
            index: record.get_u64_le(),
        };
        Ok(StateRecord {
            applied: applied.then_some(position),
            revision: record.get_u64_le() as i64,
            hash: record.get_u64_le(),
            compact: record.get_u64_le() as i64,
            written: record.get_u64_le(),
            seed: record.get_u64_le(),
        })
    }
}

/// How far history was collected: `next, change, collected`. Member-local: members collect at
/// their own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GcRecord {
    /// Every revision below this one is collected.
    pub(super) next: i64,
    /// So are this many changes of that one.
    pub(super) change: u64,
    /// Bytes of all versions ever collected.
    pub(super) collected: u64,
}

impl GcRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.put_u64_le(self.next as u64);
        out.put_u64_le(self.change);
        out.put_u64_le(self.collected);
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<GcRecord, EngineError> {
        if record.len() != 24 {
            return Err(EngineError::corrupt(
                Space::Meta,
                "the GC progress does not decode",
            ));
        }
        Ok(GcRecord {
            next: record.get_u64_le() as i64,
            change: record.get_u64_le(),
            collected: record.get_u64_le(),
        })
    }
}

/// A lease: `granted TTL, remaining TTL`, both in seconds; remaining 0 means not checkpointed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LeaseRecord {
    pub(super) granted_ttl: i64,
    pub(super) remaining_ttl: i64,
}

impl LeaseRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.put_i64_le(self.granted_ttl);
        out.put_i64_le(self.remaining_ttl);
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<LeaseRecord, EngineError> {
        if record.len() != 16 {
            return Err(EngineError::corrupt(
                Space::Leases,
                "a lease does not decode",
            ));
        }
        Ok(LeaseRecord {
            granted_ttl: record.get_i64_le(),
            remaining_ttl: record.get_i64_le(),
        })
    }
}

/// The ID in a key of Leases.
pub(super) fn lease_of_key(key: &[u8]) -> Result<i64, EngineError> {
    let bytes = <[u8; 8]>::try_from(key)
        .map_err(|_| EngineError::corrupt(Space::Leases, "a key is malformed"))?;
    Ok(u64::from_be_bytes(bytes) as i64)
}

/// The raised alarms, ascending: `(alarm v, member ID)*`.
pub(super) struct AlarmsRecord;

impl AlarmsRecord {
    pub(super) fn encode(alarms: impl IntoIterator<Item = (i32, u64)>) -> Vec<u8> {
        let mut out = Vec::new();
        for (alarm, member) in alarms {
            put_varint(&mut out, alarm as u64);
            out.put_u64_le(member);
        }
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<Vec<(i32, u64)>, EngineError> {
        let corrupt = |_| EngineError::corrupt(Space::Meta, "the alarms do not decode");
        let mut alarms = Vec::new();
        while !record.is_empty() {
            let alarm = get_varint(Space::Meta, &mut record)? as i32;
            alarms.push((alarm, record.try_get_u64_le().map_err(corrupt)?));
        }
        Ok(alarms)
    }
}

/// The last applied membership: `term, index, bytes`.
pub(super) fn encode_membership(position: LogPosition, membership: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + membership.len());
    out.put_u64_le(position.term);
    out.put_u64_le(position.index);
    out.extend_from_slice(membership);
    out
}

pub(super) fn decode_membership(mut record: Bytes) -> Result<(LogPosition, Bytes), EngineError> {
    if record.len() < 16 {
        return Err(EngineError::corrupt(
            Space::Meta,
            "the membership does not decode",
        ));
    }
    let position = LogPosition {
        term: record.get_u64_le(),
        index: record.get_u64_le(),
    };
    Ok((position, record))
}

/// Appends the checksum of key and value.
fn seal(key: &[u8], out: &mut Vec<u8>) {
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), out);
    out.put_u32_le(sum);
}

/// Verifies and cuts off the checksum.
fn unseal(space: Space, key: &[u8], mut record: Bytes) -> Result<Bytes, EngineError> {
    let body = record.len().checked_sub(CRC_BYTES);
    let body = body.ok_or_else(|| EngineError::corrupt(space, "a record is too short"))?;
    let sum = record.split_off(body).get_u32_le();
    if crc32c::crc32c_append(crc32c::crc32c(key), &record) != sum {
        let detail = format!("the checksum of {} is wrong", key.escape_ascii());
        return Err(EngineError::corrupt(space, detail));
    }
    Ok(record)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get_varint(space: Space, from: &mut impl Buf) -> Result<u64, EngineError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from
            .try_get_u8()
            .map_err(|_| EngineError::corrupt(space, "a number is cut off"))?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(EngineError::corrupt(space, "a number is too long"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, b'a', 254, 255]), 0..5)
    }

    proptest! {
        #[test]
        fn version_keys_sort_by_key_then_newest_first(
            (a, ra) in (key(), 0..i64::MAX),
            (b, rb) in (key(), 0..i64::MAX),
        ) {
            let (ka, kb) = (version_key(&a, ra), version_key(&b, rb));
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b).then(rb.cmp(&ra)));
            let (escaped, revision) = split_version_key(&ka).expect("own key");
            prop_assert_eq!((unescape(escaped), revision), (a.clone().into(), ra));
            prop_assert!(before_versions(&a) < ka && ka < after_versions(escaped));
            if a < b {
                prop_assert!(after_versions(escaped) < before_versions(&b));
            }
        }

        #[test]
        fn records_round_trip(
            (create, modified, version, lease) in any::<(i64, i64, i64, i64)>(),
            value in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let meta = KeyMeta { create, modified, version, lease, value_len: value.len() as u32 };
            let mut out = Vec::new();
            meta.encode(&mut out);
            prop_assert_eq!(KeyMeta::decode(&out).expect("own record"), meta);
            let key = version_key(b"k", 7);
            VersionRecord::encode_put(&key, &meta, &value, &mut out);
            let record = VersionRecord::Put { create, version, lease, value: value.into() };
            let read = VersionRecord::decode(&key, out.clone().into());
            prop_assert_eq!(read.expect("own record"), record);
            for at in 0..out.len() {
                let mut torn = out.clone();
                torn[at] ^= 0x10;
                prop_assert!(VersionRecord::decode(&key, torn.into()).is_err());
                prop_assert!(VersionRecord::decode(&key, out[..at].to_vec().into()).is_err());
            }
            let elsewhere = VersionRecord::decode(&version_key(b"k", 8), out.into());
            prop_assert!(elsewhere.is_err());
        }
    }

    #[test]
    fn a_revision_round_trips() {
        let change = |delete, key: &'static str, previous| ChangeRecord {
            delete,
            key: Bytes::from_static(key.as_bytes()),
            previous,
            previous_len: 300,
        };
        let changes = vec![change(false, "a", 0), change(true, "", 1 << 40)];
        let key = revision_key(9);
        let mut out = Vec::new();
        RevisionRecord::begin(77, changes.len(), &mut out);
        for c in &changes {
            RevisionRecord::push(c.delete, &c.key, c.previous, c.previous_len, &mut out);
        }
        RevisionRecord::finish(&key, &mut out);
        let read = RevisionRecord::decode(&key, out.into()).expect("own record");
        assert_eq!(read, RevisionRecord { hash: 77, changes });
    }

    #[test]
    fn single_records_round_trip_and_refuse_other_formats() {
        let position = LogPosition { term: 3, index: 9 };
        for applied in [None, Some(position)] {
            let state = StateRecord {
                applied,
                revision: 5,
                hash: u64::MAX,
                compact: 3,
                written: 1,
                seed: 8,
            };
            let mut bytes = state.encode();
            assert_eq!(StateRecord::decode(&bytes).expect("own record"), state);
            bytes[0] = 9;
            assert!(matches!(
                StateRecord::decode(&bytes),
                Err(EngineError::Format { found: 9, .. })
            ));
        }
        let membership = encode_membership(position, b"m").into();
        let read = decode_membership(membership).expect("own record");
        assert_eq!(read, (position, Bytes::from_static(b"m")));
        let alarms = vec![(1, 7), (2, 1 << 60)];
        let bytes = AlarmsRecord::encode(alarms.clone());
        assert_eq!(AlarmsRecord::decode(&bytes).expect("own record"), alarms);
    }
}
