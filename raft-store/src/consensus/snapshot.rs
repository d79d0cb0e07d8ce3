//! Snapshots: a checkpoint of the engine as a directory of files, and its resumable transfer.
//!
//! The sender offers the list of its files with sizes and checksums; the receiver answers how
//! much of each it holds from an interrupted transfer of the same offer; the sender streams the
//! rest. The receiver keeps the files in `snapshots/incoming` beside the live database, checks
//! every checksum, syncs, and only then hands the directory to Raft.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use seams::{Disk, Open};

use super::types::{
    SnapshotMeta, StoredMembership, log_id_from_pb, log_id_to_pb, membership_from_pb,
    membership_to_pb, vote_to_pb,
};
use crate::pb::peer::{SnapshotChunk, SnapshotFile, SnapshotOffer};

/// Bytes per message of a transfer: large enough for throughput, small beside the memory budget.
const CHUNK_BYTES: usize = 512 << 10;

const WRITE_OR_CREATE: Open = Open {
    create: true,
    ..Open::EDIT
};

/// The file in which a receiver keeps the offer that its partial files belong to.
const OFFER_FILE: &str = "OFFER";

/// A complete snapshot on this member's disk. The directory is removed when the last handle to an
/// outgoing snapshot is dropped.
#[derive(Clone)]
pub struct SnapshotDir(Arc<Inner>);

struct Inner {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Left-overs are also swept when the member starts.
        if let Err(error) = self.disk.remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a snapshot");
        }
    }
}

impl SnapshotDir {
    /// Takes ownership of a complete directory.
    pub fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self(Arc::new(Inner { path, disk }))
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// Lists the files with sizes and checksums, in name order. Reads every byte once.
    pub(crate) fn manifest(&self) -> io::Result<Vec<SnapshotFile>> {
        let disk = self.disk();
        let mut files = Vec::new();
        for name in disk.read_dir(self.path())? {
            let (size, crc) = checksum(disk.as_ref(), &self.path().join(&name))?;
            files.push(SnapshotFile { name, size, crc });
        }
        Ok(files)
    }

    /// Reads up to `len` bytes of a file; never empty.
    pub(crate) fn read_chunk(&self, name: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.disk().open(&self.path().join(name), Open::READ)?;
        let mut buffer = vec![0; len];
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

/// Size and CRC32C of a file.
fn checksum(disk: &dyn Disk, path: &Path) -> io::Result<(u64, u32)> {
    let file = disk.open(path, Open::READ)?;
    let size = file.len()?;
    let mut crc = 0;
    let mut offset = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    while offset < size {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        offset += read as u64;
    }
    Ok((size, crc))
}

/// The offer of a snapshot.
pub(crate) fn offer(
    vote: &super::types::Vote,
    meta: &SnapshotMeta,
    files: Vec<SnapshotFile>,
) -> SnapshotOffer {
    SnapshotOffer {
        vote: Some(vote_to_pb(vote)),
        last: meta.last_log_id.as_ref().map(log_id_to_pb),
        membership_id: meta.last_membership.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(meta.last_membership.membership())),
        files,
    }
}

/// What an offer says of the snapshot's place in the log.
pub(crate) fn meta_of(offer: &SnapshotOffer) -> io::Result<SnapshotMeta> {
    let membership = membership_from_pb(&offer.membership.clone().unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: offer.last.as_ref().map(log_id_from_pb),
        last_membership: StoredMembership::new(
            offer.membership_id.as_ref().map(log_id_from_pb),
            membership,
        ),
    })
}

