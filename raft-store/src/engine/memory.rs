//! The engine in memory, for simulation and tests.
//!
//! A flush writes everything to one file through a [`Disk`], and opening reads that file: a
//! simulated crash loses exactly what was written since the last flush.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::{Buf, BufMut, Bytes};
use seams::Disk;

use super::tree::Tree;
use super::{Batch, Cursor, Engine, EngineError, Op, Space};

/// The dump: this, then per space the number of entries and the entries (length and bytes of key
/// and value, little endian), then the CRC32C of all that.
const MAGIC: &[u8; 8] = b"TRMEM\0\0\x01";
const FILE: &str = "engine";

type Spaces = [Tree<Bytes>; Space::ALL.len()];

/// Ordered maps in memory, dumped to `dir/engine`.
pub struct MemoryEngine {
    spaces: RwLock<Spaces>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Held while dumping: an older dump must not replace a newer one.
    flushing: Mutex<()>,
    dumped: AtomicU64,
}

impl MemoryEngine {
    /// Opens the directory as the last flush left it, or creates it empty.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<MemoryEngine, EngineError> {
        let file = dir.join(FILE);
        let mut dumped = 0;
        let spaces = if disk.exists(&file) {
            let bytes = disk.read(&file).map_err(failed("read", &file))?;
            dumped = bytes.len() as u64;
            load(Bytes::from(bytes))?
        } else {
            disk.create_dir_all(dir).map_err(failed("create", dir))?;
            Spaces::default()
        };
        Ok(MemoryEngine {
            spaces: RwLock::new(spaces),
            disk,
            dir: dir.to_path_buf(),
            flushing: Mutex::new(()),
            dumped: AtomicU64::new(dumped),
        })
    }

    fn spaces(&self) -> Spaces {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.clone()
    }

    fn dump_to(&self, dir: &Path, spaces: &Spaces) -> Result<(), EngineError> {
        let file = dir.join(FILE);
        let bytes = dump(spaces);
        self.disk
            .write_atomic(&file, &bytes)
            .map_err(failed("write", &file))?;
        self.dumped.store(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        Ok(spaces[space as usize].get(key).cloned())
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        for (space, op) in batch.ops() {
            let tree = &mut spaces[space as usize];
            match op {
                Op::Put(key, value) => tree.insert(key, Bytes::copy_from_slice(value)),
                Op::Delete(key) | Op::DeleteOnce(key) => tree.remove(key),
            };
        }
        Ok(())
    }

    fn cursor(&self, space: Space) -> Box<dyn Cursor + '_> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(MemoryCursor {
            tree: spaces[space as usize].clone(),
            here: None,
        })
    }

    fn flush(&self) -> Result<(), EngineError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.dump_to(&self.dir, &self.spaces())
    }

    fn checkpoint(
        &self,
        dir: &Path,
        keys: &[(Space, &[u8])],
    ) -> Result<Vec<Option<Bytes>>, EngineError> {
        let spaces = self.spaces();
        self.disk
            .create_dir_all(dir)
            .map_err(failed("create", dir))?;
        self.dump_to(dir, &spaces)?;
        let value = |(space, key): &(Space, &[u8])| spaces[*space as usize].get(key).cloned();
        Ok(keys.iter().map(value).collect())
    }

    fn is_congested(&self) -> bool {
        false
    }

    fn disk_bytes(&self) -> u64 {
        self.dumped.load(Ordering::Relaxed)
    }
}

struct MemoryCursor {
    tree: Tree<Bytes>,
    here: Option<(Vec<u8>, Bytes)>,
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) {
        let found = self.tree.range(key, None).next();
        self.here = found.map(|(key, value)| (key.to_vec(), value.clone()));
    }

    fn next(&mut self) {
        if let Some((mut key, _)) = self.here.take() {
            // The lowest key above this one.
            key.push(0);
            self.seek(&key);
        }
    }

    fn entry(&self) -> Result<Option<(&[u8], &[u8])>, EngineError> {
        Ok(self
            .here
            .as_ref()
            .map(|(key, value)| (&key[..], &value[..])))
    }
}

fn dump(spaces: &Spaces) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for tree in spaces {
        out.put_u64_le(tree.len() as u64);
        for (key, value) in tree.iter() {
            out.put_u32_le(key.len() as u32);
            out.put_slice(key);
            out.put_u32_le(value.len() as u32);
            out.put_slice(value);
        }
    }
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

fn load(mut bytes: Bytes) -> Result<Spaces, EngineError> {
    let corrupt = |detail: &str| EngineError::Corrupt {
        space: "dump",
        detail: detail.into(),
    };
    if bytes.len() < MAGIC.len() + 4 || bytes[..MAGIC.len()] != *MAGIC {
        return Err(corrupt("it is not a dump of this format"));
    }
    let sum = bytes.split_off(bytes.len() - 4).get_u32_le();
    if crc32c::crc32c(&bytes) != sum {
        return Err(corrupt("its checksum is wrong"));
    }
    bytes.advance(MAGIC.len());
    let mut spaces = Spaces::default();
    for tree in &mut spaces {
        let count = bytes
            .try_get_u64_le()
            .map_err(|_| corrupt("it ends early"))?;
        let entries = (0..count)
            .map(|_| Some((field(&mut bytes)?, field(&mut bytes)?)))
            .collect::<Option<Vec<_>>>();
        *tree = Tree::from_sorted(entries.ok_or_else(|| corrupt("it ends early"))?);
    }
    Ok(spaces)
}

fn field(bytes: &mut Bytes) -> Option<Bytes> {
    let len = bytes.try_get_u32_le().ok()? as usize;
    (len <= bytes.len()).then(|| bytes.split_to(len))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.display().to_string();
    move |source| EngineError::Io {
        operation,
        path,
        source,
    }
}
