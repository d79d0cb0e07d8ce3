//! One stream's watchers.
//!
//! Most watchers stand together at the stream's [`Cursor`]: they are *live*. A watcher that starts
//! in the past *lags* in a cohort with its own position, which reads on in bounded batches until
//! it meets the next cohort, and finally the live one. Each round serves the live watchers first.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::WatchParts;
use super::cohort::{Cohort, Dress, Spec, Watcher};
use super::outbox::Outbox;
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::watch::bell::Bell;
use crate::watch::local::{BATCH_BYTES, Kinds};
use crate::watch::{Cursor, KeyRange, Past, Revision, RingRead, Step, WatchHub};

/// The watch ID of responses that concern no single watcher.
const NO_WATCHER: i64 = -1;
/// A lagging cohort within this many revisions of the live one reads the ring in place, where
/// fetching previous versions is short work; farther ones read away from the async threads.
const NEAR_REVISIONS: i64 = 256;

type Reading = Pin<Box<dyn Future<Output = Result<Past>> + Send>>;

/// One stream's watchers and what they wait for.
pub(super) struct Session {
    parts: Arc<WatchParts>,
    /// See [`WatchHub::is_cut`].
    cuts: u64,
    cursor: Cursor,
    specs: BTreeMap<i64, Spec>,
    next_id: i64,
    live: Cohort,
    /// By the next revision to read, which is below the cursor's position.
    lagging: BTreeMap<i64, Cohort>,
    /// The live watchers' read behind the ring.
    live_read: Option<Reading>,
    /// The lowest lagging cohort's read, with its position.
    lagging_read: Option<(i64, Reading)>,
    /// The client asked for progress; answered once everything up to here is sent.
    wanted: Option<i64>,
    /// Quiet watchers are due a report, once everything up to here is sent.
    due: Option<i64>,
    /// When the next report is due; set while any watcher wants them.
    timer: Option<Pin<Box<Sleep>>>,
    outbox: Outbox,
}

impl Session {
    pub(super) fn new(parts: Arc<WatchParts>) -> Session {
        Session {
            cuts: parts.hub.cuts(),
            cursor: Cursor::new(parts.hub.join()),
            parts,
            specs: BTreeMap::new(),
            next_id: 0,
            live: Cohort::default(),
            lagging: BTreeMap::new(),
            live_read: None,
            lagging_read: None,
            wanted: None,
            due: None,
            timer: None,
            outbox: Outbox::default(),
        }
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        self.cursor.membership().bell()
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.hub().is_stopped()
    }

    /// Whether the member's data was found wrong since the stream began.
    pub(super) fn is_cut(&self) -> bool {
        self.hub().is_cut(self.cuts)
    }

    /// Answers one request.
    pub(super) fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.want_progress(),
            None => {}
        }
    }

    /// Polls what the stream waits for besides requests and events.
    pub(super) fn poll_waits(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.report_is_due();
        }
        if let Some(read) = &mut self.live_read
            && let Poll::Ready(read) = read.as_mut().poll(cx)
        {
            self.live_read = None;
            self.finish_live_read(read)?;
        }
        if let Some((from, read)) = &mut self.lagging_read
            && let Poll::Ready(read) = read.as_mut().poll(cx)
        {
            let from = *from;
            self.lagging_read = None;
            self.finish_lagging_read(from, read)?;
        }
        Ok(())
    }

    /// Does the next piece of work; false if there is none until the bell rings. Call it when the
    /// outbox is empty: that bounds what waits there.
    pub(super) fn advance(&mut self) -> Result<bool> {
        let live = self.advance_live()?;
        let lagging = self.advance_lagging()?;
        self.report_progress();
        Ok(live || lagging)
    }

    fn hub(&self) -> &WatchHub {
        &self.parts.hub
    }

    fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            revision,
            ..(self.parts.header)()
        }
    }

    fn current(&self) -> i64 {
        self.hub().history().current_revision()
    }

    fn respond(&mut self, revision: i64, response: WatchResponse) {
        let header = Some(self.header(revision));
        self.outbox.push(WatchResponse { header, ..response });
    }
}

// Creating and cancelling.
impl Session {
    fn create(&mut self, request: &WatchCreateRequest) {
        let current = self.current();
        let spec = match self.check(request) {
            Ok(spec) => spec,
            Err(reason) => {
                let refused = WatchResponse {
                    watch_id: NO_WATCHER,
                    created: true,
                    canceled: true,
                    cancel_reason: reason,
                    ..WatchResponse::default()
                };
                return self.respond(current, refused);
            }
        };
        let id = self.choose_id(request.watch_id);
        let created = WatchResponse {
            watch_id: id,
            created: true,
            ..WatchResponse::default()
        };
        self.respond(current, created);

        let start = request.start_revision;
        let compact_revision = self.hub().history().compact_revision();
        if start != 0 && start < compact_revision {
            return self.announce_compacted(id, compact_revision);
        }
        let from = if start == 0 { current + 1 } else { start };
        #[cfg(feature = "mutants")]
        let from = from + i64::from(start != 0 && self.hub().mutants().drop_on_resume);
        self.add(
            spec,
            Watcher {
                id,
                from,
                start,
                progress: request.progress_notify,
                quiet: true,
            },
        );
    }

