//! Puts the version with its commit into the binary.
//!
//! It is not named `TRIREME_…`: test runners hand it on to the program, where such a name would be
//! an unknown setting. `BUILD_COMMIT` names the commit where there is no git, as in a build from a tarball.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    // Relative to this package; in a worktree they lie elsewhere.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let given = std::env::var("BUILD_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = given
        .or_else(described)
        .unwrap_or_else(|| "unknown commit".into());
    println!(
        "cargo:rustc-env=LONG_VERSION={} ({commit})",
        env!("CARGO_PKG_VERSION")
    );
}

/// The commit and its day, such as `0a1b2c3d4e 2026-11-21`.
fn described() -> Option<String> {
    git(&[
        "log",
        "-1",
        "--abbrev=10",
        "--date=short",
        "--format=%h %cd",
    ])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !text.is_empty()).then_some(text)
}
