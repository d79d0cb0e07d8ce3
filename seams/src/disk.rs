//! Files and directories, synchronously: callers own a worker or use `Tasks::blocking`.
// The one place that may use std::fs.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may touch files"
)]

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to open a file; the fields mean what they mean in `std::fs::OpenOptions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Create it if it is missing.
    pub create: bool,
    /// Create it; fail if it exists.
    pub create_new: bool,
    /// Empty it.
    pub truncate: bool,
}

impl Open {
    /// An existing file, for reading.
    pub const READ: Open = Open {
        read: true,
        write: false,
        create: false,
        create_new: false,
        truncate: false,
    };
    /// An existing file, for reading and writing.
    pub const EDIT: Open = Open {
        write: true,
        ..Open::READ
    };
    /// A file that is empty afterwards, whether it existed or not, for reading and writing.
    pub const REPLACE: Open = Open {
        create: true,
        truncate: true,
        ..Open::EDIT
    };
    /// A file that must not exist yet, for reading and writing.
    pub const CREATE_NEW: Open = Open {
        create_new: true,
        ..Open::EDIT
    };
}

/// A file system.
///
/// Nothing is durable by itself: file contents by [`File::sync_data`] or [`File::sync_all`], names
/// (creation, rename, removal) by [`Disk::sync_dir`] of the parent directory. A full disk is
/// `io::ErrorKind::StorageFull`.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;

    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names (not paths) in a directory, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Moves a file or directory, replacing a file at the destination.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Whether a file or directory has that path.
    fn exists(&self, path: &Path) -> bool;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives the file `from` the second name `to`.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file (created if missing), held until the result is dropped
    /// or the process ends. Another holder is `io::ErrorKind::WouldBlock`.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// The bytes that may still be written to the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// How long a simulated disk takes for its next sync; a real one takes its time by itself.
    ///
    /// Writers wait that long between write and sync, so that a simulated crash can fall between.
    fn latency(&self) -> Option<Duration> {
        None
    }

    /// The whole contents of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::READ)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a file's contents, durably: after a crash it holds the old bytes or the new.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        {
            let file = self.open(&temporary, Open::REPLACE)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
        }
        self.rename(&temporary, path)?;
        self.sync_dir(&parent(path))
    }
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// An open file.
pub trait File: Send + Sync {
    /// Reads at an offset; 0 means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset; may write less than all.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes contents and length durable (fdatasync). After an error the contents are unknown:
    /// do not retry.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space for the first `len` bytes; extends the file to `len` if it is shorter.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the buffer or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes everything.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The machine's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        // Whatever is written through here holds what its readers may be forbidden to see.
        let file = fs::OpenOptions::new()
            .mode(0o600)
            .read(how.read)
            .write(how.write)
            .create(how.create)
            .create_new(how.create_new)
            .truncate(how.truncate)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = i64::try_from(len).map_err(io::Error::other)?;
        Ok(nix::fcntl::posix_fallocate(&self.0, 0, len)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_atomic_replaces_and_leaves_nothing_behind() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("identity");
        RealDisk.write_atomic(&path, b"one")?;
        RealDisk.write_atomic(&path, b"two, longer")?;
        assert_eq!(RealDisk.read(&path)?, b"two, longer");
        assert_eq!(RealDisk.read_dir(dir.path())?, ["identity"]);
        Ok(())
    }

    #[test]
    fn a_lock_excludes_until_dropped() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path)?;
        let refused = RealDisk.lock(&path).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::WouldBlock));
        drop(held);
        RealDisk.lock(&path)?;
        Ok(())
    }

    #[test]
    fn files_read_what_was_written_where() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Open::CREATE_NEW)?;
        file.allocate(4096)?;
        file.write_all_at(b"abc", 100)?;
        file.sync_data()?;
        let mut got = [1; 5];
        file.read_exact_at(&mut got, 99)?;
        assert_eq!(&got, b"\0abc\0");
        assert_eq!(file.len()?, 4096);
        assert!(RealDisk.open(&path, Open::CREATE_NEW).is_err());
        assert!(RealDisk.free_bytes(dir.path())? > 0);
        let past_the_end = file.read_exact_at(&mut got, 4094).map_err(|e| e.kind());
        assert_eq!(past_the_end, Err(io::ErrorKind::UnexpectedEof));
        Ok(())
    }
}
