//! A place of its own for a run: network, processes and mounts that vanish with it.
//!
//! The program starts itself again inside new network, process and mount namespaces. Whatever
//! ends the inner program, the kernel then kills every process in its process namespace and
//! drops its networks and mounts: nothing has to be cleaned up, not even after `kill -9`.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Set in the inner program.
const MARK: &str = "CHAOS_SANDBOX";

/// Whether this is the inner program.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether namespaces can be made here: by root, where the machine allows it.
pub fn is_possible() -> bool {
    let us = std::fs::metadata("/proc/self");
    let try_it = [
        "--net",
        "--pid",
        "--mount",
        "--fork",
        "--mount-proc",
        "--",
        "true",
    ];
    us.is_ok_and(|us| us.uid() == 0) && system("unshare", &try_it).is_ok()
}

/// Runs this program again with the same arguments in a sandbox, and waits for it.
///
/// # Errors
///
/// When it cannot be started.
pub async fn enter() -> Result<ExitCode> {
    let program = std::env::current_exe().context("find this program")?;
    let mut child = tokio::process::Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start unshare (util-linux)")?;
    // The inner program ends when this pipe does, so it cannot outlive us.
    let _lifeline = child.stdin.take();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = interrupt.recv() => { child.kill().await?; return Ok(ExitCode::from(130)); }
        _ = terminate.recv() => { child.kill().await?; return Ok(ExitCode::from(143)); }
    };
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(3);
    Ok(ExitCode::from(code))
}

/// In the inner program: ends it when the outer one is gone.
pub fn end_with_outer() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        std::process::exit(3);
    });
}

/// Runs a command of the system and returns what it printed.
///
/// # Errors
///
/// With what it printed to standard error when it failed.
pub fn system(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{program} {}: {}", arguments.join(" "), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
