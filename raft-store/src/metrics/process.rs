//! What the kernel knows about this process, read from `/proc` when someone scrapes.

use std::path::Path;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use seams::Disk;

/// The kernel counts CPU time in hundredths of a second wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU, memory and files of this process; zero where the kernel does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessView {
    /// CPU seconds used, user and system.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: i64,
    /// Virtual memory in bytes.
    pub virtual_bytes: i64,
    /// Threads.
    pub threads: i64,
    /// Files open now.
    pub open_files: i64,
    /// Most files that may be open.
    pub max_files: i64,
    /// When the process began, in seconds since 1970.
    pub start_seconds: f64,
}

impl ProcessView {
    /// Reads `/proc`. In a simulation there is none, and everything stays zero.
    pub fn read(disk: &dyn Disk) -> ProcessView {
        let text = |path: &str| {
            let bytes = disk.read(Path::new(path)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut view = parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        let files = disk
            .read_dir(Path::new("/proc/self/fd"))
            .unwrap_or_default();
        view.open_files = files.len() as i64;
        view
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "process_cpu_seconds",
            "CPU time used",
            ConstCounter::new(self.cpu_seconds),
        );
        r.register(
            "process_start_time_seconds",
            "When the process began",
            ConstGauge::new(self.start_seconds),
        );
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                self.virtual_bytes,
            ),
            ("process_threads", "Threads", self.threads),
            ("process_open_fds", "Files open", self.open_files),
            (
                "process_max_fds",
                "Most files that may be open",
                self.max_files,
            ),
            ("os_fd_used", "Files open", self.open_files),
            ("os_fd_limit", "Most files that may be open", self.max_files),
        ] {
            r.register(name, help, ConstGauge::new(value));
        }
    }
}

fn parse(stat: &str, status: &str, limits: &str, system: &str) -> ProcessView {
    // The second field is the program's name in parentheses, which may hold blanks.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    // Numbers as in proc(5), where the state after the name is field 3.
    let field = |number: usize| -> f64 {
        fields
            .get(number - 3)
            .and_then(|f| f.parse().ok())
            .unwrap_or_default()
    };
    let boot: f64 = number_after(system, "btime ").unwrap_or_default();
    let started_after_boot = field(22) / TICKS_PER_SECOND;
    ProcessView {
        cpu_seconds: (field(14) + field(15)) / TICKS_PER_SECOND,
        resident_bytes: number_after(status, "VmRSS:").unwrap_or_default() as i64 * 1024,
        virtual_bytes: field(23) as i64,
        threads: field(20) as i64,
        open_files: 0,
        max_files: number_after(limits, "Max open files").unwrap_or_default() as i64,
        start_seconds: if started_after_boot > 0.0 {
            boot + started_after_boot
        } else {
            0.0
        },
    }
}

/// The first number after `label` at the start of a line.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_files_are_understood() {
        let view = ProcessView::read(&seams::RealDisk);
        assert!(view.resident_bytes > 100_000, "{view:?}");
        assert!(
            view.open_files >= 3 && view.max_files >= view.open_files,
            "{view:?}"
        );
        assert!(view.start_seconds > 1.6e9, "{view:?}");
        assert!(view.threads >= 1, "{view:?}");
    }

    #[test]
    fn a_program_name_with_blanks_shifts_nothing() {
        let stat = "42 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 7 0 1000 4096 1";
        let view = parse(stat, "", "", "btime 1700000000\n");
        assert_eq!(view.cpu_seconds, 3.0);
        assert_eq!(view.threads, 7);
        assert_eq!(view.start_seconds, 1_700_000_010.0);
    }
}
