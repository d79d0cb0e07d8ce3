//! One child process: it ends with its parent, and a signal never reaches a stranger.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};
use tokio::sync::watch;

/// Tells a child which process it must not outlive.
const PARENT: &str = "TRIREME_DIE_WITH_PARENT";

/// Makes this process end when the parent does, if its parent asked for that.
///
/// To be called first thing in `main`. Ends the process if the parent is gone already.
pub fn die_with_parent() {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok()) else {
        return;
    };
    let armed = prctl::set_pdeathsig(Signal::SIGKILL);
    // Between the fork and now the parent may have gone without a signal.
    if armed.is_err() || getppid() != Pid::from_raw(parent) {
        std::process::exit(1);
    }
}

/// A running or ended child process.
#[derive(Clone)]
pub struct Process {
    pid: u32,
    /// Whether the process ID is still the child's: until it was reaped.
    unreaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts a child.
    ///
    /// The kernel ends a child when the *thread* that forked it ends, hence one thread per child,
    /// which forks it and then waits for it.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Process> {
        command.env(PARENT, std::process::id().to_string());
        let unreaped = Arc::new(Mutex::new(true));
        let (ended_sender, ended) = watch::channel(None);
        let (started_sender, started) = std::sync::mpsc::sync_channel(1);
        let guard = Arc::clone(&unreaped);
        thread::Builder::new()
            .name("child".into())
            .spawn(move || match command.spawn() {
                Ok(child) => {
                    // The other side waits for this.
                    let _ = started_sender.send(Ok(child.id()));
                    // Nobody may be left who wants to know.
                    let _ = ended_sender.send(Some(reap(child, &guard)));
                }
                Err(error) => {
                    let _ = started_sender.send(Err(error));
                }
            })?;
        let pid = started.recv().map_err(io::Error::other)??;
        Ok(Process {
            pid,
            unreaped,
            ended,
        })
    }

    /// The process ID.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The thread ended without a word, so the child is gone as well.
            Err(_) => ExitStatus::default(),
        }
    }

    /// Sends a signal; does nothing if the process has ended.
    pub fn signal(&self, signal: Signal) {
        let unreaped = self.unreaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *unreaped && let Ok(pid) = i32::try_from(self.pid) {
            // The process exists (perhaps as a zombie) and is ours, so this cannot fail.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Waits for the end of a child. Only after the lock is taken is the process ID given back.
fn reap(mut child: Child, unreaped: &Mutex<bool>) -> ExitStatus {
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(Pid::from_raw(pid)), flags) == Err(Errno::EINTR) {}
    let mut unreaped = unreaped.lock().unwrap_or_else(PoisonError::into_inner);
    *unreaped = false;
    child.wait().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[tokio::test]
    async fn a_child_ends_and_can_no_longer_be_signalled() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::spawn(command).unwrap();
        assert_eq!(process.status(), None);
        process.signal(Signal::SIGKILL);
        assert_eq!(process.ended().await.signal(), Some(9));
        assert!(!*process.unreaped.lock().unwrap());
        process.signal(Signal::SIGKILL);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_error() {
        assert!(Process::spawn(Command::new("/nonexistent/program")).is_err());
    }
}
