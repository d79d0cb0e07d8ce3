//! Fences: what keeps a leader that was deposed from writing.
//!
//! Every write that changes the holder of a Lease also writes the Lease's fence, a key of the store, in
//! the same transaction; renewals leave it alone. So the fence's revision is the resourceVersion of
//! the Lease at the moment when its holder became the holder. A leader names its fence with every write,
//! in the header [`HEADER`], and the write happens only if the fence still has that revision.

use std::fmt;
use std::str::FromStr;

/// The header in which a request names its fence.
pub const HEADER: &str = "trireme-fence";
/// What keys of fences start with; namespace, a slash and the Lease's name follow.
pub const PREFIX: &str = "/trireme/fences/";
/// The cause in the Status of a request whose fence holds no more.
pub const STALE: &str = "StaleFence";

/// The key of a Lease's fence.
pub fn key(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}/{name}")
}

/// A fence as the holder of its Lease found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The key in the store.
    pub key: String,
    /// The revision that it must have.
    pub revision: i64,
}

impl Fence {
    /// The fence of a Lease whose holder came to hold it at a resourceVersion.
    pub fn of_lease(namespace: &str, name: &str, revision: i64) -> Self {
        Self {
            key: key(namespace, name),
            revision,
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

impl FromStr for Fence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('@');
        let parts = parts.and_then(|(key, revision)| Some((key, revision.parse().ok()?)));
        match parts {
            Some((key, revision)) if key.starts_with(PREFIX) => Ok(Self {
                key: key.to_string(),
                revision,
            }),
            _ => Err(format!("header {HEADER} is not {PREFIX}...@REVISION")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_survives_its_header() {
        let fence = Fence::of_lease("kube-system", "kube-scheduler", 17);
        let text = "/trireme/fences/kube-system/kube-scheduler@17";
        assert_eq!(fence.to_string(), text);
        assert_eq!(text.parse(), Ok(fence));
    }

    #[test]
    fn other_keys_are_none_of_anybodys_business() {
        for text in [
            "",
            "x",
            "/registry/secrets/a/b@3",
            "/trireme/fences/a/b@",
            "/trireme/fences/a/b@x",
        ] {
            assert!(text.parse::<Fence>().is_err(), "{text}");
        }
    }
}
