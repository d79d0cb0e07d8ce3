//! Opening the log: replay, torn tails, damage.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use seams::{Disk, Open, Seams};
use tokio::sync::Notify;

use super::memory::{Memory, Placed};
use super::reading::to_record;
#[cfg(feature = "mutants")]
use super::record::decode_checked;
use super::record::{ALIGN, Chain, Fault, Frame, HEADER, Record, decode, may_start};
use super::segment::{Directory, FIRST, FORMAT, Header, HeaderFault, Listing, Segment};
use super::writer::{Queue, Shared, Writer};
use super::{Recovered, WalConfig, WalError};

/// The sizes that a segment may have by configuration.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

/// A log that was opened and is not served yet.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) recovered: Recovered,
}

pub(super) fn open(dir: &Path, seams: &Seams, config: WalConfig) -> Result<Opened, WalError> {
    let (least, most) = SEGMENT_BYTES.into_inner();
    let segment_bytes = config.segment_bytes.clamp(least, most);
    let config = WalConfig {
        segment_bytes,
        ..config
    };
    let directory = Directory {
        disk: Arc::clone(&seams.disk),
        path: dir.to_path_buf(),
    };
    let listing = make_durable(&directory).map_err(failed("open the Raft log in", dir))?;
    let mut replay = Replay::new(&config);
    let end = replay.segments(&directory, &listing.segments)?;
    let spares = keep_spares(&directory, &listing, &config)
        .map_err(failed("tidy up the spare segments in", dir))?;

    let mut recovered = replay.recovered();
    let marks = replay.memory.marks;
    let epoch = replay.memory.epoch();
    let shared = Arc::new(Shared {
        memory: RwLock::new(replay.memory),
        queue: Mutex::new(Queue::default()),
        wake: Notify::new(),
        spares: Mutex::new(spares),
        spare_wanted: Notify::new(),
        directory,
        clock: Arc::clone(&seams.clock),
        rng: Arc::clone(&seams.rng),
        config,
    });
    if let Some(end) = &end {
        recovered.dropped_tail = end.dropped;
        let repaired = end.repair();
        repaired.map_err(failed("write the end of", &end.segment.path))?;
    }
    let (segment, chain) = match end {
        Some(end) if !end.sealed => (end.segment, end.chain),
        ended => {
            let sequence = ended.map_or(1, |end| end.segment.header.sequence + 1);
            let started = shared.start_segment(sequence, &marks, 0);
            started.map_err(failed("create a segment of the Raft log in", dir))?
        }
    };
    tracing::info!(
        dir = %dir.display(),
        last = ?recovered.last,
        purged = ?recovered.purged,
        dropped_tail = recovered.dropped_tail,
        "opened the Raft log"
    );
    let writer = Writer::new(shared, segment, chain, marks, epoch);
    Ok(Opened { writer, recovered })
}

/// Creates the directory if needed. What is seen in it is durable afterwards: an earlier process
/// may have been killed between a rename and its sync.
fn make_durable(directory: &Directory) -> io::Result<Listing> {
    let Directory { disk, path } = directory;
    disk.create_dir_all(path)?;
    disk.sync_dir(&seams::disk::parent(path))?;
    disk.sync_dir(path)?;
    directory.list()
}

