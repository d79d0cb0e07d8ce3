//! The model behind the fault disk: inodes, names, and what of them is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{BLOCK, Counts};
use crate::disk::parent;
use crate::rng::{Rng, SeededRng};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

pub(super) type Names = BTreeMap<PathBuf, Node>;

#[derive(Default)]
pub(super) struct Inode {
    /// What a reader sees.
    pub(super) current: Vec<u8>,
    /// What is on the platter.
    pub(super) durable: Vec<u8>,
    /// Blocks on their way to the platter.
    pub(super) dirty: BTreeSet<usize>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

pub(super) struct World {
    pub(super) rng: SeededRng,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// Not durable yet, in order.
    pub(super) changes: Vec<NameChange>,
    /// Open files of an earlier life are dead.
    pub(super) life: u64,
    pub(super) down: bool,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) counts: Counts,
    pub(super) crash_at: Option<u64>,
    pub(super) failing_sync: Option<u64>,
    pub(super) failing_write: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) latency: Option<Duration>,
}

pub(super) fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

pub(super) fn power_failed() -> io::Error {
    io::Error::other("the power has failed")
}

/// As the kernel reports a bad disk.
pub(super) fn disk_failed() -> io::Error {
    io::Error::from_raw_os_error(nix::errno::Errno::EIO as i32)
}

impl World {
    /// An empty disk.
    pub(super) fn new(seed: u64) -> World {
        let root = Names::from([(PathBuf::from("/"), Node::Directory)]);
        World {
            rng: SeededRng::new(seed),
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: root.clone(),
            durable_names: root,
            changes: Vec::new(),
            life: 0,
            down: false,
            locks: BTreeSet::new(),
            counts: Counts::default(),
            crash_at: None,
            failing_sync: None,
            failing_write: None,
            capacity: None,
            latency: None,
        }
    }

    /// Counts a change. Whether the power fails in it: the caller does what is not durable by
    /// itself, and answers with the error.
    pub(super) fn change(&mut self) -> io::Result<bool> {
        self.check_up()?;
        self.counts.changes += 1;
        self.down = self.crash_at == Some(self.counts.changes);
        Ok(self.down)
    }

    pub(super) fn check_up(&self) -> io::Result<()> {
        if self.down {
            return Err(power_failed());
        }
        Ok(())
    }

    pub(super) fn restart(&mut self) {
        self.life += 1;
        self.down = false;
        self.locks.clear();
        self.crash_at = None;
        self.failing_sync = None;
        self.failing_write = None;
    }

    pub(super) fn crash(&mut self) {
        let survivors = match self.rng.below(3) {
            0 => 0,
            1 => self.changes.len() as u64,
            _ => self.rng.below(self.changes.len() as u64 + 1),
        };
        let changes = std::mem::take(&mut self.changes);
        for change in changes.iter().take(survivors as usize) {
            apply(&mut self.durable_names, change);
        }
        let known = self.durable_names.clone();
        let reachable = |path: &PathBuf| {
            let mut above = path.ancestors().skip(1);
            above.all(|above| known.get(above) == Some(&Node::Directory))
        };
        self.durable_names.retain(|path, _| reachable(path));
        self.names = self.durable_names.clone();

        let used: BTreeSet<u64> = self.names.values().filter_map(Node::inode).collect();
        self.inodes.retain(|id, _| used.contains(id));
        let chance = match self.rng.below(4) {
            0 => 0,
            1 => 100,
            _ => 1 + self.rng.below(99),
        };
        for inode in self.inodes.values_mut() {
            inode.crash(&self.rng, chance);
        }
        self.restart();
    }

