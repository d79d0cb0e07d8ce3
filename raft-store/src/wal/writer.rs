//! The writer: drains the queue, writes and syncs in groups, rotates and recycles segments.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use seams::{Clock, Rng};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::memory::{Marks, Memory, Placed};
use super::record::{Chain, Record, SEAL_BYTES};
use super::segment::{Directory, FIRST, Header, Segment};
use super::{Durable, LogRecord, SyncReport, Vote, WalConfig};
use crate::position::LogPosition;

/// A group ends when it holds this much payload, so that a long queue does not make one request
/// wait for all: 8 MiB is some 10 ms of a disk that writes 1 GB/s.
const GROUP_BYTES: usize = 8 << 20;

/// A write buffer that grew beyond this is given back.
const BUFFER_KEPT: usize = 2 * GROUP_BYTES;

/// What a segment with a larger entry is rounded up to.
const PAGE: u64 = 4096;

/// Something to be written.
pub(super) enum Request {
    Append {
        records: Vec<LogRecord>,
        epoch: u32,
        done: Durable,
    },
    Vote {
        vote: Vote,
        done: Durable,
    },
    Truncate {
        after: Option<u64>,
        epoch: u32,
        done: Durable,
    },
    Purge {
        upto: LogPosition,
        done: Durable,
    },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Append { records, .. } => records.iter().map(|r| r.payload.len()).sum(),
            _ => 0,
        }
    }

    fn done(self) -> Durable {
        match self {
            Request::Append { done, .. }
            | Request::Vote { done, .. }
            | Request::Truncate { done, .. }
            | Request::Purge { done, .. } => done,
        }
    }
}

/// Requests on their way to the writer.
#[derive(Default)]
pub(super) struct Queue {
    requests: VecDeque<Request>,
    /// The newest commit mark that is not written.
    pub(super) committed: Option<LogPosition>,
    /// Bytes of payload in `requests`.
    pub(super) bytes: usize,
    closed: Option<Failure>,
}

/// An error that is told many times.
#[derive(Debug, Clone)]
struct Failure {
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.message.clone())
    }
}

/// What callers and writer share.
pub(super) struct Shared {
    /// Locked before `queue` where both are.
    pub(super) memory: RwLock<Memory>,
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Notify,
    /// Names of files to make the next segments of; all of `segment_bytes`.
    pub(super) spares: Mutex<Vec<String>>,
    pub(super) spare_wanted: Notify,
    pub(super) directory: Directory,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) config: WalConfig,
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spares(&self) -> MutexGuard<'_, Vec<String>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self) -> Option<io::Error> {
        self.queue().closed.as_ref().map(Failure::error)
    }

    pub(super) fn spare_bytes(&self) -> u64 {
        self.spares().len() as u64 * self.config.segment_bytes
    }

    /// Queues a request, or gives back its `done` and why not.
    pub(super) fn submit(&self, request: Request) -> Option<(Durable, io::Error)> {
        let mut queue = self.queue();
        if let Some(failure) = &queue.closed {
            return Some((request.done(), failure.error()));
        }
        queue.bytes += request.bytes();
        queue.requests.push_back(request);
        drop(queue);
        self.wake.notify_one();
        None
    }

    /// Moves the next group into `group`. At the end, when there is none, closes the queue.
    fn take_group(&self, group: &mut Vec<Request>, ending: bool) -> Option<Option<LogPosition>> {
        let mut queue = self.queue();
        let mut bytes = 0;
        while bytes < GROUP_BYTES
            && let Some(request) = queue.requests.pop_front()
        {
            bytes += request.bytes();
            group.push(request);
        }
        queue.bytes -= bytes;
        if group.is_empty() && !(ending && queue.committed.is_some()) {
            if ending && queue.closed.is_none() {
                queue.closed = Some(closed());
            }
            return None;
        }
        Some(queue.committed.take())
    }

    /// Fails what waits and what comes.
    fn close(&self, failure: Failure) {
        let waiting = {
            let mut queue = self.queue();
            queue.bytes = 0;
            let failure = queue.closed.get_or_insert(failure).clone();
            let requests = std::mem::take(&mut queue.requests);
            requests
                .into_iter()
                .map(move |request| (request, failure.error()))
        };
        for (request, error) in waiting {
            request.done()(Err(error));
        }
    }
}

