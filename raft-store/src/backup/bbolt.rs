//! A read-only reader of bbolt databases, enough for etcd's.
//!
//! # The file (little-endian, as etcd writes on every platform it supports)
//!
//! An array of pages of one size (the writer's memory page: 4 KiB, 16 KiB on some machines,
//! 64 KiB on others). A page starts with 16 bytes: id u64, flags u16, count u16, overflow u32
//! (how many further pages belong to it). Pages 0 and 1 are the two metas; the valid one with the
//! higher transaction id counts.
//!
//! ```text
//! meta    magic u32 = 0xED0CDAED, version u32 = 2, page size u32, flags u32,
//!         root bucket (page u64, sequence u64), freelist page u64, number of pages u64,
//!         transaction u64, FNV-1a 64 of the 56 bytes before it u64
//! branch  count × (position u32, key length u32, child page u64), then the keys
//! leaf    count × (flags u32, position u32, key length u32, value length u32), then the data
//! ```
//!
//! Positions count from the start of their own element. A leaf element with flag 1 is a bucket:
//! its value is a root page and a sequence; root page 0 means that a page follows right there.
//! The freelist is of no interest to a reader.
//!
//! Nothing in the file is trusted: every offset is checked, each page is visited once per walk,
//! and keys must ascend. A malformed file gives an error, never a panic or a loop, and no page is
//! read into memory that is larger than `PAGE_LIMIT`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use seams::File;

use crate::backup::{BackupError, Result};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_HEAD: usize = 16;
const META_LEN: usize = 64;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const BUCKET_FLAG: u32 = 0x01;
/// A bucket in a leaf: root page and sequence.
const BUCKET_HEAD: usize = 16;
/// A page with its overflow holds at least one value, and etcd refuses requests far below this.
const PAGE_LIMIT: u64 = 256 << 20;
/// etcd's trees are a handful of levels deep; a deeper one is damage.
const MAX_DEPTH: usize = 64;

/// Whether a file looks like a bbolt database.
pub(crate) fn is_database(file: &dyn File) -> bool {
    let mut magic = [0; 4];
    let read = file.read_exact_at(&mut magic, PAGE_HEAD as u64);
    read.is_ok() && u32::from_le_bytes(magic) == MAGIC
}

/// An open database at its last committed transaction.
pub struct Database {
    file: Box<dyn File>,
    path: PathBuf,
    page_size: u64,
    pages: u64,
    root: u64,
    transaction: u64,
}

/// A bucket of the root.
pub struct Bucket {
    root: Root,
}

enum Root {
    Page(u64),
    Inline(Bytes),
}

/// Where an entry is, to read it again without a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    page: u64,
    element: u16,
}

/// The place's page for an entry of an inline bucket, which has no page of its own.
const NO_PAGE: u64 = u64::MAX;

/// One key and value. Slices of their page.
pub struct Item {
    /// The key, never empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    flags: u32,
}

impl Database {
    /// Opens the database in the first `length` bytes of a file (what follows is not part of it).
    pub fn open(file: Box<dyn File>, path: &Path, length: u64) -> Result<Database> {
        let meta = newest_meta(&*file, length).ok_or_else(|| BackupError::NotEtcd {
            path: path.to_owned(),
            what: "it has no valid header page".to_owned(),
        })?;
        let database = Database {
            file,
            path: path.to_owned(),
            page_size: u64::from(meta.page_size),
            pages: meta.pages,
            root: meta.root,
            transaction: meta.transaction,
        };
        match meta.pages.checked_mul(database.page_size) {
            Some(needed) if needed <= length => Ok(database),
            needed => Err(database.damaged(format!(
                "it should have at least {} bytes and has {length}: it was cut off",
                needed.unwrap_or(u64::MAX)
            ))),
        }
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The id of the last committed transaction.
    pub fn transaction(&self) -> u64 {
        self.transaction
    }

    /// Finds a bucket of the root by name.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>> {
        let mut found = None;
        self.walk(
            &Bucket {
                root: Root::Page(self.root),
            },
            |_, item| {
                if item.flags & BUCKET_FLAG != 0 && item.key == name {
                    found = Some(item.value);
                }
                Ok(())
            },
        )?;
        let Some(value) = found else { return Ok(None) };
        let root = self.field(&value, 0).map(u64::from_le_bytes)?;
        let root = match root {
            0 => Root::Inline(value.slice(BUCKET_HEAD.min(value.len())..)),
            page => Root::Page(page),
        };
        Ok(Some(Bucket { root }))
    }

