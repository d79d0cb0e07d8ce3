//! Which failures prove that a call had no effect.
//!
//! The list is of what is known to be said before a proposal or instead of applying it. All
//! else, however harmless it sounds, is unknown: a client that guesses here either hides a
//! fault of the store or invents one.

use std::error::Error;

use tonic::{Code, Status};

use super::{Failed, Failure, connect};
use crate::ops::Call;

/// Texts of refusals, as etcd's clients match them.
const REFUSALS: &[&str] = &[
    "etcdserver: key is not provided",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: too many operations in txn request",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
];

const WITHOUT_EFFECT: &str = "nothing was written yet: ";

/// Marks the failure of a step that comes before any write of its call.
pub(super) fn without_effect(status: Status) -> Failed {
    let broken = is_broken(&status);
    let code = if broken {
        Code::Unavailable
    } else {
        Code::Aborted
    };
    Failed::Status(Status::new(
        code,
        format!("{WITHOUT_EFFECT}{}", status.message()),
    ))
}

/// What a failed call may have done.
pub(super) fn classify(call: &Call, status: &Status) -> Failure {
    let reason = describe(status);
    let proven = !call.has_effect()
        || REFUSALS.contains(&status.message())
        || status.message().starts_with(WITHOUT_EFFECT)
        || never_sent(status);
    if proven {
        Failure::Refused(reason)
    } else {
        Failure::Unknown(reason)
    }
}

/// Whether the connection should not be used again.
pub(super) fn is_broken(status: &Status) -> bool {
    status.source().is_some()
        || matches!(
            status.code(),
            Code::Unavailable | Code::Cancelled | Code::Unknown
        )
}

/// Whether the connection had broken before the call, so that nothing was sent.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(connect::is_spent)
        {
            return true;
        }
        source = error.source();
    }
    false
}

fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> Call {
        Call::Put {
            key: "k".into(),
            value: "v".into(),
            lease: 0,
        }
    }

    #[test]
    fn only_what_is_proven_is_called_refused() {
        let refused = |status: &Status| matches!(classify(&put(), status), Failure::Refused(_));
        let space = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        assert!(refused(&space));
        for unknown in [
            Status::unavailable("etcdserver: request timed out"),
            Status::unavailable("etcdserver: leader changed"),
            Status::unavailable(
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Status::unavailable("error reading from server: EOF"),
            Status::unknown("raft proposal dropped"),
            Status::deadline_exceeded("context deadline exceeded"),
        ] {
            assert!(!refused(&unknown), "{unknown}");
        }
    }

    #[test]
    fn a_read_has_no_effect_whatever_happens_to_it() {
        let get = Call::Get {
            key: "k".into(),
            serializable: false,
            revision: 0,
        };
        let lost = Status::unavailable("error reading from server: EOF");
        assert!(matches!(classify(&get, &lost), Failure::Refused(_)));
    }
}
