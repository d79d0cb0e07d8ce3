//! Reads archives and checks everything about them on the way.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use seams::{Disk, File, Open};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{
    BLOCK, FORMAT, FRAME_HEAD_LEN, FRAME_LIMIT, HASH_LEN, Kind, MAGIC, Order, PROLOGUE_LEN,
    Trailer, frame_crc,
};
use crate::backup::{BackupError, Header, Lease, Meter, OnProgress, Result, Source, bbolt, hex32};
use crate::pb::mvccpb::KeyValue;

/// What a complete and undamaged archive holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The archive's format number.
    pub format: u32,
    /// Where and when it was taken.
    pub header: Header,
    /// Number of keys.
    pub keys: u64,
    /// Number of leases.
    pub leases: u64,
    /// Bytes of all keys and values together.
    pub bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// The hash at the end of the file: it identifies the archive.
    pub hash: [u8; 32],
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { header, .. } = self;
        writeln!(f, "revision       {}", header.revision)?;
        writeln!(f, "compacted at   {}", header.compact_revision)?;
        writeln!(
            f,
            "keys           {} ({} bytes of keys and values)",
            self.keys, self.bytes
        )?;
        writeln!(f, "leases         {}", self.leases)?;
        writeln!(f, "taken at       {}", wall_time(header.taken_at_ms))?;
        writeln!(
            f,
            "from           cluster {:016x}, member {:016x}, version {}",
            header.cluster_id, header.member_id, header.store_version
        )?;
        writeln!(
            f,
            "log position   term {}, index {}",
            header.term, header.index
        )?;
        writeln!(
            f,
            "file           {} bytes, format {}",
            self.file_bytes, self.format
        )?;
        write!(f, "sha256         {}", hex32(&self.hash))
    }
}

/// Milliseconds since 1970 as UTC, to the second.
fn wall_time(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms since 1970"))
}

/// Reads a whole archive and checks it: every checksum, the order and counts, the hash.
pub fn verify(disk: &dyn Disk, path: &Path, report: OnProgress<'_>) -> Result<Summary> {
    let mut reader = Reader::open(disk, path)?;
    let mut meter = Meter::new("checking the backup", report);
    while reader.next_lease()?.is_some() {}
    while let Some(key) = reader.next_key()? {
        meter.key(&key);
    }
    meter.done();
    reader.summary()
}

/// An archive as a source. Its last `None` means that the whole file was read and is right;
/// before that, what it yielded is only as good as the frames' checksums.
pub struct Reader {
    input: Input,
    header: Header,
    order: Order,
    frames: u64,
    /// The part of the current frame that has not been handed out.
    kind: Kind,
    payload: Bytes,
    verified: Option<[u8; 32]>,
}

impl Reader {
    /// Opens an archive and reads its header.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Reader> {
        let mut input = Input::open(disk, path)?;
        input.check_prologue()?;
        let mut reader = Reader {
            input,
            header: Header::default(),
            order: Order::default(),
            frames: 0,
            kind: Kind::Header,
            payload: Bytes::new(),
            verified: None,
        };
        reader.read_frame()?;
        if reader.kind != Kind::Header {
            return Err(reader.input.damaged("the first record is not the header"));
        }
        let payload = std::mem::take(&mut reader.payload);
        reader.header = Header::decode(payload).map_err(|e| {
            reader
                .input
                .damaged(format!("the header cannot be read ({e})"))
        })?;
        reader.order = Order::new(&reader.header).map_err(|what| reader.input.damaged(what))?;
        Ok(reader)
    }

    /// What the archive holds, once it has been read to its end.
    pub fn summary(&self) -> Result<Summary> {
        let Some(hash) = self.verified else {
            return Err(self.input.damaged("it was not read to its end"));
        };
        let Trailer {
            leases,
            keys,
            bytes,
        } = self.order.counts;
        let (header, file_bytes) = (self.header.clone(), self.input.length);
        Ok(Summary {
            format: FORMAT,
            header,
            keys,
            leases,
            bytes,
            file_bytes,
            hash,
        })
    }

    /// The next message of the given kind; `None` when a later kind follows.
    fn next_message<M: Message + Default>(&mut self, kind: Kind) -> Result<Option<M>> {
        while self.payload.is_empty() && self.verified.is_none() {
            self.read_frame()?;
            if self.kind == Kind::Trailer {
                self.check_end()?;
            }
        }
        if self.kind as u32 > kind as u32 {
            return Ok(None);
        }
        if self.kind != kind {
            return Err(self
                .input
                .damaged("its leases were not read before its keys"));
        }
        M::decode_length_delimited(&mut self.payload)
            .map(Some)
            .map_err(|e| self.input.damaged(format!("a record cannot be read ({e})")))
    }

    fn read_frame(&mut self) -> Result<()> {
        let head = self.input.take(FRAME_HEAD_LEN)?;
        let word = |at: usize| u32_at(&head, at);
        let (number, length, crc) = (word(0), word(4) as usize, word(8));
        let kind = Kind::from_number(number).ok_or_else(|| {
            self.input
                .damaged(format!("unknown kind of record {number}"))
        })?;
        if length > FRAME_LIMIT {
            return Err(self
                .input
                .damaged(format!("a record claims {length} bytes")));
        }
        let payload = self.input.take(length)?;
        if frame_crc(self.frames, number, &payload) != crc {
            return Err(self.input.damaged("a record does not match its checksum"));
        }
        let in_order = match kind {
            Kind::Header => self.frames == 0,
            _ => self.frames > 0 && kind as u32 >= self.kind as u32,
        };
        if !in_order {
            return Err(self.input.damaged("its records are out of order"));
        }
        self.frames += 1;
        self.kind = kind;
        self.payload = payload;
        Ok(())
    }

    /// After the trailer: counts, padding, hash, end of file.
    fn check_end(&mut self) -> Result<()> {
        let payload = std::mem::take(&mut self.payload);
        let trailer = Trailer::decode(payload).map_err(|e| {
            self.input
                .damaged(format!("the trailer cannot be read ({e})"))
        })?;
        if trailer != self.order.counts {
            let Trailer { leases, keys, .. } = self.order.counts;
            return Err(self.input.damaged(format!(
                "it should hold {} keys and {} leases, and holds {keys} and {leases}",
                trailer.keys, trailer.leases
            )));
        }
        let padding = self.input.rest();
        if padding >= BLOCK {
            return Err(self.input.damaged("it goes on after its end"));
        }
        if self
            .input
            .take(padding as usize)?
            .iter()
            .any(|byte| *byte != 0)
        {
            return Err(self.input.damaged("the padding at its end is not empty"));
        }
        self.verified = Some(self.input.check_hash()?);
        Ok(())
    }
}

