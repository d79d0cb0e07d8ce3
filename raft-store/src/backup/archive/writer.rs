//! Writes archives: a source becomes a run of byte chunks, and chunks become a checked file.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use prost::Message;
use seams::{Disk, File, Open, Tasks};
use sha2::{Digest, Sha256};

use super::{
    BLOCK, FORMAT, FRAME_HEAD_LEN, FRAME_LIMIT, FRAME_TARGET, Kind, MAGIC, Order, Summary,
    frame_crc, verify,
};
use crate::backup::{BackupError, Meter, OnProgress, Progress, Result, Source};

/// Turns a source into the bytes of an archive, one frame after the other.
///
/// An iterator of chunks of about 1 MiB; memory is one chunk. After an error or the last chunk
/// (which ends with the hash) it yields nothing more.
pub struct Writer<S> {
    source: S,
    next: Next,
    order: Order,
    frames: u64,
    written: u64,
    hash: Sha256,
}

/// Which frame comes next.
#[derive(Clone, Copy)]
enum Next {
    Header,
    Leases,
    Keys,
    Trailer,
    Nothing,
}

impl<S: Source> Writer<S> {
    /// A writer at the beginning of the source.
    pub fn new(source: S) -> Writer<S> {
        Writer {
            source,
            next: Next::Header,
            order: Order::default(),
            frames: 0,
            written: 0,
            hash: Sha256::new(),
        }
    }

    /// Keys and bytes written so far.
    pub fn progress(&self) -> Progress {
        let counts = self.order.counts;
        Progress {
            stage: "writing the backup",
            keys: counts.keys,
            bytes: counts.bytes,
        }
    }

    fn step(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.next {
                Next::Header => {
                    let header = self.source.header();
                    self.order = Order::new(&header).map_err(BackupError::BadSource)?;
                    self.next = Next::Leases;
                    let mut out = BytesMut::new();
                    out.put_slice(&MAGIC);
                    out.put_u32_le(FORMAT);
                    self.put_frame(&mut out, Kind::Header, &header.encode_to_vec())?;
                    return Ok(Some(self.emit(out)));
                }
                Next::Leases => {
                    let payload = self.leases()?;
                    if !payload.is_empty() {
                        return self.frame(Kind::Leases, &payload).map(Some);
                    }
                    self.next = Next::Keys;
                }
                Next::Keys => {
                    let payload = self.keys()?;
                    if !payload.is_empty() {
                        return self.frame(Kind::Keys, &payload).map(Some);
                    }
                    self.next = Next::Trailer;
                }
                Next::Trailer => {
                    self.next = Next::Nothing;
                    return self.end().map(Some);
                }
                Next::Nothing => return Ok(None),
            }
        }
    }

    fn leases(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        while payload.len() < FRAME_TARGET {
            let Some(lease) = self.source.next_lease()? else {
                break;
            };
            self.order.lease(&lease).map_err(BackupError::BadSource)?;
            payload.extend_from_slice(&lease.encode_length_delimited_to_vec());
        }
        Ok(payload)
    }

    fn keys(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        while payload.len() < FRAME_TARGET {
            let Some(key) = self.source.next_key()? else {
                break;
            };
            self.order.key(&key).map_err(BackupError::BadSource)?;
            // A Vec grows as needed: encoding cannot run out of room.
            let _ = key.encode_length_delimited(&mut payload);
        }
        Ok(payload)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<Bytes> {
        let mut out = BytesMut::with_capacity(FRAME_HEAD_LEN + payload.len());
        self.put_frame(&mut out, kind, payload)?;
        Ok(self.emit(out))
    }

    fn put_frame(&mut self, out: &mut BytesMut, kind: Kind, payload: &[u8]) -> Result<()> {
        if payload.len() > FRAME_LIMIT {
            let what = format!(
                "one value has {} bytes, more than a backup holds",
                payload.len()
            );
            return Err(BackupError::BadSource(what));
        }
        out.put_u32_le(kind as u32);
        out.put_u32_le(payload.len() as u32);
        out.put_u32_le(frame_crc(self.frames, kind as u32, payload));
        out.put_slice(payload);
        self.frames += 1;
        Ok(())
    }

    /// The trailer, the padding and the hash.
    fn end(&mut self) -> Result<Bytes> {
        let mut out = BytesMut::new();
        let trailer = self.order.counts.encode_to_vec();
        self.put_frame(&mut out, Kind::Trailer, &trailer)?;
        let length = self.written + out.len() as u64;
        out.put_bytes(0, (length.next_multiple_of(BLOCK) - length) as usize);
        self.hash.update(&out);
        let hash = self.hash.finalize_reset();
        out.put_slice(&hash);
        Ok(out.freeze())
    }

    fn emit(&mut self, out: BytesMut) -> Bytes {
        self.hash.update(&out);
        self.written += out.len() as u64;
        out.freeze()
    }
}