fn closed() -> Failure {
    Failure {
        kind: io::ErrorKind::BrokenPipe,
        message: "the Raft log is closed".to_owned(),
    }
}

/// The one that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    active: Arc<Segment>,
    /// Behind the last encoded record.
    chain: Chain,
    /// Encoded records that are not written, and where they go.
    buffer: Vec<u8>,
    buffer_at: u32,
    /// As encoded.
    marks: Marks,
    /// The last truncation that was encoded.
    epoch: u32,
    /// Entries encoded in this group.
    placed: Vec<Placed>,
    /// A purge was written after the last recycling.
    recycle_due: bool,
    /// A spare was asked for in this segment.
    spare_asked: bool,
}

impl Writer {
    /// A writer that continues `active` at `chain`, where everything is durable.
    pub(super) fn new(
        shared: Arc<Shared>,
        active: Arc<Segment>,
        chain: Chain,
        marks: Marks,
        epoch: u32,
    ) -> Writer {
        Writer {
            shared,
            active,
            chain,
            buffer: Vec::new(),
            buffer_at: chain.at,
            marks,
            epoch,
            placed: Vec::new(),
            // What an earlier run purged but did not recycle.
            recycle_due: true,
            spare_asked: false,
        }
    }

    /// Serves the queue until the token is cancelled and the queue is empty, or IO fails.
    pub(super) async fn run(mut self, token: CancellationToken) {
        // However this ends (panic and abort included), nobody waits for it afterwards.
        let _closer = Closer(Arc::clone(&self.shared));
        let shared = Arc::clone(&self.shared);
        let mut group = Vec::new();
        loop {
            let ending = token.is_cancelled();
            let Some(committed) = shared.take_group(&mut group, ending) else {
                if ending {
                    return;
                }
                tokio::select! {
                    biased;
                    () = shared.wake.notified() => {}
                    () = token.cancelled() => {}
                }
                continue;
            };
            if let Err(error) = self.commit(&mut group, committed).await {
                tracing::error!(%error, "the Raft log failed; this member must stop");
                let failure = Failure {
                    kind: error.kind(),
                    message: format!("the Raft log failed: {error}"),
                };
                // Closed first: whoever hears of the error finds the log closed.
                shared.queue().closed.get_or_insert(failure.clone());
                for request in group.drain(..) {
                    request.done()(Err(failure.error()));
                }
                shared.close(failure);
                return;
            }
        }
    }

    /// Writes and syncs a group, then tells everybody.
    async fn commit(
        &mut self,
        group: &mut Vec<Request>,
        committed: Option<LogPosition>,
    ) -> io::Result<()> {
        let clock = Arc::clone(&self.shared.clock);
        let begun = clock.now();
        for request in group.iter() {
            self.encode(request)?;
        }
        if let Some(position) = committed {
            self.marks.committed = Some(position);
            self.put(&Record::Commit(position))?;
        }
        let bytes = self.buffer.len();
        self.write()?;
        let written = clock.now();
        if let Some(latency) = self.shared.directory.disk.latency() {
            tokio::time::sleep(latency).await;
        }
        if bytes > 0 && self.must_sync(group) {
            self.sync()?;
            self.report(written - begun, clock.now() - written, bytes, group.len());
        }
        self.shared.memory_mut().place(&self.placed);
        self.placed.clear();
        for request in group.drain(..) {
            request.done()(Ok(()));
        }
        self.recycle()?;
        self.ask_for_spare();
        Ok(())
    }