    /// What the request asks for, or why it is refused, in etcd's words.
    fn check(&self, request: &WatchCreateRequest) -> Result<Spec, String> {
        if request.start_revision < 0 {
            let compact_revision = 0;
            return Err(Error::Compacted { compact_revision }.to_string());
        }
        let Some(range) = KeyRange::of_watch(&request.key, &request.range_end) else {
            return Err("mvcc: watcher range is empty".to_owned());
        };
        if request.watch_id != 0 && self.specs.contains_key(&request.watch_id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
        }
        Ok(Spec {
            range,
            kinds: Kinds::of(request),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
        })
    }

    fn choose_id(&mut self, asked: i64) -> i64 {
        if asked != 0 {
            return asked;
        }
        while self.specs.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn add(&mut self, spec: Spec, watcher: Watcher) {
        self.hub().count_watcher();
        self.specs.insert(watcher.id, spec.clone());
        if watcher.progress && self.timer.is_none() {
            self.set_timer();
        }
        let from = watcher.from;
        let live_from = self.cursor.watch(&spec.range, from);
        let cohort = match from < live_from {
            true => self.lagging.entry(from).or_default(),
            false => &mut self.live,
        };
        cohort.insert(spec, watcher);
    }

    fn cancel(&mut self, id: i64) {
        if self.forget(id) {
            let canceled = WatchResponse {
                watch_id: id,
                canceled: true,
                ..WatchResponse::default()
            };
            self.respond(self.current(), canceled);
        }
    }

    /// Removes a watcher; false if there is none with that ID.
    fn forget(&mut self, id: i64) -> bool {
        let Some(spec) = self.specs.remove(&id) else {
            return false;
        };
        if self.live.remove(&spec, id).is_none() {
            self.lagging.retain(|_, cohort| {
                cohort.remove(&spec, id);
                !cohort.is_empty()
            });
        }
        self.cursor.unwatch(&spec.range);
        self.hub().uncount_watchers(1);
        true
    }

    /// Cancels the watchers that need what has been compacted.
    fn cancel_compacted(&mut self, ids: Vec<i64>, compact_revision: i64) {
        for id in ids {
            self.forget(id);
            self.announce_compacted(id, compact_revision);
        }
    }

    fn announce_compacted(&mut self, id: i64, compact_revision: i64) {
        let canceled = WatchResponse {
            watch_id: id,
            canceled: true,
            compact_revision,
            ..WatchResponse::default()
        };
        // etcd sends this one with revision 0: it says nothing about progress.
        self.respond(0, canceled);
    }
}

// Delivering.
impl Session {
    fn advance_live(&mut self) -> Result<bool> {
        if self.live_read.is_some() {
            return Ok(false);
        }
        match self.cursor.step(BATCH_BYTES) {
            Step::Asleep => Ok(false),
            Step::Revisions(revisions) => {
                self.deliver_live(revisions)?;
                Ok(true)
            }
            Step::Behind if self.live.is_empty() => {
                // Nobody here needs what has left the ring.
                self.cursor.advance(self.hub().ring().floor());
                Ok(true)
            }
            Step::Behind => {
                let ranges = self.live.ranges_with_previous();
                let from = self.cursor.position();
                let read = self
                    .hub()
                    .clone()
                    .catch_up(from, i64::MAX, BATCH_BYTES, ranges);
                self.live_read = Some(Box::pin(read));
                self.bell().set_errand();
                Ok(false)
            }
        }
    }

