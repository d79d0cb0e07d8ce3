//! Runs of the harness, and the binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use chaos::checkers::{Report, Verdict};

/// A run to be made.
pub(crate) struct Run {
    arguments: Vec<String>,
}

/// What became of it.
pub(crate) struct Outcome {
    code: Option<i32>,
    reports: Vec<Report>,
    text: String,
    dir: tempfile::TempDir,
}

/// A run of one scenario on Trireme.
pub(crate) fn run(scenario: &str, seconds: u32, seed: u64) -> Run {
    run_on(scenario, seconds, seed).with(&["--binary", trireme().to_str().unwrap()])
}

/// The same on etcd.
pub(crate) fn control(scenario: &str, seconds: u32, seed: u64) -> Run {
    run_on(scenario, seconds, seed).with(&["--control", "etcd"])
}

fn run_on(scenario: &str, seconds: u32, seed: u64) -> Run {
    let (seconds, seed) = (seconds.to_string(), seed.to_string());
    let arguments = Vec::from(["run".to_owned()]);
    Run { arguments }.with(&[
        "--scenario",
        scenario,
        "--seconds",
        &seconds,
        "--seed",
        &seed,
    ])
}

impl Run {
    /// Adds arguments.
    pub(crate) fn with(mut self, further: &[&str]) -> Run {
        self.arguments
            .extend(further.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Does it.
    pub(crate) fn outcome(self) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
            .args(self.arguments)
            .arg("--dir")
            .arg(dir.path())
            .output()
            .unwrap();
        let mut reports = Vec::new();
        for run in fs::read_dir(dir.path()).unwrap() {
            let verdict = run.unwrap().path().join("verdict.json");
            if let Ok(verdict) = fs::read(verdict) {
                reports.append(&mut serde_json::from_slice(&verdict).unwrap());
            }
        }
        Outcome {
            code: output.status.code(),
            reports,
            text: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
            dir,
        }
    }

    /// Does it, and fails with what the checkers say unless all of them are content.
    #[track_caller]
    pub(crate) fn must_be_valid(self) -> Outcome {
        let outcome = self.outcome();
        let valid = outcome.code == Some(0);
        outcome.must(valid, "every checker is content")
    }
}

impl Outcome {
    /// Fails unless this checker came to this conclusion, for this reason if one is named.
    #[track_caller]
    pub(crate) fn must_say(self, checker: &str, verdict: Verdict, anomaly: &str) -> Outcome {
        let report = self.reports.iter().find(|r| r.checker == checker);
        let holds = report.is_some_and(|report| {
            report.verdict == verdict && (anomaly.is_empty() || report.has(anomaly))
        });
        self.must(holds, &format!("{checker} says {verdict} {anomaly}"))
    }

    /// Fails unless each of these faults struck.
    #[track_caller]
    pub(crate) fn must_have_met(self, faults: &[&str]) {
        let report = self.reports.iter().find(|r| r.checker == "coverage");
        let met = |fault: &&str| report.is_some_and(|report| report.counts.contains_key(*fault));
        let holds = faults.iter().all(met);
        self.must(holds, &format!("each of {faults:?} strikes"));
    }

    #[track_caller]
    fn must(self, holds: bool, what: &str) -> Outcome {
        if holds {
            return self;
        }
        // The evidence is worth more than a clean /tmp.
        let (code, text) = (self.code, self.text);
        let kept = self.dir.keep();
        panic!(
            "expected: {what}; exit code {code:?}, evidence in {}\n{text}",
            kept.display()
        );
    }
}

/// The binary under test. Cargo builds it for the tests of its own package only, so it is the one
/// beside the harness, which `cargo nextest run --workspace` builds too. One that is missing or
/// older than its sources is refused: it would say nothing about them.
pub(crate) fn trireme() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_chaos")).with_file_name("trireme");
    if let Some(reason) = stale(&path) {
        let release = if cfg!(debug_assertions) {
            ""
        } else {
            " --release"
        };
        panic!(
            "{} {reason}: cargo build --locked{release} --bin trireme, \
             or run the tests of the whole workspace",
            path.display()
        );
    }
    path
}

/// Why a binary does not show what its sources do, by the list that cargo writes beside it.
fn stale(binary: &Path) -> Option<String> {
    let Some(built) = changed(binary) else {
        return Some("is missing".into());
    };
    let Ok(list) = fs::read_to_string(binary.with_extension("d")) else {
        return Some("comes without the list of its sources".into());
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    // A space within a name is written with a backslash before it.
    let sources = sources.trim().replace("\\ ", "\0");
    let mut sources = sources.split(' ').map(|name| name.replace('\0', " "));
    let newer = sources.find(|name| changed(Path::new(name)).is_none_or(|time| time > built));
    newer.map(|name| format!("is older than {name}"))
}

/// When a file, or any file below a directory, was changed; `None` when it is not there.
fn changed(path: &Path) -> Option<SystemTime> {
    let metadata = fs::metadata(path).ok()?;
    let mut latest = metadata.modified().ok()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).ok()?.flatten() {
            latest = latest.max(changed(&entry.path())?);
        }
    }
    Some(latest)
}

#[test]
fn a_binary_that_is_missing_or_older_than_its_sources_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let binary = at("binary");
    let source = at("a source.rs");
    assert_eq!(stale(&binary), Some("is missing".into()));
    fs::write(&source, "").unwrap();
    fs::write(&binary, "").unwrap();
    let named = source.to_str().unwrap().replace(' ', "\\ ");
    fs::write(at("binary.d"), format!("{}: {named}\n", binary.display())).unwrap();
    assert_eq!(stale(&binary), None);
    let later = SystemTime::now() + std::time::Duration::from_secs(9);
    fs::File::options()
        .write(true)
        .open(&source)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert!(stale(&binary).unwrap().contains("is older than"));
    fs::remove_file(&source).unwrap();
    assert!(stale(&binary).is_some());
}