/// Removes unfinished files and spares that cannot be used; names the rest.
fn keep_spares(
    directory: &Directory,
    listing: &Listing,
    config: &WalConfig,
) -> io::Result<Vec<String>> {
    for name in &listing.unfinished {
        directory.remove(&directory.path.join(name))?;
    }
    let mut kept = Vec::new();
    for name in &listing.spares {
        let path = directory.path.join(name);
        let usable = directory.disk.open(&path, Open::READ)?.len()? == config.segment_bytes;
        // One more than are recycled: the one that was prepared.
        if usable && kept.len() <= config.recycle {
            kept.push(name.clone());
        } else {
            directory.remove(&path)?;
        }
    }
    Ok(kept)
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> WalError + 'a {
    move |source| WalError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn corrupt(file: &Path, offset: u32, reason: impl Into<String>) -> WalError {
    WalError::Corrupt {
        file: file.to_path_buf(),
        offset: u64::from(offset),
        reason: reason.into(),
    }
}

/// The end of the newest segment.
struct End {
    segment: Arc<Segment>,
    /// Behind the last record.
    chain: Chain,
    /// Whether that was a seal: the next segment was about to be created.
    sealed: bool,
    /// The records that no later record proves to be durable, then zeros over what is left of
    /// unfinished ones; to be written at `rewrite_at`.
    rewrite: Vec<u8>,
    rewrite_at: u32,
    /// Whether there was something unfinished.
    dropped: bool,
}

impl End {
    /// Makes what was read durable, and what was dropped impossible to read.
    ///
    /// The last batch is written again because it may be in memory only: the process was killed
    /// before its sync, or the sync failed, after which the kernel holds the pages for clean.
    fn repair(&self) -> io::Result<()> {
        let file = &self.segment.file;
        if !self.rewrite.is_empty() {
            file.write_all_at(&self.rewrite, u64::from(self.rewrite_at))?;
        }
        file.sync_data()
    }
}

/// What the records so far add up to.
struct Replay {
    memory: Memory,
    /// Entries begin after `purged` unless segments were never removed.
    must_be_purged: bool,
    #[cfg(feature = "mutants")]
    accept_torn_tail: bool,
}

impl Replay {
    fn new(config: &WalConfig) -> Replay {
        Replay {
            memory: Memory::new(config.cache_bytes),
            must_be_purged: false,
            #[cfg(feature = "mutants")]
            accept_torn_tail: config.mutants.accept_torn_tail,
        }
    }

    fn recovered(&self) -> Recovered {
        let marks = self.memory.marks;
        Recovered {
            vote: marks.vote,
            purged: marks.purged,
            last: self.memory.last(),
            committed: marks.committed,
            dropped_tail: false,
        }
    }

    /// Replays the segments, oldest first; tells how the last one ends, if there is one.
    fn segments(
        &mut self,
        directory: &Directory,
        sequences: &[u32],
    ) -> Result<Option<End>, WalError> {
        let Some((&newest, &oldest)) = sequences.last().zip(sequences.first()) else {
            return Ok(None);
        };
        for (present, expected) in sequences.iter().zip(oldest..) {
            if *present != expected {
                let missing = directory.segment_path(expected);
                return Err(corrupt(&missing, 0, "this segment is missing"));
            }
        }
        self.must_be_purged = oldest > 1;
        let mut end = None;
        for &sequence in sequences {
            let path = directory.segment_path(sequence);
            let (segment, bytes) = read_segment(directory.disk.as_ref(), &path, sequence)?;
            end = self.segment(segment, &bytes, sequence == newest)?;
        }
        self.check_beginning(&directory.segment_path(oldest))?;
        Ok(end)
    }

    /// Replays one segment; tells how it ends if it is the newest.
    fn segment(
        &mut self,
        segment: Segment,
        bytes: &[u8],
        newest: bool,
    ) -> Result<Option<End>, WalError> {
        let segment = Arc::new(segment);
        let header = segment.header;
        self.memory
            .segments
            .insert(header.sequence, Arc::clone(&segment));
        let mut chain = Chain {
            salt: header.salt,
            at: FIRST,
            previous: header.checksum(),
            durable: FIRST,
        };
        let fault = loop {
            let frame = match self.next(bytes, &chain) {
                Ok(frame) => frame,
                Err(fault) => break fault,
            };
            chain.previous = frame.checksum;
            chain.durable = frame.durable;
            self.apply(&frame, header.sequence, chain.at)
                .map_err(|reason| corrupt(&segment.path, chain.at, reason))?;
            chain.at += frame.len as u32;
            if frame.record == Record::Seal {
                return Ok(newest.then(|| sealed(segment, bytes, chain)));
            }
        };
        if let Fault::Unknown(kind) = fault {
            let reason = format!("a record of the unknown kind {kind}");
            return Err(corrupt(&segment.path, chain.at, reason));
        }
        if !newest {
            let reason = "a record is unreadable, and a later segment follows";
            return Err(corrupt(&segment.path, chain.at, reason));
        }
        tail(segment, bytes, chain, fault).map(Some)
    }

    /// The record at the end of the chain.
    fn next<'a>(&self, bytes: &'a [u8], chain: &Chain) -> Result<Frame<'a>, Fault> {
        let rest = bytes.get(chain.at as usize..).unwrap_or_default();
        let frame = decode(rest, chain.salt, chain.at);
        #[cfg(feature = "mutants")]
        if self.accept_torn_tail && frame == Err(Fault::Damaged) {
            return decode_checked(rest, chain.salt, chain.at, false);
        }
        match frame {
            // Left over from a batch that was dropped earlier.
            Ok(frame) if frame.previous != chain.previous => Err(Fault::Damaged),
            other => other,
        }
    }

    fn apply(&mut self, frame: &Frame<'_>, segment: u32, at: u32) -> Result<(), String> {
        let memory = &mut self.memory;
        match frame.record {
            Record::Entry {
                position,
                kind,
                payload,
            } => {
                memory
                    .replay(to_record(position, kind, payload))
                    .map_err(|error| error.to_string())?;
                let epoch = memory.epoch();
                memory.place(&[Placed {
                    index: position.index,
                    epoch,
                    segment,
                    at,
                }]);
            }
            Record::Vote(vote) => memory.marks.vote = Some(vote),
            Record::Truncate(after) => memory.truncate(after),
            Record::Purge(upto) => memory.purge(upto),
            Record::Commit(position) => memory.marks.committed = Some(position),
            Record::Seal => {}
        }
        Ok(())
    }

    /// Nothing is missing between what was purged and the first entry.
    fn check_beginning(&self, oldest: &Path) -> Result<(), WalError> {
        let Some(first) = self.memory.first() else {
            return Ok(());
        };
        let purged = self.memory.marks.purged;
        let sound = match purged {
            Some(purged) => first == purged.index + 1,
            None => !self.must_be_purged,
        };
        if sound {
            return Ok(());
        }
        let reason = format!("the first entry is {first}, but the last purged one is {purged:?}");
        Err(corrupt(oldest, FIRST, reason))
    }
}