impl<S: Source> Iterator for Writer<S> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.next = Next::Nothing;
        }
        step.transpose()
    }
}

/// An archive as a stream of chunks, made on demand and off the async threads: a slow receiver
/// holds one chunk in memory, no more.
pub fn stream<S: Source + 'static>(
    source: S,
    tasks: Tasks,
) -> impl Stream<Item = Result<Bytes>> + Send {
    futures::stream::unfold(Some(Writer::new(source)), move |writer| {
        let tasks = tasks.clone();
        async move {
            let mut writer = writer?;
            let (chunk, writer) = tasks
                .blocking(move || {
                    let chunk = writer.next();
                    (chunk, writer)
                })
                .await;
            chunk.map(|chunk| (chunk, Some(writer)))
        }
    })
}

/// Writes a source to a file and checks what was written. The file appears under its name only
/// when it is complete, checked and synced; a file of that name is replaced.
pub fn write<S: Source>(
    source: S,
    disk: &dyn Disk,
    path: &Path,
    report: OnProgress<'_>,
) -> Result<Summary> {
    let mut file = Download::create(disk, path)?;
    let mut writer = Writer::new(source);
    let mut next_report = Meter::STEP;
    while let Some(chunk) = writer.next() {
        file.push(&chunk?)?;
        if writer.progress().bytes >= next_report {
            next_report = writer.progress().bytes + Meter::STEP;
            report(writer.progress());
        }
    }
    file.finish(report)
}

/// An archive that arrives in chunks (from a member's snapshot stream) and becomes a file.
///
/// Grows as `<path>.part`; dropped before [`Download::finish`] it leaves nothing behind.
pub struct Download<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    part: PathBuf,
    file: Option<Box<dyn File>>,
    length: u64,
}

impl<'a> Download<'a> {
    /// Starts an empty `<path>.part`.
    pub fn create(disk: &'a dyn Disk, path: &Path) -> Result<Download<'a>> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let how = Open {
            read: true,
            write: true,
            create: true,
            truncate: true,
            ..Open::default()
        };
        let file = disk
            .open(&part, how)
            .map_err(BackupError::io("create", &part))?;
        Ok(Download {
            disk,
            path: path.to_owned(),
            part,
            file: Some(file),
            length: 0,
        })
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(chunk, self.length)
                .map_err(BackupError::io("write", &self.part))?;
            self.length += chunk.len() as u64;
        }
        Ok(())
    }

    /// Syncs the file, reads it back and checks it, and gives it its name.
    pub fn finish(mut self, report: OnProgress<'_>) -> Result<Summary> {
        if let Some(file) = &self.file {
            file.sync_all()
                .map_err(BackupError::io("sync", &self.part))?;
        }
        let summary = verify(self.disk, &self.part, report)?;
        self.disk
            .rename(&self.part, &self.path)
            .map_err(BackupError::io("rename", &self.part))?;
        self.file = None;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.disk
            .sync_dir(parent)
            .map_err(BackupError::io("sync", parent))?;
        Ok(summary)
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: a leftover `.part` is harmless and overwritten by the next attempt.
            let _ = self.disk.remove_file(&self.part);
        }
    }
}