    pub(super) fn set_name(&mut self, change: NameChange) -> io::Result<()> {
        let failing = self.change()?;
        apply(&mut self.names, &change);
        self.changes.push(change);
        if failing { Err(power_failed()) } else { Ok(()) }
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match self.names.get(&parent(path)) {
            Some(Node::Directory) => Ok(()),
            _ => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    pub(super) fn inode_at(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let inode = self.names.get(path).and_then(Node::inode);
        inode
            .and_then(|id| self.inodes.get_mut(&id))
            .ok_or_else(|| error(io::ErrorKind::NotFound, path))
    }

    pub(super) fn used(&self) -> u64 {
        let inodes: BTreeSet<u64> = self.names.values().filter_map(Node::inode).collect();
        let sizes = inodes.iter().filter_map(|id| self.inodes.get(id));
        sizes.map(|inode| inode.current.len() as u64).sum()
    }

    pub(super) fn reserve(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Sets the length of a file.
    pub(super) fn resize(&mut self, id: u64, len: u64) -> io::Result<()> {
        let old = self.inode(id)?.current.len() as u64;
        self.reserve(len.saturating_sub(old))?;
        let failing = self.change()?;
        let inode = self.inode(id)?;
        let (least, most) = (old.min(len) as usize, old.max(len) as usize);
        inode.current.resize(len as usize, 0);
        inode.dirty.extend(least / BLOCK..most.div_ceil(BLOCK));
        if failing { Err(power_failed()) } else { Ok(()) }
    }

    pub(super) fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        let inode = self.inodes.get_mut(&id);
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn write(&mut self, id: u64, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let begin = offset as usize;
        let end = begin + bytes.len();
        let len = self.inode(id)?.current.len();
        self.reserve(end.saturating_sub(len) as u64)?;
        self.counts.writes += 1;
        let failing = self.change()?;
        let bad = self.failing_write == Some(self.counts.writes);
        let done = if bad {
            self.rng.below(bytes.len() as u64) as usize
        } else {
            bytes.len()
        };
        let end = begin + done;
        let inode = self.inode(id)?;
        if inode.current.len() < end {
            inode.current.resize(end, 0);
        }
        inode.current[begin..end].copy_from_slice(&bytes[..done]);
        inode
            .dirty
            .extend(begin.min(len) / BLOCK..end.div_ceil(BLOCK));
        match (failing, bad) {
            (true, _) => Err(power_failed()),
            (_, true) => Err(disk_failed()),
            _ => Ok(done),
        }
    }

    pub(super) fn sync(&mut self, id: u64) -> io::Result<()> {
        self.counts.syncs += 1;
        if self.change()? {
            // What is dirty is in flight: the crash decides.
            return Err(power_failed());
        }
        let bad = self.failing_sync == Some(self.counts.syncs);
        let inode = self.inode(id)?;
        let dirty = std::mem::take(&mut inode.dirty);
        if bad {
            return Err(disk_failed());
        }
        inode.settle(&dirty);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.counts.dir_syncs += 1;
        if self.change()? {
            return Err(power_failed());
        }
        if self.names.get(path) != Some(&Node::Directory) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        // A journal is flushed as a whole, but code must not rely on that.
        let (flushed, kept) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(|change| change.touches(path));
        self.changes = kept;
        let flushed: Vec<NameChange> = flushed;
        for change in &flushed {
            apply(&mut self.durable_names, change);
        }
        Ok(())
    }
}

impl Node {
    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        }
    }
}

impl NameChange {
    /// Whether syncing a directory makes this durable.
    pub(super) fn touches(&self, directory: &Path) -> bool {
        match self {
            NameChange::Set(path, Node::Directory) => {
                parent(path) == directory || path == directory
            }
            NameChange::Set(path, _) | NameChange::Remove(path) => parent(path) == directory,
            NameChange::Rename(from, to) => parent(from) == directory || parent(to) == directory,
        }
    }
}

pub(super) fn apply(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        NameChange::Rename(from, to) => {
            let moved: Vec<_> = names
                .extract_if(.., |name, _| name.starts_with(from))
                .collect();
            for (name, node) in moved {
                let below = name.strip_prefix(from).unwrap_or(Path::new(""));
                let new = if below.as_os_str().is_empty() {
                    to.clone()
                } else {
                    to.join(below)
                };
                names.insert(new, node);
            }
        }
    }
}

impl Inode {
    /// Brings blocks to the platter, and the length.
    pub(super) fn settle(&mut self, blocks: &BTreeSet<usize>) {
        self.durable.resize(self.current.len(), 0);
        for block in blocks {
            let begin = (block * BLOCK).min(self.current.len());
            let end = (begin + BLOCK).min(self.current.len());
            self.durable[begin..end].copy_from_slice(&self.current[begin..end]);
        }
    }

    /// Each dirty block survives with `chance` percent.
    pub(super) fn crash(&mut self, rng: &SeededRng, chance: u64) {
        let dirty = std::mem::take(&mut self.dirty);
        let blocks: BTreeSet<usize> = dirty
            .into_iter()
            .filter(|_| rng.below(100) < chance)
            .collect();
        if !blocks.is_empty() {
            self.settle(&blocks);
        }
        self.current = self.durable.clone();
    }
}
