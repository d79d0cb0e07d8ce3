//! What the log says of peers that do not answer: one line when one is gone, one when it is back.
//!
//! openraft warns about every attempt, twenty a second; that is filtered out where logs are set
//! up. The leader alone knows how its followers are: it sends them heartbeats.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::types::Node;
use crate::error::Error;
use crate::server::status;

/// A peer that answers nothing for this long is said to be gone. Longer than an election or a
/// slow fsync.
const PATIENCE: Duration = Duration::from_secs(1);
/// What was noted longer ago is of an earlier leadership.
const STALE: Duration = Duration::from_secs(10);

/// How the peers of this member answer. Links share it.
#[derive(Default)]
pub(super) struct Reach {
    failing: Mutex<BTreeMap<u64, Failing>>,
}

/// A peer that does not answer.
struct Failing {
    since: Instant,
    last: Instant,
    told: bool,
}

impl Reach {
    /// A call was not answered, or not as it should be. Yields whether that is news.
    fn failed(&self, target: u64, now: Instant) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = failing
            .entry(target)
            .and_modify(|peer| {
                if now - peer.last > STALE {
                    (peer.since, peer.told) = (now, false);
                }
                peer.last = now;
            })
            .or_insert(Failing {
                since: now,
                last: now,
                told: false,
            });
        let news = !peer.told && now - peer.since >= PATIENCE;
        peer.told |= news;
        news
    }

    /// A call was answered. Yields for how long none was, if that was said.
    fn answered(&self, target: u64, now: Instant) -> Option<Duration> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = failing.remove(&target)?;
        (peer.told && now - peer.last <= STALE).then(|| now - peer.since)
    }

    /// Begins a call to a peer. One that is given up counts as not answered.
    pub(super) fn call<'a>(&'a self, target: u64, name: &'a str) -> Call<'a> {
        Call {
            reach: self,
            target,
            name,
            ended: false,
        }
    }
}

/// A call under way.
pub(super) struct Call<'a> {
    reach: &'a Reach,
    target: u64,
    name: &'a str,
    ended: bool,
}

impl Call<'_> {
    /// It was answered.
    pub(super) fn answered(mut self) {
        self.ended = true;
        if let Some(gone) = self.reach.answered(self.target, Instant::now()) {
            tracing::info!("peer {} is back after {}", self.name, spoken(gone));
        }
    }

    /// It failed.
    pub(super) fn failed(mut self, status: &Status) {
        self.end(&reason(status));
    }

    fn end(&mut self, reason: &str) {
        self.ended = true;
        if self.reach.failed(self.target, Instant::now()) {
            tracing::warn!("peer {} unreachable: {reason}", self.name);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end("no answer in time");
        }
    }
}

/// What a member is called in the log.
pub(super) fn name_of(id: u64, node: &Node) -> String {
    match node.name.as_str() {
        "" => format!("{id:x}"),
        name => name.to_owned(),
    }
}

/// Why a peer cannot be reached, for people.
fn reason(status: &Status) -> String {
    if status::error(status) == Error::ClusterIdMismatch {
        return "it belongs to another cluster: empty its data directory and let it join"
            .to_owned();
    }
    // The last cause is the one that helps: `Connection refused`.
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match (cause, status.code()) {
        (Some(cause), _) => cause.to_string(),
        (None, Code::Unavailable) => status.message().to_owned(),
        (None, code) => format!("{code:?}: {}", status.message()),
    }
}

/// `12 s`, or `1.4 s` when it is short.
fn spoken(span: Duration) -> String {
    let digits = usize::from(span < Duration::from_secs(10));
    format!("{:.digits$} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_lost_once_and_comes_back_once() {
        let reach = Reach::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!reach.failed(7, at(0)), "one failure is no news");
        assert!(!reach.failed(7, at(900)));
        assert!(reach.failed(7, at(1000)));
        assert!(!reach.failed(7, at(1050)), "said already");
        let gone = reach.answered(7, at(3000));
        assert_eq!(gone, Some(Duration::from_secs(3)));
        assert_eq!(reach.answered(7, at(3050)), None);
    }

    #[test]
    fn a_short_gap_and_an_earlier_leadership_are_no_news() {
        let reach = Reach::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        reach.failed(7, start);
        assert_eq!(reach.answered(7, start + PATIENCE / 2), None);
        reach.failed(7, at(1));
        assert!(reach.failed(7, at(2)));
        assert_eq!(
            reach.answered(7, at(100)),
            None,
            "it may have been back for long"
        );
        reach.failed(7, at(101));
        assert!(!reach.failed(7, at(201)), "counted anew");
    }

    #[test]
    fn reasons_are_for_people() {
        let foreign = status::status(&Error::ClusterIdMismatch);
        assert!(reason(&foreign).contains("empty its data directory"));
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(reason(&Status::from_error(Box::new(io))), "refused");
        assert_eq!(spoken(Duration::from_millis(1440)), "1.4 s");
        assert_eq!(spoken(Duration::from_secs(12)), "12 s");
    }
}
