//! The one place where the store's errors become gRPC statuses, and statuses errors again.
//!
//! Codes and texts are those of etcd's `rpctypes`: Go clients find their typed errors by the text.

use tonic::{Code, Status};

use crate::error::Error;

/// Every error whose text is fixed; what [`error`] recognises by its text.
const FIXED: &[Error] = &[
    Error::EmptyKey,
    Error::KeyNotFound,
    Error::ValueProvided,
    Error::LeaseProvided,
    Error::TooManyOps,
    Error::DuplicateKey,
    Error::InvalidSortOption,
    Error::RequestTooLarge,
    Error::MemberBadUrls,
    Error::Compacted {
        compact_revision: 0,
    },
    Error::FutureRevision,
    Error::NoSpace,
    Error::TooManyRequests,
    Error::LeaseNotFound,
    Error::LeaseExists,
    Error::LeaseTtlTooLarge,
    Error::MemberExists,
    Error::PeerUrlExists,
    Error::NotEnoughStartedMembers,
    Error::MemberNotFound,
    Error::MemberNotLearner,
    Error::LearnerNotReady,
    Error::ClusterIdMismatch,
    Error::BadLeaderTransferee,
    Error::NotSupportedForLearner,
    Error::NoLeader,
    Error::NotLeader,
    Error::LeaderChanged,
    Error::Stopped,
    Error::Timeout,
    Error::TimeoutLeaderFail,
    Error::TimeoutConnectionLost,
    Error::TimeoutWaitAppliedIndex,
    Error::Unhealthy,
    Error::Corrupt,
];

/// The text before the reason of [`Error::Internal`].
const INTERNAL_PREFIX: &str = "etcdserver: internal error: ";
/// The text before every other error of the server.
const PREFIX: &str = "etcdserver: ";

/// The gRPC code that etcd answers for an error.
pub fn code(error: &Error) -> Code {
    use Error as E;
    match error {
        E::EmptyKey
        | E::KeyNotFound
        | E::ValueProvided
        | E::LeaseProvided
        | E::TooManyOps
        | E::DuplicateKey
        | E::InvalidSortOption
        | E::RequestTooLarge
        | E::MemberBadUrls
        | E::InvalidArgument(_) => Code::InvalidArgument,
        E::Compacted { .. } | E::FutureRevision | E::LeaseTtlTooLarge => Code::OutOfRange,
        E::NoSpace | E::TooManyRequests => Code::ResourceExhausted,
        E::LeaseNotFound | E::MemberNotFound => Code::NotFound,
        E::LeaseExists
        | E::MemberExists
        | E::PeerUrlExists
        | E::NotEnoughStartedMembers
        | E::MemberNotLearner
        | E::LearnerNotReady
        | E::ClusterIdMismatch
        | E::BadLeaderTransferee
        | E::NotSupportedForLearner
        | E::NotLeader => Code::FailedPrecondition,
        E::NoLeader
        | E::LeaderChanged
        | E::Stopped
        | E::Timeout
        | E::TimeoutLeaderFail
        | E::TimeoutConnectionLost
        | E::TimeoutWaitAppliedIndex
        | E::Unhealthy => Code::Unavailable,
        E::Corrupt => Code::DataLoss,
        E::Unimplemented(_) => Code::Unimplemented,
        E::Internal(_) => Code::Internal,
        E::Remote { code, .. } => Code::from_i32(*code),
    }
}

/// The status that a client gets for an error.
pub fn status(error: &Error) -> Status {
    Status::new(code(error), error.to_string())
}

/// The error behind a status of an etcd v3 endpoint; [`Error::Remote`] where the text is not one
/// that the store knows.
pub fn error(status: &Status) -> Error {
    parse(status.code(), status.message())
}

/// The error with this code and text, see [`error`].
pub fn parse(code: Code, message: &str) -> Error {
    if let Some(known) = FIXED.iter().find(|known| known.to_string() == message) {
        return known.clone();
    }
    let unknown = || Error::Remote {
        code: code as i32,
        message: message.to_owned(),
    };
    match code {
        Code::Internal => message
            .strip_prefix(INTERNAL_PREFIX)
            .map_or_else(unknown, |reason| Error::Internal(reason.to_owned())),
        Code::InvalidArgument => message
            .strip_prefix(PREFIX)
            .map_or_else(unknown, |reason| Error::InvalidArgument(reason.to_owned())),
        _ => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixed_error_survives_the_way_over_grpc() {
        for known in FIXED {
            assert_eq!(error(&status(known)), *known);
        }
    }

    #[test]
    fn errors_with_a_reason_survive_too() {
        for known in [
            Error::InvalidArgument("invalid downgrade target version".into()),
            Error::Internal("disk on fire".into()),
            Error::Remote {
                code: 16,
                message: "etcdserver: invalid auth token".into(),
            },
        ] {
            assert_eq!(error(&status(&known)), known);
        }
    }

    #[test]
    fn codes_are_those_that_etcd_clients_expect() {
        let expected = [
            (
                Error::Compacted {
                    compact_revision: 7,
                },
                Code::OutOfRange,
            ),
            (Error::FutureRevision, Code::OutOfRange),
            (Error::LeaseTtlTooLarge, Code::OutOfRange),
            (Error::NoSpace, Code::ResourceExhausted),
            (Error::TooManyRequests, Code::ResourceExhausted),
            (Error::LeaseNotFound, Code::NotFound),
            (Error::LeaseExists, Code::FailedPrecondition),
            (Error::NotLeader, Code::FailedPrecondition),
            (Error::NoLeader, Code::Unavailable),
            (Error::TimeoutConnectionLost, Code::Unavailable),
            (Error::Corrupt, Code::DataLoss),
            (Error::Unimplemented("auth"), Code::Unimplemented),
        ];
        for (error, expected) in expected {
            assert_eq!(code(&error), expected, "{error}");
        }
    }
}