    fn encode(&mut self, request: &Request) -> io::Result<()> {
        match request {
            Request::Append { records, epoch, .. } => {
                for record in records {
                    let at = self.put(&Record::Entry {
                        position: record.position,
                        kind: record.kind,
                        payload: &record.payload,
                    })?;
                    self.placed.push(Placed {
                        index: record.position.index,
                        epoch: *epoch,
                        segment: self.active.header.sequence,
                        at,
                    });
                }
            }
            Request::Vote { vote, .. } => {
                self.put(&Record::Vote(*vote))?;
                self.marks.vote = Some(*vote);
            }
            Request::Truncate { after, epoch, .. } => {
                self.put(&Record::Truncate(*after))?;
                self.epoch = *epoch;
            }
            Request::Purge { upto, .. } => {
                self.put(&Record::Purge(*upto))?;
                self.marks.purged = self.marks.purged.max(Some(*upto));
                self.recycle_due = true;
            }
        }
        Ok(())
    }

    /// Encodes a record, in the next segment if this one is full. Returns its offset.
    fn put(&mut self, record: &Record<'_>) -> io::Result<u32> {
        let need = record.frame_len() as u64;
        let end = u64::from(self.chain.at) + need + SEAL_BYTES as u64;
        if end > u64::from(self.active.header.capacity) {
            self.rotate(need)?;
        }
        let at = self.chain.at;
        self.chain.encode(record, &mut self.buffer);
        Ok(at)
    }

    /// Writes what is encoded.
    fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.active.file;
        file.write_all_at(&self.buffer, u64::from(self.buffer_at))?;
        self.buffer_at = self.chain.at;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.active.file.sync_data()?;
        self.chain.durable = self.buffer_at;
        Ok(())
    }

    /// Ends the active segment and starts the next one with room for a record of `need` bytes.
    ///
    /// The old segment is durable before the new one has a name: a segment that is not the last
    /// ends with a seal, or it is damaged.
    fn rotate(&mut self, need: u64) -> io::Result<()> {
        self.chain.encode(&Record::Seal, &mut self.buffer);
        self.write()?;
        self.sync()?;
        let sequence = self.active.header.sequence + 1;
        let (segment, chain) = self.shared.start_segment(sequence, &self.marks, need)?;
        tracing::debug!(sequence, "next segment of the Raft log");
        self.active = segment;
        self.chain = chain;
        self.buffer_at = chain.at;
        self.spare_asked = false;
        Ok(())
    }

    /// Takes segments out of use in which every entry was purged, once that is durable.
    fn recycle(&mut self) -> io::Result<()> {
        // Without a purge mark recovery takes a log that does not begin with its first segment for
        // damaged, even if everything in it was truncated.
        if !self.recycle_due || self.marks.purged.is_none() {
            return Ok(());
        }
        let mut unused = Vec::new();
        {
            let mut memory = self.shared.memory_mut();
            // Memory may be ahead of the disk: a purge or truncation that is still queued must not
            // cost entries that would be there after a crash. Its own group comes back here.
            if memory.marks.purged != self.marks.purged || memory.epoch() != self.epoch {
                return Ok(());
            }
            let active = self.active.header.sequence;
            let oldest = memory.oldest_segment().unwrap_or(active);
            while let Some(entry) = memory.segments.first_entry()
                && *entry.key() < oldest.min(active)
            {
                unused.push(entry.remove());
            }
        }
        self.recycle_due = false;
        for segment in unused {
            self.shared.recycle(segment)?;
        }
        Ok(())
    }

    /// Has a spare made in time: a new one is wanted when half of this segment is used.
    fn ask_for_spare(&mut self) {
        let used = u64::from(self.chain.at) * 2 > u64::from(self.active.header.capacity);
        if used && !self.spare_asked {
            self.spare_asked = true;
            self.shared.spare_wanted.notify_one();
        }
    }

    fn report(&self, write: Duration, sync: Duration, bytes: usize, requests: usize) {
        if let Some(on_sync) = &self.shared.config.on_sync {
            on_sync(&SyncReport {
                write,
                sync,
                bytes,
                requests,
            });
        }
    }

    #[cfg(not(feature = "mutants"))]
    fn must_sync(&self, _group: &[Request]) -> bool {
        true
    }

    /// Whether anything in the group is synced in spite of the planted bugs.
    #[cfg(feature = "mutants")]
    fn must_sync(&self, group: &[Request]) -> bool {
        let mutants = self.shared.config.mutants;
        let skipped = |request: &Request| match request {
            Request::Append { .. } | Request::Truncate { .. } => mutants.skip_entry_sync,
            Request::Vote { .. } => mutants.skip_vote_sync,
            Request::Purge { .. } => mutants.skip_entry_sync || mutants.skip_vote_sync,
        };
        group.is_empty() || !group.iter().all(skipped)
    }
}

