//! The one place where failures of the store become errors of the API.

use api::fence::{Fence, STALE};
use api::status::{Cause, Qualified, Status};
use raft_store::Error;

use crate::storage::WriteError;
use crate::storage::cache::Behind;

/// The error for a write that did not happen, or of which nobody knows whether it did.
pub fn of_write(of: Qualified<'_>, name: &str, error: &WriteError) -> Box<Status> {
    Box::new(match error {
        WriteError::Changed(_) => Status::modified(of, name),
        WriteError::Needs => {
            let why =
                "what the request depended on changed while it was under way; please try again";
            Status::conflict(of, name, why)
        }
        WriteError::Store(error) => return of_store(error),
    })
}

/// The error for a leader's write after it was deposed. Trying again is of no use.
pub fn of_stale_fence(of: Qualified<'_>, name: &str, fence: &Fence) -> Box<Status> {
    let why = format!("the fence {fence} of the request holds no more: somebody else leads now");
    let mut status = Status::conflict(of, name, &why);
    status.details.causes.push(Cause {
        kind: STALE.to_string(),
        message: why,
        field: String::new(),
    });
    Box::new(status)
}

/// The error for an operation that the store failed.
pub fn of_store(error: &Error) -> Box<Status> {
    Box::new(match error {
        Error::Timeout
        | Error::TimeoutLeaderFail
        | Error::TimeoutConnectionLost
        | Error::TimeoutWaitAppliedIndex
        | Error::LeaderChanged => Status::timeout(&error.to_string(), 1),
        Error::NoLeader | Error::NotLeader | Error::Stopped | Error::Unhealthy => {
            Status::unavailable(error.to_string())
        }
        Error::TooManyRequests => Status::too_many_requests(error.to_string(), 1),
        Error::RequestTooLarge => Status::too_large(&error.to_string()),
        Error::Compacted { .. } => Status::expired(error.to_string()),
        other => Status::internal(other),
    })
}

/// The error for a read that could not be had fresh enough.
pub fn of_read(error: &Behind) -> Box<Status> {
    match error {
        Behind::Store(error) => of_store(error),
        Behind::Late(_) => Box::new(Status::too_many_requests(
            "storage is (re)initializing or behind, please try again",
            1,
        )),
    }
}