impl Source for Reader {
    fn header(&self) -> Header {
        self.header.clone()
    }

    fn next_lease(&mut self) -> Result<Option<Lease>> {
        let lease = self.next_message::<Lease>(Kind::Leases)?;
        if let Some(lease) = &lease {
            self.order
                .lease(lease)
                .map_err(|what| self.input.damaged(what))?;
        }
        Ok(lease)
    }

    fn next_key(&mut self) -> Result<Option<KeyValue>> {
        let key = self.next_message::<KeyValue>(Kind::Keys)?;
        if let Some(key) = &key {
            self.order
                .key(key)
                .map_err(|what| self.input.damaged(what))?;
        }
        Ok(key)
    }
}

/// The file read front to back, hashed on the way; the 32 bytes at its end are kept apart.
struct Input {
    file: Box<dyn File>,
    path: PathBuf,
    length: u64,
    offset: u64,
    hash: Sha256,
}

impl Input {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Input> {
        let how = Open {
            read: true,
            ..Open::default()
        };
        let file = disk
            .open(path, how)
            .map_err(BackupError::io("open", path))?;
        let length = file.len().map_err(BackupError::io("read", path))?;
        Ok(Input {
            file,
            path: path.to_owned(),
            length,
            offset: 0,
            hash: Sha256::new(),
        })
    }

    /// Recognises the file, and a cut-off one by its length.
    fn check_prologue(&mut self) -> Result<()> {
        if self.length < PROLOGUE_LEN as u64 {
            return Err(self.truncated(format!("it has only {} bytes", self.length)));
        }
        let mut start = [0; PROLOGUE_LEN];
        self.read_at(&mut start, 0)?;
        if start[..16] != MAGIC {
            let path = self.path.clone();
            return Err(match bbolt::is_database(&*self.file) {
                true => BackupError::IsEtcd { path },
                false => BackupError::NotABackup { path },
            });
        }
        if self.length % BLOCK != HASH_LEN {
            return Err(self.truncated("its end, with the hash, is missing".to_owned()));
        }
        let found = u32_at(&start, 16);
        if found == 0 || found > FORMAT {
            // Every format ends with the hash: tell a newer file from a damaged one.
            while self.rest() > 0 {
                self.take(self.rest().min(1 << 20) as usize)?;
            }
            self.check_hash()?;
            let (path, supported) = (self.path.clone(), FORMAT);
            return Err(BackupError::NewerFormat {
                path,
                found,
                supported,
            });
        }
        self.take(PROLOGUE_LEN).map(drop)
    }

    /// Bytes before the hash that have not been read.
    fn rest(&self) -> u64 {
        (self.length - HASH_LEN).saturating_sub(self.offset)
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length as u64 > self.rest() {
            return Err(self.truncated(format!("a record at byte {} has no end", self.offset)));
        }
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, self.offset)?;
        self.hash.update(&bytes);
        self.offset += length as u64;
        Ok(bytes.into())
    }

    fn check_hash(&mut self) -> Result<[u8; 32]> {
        let mut expected = [0; HASH_LEN as usize];
        self.read_at(&mut expected, self.length - HASH_LEN)?;
        let found: [u8; 32] = self.hash.finalize_reset().into();
        if found != expected {
            return Err(self.damaged(format!(
                "its content has sha256 {} and should have {}",
                hex32(&found),
                hex32(&expected)
            )));
        }
        Ok(found)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(BackupError::io("read", &self.path))
    }

    fn damaged(&self, what: impl Into<String>) -> BackupError {
        let (path, offset) = (self.path.clone(), self.offset);
        BackupError::Damaged {
            path,
            offset,
            what: what.into(),
        }
    }

    fn truncated(&self, what: String) -> BackupError {
        BackupError::Truncated {
            path: self.path.clone(),
            what,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