    /// Calls `visit` with every entry of a bucket in the order of the keys.
    pub fn walk(
        &self,
        bucket: &Bucket,
        mut visit: impl FnMut(Place, Item) -> Result<()>,
    ) -> Result<()> {
        let mut stack = match &bucket.root {
            Root::Page(page) => vec![*page],
            Root::Inline(page) => return self.walk_leaf(NO_PAGE, page, &mut None, &mut visit),
        };
        let mut seen = vec![0u64; (self.pages / 64) as usize + 1];
        let mut last = None;
        // How many children of each branch on the way down are still on the stack.
        let mut open: Vec<usize> = Vec::new();
        while let Some(id) = stack.pop() {
            while let Some(0) = open.last() {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if open.len() > MAX_DEPTH {
                return Err(self.damaged(format!("its tree is deeper than {MAX_DEPTH} levels")));
            }
            let page = self.page(id)?;
            let (word, bit) = (&mut seen[(id / 64) as usize], 1 << (id % 64));
            if *word & bit != 0 {
                return Err(self.damaged(format!("page {id} is used twice")));
            }
            *word |= bit;
            match self.u16(&page, 8)? {
                LEAF => self.walk_leaf(id, &page, &mut last, &mut visit)?,
                BRANCH => {
                    let children = self.children(id, &page)?;
                    open.push(children.len());
                    stack.extend(children.into_iter().rev());
                }
                flags => {
                    return Err(self.damaged(format!("page {id} has the unknown type {flags:#x}")));
                }
            }
        }
        Ok(())
    }

    /// Reads one entry of a bucket again.
    pub fn item(&self, bucket: &Bucket, place: Place) -> Result<Item> {
        let page = match &bucket.root {
            Root::Inline(page) if place.page == NO_PAGE => page.clone(),
            _ => self.page(place.page)?,
        };
        self.leaf_item(&page, place)
    }

    fn walk_leaf(
        &self,
        id: u64,
        page: &Bytes,
        last: &mut Option<Bytes>,
        visit: &mut impl FnMut(Place, Item) -> Result<()>,
    ) -> Result<()> {
        if self.u16(page, 8)? != LEAF {
            return Err(self.damaged("a small bucket is not a leaf page"));
        }
        for element in 0..self.u16(page, 10)? {
            let place = Place { page: id, element };
            let item = self.leaf_item(page, place)?;
            if item.key.is_empty() || last.as_ref().is_some_and(|last| *last >= item.key) {
                return Err(self.damaged(format!("the keys of page {id} are out of order")));
            }
            *last = Some(item.key.clone());
            visit(place, item)?;
        }
        Ok(())
    }

    fn leaf_item(&self, page: &Bytes, place: Place) -> Result<Item> {
        if self.u16(page, 8)? != LEAF || place.element >= self.u16(page, 10)? {
            return Err(self.damaged("an entry moved while the file was read"));
        }
        let at = PAGE_HEAD + usize::from(place.element) * 16;
        let word = |offset: usize| self.field(page, at + offset).map(u32::from_le_bytes);
        let (flags, position) = (word(0)?, word(4)? as usize);
        let (key_len, value_len) = (word(8)? as usize, word(12)? as usize);
        let key_at = at + position;
        let key = self.slice(page, key_at, key_len)?;
        let value = self.slice(page, key_at + key_len, value_len)?;
        Ok(Item { key, value, flags })
    }

    fn children(&self, id: u64, page: &Bytes) -> Result<Vec<u64>> {
        let count = self.u16(page, 10)?;
        if count == 0 {
            return Err(self.damaged(format!("branch page {id} is empty")));
        }
        (0..usize::from(count))
            .map(|i| {
                self.field(page, PAGE_HEAD + i * 16 + 8)
                    .map(u64::from_le_bytes)
            })
            .collect()
    }

    /// Reads a page with its overflow.
    fn page(&self, id: u64) -> Result<Bytes> {
        if id < 2 || id >= self.pages {
            return Err(self.damaged(format!("it refers to page {id} of {}", self.pages)));
        }
        let offset = id * self.page_size;
        // Nearly every page stands alone: read one page first, more only when it says so.
        let mut page = vec![0; self.page_size as usize];
        self.read(&mut page, offset)?;
        let head = Bytes::copy_from_slice(&page[..PAGE_HEAD]);
        let stored = self.field(&head, 0).map(u64::from_le_bytes)?;
        if stored != id {
            return Err(self.damaged(format!("page {id} says that it is page {stored}")));
        }
        let overflow = u64::from(self.field(&head, 12).map(u32::from_le_bytes)?);
        if overflow > 0 {
            if overflow >= self.pages - id || (overflow + 1) * self.page_size > PAGE_LIMIT {
                return Err(self.damaged(format!("page {id} runs past the end")));
            }
            page.resize(((overflow + 1) * self.page_size) as usize, 0);
            let first = self.page_size as usize;
            self.read(&mut page[first..], offset + self.page_size)?;
        }
        Ok(page.into())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(BackupError::io("read", &self.path))
    }

    fn slice(&self, page: &Bytes, at: usize, length: usize) -> Result<Bytes> {
        match at.checked_add(length) {
            Some(end) if end <= page.len() => Ok(page.slice(at..end)),
            _ => Err(self.damaged("an entry runs past its page")),
        }
    }

    fn field<const N: usize>(&self, page: &Bytes, at: usize) -> Result<[u8; N]> {
        page.get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.damaged("an entry runs past its page"))
    }