impl Shared {
    /// Creates and names a segment; its first records repeat the marks.
    pub(super) fn start_segment(
        &self,
        sequence: u32,
        marks: &Marks,
        need: u64,
    ) -> io::Result<(Arc<Segment>, Chain)> {
        let records: Vec<_> = [
            marks.vote.map(Record::Vote),
            marks.purged.map(Record::Purge),
            marks.committed.map(Record::Commit),
        ]
        .into_iter()
        .flatten()
        .collect();
        let head: usize = records.iter().map(Record::frame_len).sum();
        let head_end = FIRST + head as u32;
        let least = u64::from(head_end) + need + SEAL_BYTES as u64;
        let (spare, capacity) = self.take_spare(sequence, least)?;
        let header = Header {
            sequence,
            salt: self.rng.next_u64(),
            capacity: u32::try_from(capacity).map_err(io::Error::other)?,
            head_end,
        };
        let mut chain = Chain {
            salt: header.salt,
            at: FIRST,
            previous: header.checksum(),
            durable: FIRST,
        };
        let mut bytes = Vec::with_capacity(head);
        for record in &records {
            chain.encode(record, &mut bytes);
        }
        let path = self.directory.path.join(spare);
        let segment = self.directory.install(&path, header, &bytes)?;
        chain.durable = chain.at;
        let mut memory = self.memory_mut();
        memory.segments.insert(sequence, Arc::clone(&segment));
        Ok((segment, chain))
    }

    /// A file of at least `least` bytes: its name and its size.
    fn take_spare(&self, sequence: u32, least: u64) -> io::Result<(String, u64)> {
        let mut bytes = self.config.segment_bytes;
        if sequence == 1 {
            bytes = bytes.min(super::segment::INITIAL_BYTES);
        } else if least <= bytes
            && let Some(spare) = self.spares().pop()
        {
            return Ok((spare, bytes));
        }
        let bytes = bytes.max(least.next_multiple_of(PAGE));
        let name = self.new_spare_name();
        self.directory.create_zeroed(&name, bytes)?;
        Ok((name, bytes))
    }

    fn new_spare_name(&self) -> String {
        format!("spare-{:016x}", self.rng.next_u64())
    }

    /// Keeps the file of a segment for later, or removes it.
    fn recycle(&self, segment: Arc<Segment>) -> io::Result<()> {
        let Header {
            sequence, capacity, ..
        } = segment.header;
        let path = segment.path.clone();
        // A reader that still has the file must not find other records in it.
        let in_use = Arc::into_inner(segment).is_none();
        let enough = self.spares().len() >= self.config.recycle;
        if in_use || enough || u64::from(capacity) != self.config.segment_bytes {
            return self.directory.remove(&path);
        }
        let name = Directory::spare_name(sequence);
        let disk = &self.directory.disk;
        disk.rename(&path, &self.directory.path.join(&name))?;
        // Before the file is written again: under its old name its new header would be damage.
        disk.sync_dir(&self.directory.path)?;
        self.spares().push(name);
        Ok(())
    }
}

/// Makes spares when they are wanted, away from the writer.
pub(super) async fn prepare(shared: Arc<Shared>, token: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = shared.spare_wanted.notified() => {}
        }
        if !shared.spares().is_empty() || shared.failed().is_some() {
            continue;
        }
        let name = shared.new_spare_name();
        let made = shared
            .directory
            .create_zeroed(&name, shared.config.segment_bytes);
        match made {
            Ok(_) => shared.spares().push(name),
            // Not fatal here: the writer tries again when it needs one.
            Err(error) => tracing::warn!(%error, "cannot prepare a segment of the Raft log"),
        }
    }
}

struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close(closed());
    }
}
