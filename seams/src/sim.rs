//! The simulated world: turmoil's clock, network and file system.
//!
//! Everything here acts for the turmoil host that is running; a call outside a simulation panics.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::Instant;
use turmoil::fs::shim::std::fs as shim;

use crate::clock::Clock;
use crate::disk::{Disk, File, Open, parent};
use crate::net::{BoxedStream, Listener, Net};
use crate::rng::{Rng, SeededRng};

/// The simulation's clock. Its wall clock can be set wrong.
#[derive(Debug, Default)]
pub struct SimClock {
    wall_offset_ms: AtomicI64,
}

impl SimClock {
    /// Sets how far the wall clock is ahead of the simulation's (behind, if negative).
    pub fn set_wall_offset_ms(&self, offset: i64) {
        self.wall_offset_ms.store(offset, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        let wall = UNIX_EPOCH + turmoil::since_epoch().unwrap_or_default();
        let offset = self.wall_offset_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(offset.unsigned_abs());
        if offset < 0 { wall - by } else { wall + by }
    }
}

/// Turmoil's network. Hosts are named as in the simulation; a listener takes only the port of its
/// address, for turmoil binds to all interfaces.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimNet;

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, addr: &str) -> io::Result<BoxedStream> {
        let stream = turmoil::net::TcpStream::connect(split(addr)?).await?;
        Ok(Box::new(stream))
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let is_address = host.parse().ok();
        Ok(vec![is_address.unwrap_or_else(|| turmoil::lookup(host))])
    }

    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        let (_, port) = split(addr)?;
        let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(Box::new(SimListener(listener)))
    }
}

fn split(addr: &str) -> io::Result<(&str, u16)> {
    let invalid = || {
        let message = format!("{addr} is not host:port");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let (host, port) = addr.rsplit_once(':').ok_or_else(invalid)?;
    Ok((host, port.parse().map_err(|_| invalid())?))
}

struct SimListener(turmoil::net::TcpListener);

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Turmoil's file system of the current host: what was not synced is lost (or torn, if the
/// simulation has a block size) when the host crashes.
///
/// Paths must be absolute. Turmoil's open files follow their path rather than their inode: open a
/// file again after renaming it. Locks always succeed, for a host runs one process.
#[derive(Debug)]
pub struct SimDisk {
    rng: SeededRng,
    sync_latency_max_ms: AtomicU64,
}

impl SimDisk {
    /// A disk whose latencies follow the seed.
    pub fn new(seed: u64) -> SimDisk {
        // Apart from the sequence that `Seams::simulated` hands to the program.
        SimDisk {
            rng: SeededRng::new(seed ^ 0x6469_736b),
            sync_latency_max_ms: AtomicU64::new(SYNC_LATENCY_MAX_MS),
        }
    }

    /// Makes the disk slow, or fast again: a sync takes less than this, and at least one.
    pub fn set_sync_latency_max_ms(&self, max: u64) {
        self.sync_latency_max_ms
            .store(max.max(1), Ordering::Relaxed);
    }
}

impl SimDisk {
    /// Moves a directory entry by entry. What was moved is durable below `to`, so that a crash
    /// leaves either nothing of it or all.
    fn move_directory(&self, from: &Path, to: &Path) -> io::Result<()> {
        shim::create_dir_all(to).map_err(classify)?;
        for name in self.read_dir(from)? {
            self.rename(&from.join(&name), &to.join(&name))?;
        }
        self.sync_dir(to)?;
        self.remove_dir_all(from)
    }
}

/// What [`Disk::free_bytes`] answers: turmoil does not say how full its disk is.
const SIMULATED_FREE_BYTES: u64 = 1 << 40;

/// The slowest simulated sync: a tenth of a heartbeat interval, as a busy virtual disk.
const SYNC_LATENCY_MAX_MS: u64 = 10;

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = shim::OpenOptions::new()
            .read(how.read)
            .write(how.write)
            .create(how.create)
            .create_new(how.create_new)
            .truncate(how.truncate)
            .open(path)
            .map_err(classify)?;
        Ok(Box::new(SimFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        shim::create_dir_all(path).map_err(classify)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = shim::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Turmoil moves a directory's name and leaves what is in it behind.
        if shim::exists(from) && shim::metadata(from)?.is_dir() {
            return self.move_directory(from, to);
        }
        shim::rename(from, to).map_err(classify)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        shim::remove_file(path).map_err(classify)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        shim::remove_dir_all(path).map_err(classify)?;
        // Turmoil lets a directory that is made again be synced before its removal, which then
        // removes it after all.
        self.sync_dir(&parent(path))
    }

    fn exists(&self, path: &Path) -> bool {
        shim::exists(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        shim::sync_dir(path).map_err(classify)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        shim::hard_link(from, to).map_err(classify)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(SIMULATED_FREE_BYTES)
    }

    fn latency(&self) -> Option<Duration> {
        let max = self.sync_latency_max_ms.load(Ordering::Relaxed);
        Some(Duration::from_millis(self.rng.below(max)))
    }
}

struct SimFile(shim::File);

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset).map_err(classify)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset).map_err(classify)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().map_err(classify)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all().map_err(classify)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len).map_err(classify)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        // Written rather than set: turmoil checks the capacity only on writes.
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut at = self.len()?;
        while at < len {
            let n = (len - at).min(ZEROS.len() as u64);
            self.write_all_at(&ZEROS[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Turmoil reports errors as text; callers look at kinds.
fn classify(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::Other {
        return error;
    }
    let text = error.to_string();
    let kind = if text.contains("No space left") {
        io::ErrorKind::StorageFull
    } else if text.contains("No such file") {
        io::ErrorKind::NotFound
    } else if text.contains("File exists") {
        io::ErrorKind::AlreadyExists
    } else if text.contains("Directory not empty") {
        io::ErrorKind::DirectoryNotEmpty
    } else {
        return error;
    };
    io::Error::new(kind, text)
}
