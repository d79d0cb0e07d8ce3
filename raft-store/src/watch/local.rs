//! A watch inside the process: no gRPC, no encoding, events shared with every other watcher.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::cursor::{Cursor, Step};
use super::event::{Change, Revision};
use super::hub::WatchHub;
use super::leader::LeaderWatch;
use super::range::KeyRange;
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use crate::pb::mvccpb::Event;
use crate::store::{WatchItem, WatchStream};

/// How often a quiet watch with `progress_notify` reports its progress. etcd's 10 min serve nobody:
/// a client's bookmark should be younger than the retained history.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How much a watch takes at once, in weight of the ring: three times the events' bytes. A slow
/// stream keeps that much from being freed when it leaves the ring.
pub const BATCH_BYTES: usize = 1 << 20;

/// Which kinds of change a watch wants: the request's `filters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kinds {
    /// Whether puts are wanted.
    pub puts: bool,
    /// Whether deletions are wanted.
    pub deletes: bool,
}

impl Kinds {
    /// Reads the filters of a request; unknown ones are ignored, as etcd does.
    pub fn of(request: &WatchCreateRequest) -> Kinds {
        let filtered = |kind: FilterType| request.filters.contains(&(kind as i32));
        Kinds {
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
        }
    }

    /// Whether a change is wanted.
    pub fn admit(self, change: &Change) -> bool {
        match change.is_delete() {
            true => self.deletes,
            false => self.puts,
        }
    }
}

/// How a member wants its embedded watches to behave.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The time between progress reports of a quiet watch that asked for them.
    pub progress_interval: Duration,
    /// Ends the watch with `NoLeader`; `None` lets it live without a leader.
    pub leader: Option<LeaderWatch>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions {
            progress_interval: PROGRESS_INTERVAL,
            leader: None,
        }
    }
}

/// A watch inside the process.
pub struct LocalWatch {
    /// See [`WatchHub::is_cut`].
    cuts: u64,
    cursor: Cursor,
    range: KeyRange,
    kinds: Kinds,
    prev_kv: bool,
    /// The start revision of the request, 0 for now; no progress is reported below it.
    start: i64,
    /// Progress is due once everything up to this revision has been delivered.
    wanted: Option<i64>,
    /// When to report progress unasked.
    report_at: Option<Instant>,
    options: LocalOptions,
}

impl WatchHub {
    /// Opens a watch inside the process. `watch_id` and `fragment` are ignored.
    ///
    /// Fails with `Compacted` if the start revision is gone (or negative), with `InvalidArgument`
    /// if the range is empty.
    pub fn watch(&self, request: &WatchCreateRequest, options: LocalOptions) -> Result<LocalWatch> {
        let range = KeyRange::of_watch(&request.key, &request.range_end)
            .ok_or_else(|| Error::InvalidArgument("mvcc: watcher range is empty".to_owned()))?;
        let compact_revision = self.history().compact_revision();
        let start = match request.start_revision {
            0 => self.history().current_revision() + 1,
            start if start < 0 || start < compact_revision => {
                return Err(Error::Compacted { compact_revision });
            }
            start => start,
        };
        #[cfg(feature = "mutants")]
        let start = start + i64::from(request.start_revision > 0 && self.mutants().drop_on_resume);
        let cuts = self.cuts();
        if self.is_suspended() {
            return Err(Error::Corrupt);
        }
        let mut cursor = Cursor::new(self.join());
        cursor.start(&range, start);
        self.count_watcher();
        let report_at = request
            .progress_notify
            .then(|| Instant::now() + options.progress_interval);
        Ok(LocalWatch {
            cuts,
            cursor,
            range,
            kinds: Kinds::of(request),
            prev_kv: request.prev_kv,
            start: request.start_revision,
            wanted: None,
            report_at,
            options,
        })
    }
}

impl LocalWatch {
    fn hub(&self) -> &WatchHub {
        self.cursor.membership().hub()
    }

    /// The watch's events among some revisions.
    fn select(&self, revisions: &[Arc<Revision>]) -> Result<Option<WatchItem>> {
        let mut events: Vec<Event> = Vec::new();
        let mut last = 0;
        for revision in revisions {
            let changes = revision.changes.iter();
            for change in changes.filter(|c| self.range.contains(c.key()) && self.kinds.admit(c)) {
                if self.prev_kv {
                    self.hub().fetch_previous(change)?;
                    events.push(change.event_with_previous());
                } else {
                    events.push(change.event.clone());
                }
                last = revision.revision;
            }
        }
        Ok((!events.is_empty()).then_some(WatchItem::Events {
            revision: last,
            events,
        }))
    }

    /// Reads on behind the ring. The cursor moves only when that is complete, so that a dropped
    /// call loses nothing.
    async fn catch_up(&mut self) -> Result<Option<WatchItem>> {
        let with_previous = self.prev_kv.then(|| self.range.clone());
        let read = self.hub().clone().catch_up(
            self.cursor.position(),
            i64::MAX,
            BATCH_BYTES,
            with_previous.into_iter().collect(),
        );
        let past = read.await?;
        let item = self.select(&past.revisions)?;
        self.cursor.advance(past.next);
        Ok(item)
    }

    /// The progress to report now, if it is wanted and reached.
    fn progress(&mut self) -> Option<WatchItem> {
        let revision = self.cursor.position() - 1;
        #[cfg(feature = "mutants")]
        if self.hub().mutants().early_progress {
            let revision = self.hub().history().current_revision();
            return self.wanted.take().map(|_| WatchItem::Progress { revision });
        }
        self.wanted.take_if(|wanted| *wanted <= revision)?;
        Some(WatchItem::Progress { revision })
    }

    fn want_progress(&mut self) {
        let current = self.hub().history().current_revision();
        let wanted = current.max(self.start).max(self.wanted.unwrap_or(0));
        self.wanted = Some(wanted);
        self.cursor.membership().await_dispatch(wanted);
    }

    fn delivered(&mut self, item: WatchItem) -> Result<WatchItem> {
        let next = Instant::now() + self.options.progress_interval;
        self.report_at = self.report_at.map(|_| next);
        Ok(item)
    }

    /// Sleeps until there may be something to do.
    async fn rest(&mut self) -> Result<()> {
        let report_at = self.report_at.filter(|_| self.wanted.is_none());
        let bell = self.cursor.membership().bell().clone();
        let leader = &mut self.options.leader;
        tokio::select! {
            () = bell.rung() => Ok(()),
            () = async {
                match report_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => {
                self.want_progress();
                Ok(())
            }
            () = async {
                match leader {
                    Some(leader) => leader.lost().await,
                    None => std::future::pending().await,
                }
            } => Err(Error::NoLeader),
        }
    }
}

#[async_trait]
impl WatchStream for LocalWatch {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            if self.hub().is_stopped() {
                return Err(Error::Stopped);
            }
            if self.hub().is_cut(self.cuts) {
                return Err(Error::Corrupt);
            }
            let (item, asleep) = match self.cursor.step(BATCH_BYTES) {
                Step::Revisions(revisions) => (self.select(&revisions)?, false),
                Step::Behind => (self.catch_up().await?, false),
                Step::Asleep => (None, true),
            };
            if let Some(item) = item.or_else(|| self.progress()) {
                return self.delivered(item);
            }
            if asleep {
                self.rest().await?;
            }
        }
    }

    async fn request_progress(&mut self) -> Result<()> {
        self.want_progress();
        Ok(())
    }
}

impl Drop for LocalWatch {
    fn drop(&mut self) {
        self.hub().uncount_watchers(1);
    }
}