/// The messages of a transfer: the offer first, then the missing bytes of each file.
pub(crate) fn chunks(
    dir: SnapshotDir,
    offer: SnapshotOffer,
    held: Vec<u64>,
) -> impl Stream<Item = SnapshotChunk> + Send + 'static {
    let files = offer.files.clone();
    let first = SnapshotChunk {
        offer: Some(offer),
        ..Default::default()
    };
    let start = (0, held.first().copied().unwrap_or(0));
    let rest = stream::unfold(start, move |(mut file, mut offset)| {
        let dir = dir.clone();
        let files = files.clone();
        let held = held.clone();
        async move {
            while file < files.len() && offset >= files[file].size {
                file += 1;
                offset = held.get(file).copied().unwrap_or(0);
            }
            let entry = files.get(file)?;
            // A read error ends the stream early: the receiver finds the file incomplete.
            let data = dir.read_chunk(&entry.name, offset, CHUNK_BYTES).ok()?;
            let next = (file, offset + data.len() as u64);
            let chunk = SnapshotChunk {
                offer: None,
                file: u32::try_from(file).ok()?,
                offset,
                data,
            };
            Some((chunk, next))
        }
    });
    stream::once(async move { first }).chain(rest)
}

/// The receiving side: partial files of one offer.
pub(crate) struct Incoming {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    offer: SnapshotOffer,
}

impl Incoming {
    /// Opens the partial files of `offer` under `path`, throwing away those of any other offer.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        offer: SnapshotOffer,
    ) -> io::Result<Self> {
        for file in &offer.files {
            // A name is one component: a peer must not be able to write elsewhere.
            if file.name.is_empty() || file.name.contains(['/', '\\']) || file.name.starts_with('.')
            {
                return Err(invalid(format!(
                    "file name {:?} in a snapshot offer",
                    file.name
                )));
            }
        }
        let mut identity = offer.clone();
        identity.vote = None;
        let encoded = identity.encode_to_vec();
        let marker = path.join(OFFER_FILE);
        let known = disk.exists(&marker) && disk.read(&marker)? == encoded;
        if !known {
            if disk.exists(&path) {
                disk.remove_dir_all(&path)?;
            }
            disk.create_dir_all(&path)?;
            disk.write_atomic(&marker, &encoded)?;
        }
        Ok(Self { path, disk, offer })
    }

    /// Bytes held of each file, in the order of the offer.
    pub(crate) fn held(&self) -> io::Result<Vec<u64>> {
        self.offer
            .files
            .iter()
            .map(|file| {
                let path = self.path.join(&file.name);
                if !self.disk.exists(&path) {
                    return Ok(0);
                }
                let held = self.disk.open(&path, Open::READ)?.len()?;
                Ok(held.min(file.size))
            })
            .collect()
    }

    /// Writes one chunk.
    pub(crate) fn write(&self, file: u32, offset: u64, data: &Bytes) -> io::Result<()> {
        let entry = self
            .offer
            .files
            .get(file as usize)
            .ok_or_else(|| invalid(format!("chunk of unknown file {file}")))?;
        if offset + data.len() as u64 > entry.size {
            return Err(invalid(format!("chunk beyond the end of {}", entry.name)));
        }
        let file = self
            .disk
            .open(&self.path.join(&entry.name), WRITE_OR_CREATE)?;
        file.write_all_at(data, offset)
    }

    /// Checks every file against the offer, syncs them, and gives up the directory.
    pub(crate) fn finish(self) -> io::Result<PathBuf> {
        for entry in &self.offer.files {
            let path = self.path.join(&entry.name);
            if entry.size == 0 {
                self.disk.open(&path, WRITE_OR_CREATE)?;
            }
            let (size, crc) = checksum(self.disk.as_ref(), &path)?;
            if size != entry.size || crc != entry.crc {
                // Start over next time: these bytes cannot be trusted.
                self.disk.remove_dir_all(&self.path)?;
                return Err(invalid(format!("checksum of {} in a snapshot", entry.name)));
            }
            self.disk.open(&path, WRITE_OR_CREATE)?.sync_all()?;
        }
        self.disk.remove_file(&self.path.join(OFFER_FILE))?;
        self.disk.sync_dir(&self.path)?;
        Ok(self.path)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("wrong {what}"))
}