    fn finish_live_read(&mut self, read: Result<Past>) -> Result<()> {
        match read {
            Ok(past) => {
                self.deliver_live(past.revisions)?;
                self.cursor.advance(past.next);
            }
            Err(Error::Compacted { compact_revision }) => {
                let watchers = self.live.watchers();
                let lost = watchers.filter(|w| w.from < compact_revision).map(|w| w.id);
                self.cancel_compacted(lost.collect(), compact_revision);
                self.cursor.advance(compact_revision);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn deliver_live(&mut self, revisions: Vec<Arc<Revision>>) -> Result<()> {
        let dress = Dress {
            hub: &self.parts.hub,
            header: (self.parts.header)(),
            fragment_bytes: self.parts.config.fragment_bytes,
        };
        self.live.deliver(revisions, &dress, &mut self.outbox)
    }

    /// Moves the lowest lagging cohort.
    fn advance_lagging(&mut self) -> Result<bool> {
        if self.lagging_read.is_some() {
            return Ok(false);
        }
        let Some((&from, cohort)) = self.lagging.first_key_value() else {
            return Ok(false);
        };
        let until = self.next_cohort(from);
        let hub = &self.parts.hub;
        let ranges = cohort.ranges_with_previous();
        let near = ranges.is_empty() || self.cursor.position() - from <= NEAR_REVISIONS;
        if near
            && from >= hub.history().compact_revision()
            && let RingRead::Revisions(found) = hub.ring().read(from, until, BATCH_BYTES)
        {
            self.finish_lagging_read(from, Ok(Past::of(found, from)))?;
            return Ok(true);
        }
        let read = hub.clone().catch_up(from, until, BATCH_BYTES, ranges);
        self.lagging_read = Some((from, Box::pin(read)));
        self.bell().set_errand();
        Ok(false)
    }

    /// The position of the cohort after the one at `from`: there the two become one.
    fn next_cohort(&self, from: i64) -> i64 {
        let after = self.lagging.range(from + 1..).next();
        after.map_or(self.cursor.position(), |(position, _)| *position)
    }

    fn finish_lagging_read(&mut self, from: i64, read: Result<Past>) -> Result<()> {
        // It is gone if its watchers were cancelled meanwhile.
        let Some(mut cohort) = self.lagging.remove(&from) else {
            return Ok(());
        };
        let mut past = match read {
            Ok(past) => past,
            Err(Error::Compacted { compact_revision }) => {
                let ids = cohort.watchers().map(|w| w.id).collect();
                self.lagging.insert(from, cohort);
                self.cancel_compacted(ids, compact_revision);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // A cohort may have come to stand in between since the read was started.
        let until = self.next_cohort(from);
        past.revisions.retain(|revision| revision.revision < until);
        let next = past.next.min(until);
        let dress = Dress {
            hub: &self.parts.hub,
            header: (self.parts.header)(),
            fragment_bytes: self.parts.config.fragment_bytes,
        };
        cohort.deliver(past.revisions, &dress, &mut self.outbox)?;
        match next == self.cursor.position() {
            true => self.live.absorb(cohort),
            false => self.lagging.entry(next).or_default().absorb(cohort),
        }
        Ok(())
    }
}

// Progress.
impl Session {
    fn want_progress(&mut self) {
        #[cfg(feature = "mutants")]
        if self.hub().mutants().early_progress {
            return self.respond(self.current(), progress(NO_WATCHER));
        }
        // Each of several requests at once gets its answer if it can be given now.
        self.report_progress();
        let current = self.current();
        // Decided now: a watcher of later does not make it a question about that watcher.
        if !self.has_progress_at(current) {
            return;
        }
        self.wanted = self.wanted.max(Some(current));
        self.cursor.membership().await_dispatch(current);
    }

    fn set_timer(&mut self) {
        let interval = self.parts.config.progress_interval;
        // Streams are numbered in order of arrival, so this spreads those that come together.
        let stretch = interval / 10 * (self.cursor.membership().stream() % 16) as u32 / 16;
        let at = Instant::now() + interval + stretch;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
        self.bell().set_errand();
    }

    fn report_is_due(&mut self) {
        if !self.watchers().any(|watcher| watcher.progress) {
            self.timer = None;
            return;
        }
        self.set_timer();
        for watcher in self.lagging.values_mut().flat_map(Cohort::watchers_mut) {
            watcher.quiet = true;
        }
        let current = self.current();
        self.due = Some(current);
        self.cursor.membership().await_dispatch(current);
    }

    /// Reports the progress that is wanted or due, if the watchers have got that far. Their events
    /// are in the outbox by then, so the report comes after them.
    fn report_progress(&mut self) {
        if self.live_read.is_some() {
            return;
        }
        let revision = self.cursor.position() - 1;
        if self.due.take_if(|due| *due <= revision).is_some() {
            self.report_to_quiet(revision);
        }
        if self.lagging.is_empty()
            && self.wanted.take_if(|w| *w <= revision).is_some()
            && self.has_progress_at(revision)
        {
            self.respond(revision, progress(NO_WATCHER));
        }
    }

    /// Progress is that of all watchers or none, and there is none before the first revision that
    /// one of them waits for.
    fn has_progress_at(&self, revision: i64) -> bool {
        let mut watchers = self.watchers().peekable();
        watchers.peek().is_some() && watchers.all(|watcher| watcher.start <= revision)
    }

    fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        let lagging = self.lagging.values().flat_map(Cohort::watchers);
        self.live.watchers().chain(lagging)
    }

    fn report_to_quiet(&mut self, revision: i64) {
        let mut ids = Vec::new();
        for watcher in self.live.watchers_mut().filter(|w| w.progress) {
            if watcher.quiet && watcher.start <= revision {
                ids.push(watcher.id);
            }
            watcher.quiet = true;
        }
        for id in ids {
            self.respond(revision, progress(id));
        }
    }
}

fn progress(watch_id: i64) -> WatchResponse {
    WatchResponse {
        watch_id,
        ..WatchResponse::default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub().uncount_watchers(self.specs.len() as u64);
    }
}