/// Decides whether the end of the newest segment is torn or damaged.
fn tail(segment: Arc<Segment>, bytes: &[u8], chain: Chain, fault: Fault) -> Result<End, WalError> {
    let at = chain.at;
    if at < segment.header.head_end {
        let reason = "the segment's first records are unreadable";
        return Err(corrupt(&segment.path, at, reason));
    }
    let mut garbage_end = at;
    if fault == Fault::Damaged {
        // At least its start must not be taken for a record again.
        garbage_end += HEADER as u32;
    }
    let mut look = at as usize;
    while look < bytes.len() {
        let rest = &bytes[look..];
        look += ALIGN;
        if !may_start(rest, chain.salt, (look - ALIGN) as u32) {
            continue;
        }
        let Ok(frame) = decode(rest, chain.salt, (look - ALIGN) as u32) else {
            continue;
        };
        if frame.durable > at {
            let reason = "a record is unreadable that was durable, as a later record shows";
            return Err(corrupt(&segment.path, at, reason));
        }
        look += frame.len - ALIGN;
        garbage_end = look as u32;
    }
    let dropped = garbage_end > at;
    if dropped {
        tracing::warn!(
            file = %segment.path.display(),
            offset = at,
            "dropped an unfinished batch at the end of the Raft log"
        );
    }
    Ok(End {
        sealed: false,
        dropped,
        ..end(segment, bytes, chain, garbage_end)
    })
}

fn sealed(segment: Arc<Segment>, bytes: &[u8], chain: Chain) -> End {
    End {
        sealed: true,
        ..end(segment, bytes, chain, chain.at)
    }
}

fn end(segment: Arc<Segment>, bytes: &[u8], chain: Chain, garbage_end: u32) -> End {
    let mut rewrite = bytes[chain.durable as usize..chain.at as usize].to_vec();
    rewrite.resize((garbage_end - chain.durable) as usize, 0);
    End {
        segment,
        sealed: false,
        rewrite,
        rewrite_at: chain.durable,
        dropped: false,
        // Holds as soon as this is repaired.
        chain: Chain {
            durable: chain.at,
            ..chain
        },
    }
}

fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    sequence: u32,
) -> Result<(Segment, Vec<u8>), WalError> {
    let read = || -> io::Result<_> {
        let file = disk.open(path, Open::EDIT)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok((file, bytes))
    };
    let (file, mut bytes) = read().map_err(failed("read", path))?;
    let header = match Header::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderFault::Newer(found)) => {
            return Err(WalError::Newer {
                file: path.to_path_buf(),
                found,
                supported: FORMAT,
            });
        }
        Err(HeaderFault::Damaged) => {
            return Err(corrupt(path, 0, "the segment's header is unreadable"));
        }
    };
    if header.sequence != sequence {
        let reason = format!("its header says that it is segment {}", header.sequence);
        return Err(corrupt(path, 0, reason));
    }
    if bytes.len() < header.capacity as usize {
        let reason = format!(
            "the file ends here, but should have {} bytes",
            header.capacity
        );
        return Err(corrupt(path, bytes.len() as u32, reason));
    }
    bytes.truncate(header.capacity as usize);
    let path = path.to_path_buf();
    Ok((Segment { header, path, file }, bytes))
}
