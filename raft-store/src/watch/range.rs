//! Which keys a watch is about.

use std::fmt;

use bytes::Bytes;

/// The upper end of a range of keys, exclusive. Orders by what it admits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upper {
    /// All keys below this one.
    Below(Bytes),
    /// No end: all keys from the start on.
    Unbounded,
}

impl Upper {
    /// Whether a key lies below the end.
    pub fn admits(&self, key: &[u8]) -> bool {
        match self {
            Upper::Below(end) => key < &end[..],
            Upper::Unbounded => true,
        }
    }
}

/// The keys of one watch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRange {
    /// Exactly one key.
    Key(Bytes),
    /// All keys from the first one on, up to the end.
    Range(Bytes, Upper),
}

impl KeyRange {
    /// Reads a watch request's `key` and `range_end` as etcd does: an empty key stands for `\0`,
    /// the lowest key; an empty end means the one key; the end `\0` means no end.
    ///
    /// `None` if the range can hold no key.
    pub fn of_watch(key: &Bytes, range_end: &Bytes) -> Option<KeyRange> {
        let key = match key.is_empty() {
            true => Bytes::from_static(b"\0"),
            false => key.clone(),
        };
        match &range_end[..] {
            [] => Some(KeyRange::Key(key)),
            [0] => Some(KeyRange::Range(key, Upper::Unbounded)),
            end if key < end => {
                let end = Upper::Below(range_end.clone());
                Some(KeyRange::Range(key, end))
            }
            _ => None,
        }
    }

    /// Whether the watch is about that key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Key(only) => only == key,
            KeyRange::Range(start, end) => &start[..] <= key && end.admits(key),
        }
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRange::Key(key) => write!(f, "{key:?}"),
            KeyRange::Range(start, Upper::Below(end)) => write!(f, "[{start:?}, {end:?})"),
            KeyRange::Range(start, Upper::Unbounded) => write!(f, "[{start:?}, …)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> Option<KeyRange> {
        KeyRange::of_watch(&Bytes::from_static(key), &Bytes::from_static(end))
    }

    #[test]
    fn key_and_end_mean_what_they_mean_in_etcd() {
        let holds = |key, end, probe: &[u8]| range(key, end).is_some_and(|r| r.contains(probe));
        assert!(holds(b"b", b"", b"b") && !holds(b"b", b"", b"b\0"));
        assert!(holds(b"b", b"d", b"b") && holds(b"b", b"d", b"cz") && !holds(b"b", b"d", b"d"));
        assert!(holds(b"b", b"\0", b"b") && holds(b"b", b"\0", b"\xff"));
        assert!(!holds(b"b", b"\0", b"a\xff"));
        assert!(holds(b"\0", b"\0", b"\0") && holds(b"\0", b"\0", b"z"));
        assert!(holds(b"", b"", b"\0") && !holds(b"", b"", b"a"));
        assert!(holds(b"", b"\0", b"a"));
        assert_eq!(range(b"b", b"b"), None);
        assert_eq!(range(b"b", b"a"), None);
    }
}
