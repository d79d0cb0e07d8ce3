//! Which object is meant: small, because there is one of these for every object of the cluster.

use std::fmt;
use std::sync::Arc;

/// The version and kind of objects. Every node of a kind shares one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    pub(crate) kind: Box<str>,
    /// `v1`, `apps/v1`.
    pub(crate) api_version: Box<str>,
}

impl Kind {
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        Self {
            kind: kind.into(),
            api_version: api_version.into(),
        }
    }
}

/// A uid; those of API servers are UUIDs and take 16 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Uid {
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl Uid {
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = [0; 16];
        let digits = text
            .bytes()
            .filter(|byte| *byte != b'-')
            .map(|byte| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            });
        let mut count = 0;
        for digit in digits {
            let Some(digit) = digit.filter(|_| count < 32) else {
                return Self::Text(text.into());
            };
            bytes[count / 2] |= digit << (4 * (1 - count % 2));
            count += 1;
        }
        let uuid = Self::Uuid(bytes);
        match count == 32 && uuid.to_string() == text {
            true => uuid,
            false => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        out.write_str("-")?;
                    }
                    write!(out, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Where an object is and which one it is. The order is that in which other coordinates of one
/// owner are tried: by kind first, so that it is the same for namespaced kinds and others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) kind: Arc<Kind>,
    /// Empty for objects of the cluster.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind { kind, api_version } = &*self.kind;
        let Self {
            namespace,
            name,
            uid,
            ..
        } = self;
        write!(
            out,
            "[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]"
        )
    }
}

/// Whom an object names as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) kind: Arc<Kind>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
    /// The owner may not go before the object.
    pub(crate) blocks: bool,
}

impl Owner {
    /// The owner in the namespace of the object that names it.
    pub(crate) fn identity(&self, namespace: &Arc<str>) -> Identity {
        Identity {
            kind: self.kind.clone(),
            namespace: namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Whether it names this object, wherever that is.
    pub(crate) fn names(&self, identity: &Identity) -> bool {
        self.uid == identity.uid && self.name == identity.name && self.kind == identity.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_keep_their_text() {
        for (text, is_small) in [
            ("0f6a7b1c-1234-4abc-8def-0123456789ab", true),
            ("0F6A7B1C-1234-4abc-8def-0123456789ab", false),
            ("0f6a7b1c12344abc8def0123456789ab", false),
            ("0f6a7b1c-1234-4abc-8def-0123456789abc", false),
            ("owner-1", false),
            ("", false),
        ] {
            let uid = Uid::new(text);
            assert_eq!(uid.to_string(), text);
            assert_eq!(matches!(uid, Uid::Uuid(_)), is_small, "{text}");
        }
    }
}
