//! Room: on the disk, and within the quota.
//!
//! A full disk stops a member, so the member acts before. In its directory lies a file of zeros,
//! the reserve. When little is left, a leader hands leadership over. When very little is left,
//! the reserve is given up and the NOSPACE alarm raised: the cluster takes no more writes, and
//! deletes and compactions have the reserve's room to work in. Once there is room again, the
//! reserve is made anew and the alarm cleared, with a margin so that it does not flutter.
//!
//! An alarm bears the ID of the member that raised it. Each member clears its own; those of
//! members that are gone are cleared by the leader.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use seams::{Disk, Open, Threads};
use tokio::time::sleep;

use super::Member;
use super::config::Limits;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{AlarmRequest, AlarmType};

/// The file that is given up when the disk is nearly full.
pub const RESERVE_FILE: &str = "reserve";

/// How often room is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The reserve takes at most this part of what is free when it is made, and so does a segment of
/// the log: small disks have small ones.
const SHARE: u64 = 16;
const MIB: u64 = 1 << 20;
/// The smallest segment of the log that a nearly full disk gets.
const SEGMENT_MIN: u64 = 4 * MIB;
/// Shares of the quota in percent: a warning above, the alarm cleared below.
const QUOTA_WARNING: u64 = 90;
const QUOTA_CLEAR: u64 = 85;

/// Free bytes that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Below this the reserve is given up and the alarm raised: the log's next segment and a
    /// quarter of the reserve, for the database.
    critical: u64,
    /// Below this a leader hands over: twice as much.
    low: u64,
    /// From here on, beyond the reserve, there is room again.
    roomy: u64,
}

impl Marks {
    fn new(reserve: u64, segment: u64) -> Marks {
        let critical = segment + reserve / 4;
        Marks {
            critical,
            low: critical * 2,
            roomy: critical * 5 / 2,
        }
    }
}

/// The size of the log's segments: as configured, less on a small or nearly full disk.
pub(super) fn segment_bytes(limits: &Limits, free: u64) -> u64 {
    let share = (free / SHARE / MIB * MIB).max(SEGMENT_MIN);
    limits.log_segment_bytes.min(share)
}

/// Gives the reserve up before anything is opened, if the member could not start otherwise.
pub(super) fn make_room(disk: &dyn Disk, data_dir: &Path, limits: &Limits) -> io::Result<()> {
    let mut reserve = Reserve::new(data_dir, limits.reserve_bytes);
    if !disk.exists(&reserve.path) {
        return Ok(());
    }
    let free = disk.free_bytes(data_dir)?;
    let held = disk.open(&reserve.path, Open::READ)?.len()?;
    if free < Marks::new(held, segment_bytes(limits, free)).critical {
        reserve.give_up(disk)?;
        tracing::warn!(free, "the disk is nearly full: starting on the reserve");
    }
    Ok(())
}

/// The file of zeros.
struct Reserve {
    dir: PathBuf,
    path: PathBuf,
    /// As configured; 0 for none.
    wanted: u64,
    held: u64,
}

impl Reserve {
    fn new(data_dir: &Path, wanted: u64) -> Reserve {
        Reserve {
            dir: data_dir.to_owned(),
            path: data_dir.join(RESERVE_FILE),
            wanted,
            held: 0,
        }
    }

    /// Its size, or the one that it would get now.
    fn size(&self, free: u64) -> u64 {
        match self.held {
            0 => self.wanted.min(free / SHARE / MIB * MIB),
            held => held,
        }
    }

    /// Makes the file, or takes over the one that is there.
    fn make(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let there = match disk.exists(&self.path) {
            true => disk.open(&self.path, Open::READ)?.len()?,
            false => 0,
        };
        if there > 0 && there <= self.wanted {
            self.held = there;
            return Ok(());
        }
        self.give_up(disk)?;
        let size = self.size(disk.free_bytes(&self.dir)?);
        if size == 0 {
            return Ok(());
        }
        let file = disk.open(&self.path, Open::REPLACE)?;
        let made = file.allocate(size).and_then(|()| file.sync_all());
        if let Err(error) = made {
            disk.remove_file(&self.path)?;
            return Err(error);
        }
        self.held = size;
        Ok(())
    }

