//! Full disks and half-written logs.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::cluster::{Cluster, System};
use crate::dice::Dice;

const BALLAST: &str = "ballast";

/// Fills what is left of a member's disk.
pub(super) fn fill(cluster: &mut Cluster, member: usize) -> Result<()> {
    cluster.excuse_exit(member);
    let mut ballast = File::create(cluster.data(member).join(BALLAST))?;
    let block = vec![0x5a; 64 << 10];
    loop {
        match ballast.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("fill the disk"),
        }
    }
}

/// Gives the space back.
pub(super) fn free(cluster: &Cluster, member: usize) -> Result<()> {
    match fs::remove_file(cluster.data(member).join(BALLAST)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What an operator does after a full disk.
pub(super) async fn clear_alarms(cluster: &Cluster) {
    for target in cluster.targets() {
        if Client::new(target, Duration::from_secs(2))
            .clear_alarms()
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// Kills a member and leaves behind its last good record the beginning of another one, as a
/// crash in the middle of a write does. Nothing that was synced is touched: losing that is
/// beyond what any store can survive.
pub(super) fn tear(cluster: &mut Cluster, member: usize, dice: &mut Dice) -> Result<()> {
    cluster.kill(member)?;
    let Some(log) = newest_file(&cluster.data(member), ".wal") else {
        bail!("member {member} has no write-ahead log");
    };
    match cluster.system() {
        System::Etcd(_) => tear_etcd(&log),
        System::Trireme(..) => tear_with_garbage(&log, dice),
    }
}

/// The newest file below `dir` whose name ends with `suffix`, by name.
fn newest_file(dir: &Path, suffix: &str) -> Option<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.into_iter().max()
}

/// Place behind the last byte that is not zero: logs are preallocated with zeros.
fn end_of_data(file: &File) -> Result<u64> {
    const BLOCK_BYTES: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        let mut block = vec![0; usize::try_from(end - start)?];
        file.read_exact_at(&mut block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// etcd takes a record for torn when a whole sector of it is zero: a frame of 4 KiB of which
/// only some bytes of the first sector were written.
fn tear_etcd(log: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(log)?;
    // Records are padded to 8 bytes.
    let end = end_of_data(&file)?.next_multiple_of(8);
    let mut record = 4096_u64.to_le_bytes().to_vec();
    record.extend([0x5a; 16]);
    if end + 8192 > file.metadata()?.len() {
        return Ok(());
    }
    file.write_all_at(&record, end)?;
    Ok(file.sync_all()?)
}

/// The beginning of the bytes before, again: they look like a record and are none.
fn tear_with_garbage(log: &Path, dice: &mut Dice) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(log)?;
    // Records are padded to 8 bytes, and the padding is part of what their checksums cover.
    let end = end_of_data(&file)?.next_multiple_of(8);
    let length = (64 + dice.below(448) as u64).min(end);
    let mut garbage = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut garbage, end - length)?;
    // One flipped bit makes sure that no checksum can hold.
    if let Some(byte) = garbage.last_mut() {
        *byte ^= 0x10;
    }
    file.write_all_at(&garbage, end)?;
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_data_is_found_before_preallocated_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(end_of_data(&file).unwrap(), 0);
        file.write_all_at(b"data", 70_000).unwrap();
        assert_eq!(end_of_data(&file).unwrap(), 70_004);
    }
}