    fn u16(&self, page: &Bytes, at: usize) -> Result<u16> {
        self.field(page, at).map(u16::from_le_bytes)
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> BackupError {
        BackupError::EtcdDamaged {
            path: self.path.clone(),
            what: what.into(),
        }
    }
}

struct Meta {
    page_size: u32,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// The valid meta with the highest transaction. The second one stands on page 1, whose place
/// depends on the page size: every size that bbolt can have used is tried.
fn newest_meta(file: &dyn File, length: u64) -> Option<Meta> {
    let sizes = (0..=14).map(|shift| 1024 << shift);
    let candidates = std::iter::once((0, None)).chain(sizes.map(|size| (size, Some(size))));
    candidates
        .take_while(|(offset, _)| offset + ((PAGE_HEAD + META_LEN) as u64) <= length)
        .filter_map(|(offset, size)| {
            let meta = read_meta(file, offset)?;
            // A meta found by trial must be where its own page size puts it.
            let in_place = size.is_none_or(|size| u64::from(meta.page_size) == size);
            in_place.then_some(meta)
        })
        .max_by_key(|meta| meta.transaction)
}

fn read_meta(file: &dyn File, offset: u64) -> Option<Meta> {
    let mut raw = [0; META_LEN];
    file.read_exact_at(&mut raw, offset + PAGE_HEAD as u64)
        .ok()?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?));
    let page_size = u32_at(8)?;
    let valid = u32_at(0)? == MAGIC
        && u32_at(4)? == VERSION
        && u64_at(56)? == fnv1a(&raw[..56])
        && page_size.is_power_of_two()
        && (1024..=16 << 20).contains(&page_size);
    valid.then_some(Meta {
        page_size,
        root: u64_at(16)?,
        pages: u64_at(40)?,
        transaction: u64_at(48)?,
    })
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