    fn give_up(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if disk.exists(&self.path) {
            disk.remove_file(&self.path)?;
        }
        self.held = 0;
        Ok(())
    }
}

/// What is to be done about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Warn, and let somebody else lead.
    Yield,
    /// Give the reserve up and raise the alarm.
    Close,
    /// Make the reserve anew and clear the alarm.
    Open,
}

/// Where the disk stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stand {
    /// The reserve is given up.
    short: bool,
    /// Warned of little room, and handed leadership over.
    yielded: bool,
}

impl Stand {
    fn step(&mut self, free: u64, marks: &Marks, reserve: u64) -> Step {
        if self.short {
            if free < marks.roomy + reserve {
                return Step::Nothing;
            }
            *self = Stand::default();
            return Step::Open;
        }
        if free < marks.low && !self.yielded {
            self.yielded = true;
            return Step::Yield;
        }
        if free < marks.critical {
            self.short = true;
            return Step::Close;
        }
        if free >= marks.roomy {
            self.yielded = false;
        }
        Step::Nothing
    }
}

/// Watches over disk and quota for as long as the member runs.
pub(super) async fn watch(member: Member) {
    let disk = member.0.seams.disk.clone();
    let limits = &member.config().limits;
    let wanted = match member.0.seams.threads {
        Threads::Real => limits.reserve_bytes,
        // A simulated disk would keep the zeros in memory.
        Threads::Simulated => 0,
    };
    let dir = member.config().data_dir.clone();
    let mut reserve = Reserve::new(&dir, wanted);
    if disk.exists(&reserve.path) {
        report(reserve.make(disk.as_ref()), "take the reserve over");
    }
    // Without a reserve it is given up, until there is room for one.
    let mut stand = Stand {
        short: reserve.held == 0,
        ..Stand::default()
    };
    let mut quota_warned = false;
    loop {
        match disk.free_bytes(&dir) {
            Ok(free) => {
                let size = reserve.size(free);
                let marks = Marks::new(size, member.0.segment_bytes);
                let step = stand.step(free, &marks, size);
                member
                    .carry_out(step, free, &mut reserve, disk.as_ref())
                    .await;
            }
            Err(error) => tracing::warn!(%error, "cannot tell how much of the disk is free"),
        }
        member.0.disk_short.store(stand.short, Ordering::Relaxed);
        member.tend_alarms(stand.short, &mut quota_warned).await;
        tokio::select! {
            () = member.tasks().cancelled() => return,
            () = sleep(TICK) => {}
        }
    }
}

fn report(result: io::Result<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not {what}");
    }
}

impl Member {
    async fn carry_out(&self, step: Step, free: u64, reserve: &mut Reserve, disk: &dyn Disk) {
        let dir = self.config().data_dir.display();
        match step {
            Step::Nothing => {}
            Step::Yield => {
                tracing::warn!(
                    free,
                    "there is little room left on the disk under {dir}: make some"
                );
                self.hand_over().await;
            }
            Step::Close => {
                tracing::error!(
                    free,
                    "the disk under {dir} is nearly full: the cluster takes no more writes. Make \
                     room there, or delete keys and compact; then writes are taken again"
                );
                report(reserve.give_up(disk), "give the reserve up");
            }
            Step::Open => {
                if self.0.disk_short.load(Ordering::Relaxed) {
                    tracing::info!(free, "there is room on the disk again");
                }
                report(reserve.make(disk), "make the reserve");
            }
        }
    }

    /// Raises and clears NOSPACE.
    async fn tend_alarms(&self, short: bool, quota_warned: &mut bool) {
        let sizes = self.0.mvcc.sizes();
        let percent = sizes.live_bytes.saturating_mul(100) / sizes.quota_bytes.max(1);
        let own = self.id();
        let raised: Vec<u64> = self
            .0
            .mvcc
            .alarms()
            .iter()
            .filter(|alarm| alarm.alarm == AlarmType::Nospace as i32)
            .map(|alarm| alarm.member_id)
            .collect();
        let leads = self.is_leader();
        if percent >= QUOTA_WARNING && leads && !*quota_warned {
            tracing::warn!(
                percent,
                "the quota is nearly used up: delete keys or compact"
            );
        }
        *quota_warned = percent >= QUOTA_WARNING;
        if leads && raised.is_empty() && percent >= 100 {
            tracing::error!(
                live = sizes.live_bytes,
                quota = sizes.quota_bytes,
                "the quota is used up: only deletes and compactions are accepted until there is room"
            );
            return self.set_nospace(own, AlarmAction::Activate).await;
        }
        if short && !raised.contains(&own) {
            return self.set_nospace(own, AlarmAction::Activate).await;
        }
        if percent >= QUOTA_CLEAR {
            return;
        }
        for member in raised {
            let clear = match member == own {
                true => !short,
                false => leads && !self.is_around(member),
            };
            if clear {
                tracing::info!(member = %format_args!("{member:x}"), "clearing the NOSPACE alarm");
                self.set_nospace(member, AlarmAction::Deactivate).await;
            }
        }
    }

