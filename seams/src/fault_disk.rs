//! A disk in memory that crashes, tears, fills up, fails and rots on demand, by seed.
//!
//! Stricter than turmoil's: a crash can fall on any single operation, every un-synced 512-byte
//! block survives or not on its own, open files follow their inode, and a failed sync leaves pages
//! that look clean but are not on disk, as Linux does.
//!
//! What the model takes for granted: a block is written whole or not at all, and names (creation,
//! rename, removal) reach the disk in the order in which they were made, as on a journaling file
//! system.

mod world;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, File, Open};
use world::{Inode, NameChange, Node, World, error, power_failed};

/// What the disk writes at once.
pub const BLOCK: usize = 512;

/// A disk in memory with faults. Clones are the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    world: Arc<Mutex<World>>,
}

/// How often the disk was asked to do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
    /// Everything that a crash can fall on: the above, changes of length and changes of names.
    pub changes: u64,
}

impl FaultDisk {
    /// An empty disk whose crashes follow the seed.
    pub fn new(seed: u64) -> FaultDisk {
        let world = World::new(seed);
        FaultDisk {
            world: Arc::new(Mutex::new(world)),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails and comes back: what was not synced is there, or not, or in parts. Clears
    /// the planned faults; files that are open are dead.
    pub fn crash(&self) {
        self.world().crash();
    }

    /// The process is killed and the machine goes on: nothing is lost, locks are free.
    pub fn kill(&self) {
        self.world().restart();
    }

    /// Lets the power fail in the middle of the `changes`-th change from now. From then on
    /// everything fails until [`crash`](FaultDisk::crash).
    pub fn crash_after(&self, changes: u64) {
        let mut world = self.world();
        world.crash_at = Some(world.counts.changes + changes.max(1));
    }

    /// Whether the power has failed.
    pub fn is_down(&self) -> bool {
        self.world().down
    }

    /// Lets the `syncs`-th sync of a file from now fail with EIO. The data stays readable and
    /// looks clean: a later sync succeeds without writing it.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut world = self.world();
        world.failing_sync = Some(world.counts.syncs + syncs.max(1));
    }

    /// Lets the `writes`-th write from now fail with EIO, after a part of it.
    pub fn fail_write_after(&self, writes: u64) {
        let mut world = self.world();
        world.failing_write = Some(world.counts.writes + writes.max(1));
    }

    /// Limits the bytes of all files; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// What [`Disk::latency`] answers.
    pub fn set_latency(&self, latency: Option<Duration>) {
        self.world().latency = latency;
    }

    /// Flips a bit of a byte of a file, on the platter and for readers.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.inode_at(path)?;
        let at = offset as usize;
        for bytes in [&mut inode.current, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.world().counts
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut world = self.world();
        world.check_up()?;
        world.check_parent(path)?;
        let id = match world.names.get(path) {
            Some(Node::Directory) => return Err(error(io::ErrorKind::IsADirectory, path)),
            Some(Node::File(_)) if how.create_new => {
                return Err(error(io::ErrorKind::AlreadyExists, path));
            }
            Some(Node::File(id)) => {
                let id = *id;
                if how.truncate {
                    world.resize(id, 0)?;
                }
                id
            }
            None if how.create || how.create_new => {
                let id = world.next_inode;
                world.next_inode += 1;
                world.inodes.insert(id, Inode::default());
                world.set_name(NameChange::Set(path.to_path_buf(), Node::File(id)))?;
                id
            }
            None => return Err(error(io::ErrorKind::NotFound, path)),
        };
        Ok(Box::new(FaultFile {
            world: Arc::clone(&self.world),
            life: world.life,
            id,
            writable: how.write,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.check_up()?;
        let above: Vec<_> = path.ancestors().collect();
        for directory in above.into_iter().rev() {
            match world.names.get(directory) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(error(io::ErrorKind::NotADirectory, path)),
                None => {
                    let name = directory.to_path_buf();
                    world.set_name(NameChange::Set(name, Node::Directory))?;
                }
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        world.check_up()?;
        if world.names.get(path) != Some(&Node::Directory) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        let children = world
            .names
            .keys()
            .filter(|name| name.parent() == Some(path));
        Ok(children
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.check_up()?;
        world.check_parent(to)?;
        if !world.names.contains_key(from) {
            return Err(error(io::ErrorKind::NotFound, from));
        }
        world.set_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf()))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.check_up()?;
        world.inode_at(path)?;
        world.set_name(NameChange::Remove(path.to_path_buf()))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.check_up()?;
        if world.names.get(path) != Some(&Node::Directory) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        world.set_name(NameChange::Remove(path.to_path_buf()))
    }

    fn exists(&self, path: &Path) -> bool {
        self.world().names.contains_key(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.world().sync_dir(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.check_up()?;
        world.check_parent(to)?;
        let Some(node @ Node::File(_)) = world.names.get(from).copied() else {
            return Err(error(io::ErrorKind::NotFound, from));
        };
        if world.names.contains_key(to) {
            return Err(error(io::ErrorKind::AlreadyExists, to));
        }
        world.set_name(NameChange::Set(to.to_path_buf(), node))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut world = self.world();
        world.check_up()?;
        if !world.locks.insert(path.to_path_buf()) {
            return Err(error(io::ErrorKind::WouldBlock, path));
        }
        Ok(Box::new(Lock {
            world: Arc::clone(&self.world),
            life: world.life,
            path: path.to_path_buf(),
        }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.world();
        world.check_up()?;
        let capacity = world.capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(world.used()))
    }

    fn latency(&self) -> Option<Duration> {
        self.world().latency
    }
}

struct Lock {
    world: Arc<Mutex<World>>,
    life: u64,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        if world.life == self.life {
            world.locks.remove(&self.path);
        }
    }
}

struct FaultFile {
    world: Arc<Mutex<World>>,
    life: u64,
    id: u64,
    writable: bool,
}

impl FaultFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.check_up()?;
        if world.life != self.life {
            return Err(power_failed());
        }
        Ok(world)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, World>> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.world()
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        let bytes = &world.inode(self.id)?.current;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.writable()?.write(self.id, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.world()?.sync(self.id)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.world()?.sync(self.id)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.resize(self.id, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut world = self.writable()?;
        let old = world.inode(self.id)?.current.len() as u64;
        if len > old {
            world.resize(self.id, len)
        } else {
            Ok(())
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.world()?.inode(self.id)?.current.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn file(disk: &FaultDisk, name: &str) -> Box<dyn File> {
        disk.open(Path::new(name), Open::REPLACE).unwrap()
    }

    #[test]
    fn what_was_synced_survives_a_crash() {
        for seed in 0..50 {
            let disk = FaultDisk::new(seed);
            file(&disk, "/a").write_all_at(&[1; 2000], 0).unwrap();
            let synced = disk.open(Path::new("/a"), Open::EDIT).unwrap();
            synced.sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            synced.write_all_at(&[2; 2000], 1000).unwrap();
            disk.crash();
            let bytes = disk.read(Path::new("/a")).unwrap();
            assert!(
                bytes.len() >= 2000 && bytes[..512] == [1; 512],
                "seed {seed}"
            );
            assert!(
                synced.sync_data().is_err(),
                "an open file outlived the crash"
            );
        }
    }

    #[test]
    fn what_was_not_synced_is_lost_kept_or_torn() {
        let mut kinds = BTreeSet::new();
        for seed in 0..100 {
            let disk = FaultDisk::new(seed);
            let a = file(&disk, "/a");
            a.write_all_at(&[0; 2048], 0).unwrap();
            a.sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            a.write_all_at(&[1; 2048], 0).unwrap();
            disk.crash();
            let bytes = disk.read(Path::new("/a")).unwrap();
            let blocks: Vec<u8> = bytes.chunks(BLOCK).map(|block| block[0]).collect();
            for (block, first) in bytes.chunks(BLOCK).zip(&blocks) {
                assert!(block.iter().all(|byte| byte == first), "a torn block");
            }
            kinds.insert(blocks);
        }
        assert!(kinds.contains(&vec![0; 4]) && kinds.contains(&vec![1; 4]));
        assert!(kinds.len() > 6, "{kinds:?}");
    }

    #[test]
    fn a_name_needs_its_directory_synced() {
        let survived = |sync: bool| {
            (0..50).filter(move |seed| {
                let disk = FaultDisk::new(*seed);
                file(&disk, "/new").sync_all().unwrap();
                if sync {
                    disk.sync_dir(Path::new("/")).unwrap();
                }
                disk.crash();
                disk.exists(Path::new("/new"))
            })
        };
        assert_eq!(survived(true).count(), 50);
        assert!((1..50).contains(&survived(false).count()));
    }

    #[test]
    fn write_atomic_gives_the_old_or_the_new_at_any_crash() {
        let path = Path::new("/dir/identity");
        for seed in 0..50 {
            for at in 1..10 {
                let disk = FaultDisk::new(seed);
                disk.create_dir_all(Path::new("/dir")).unwrap();
                disk.sync_dir(Path::new("/")).unwrap();
                disk.write_atomic(path, &[1; 700]).unwrap();
                disk.crash_after(at);
                let done = disk.write_atomic(path, &[2; 900]).is_ok();
                disk.crash();
                let bytes = disk.read(path).unwrap();
                let new = bytes == [2; 900];
                assert!(new || !done && bytes == [1; 700], "seed {seed} at {at}");
            }
        }
    }

    #[test]
    fn a_failed_sync_lies_afterwards() {
        let disk = FaultDisk::new(1);
        let a = file(&disk, "/a");
        disk.sync_dir(Path::new("/")).unwrap();
        a.write_all_at(b"data", 0).unwrap();
        disk.fail_sync_after(1);
        assert_eq!(a.sync_data().unwrap_err().raw_os_error(), Some(5));
        a.sync_data().unwrap();
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"data");
        disk.crash();
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"\0\0\0\0");
    }

    #[test]
    fn a_full_disk_says_so() {
        let disk = FaultDisk::new(1);
        disk.set_capacity(Some(1000));
        let a = file(&disk, "/a");
        a.write_all_at(&[1; 900], 0).unwrap();
        let full = a.write_all_at(&[1; 200], 900).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        a.write_all_at(&[2; 900], 0).unwrap();
        assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 100);
    }
}
