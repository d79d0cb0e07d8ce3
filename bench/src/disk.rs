//! How fast the disk is, since every write waits for it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 256;

/// Median time of writing 4 KiB to a file of written blocks and fdatasync, in `dir`.
pub(crate) fn fsync_p50(dir: &Path) -> Result<Duration> {
    let path = dir.join(format!("store-bench-fsync-{}", std::process::id()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("create {}", path.display()))?;
    let block = [0x5a; BLOCK_BYTES];
    let measured = (|| {
        for at in 0..BLOCKS {
            file.write_all_at(&block, at * BLOCK_BYTES as u64)?;
        }
        file.sync_all()?;
        let mut times = Vec::new();
        for at in 0..BLOCKS {
            let began = Instant::now();
            file.write_all_at(&block, at * BLOCK_BYTES as u64)?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    })();
    std::fs::remove_file(&path)?;
    measured
}