    async fn set_nospace(&self, member_id: u64, action: AlarmAction) {
        let request = AlarmRequest {
            action: action as i32,
            member_id,
            alarm: AlarmType::Nospace as i32,
        };
        if let Err(error) = self.alarm(request).await {
            tracing::debug!(%error, "could not change the NOSPACE alarm");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seams::FaultDisk;

    const RESERVE: u64 = 64 * MIB;

    #[test]
    fn a_disk_fills_and_empties_without_fluttering() {
        let marks = Marks::new(RESERVE, 16 * MIB);
        assert_eq!(
            (marks.critical, marks.low, marks.roomy),
            (32 * MIB, 64 * MIB, 80 * MIB)
        );
        let mut stand = Stand::default();
        let mut step = |free: u64| stand.step(free * MIB, &marks, RESERVE);
        assert_eq!(step(1000), Step::Nothing);
        assert_eq!(step(63), Step::Yield);
        assert_eq!(step(60), Step::Nothing, "it yields once");
        assert_eq!(step(31), Step::Close);
        // The reserve is given up: that alone is no room.
        assert_eq!(step(95), Step::Nothing);
        assert_eq!(step(143), Step::Nothing);
        assert_eq!(step(144), Step::Open);
        // With the reserve made again, that is well above the marks.
        assert_eq!(step(80), Step::Nothing);
        assert_eq!(step(10), Step::Yield, "leadership goes first");
        assert_eq!(step(10), Step::Close);
    }

    #[test]
    fn the_reserve_is_taken_over_and_small_on_small_disks() {
        let disk = FaultDisk::new(1);
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        disk.set_capacity(Some(160 * MIB));
        let mut reserve = Reserve::new(dir, 256 * MIB);
        reserve.make(&disk).unwrap();
        assert_eq!(reserve.held, 10 * MIB);
        assert_eq!(disk.free_bytes(dir).unwrap(), 150 * MIB);
        let mut again = Reserve::new(dir, 256 * MIB);
        again.make(&disk).unwrap();
        assert_eq!(again.held, 10 * MIB);
        again.give_up(&disk).unwrap();
        assert_eq!(disk.free_bytes(dir).unwrap(), 160 * MIB);
        let mut off = Reserve::new(dir, 0);
        off.make(&disk).unwrap();
        assert!(off.held == 0 && !disk.exists(&off.path));
    }

    #[test]
    fn a_member_starts_on_its_reserve() {
        let disk = FaultDisk::new(1);
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        disk.set_capacity(Some(160 * MIB));
        Reserve::new(dir, 256 * MIB).make(&disk).unwrap();
        let limits = Limits::default();
        make_room(&disk, dir, &limits).unwrap();
        assert!(disk.exists(&dir.join(RESERVE_FILE)), "there is room enough");
        let other = disk.open(&dir.join("other"), Open::CREATE_NEW).unwrap();
        other.allocate(149 * MIB).unwrap();
        make_room(&disk, dir, &limits).unwrap();
        assert!(!disk.exists(&dir.join(RESERVE_FILE)));
    }

    #[test]
    fn segments_fit_the_disk() {
        let limits = Limits::default();
        assert_eq!(segment_bytes(&limits, 100 << 30), limits.log_segment_bytes);
        assert_eq!(segment_bytes(&limits, 320 * MIB), 20 * MIB);
        assert_eq!(segment_bytes(&limits, 0), SEGMENT_MIN);
    }
}
