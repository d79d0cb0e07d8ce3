//! How fast the disk syncs: every write waits for that, so a slow disk should be known at once.

use std::io;
use std::path::Path;
use std::time::Duration;

use seams::{Clock, Disk, Open, Seams, Tasks, Threads};

/// Syncs that are measured at most, and the time for all of them.
const SYNCS: usize = 20;
const BUDGET: Duration = Duration::from_millis(200);
/// What one of them writes: a small request in a log.
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Above this, writes are felt to be slow and elections come into reach of a busy moment.
const SLOW: Duration = Duration::from_millis(10);
const FILE: &str = "probe.tmp";

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    syncs: usize,
    p50: Duration,
    p99: Duration,
}

/// Measures beside the start and logs what came of it. Not in simulations, whose disks have the
/// speed that the simulation chose.
pub(super) fn start(seams: &Seams, data_dir: &Path, tasks: &Tasks) {
    if seams.threads == Threads::Simulated {
        return;
    }
    let (disk, clock) = (seams.disk.clone(), seams.clock.clone());
    let dir = data_dir.to_owned();
    let measuring = tasks.blocking({
        let dir = dir.clone();
        move || measure(disk.as_ref(), clock.as_ref(), &dir)
    });
    tasks.spawn("disk probe", async move {
        match measuring.await {
            Ok(Some(measured)) => report(&measured, &dir),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "could not measure the speed of the disk"),
        }
    });
}

fn report(measured: &Measured, dir: &Path) {
    let Measured { syncs, p50, p99 } = *measured;
    tracing::info!(
        syncs,
        ?p50,
        ?p99,
        "measured how long the disk takes to sync 4 KiB"
    );
    if p99 > SLOW {
        tracing::warn!(
            "the disk under {} is slow: a sync of 4 KiB takes {p50:?}, at times {p99:?}. Every \
             write waits for such a sync on a majority of the members, and what takes longer than \
             the election timeout costs elections. Put the data directory on a local SSD, and \
             what else writes much on another disk",
            dir.display()
        );
    }
}

fn measure(disk: &dyn Disk, clock: &dyn Clock, dir: &Path) -> io::Result<Option<Measured>> {
    let path = dir.join(FILE);
    let times = sync_times(disk, clock, &path);
    // A probe that failed half way leaves nothing either.
    let removed = disk.remove_file(&path);
    let times = times?;
    removed?;
    Ok(summary(times))
}

/// Overwrites a file block by block, as the log overwrites its zeroed segments.
fn sync_times(disk: &dyn Disk, clock: &dyn Clock, path: &Path) -> io::Result<Vec<Duration>> {
    let file = disk.open(path, Open::REPLACE)?;
    file.write_all_at(&BLOCK.repeat(SYNCS), 0)?;
    file.sync_all()?;
    let begun = clock.now();
    let mut times = Vec::with_capacity(SYNCS);
    for at in 0..SYNCS {
        let before = clock.now();
        file.write_all_at(&BLOCK, (at * BLOCK.len()) as u64)?;
        file.sync_data()?;
        let after = clock.now();
        times.push(after - before);
        if after - begun > BUDGET {
            break;
        }
    }
    Ok(times)
}

fn summary(mut times: Vec<Duration>) -> Option<Measured> {
    times.sort_unstable();
    let syncs = times.len();
    let quantile = |percent: usize| times.get((syncs * percent / 100).min(syncs.checked_sub(1)?));
    Some(Measured {
        syncs,
        p50: *quantile(50)?,
        p99: *quantile(99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_disk_is_measured_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let seams = Seams::real();
        let measured = measure(seams.disk.as_ref(), seams.clock.as_ref(), dir.path());
        let measured = measured.unwrap().unwrap();
        assert!((1..=SYNCS).contains(&measured.syncs));
        assert!(measured.p50 <= measured.p99);
        assert!(seams.disk.read_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn the_worst_of_twenty_counts() {
        let millis = Duration::from_millis;
        let mut times = vec![millis(1); 19];
        times.push(millis(40));
        let measured = summary(times).unwrap();
        assert_eq!((measured.p50, measured.p99), (millis(1), millis(40)));
        assert_eq!(summary(Vec::new()), None);
    }
}
