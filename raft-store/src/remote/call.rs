//! Calls with failover: what is retried, where, and until when.
//!
//! A read that got no answer, or "unavailable", is asked again at the next endpoint until the
//! deadline. A write is never repeated once it may have been sent; one that could not be sent
//! goes to the next endpoint.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::Inner;
use super::endpoint::{Connection, TransportError};
use crate::error::{Error, Result};
use crate::server::status;

/// The pause after every endpoint was tried once; jitter is added.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// Whether a call may be repeated when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It changes nothing: yes.
    Read,
    /// It may have taken effect: no.
    Write,
}

/// Why a call at one endpoint failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request never left.
    Unsent(String),
    /// There was no answer, or not all of it.
    Lost,
    /// The endpoint answered with an error.
    Refused(Status),
}

impl Failure {
    pub(super) fn of(status: Status) -> Failure {
        let transport = status
            .source()
            .and_then(|s| s.downcast_ref::<TransportError>());
        match transport {
            Some(error) if error.sent => Failure::Lost,
            Some(error) => Failure::Unsent(error.to_string()),
            None => Failure::Refused(status),
        }
    }

    /// Whether another endpoint may do better.
    pub(super) fn leaves_endpoint(&self) -> bool {
        match self {
            Failure::Unsent(_) | Failure::Lost => true,
            Failure::Refused(status) => status.code() == Code::Unavailable,
        }
    }

    fn is_retried(&self, retry: Retry) -> bool {
        match (self, retry) {
            (Failure::Unsent(_), _) => true,
            (_, Retry::Read) => self.leaves_endpoint(),
            (_, Retry::Write) => false,
        }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Failure::Unsent(message) => Error::Remote {
                code: Code::Unavailable as i32,
                message,
            },
            Failure::Lost => Error::TimeoutConnectionLost,
            Failure::Refused(status) => status::error(&status),
        }
    }
}

impl Inner {
    /// Runs a call at the current endpoint, and elsewhere if it may be retried.
    pub(super) async fn call<T, F, Fut>(&self, retry: Retry, call: F) -> Result<T>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.config.request_timeout;
        let mut last: Option<Failure> = None;
        let unsent_max = self
            .config
            .connect_rounds
            .saturating_mul(self.endpoints.len());
        let mut unsent = 0;
        for attempt in 1.. {
            let index = self.current.load(Relaxed);
            let failure = match timeout_at(deadline, self.call_once(index, &call)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(failure)) => failure,
                // An earlier refusal says more than that time is up; a write sent may be done.
                Err(_) if retry == Retry::Read => break,
                Err(_) => return Err(Error::Timeout),
            };
            if failure.leaves_endpoint() {
                self.leave(index);
            }
            unsent = match failure {
                Failure::Unsent(_) => unsent + 1,
                Failure::Lost | Failure::Refused(_) => 0,
            };
            if !failure.is_retried(retry) || unsent >= unsent_max {
                return Err(failure.into_error());
            }
            last = Some(failure);
            if attempt % self.endpoints.len() == 0 {
                let pause = self.seams.rng.jitter(ROUND_PAUSE);
                if Instant::now() + pause >= deadline {
                    break;
                }
                sleep(pause).await;
            }
        }
        Err(last.map_or(Error::Timeout, Failure::into_error))
    }

    pub(super) async fn call_once<T, F, Fut>(
        &self,
        index: usize,
        call: &F,
    ) -> Result<tonic::Response<T>, Failure>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let connection = self.endpoints[index].connection().await;
        let connection = connection.map_err(|error| Failure::Unsent(error.to_string()))?;
        call(connection).await.map_err(Failure::of)
    }

    /// Moves on from an endpoint, unless someone else has already.
    pub(super) fn leave(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        let _ = self.current.compare_exchange(index, next, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unsent_writes_are_repeated() {
        let unavailable = || Failure::Refused(status::status(&Error::NoLeader));
        let refused = || Failure::Refused(status::status(&Error::EmptyKey));
        let unsent = || Failure::Unsent("connection refused".into());
        for (failure, read, write) in [
            (unsent(), true, true),
            (Failure::Lost, true, false),
            (unavailable(), true, false),
            (refused(), false, false),
        ] {
            assert_eq!(failure.is_retried(Retry::Read), read, "{failure:?}");
            assert_eq!(failure.is_retried(Retry::Write), write, "{failure:?}");
        }
    }

    #[test]
    fn a_lost_answer_says_that_the_outcome_is_unknown() {
        assert_eq!(Failure::Lost.into_error(), Error::TimeoutConnectionLost);
        let refused = Failure::Refused(status::status(&Error::NoLeader));
        assert_eq!(refused.into_error(), Error::NoLeader);
    }
}
