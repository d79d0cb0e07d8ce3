//! Audit events in files, a line each. A file that is large enough is put aside under the time of
//! that, as lumberjack does; there are only so many of those, and only so old ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::values::time::{Moment, Precision};
use seams::disk::parent;
use seams::{Disk, File, Open, Seams, Tasks};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{LAST_WORDS, next_batch};
use crate::metrics::Metrics;

/// Events that are written at once.
const BATCH: usize = 1000;
/// The size at which a file is put aside if nobody says.
const DEFAULT_MEGABYTES: u64 = 100;

/// Which files.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that is written to; `-` means standard output.
    pub path: PathBuf,
    /// The size of a file in megabytes; 0 means 100.
    pub max_megabytes: u64,
    /// How many old files are kept; 0 means all.
    pub max_backups: usize,
    /// How many days they are kept; 0 means forever.
    pub max_days: u64,
}

/// Writes events until the tasks end.
pub(super) fn start(
    config: Config,
    mut events: mpsc::Receiver<Arc<str>>,
    metrics: &Arc<Metrics>,
    seams: &Seams,
    tasks: &Tasks,
) {
    let (metrics, owner) = (metrics.clone(), tasks.clone());
    let seams = seams.clone();
    tasks.worker("audit-log", async move {
        let mut writer = Writer::new(config, seams.disk.clone());
        let mut end = None;
        while let Some(batch) = next_batch(&mut events, BATCH, Duration::ZERO, &owner).await {
            if let Err(error) = writer.write(&batch, seams.clock.wall()) {
                tracing::error!(%error, lost = batch.len(), "the audit log cannot be written");
                metrics.audit_errors.of(&["log"]).add(batch.len() as u64);
            }
            if owner.is_cancelled() {
                let end = *end.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                if Instant::now() > end {
                    return;
                }
            }
        }
    });
}

struct Writer {
    config: Config,
    disk: Arc<dyn Disk>,
    file: Option<(Box<dyn File>, u64)>,
}

impl Writer {
    fn new(config: Config, disk: Arc<dyn Disk>) -> Self {
        Self {
            config,
            disk,
            file: None,
        }
    }

    fn write(&mut self, batch: &[Arc<str>], now: SystemTime) -> io::Result<()> {
        let mut lines = String::new();
        for event in batch {
            lines.push_str(event);
            lines.push('\n');
        }
        if self.config.path == Path::new("-") {
            return io::Write::write_all(&mut io::stdout().lock(), lines.as_bytes());
        }
        let max = match self.config.max_megabytes {
            0 => DEFAULT_MEGABYTES,
            megabytes => megabytes,
        } << 20;
        let (mut file, mut len) = self.open()?;
        if len > 0 && len + lines.len() as u64 > max {
            drop(file);
            self.disk.rename(&self.config.path, &self.aside(now))?;
            self.prune(now);
            (file, len) = self.open()?;
        }
        file.write_all_at(lines.as_bytes(), len)?;
        self.file = Some((file, len + lines.len() as u64));
        Ok(())
    }

    fn open(&mut self) -> io::Result<(Box<dyn File>, u64)> {
        if let Some(open) = self.file.take() {
            return Ok(open);
        }
        self.disk.create_dir_all(&parent(&self.config.path))?;
        let how = Open {
            create: true,
            ..Open::EDIT
        };
        let file = self.disk.open(&self.config.path, how)?;
        let len = file.len()?;
        Ok((file, len))
    }

    /// What an old file's name has before and after its time.
    fn around(&self) -> (String, String) {
        let part = |text: Option<&std::ffi::OsStr>| {
            text.unwrap_or_default().to_string_lossy().into_owned()
        };
        let extension = self.config.path.extension();
        let dot = if extension.is_some() { "." } else { "" };
        (
            format!("{}-", part(self.config.path.file_stem())),
            format!("{dot}{}", part(extension)),
        )
    }

    fn aside(&self, now: SystemTime) -> PathBuf {
        let (before, after) = self.around();
        let name = format!("{before}{}{after}", time_in_name(now));
        self.config.path.with_file_name(name)
    }

    /// Removes old files that are too many or too old; what cannot be removed now is tried again
    /// the next time.
    fn prune(&self, now: SystemTime) {
        let directory = parent(&self.config.path);
        let (before, after) = self.around();
        let names = self.disk.read_dir(&directory).unwrap_or_default();
        let mut old: Vec<(String, String)> = names
            .into_iter()
            .filter_map(|name| {
                let time = name.strip_prefix(&before)?.strip_suffix(&*after)?;
                let is_time =
                    time.len() == SAMPLE.len() && time.starts_with(|c: char| c.is_ascii_digit());
                is_time.then(|| (time.to_string(), name.clone()))
            })
            .collect();
        // The newest first: the names sort as their times do.
        old.sort_unstable_by(|one, other| other.cmp(one));
        let days = Duration::from_secs(self.config.max_days * 24 * 3600);
        let oldest = now.checked_sub(days).map(time_in_name).unwrap_or_default();
        for (at, (time, name)) in old.iter().enumerate() {
            let is_too_many = self.config.max_backups > 0 && at >= self.config.max_backups;
            let is_too_old = self.config.max_days > 0 && *time < oldest;
            if is_too_many || is_too_old {
                let removed = self.disk.remove_file(&directory.join(name));
                if let Err(error) = removed {
                    tracing::warn!(%error, name, "an old audit log cannot be removed");
                }
            }
        }
    }
}

/// How long the time in a name is.
const SAMPLE: &str = "2006-01-02T15-04-05.000";

fn time_in_name(at: SystemTime) -> String {
    let mut text = Moment::from(at).text(Precision::Micros);
    text.truncate(SAMPLE.len());
    text.replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_aside_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            path: dir.path().join("audit.log"),
            max_megabytes: 1,
            max_backups: 2,
            max_days: 0,
        };
        let disk: Arc<dyn Disk> = Arc::new(seams::RealDisk);
        let mut writer = Writer::new(config.clone(), disk.clone());
        let event: Arc<str> = "x".repeat(600 << 10).into();
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        for day in 0..5 {
            let now = start + Duration::from_secs(day * 24 * 3600);
            writer.write(std::slice::from_ref(&event), now).unwrap();
        }
        let names = || disk.read_dir(dir.path()).unwrap();
        let kept = [
            "audit-2023-11-17T22-13-20.123.log",
            "audit-2023-11-18T22-13-20.123.log",
            "audit.log",
        ];
        assert_eq!(names(), kept);
        // Another process goes on where this one ended, and finds one of them too old.
        let mut writer = Writer::new(
            Config {
                max_days: 1,
                ..config
            },
            disk.clone(),
        );
        let small: Arc<str> = "{}".into();
        writer.write(&[small.clone(), small], start).unwrap();
        let text = disk.read(&dir.path().join("audit.log")).unwrap();
        assert!(text.ends_with(b"x\n{}\n{}\n"));
        let later = start + Duration::from_secs(4 * 24 * 3600 + 12 * 3600);
        writer.write(&[event], later).unwrap();
        let kept = [
            "audit-2023-11-18T22-13-20.123.log",
            "audit-2023-11-19T10-13-20.123.log",
            "audit.log",
        ];
        assert_eq!(names(), kept);
    }
}
