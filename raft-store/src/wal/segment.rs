//! The files of the log: segments in use, spares to use next, and their headers.
//!
//! `0000000001.wal` and following are the segments, oldest first; `spare-…` are zeroed or recycled
//! files that become segments by a new header and a rename; `….tmp` are unfinished and removed at
//! the next start. A segment's header and first records are durable before it gets its name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seams::{Disk, File, Open};

use super::record::u32_at;

/// The format that this program writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

/// Where the first record of a segment starts: the header has a disk block to itself, so that no
/// later write can tear it.
pub(super) const FIRST: u32 = 512;

/// The size of the first segment of a new log: small, so that a new member starts at once.
pub(super) const INITIAL_BYTES: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"TRIWAL\r\n";
/// The checksum's place. Bytes 0..64 mean the same in every format, to recognize a newer one.
const CHECKSUM_AT: usize = 60;

/// What a segment's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts up by one from segment to segment.
    pub(super) sequence: u32,
    /// Tells this use of the file from earlier ones.
    pub(super) salt: u64,
    /// The length of the file.
    pub(super) capacity: u32,
    /// The end of the records that were durable before the segment got its name.
    pub(super) head_end: u32,
}

/// Why a file's first bytes are no header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged,
    Newer(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; FIRST as usize] {
        let mut bytes = [0; FIRST as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.head_end.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderFault> {
        let bytes = bytes.get(..FIRST as usize).ok_or(HeaderFault::Damaged)?;
        let sound = bytes[..8] == *MAGIC
            && crc32c::crc32c(&bytes[..CHECKSUM_AT]) == u32_at(bytes, CHECKSUM_AT);
        if !sound {
            return Err(HeaderFault::Damaged);
        }
        let format = u32_at(bytes, 8);
        if format > FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        Ok(Header {
            sequence: u32_at(bytes, 12),
            salt: u64::from(u32_at(bytes, 16)) | u64::from(u32_at(bytes, 20)) << 32,
            capacity: u32_at(bytes, 24),
            head_end: u32_at(bytes, 28),
        })
    }

    /// What the first record is chained to.
    pub(super) fn checksum(&self) -> u32 {
        u32_at(&self.encode(), CHECKSUM_AT)
    }
}

/// A segment that can be read.
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
}

/// The log's directory.
pub(super) struct Directory {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
}

/// What is in the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Sequence numbers, ascending.
    pub(super) segments: Vec<u32>,
    /// File names.
    pub(super) spares: Vec<String>,
    /// File names.
    pub(super) unfinished: Vec<String>,
}

impl Directory {
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for name in self.disk.read_dir(&self.path)? {
            if let Some(sequence) = name.strip_suffix(".wal").and_then(|n| n.parse().ok()) {
                listing.segments.push(sequence);
            } else if name.ends_with(".tmp") {
                listing.unfinished.push(name);
            } else if name.starts_with("spare-") {
                listing.spares.push(name);
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }

    pub(super) fn segment_path(&self, sequence: u32) -> PathBuf {
        self.path.join(format!("{sequence:010}.wal"))
    }

    pub(super) fn spare_name(sequence: u32) -> String {
        format!("spare-{sequence:010}")
    }

    /// Writes a file of zeros and makes it durable under `name`.
    ///
    /// Zeros written ahead make later writes overwrites, whose fdatasync commits no metadata.
    pub(super) fn create_zeroed(&self, name: &str, bytes: u64) -> io::Result<PathBuf> {
        const CHUNK: usize = 256 << 10;
        let temporary = self.path.join(format!("{name}.tmp"));
        let path = self.path.join(name);
        {
            let file = self.disk.open(&temporary, Open::REPLACE)?;
            let zeros = vec![0; CHUNK.min(bytes as usize)];
            let mut at = 0;
            while at < bytes {
                let n = (bytes - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..n as usize], at)?;
                at += n;
            }
            file.sync_all()?;
        }
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.path)?;
        Ok(path)
    }

    /// Turns a spare into a segment: `head` are its first records, in place right after the header.
    pub(super) fn install(
        &self,
        spare: &Path,
        header: Header,
        head: &[u8],
    ) -> io::Result<Arc<Segment>> {
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(head);
        {
            let file = self.disk.open(spare, Open::EDIT)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
        }
        let path = self.segment_path(header.sequence);
        self.disk.rename(spare, &path)?;
        self.disk.sync_dir(&self.path)?;
        // Opened under its final name: turmoil's open files follow names.
        let file = self.disk.open(&path, Open::EDIT)?;
        Ok(Arc::new(Segment { header, path, file }))
    }

    /// Removes a file of the directory, durably.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)?;
        self.disk.sync_dir(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        sequence: 3,
        salt: 0x1122_3344_5566_7788,
        capacity: 65536,
        head_end: 512,
    };

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&HEADER.encode()), Ok(HEADER));
    }

    #[test]
    fn a_damaged_header_is_refused() {
        for at in 0..64 {
            let mut bytes = HEADER.encode();
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), Err(HeaderFault::Damaged), "{at}");
        }
        let short = &HEADER.encode()[..100];
        assert_eq!(Header::decode(short), Err(HeaderFault::Damaged));
    }

    #[test]
    fn a_newer_format_is_recognized() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]).to_le_bytes();
        bytes[CHECKSUM_AT..64].copy_from_slice(&checksum);
        assert_eq!(Header::decode(&bytes), Err(HeaderFault::Newer(2)));
    }
}
