//! The cluster under test: processes, each in a network of its own where the run needs it.

mod command;
mod network;

pub use command::{Launch, System};
pub use network::Network;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Target, Tls};
use crate::evidence::Trouble;
use crate::ops::Call;
use crate::pki;
use crate::sandbox::system;

/// How long a member may take to serve once it can.
pub const SERVE_TIME: Duration = Duration::from_secs(60);
/// How long one question to a member may take.
const ASK_TIME: Duration = Duration::from_secs(1);

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is made of.
    pub system: System,
    /// Number of members.
    pub members: usize,
    /// Whether each member gets a network namespace; needs a sandbox.
    pub networks: bool,
    /// Whether each member's data lies on a tmpfs of this size; needs a sandbox.
    pub disk_bytes: Option<u64>,
    /// Directory of data and logs.
    pub dir: PathBuf,
}

/// A running cluster. Dropping it kills it.
pub struct Cluster {
    plan: Plan,
    network: Network,
    tls: Tls,
    members: Vec<Member>,
    /// What went wrong by itself.
    pub troubles: Vec<Trouble>,
}

struct Member {
    child: Option<Child>,
    paused: bool,
    /// An exit by itself is expected: its disk is full.
    may_exit: bool,
}

impl Cluster {
    /// Makes the networks and disks and starts all members.
    ///
    /// # Errors
    ///
    /// When one of them cannot be made, or the members do not serve in time.
    pub async fn start(plan: Plan) -> Result<Cluster> {
        std::fs::create_dir_all(plan.dir.join("logs"))?;
        let network = if plan.networks {
            Network::namespaces(plan.members)?
        } else {
            Network::loopback(plan.members)?
        };
        let tls = pki::make(&plan.dir.join("pki"), &network.addresses())?;
        let mut cluster = Cluster {
            plan,
            network,
            tls,
            members: Vec::new(),
            troubles: Vec::new(),
        };
        for member in 0..cluster.plan.members {
            std::fs::create_dir_all(cluster.data(member))?;
            if let Some(bytes) = cluster.plan.disk_bytes {
                let path = cluster.data(member);
                let size = format!("size={bytes}");
                let path = path.to_str().context("a path that is not text")?;
                system("mount", &["-t", "tmpfs", "-o", &size, "chaos", path])?;
            }
            cluster.members.push(Member {
                child: None,
                paused: false,
                may_exit: false,
            });
        }
        for member in 0..cluster.plan.members {
            cluster.start_member(member)?;
        }
        cluster.wait_serving().await?;
        Ok(cluster)
    }

    /// Number of members.
    pub fn size(&self) -> usize {
        self.plan.members
    }

    /// The system the members are of.
    pub fn system(&self) -> &System {
        &self.plan.system
    }

    /// The members' networks.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Directory of a member's data.
    pub fn data(&self, member: usize) -> PathBuf {
        self.plan.dir.join(format!("data-{member}"))
    }

    fn log(&self, member: usize) -> PathBuf {
        self.plan.dir.join(format!("logs/member-{member}.log"))
    }

    /// Where clients find a member.
    pub fn target(&self, member: usize) -> Target {
        Target {
            net: std::sync::Arc::new(seams::RealNet),
            node: u32::try_from(member).unwrap_or(u32::MAX),
            address: self.network.client_address(member),
            tls: Some(self.tls.clone()),
        }
    }

    /// Where clients find all members.
    pub fn targets(&self) -> Vec<Target> {
        (0..self.size()).map(|member| self.target(member)).collect()
    }

    /// Starts a member that is down.
    ///
    /// # Errors
    ///
    /// When its process cannot be started.
    pub fn start_member(&mut self, member: usize) -> Result<()> {
        if self.members[member].child.is_some() {
            return Ok(());
        }
        let launch = Launch {
            member,
            members: self.plan.members,
            data: &self.data(member),
            network: &self.network,
            tls: &self.tls,
        };
        let arguments = self.plan.system.arguments(&launch)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(member))?;
        let (program, before) = self.network.wrap(member, self.plan.system.binary());
        let child = Command::new(program)
            .args(before)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start member {member}"))?;
        self.members[member].child = Some(child);
        self.members[member].may_exit = false;
        Ok(())
    }

    /// Starts every member that is down.
    ///
    /// # Errors
    ///
    /// When a process cannot be started.
    pub fn start_all(&mut self) -> Result<()> {
        (0..self.size()).try_for_each(|member| self.start_member(member))
    }

    /// `kill -9`s a member and reaps it.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        if let Some(mut child) = self.members[member].child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.members[member].paused = false;
        Ok(())
    }

    /// Stops a member's clock: SIGSTOP.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn pause(&mut self, member: usize) -> Result<()> {
        self.members[member].paused = true;
        self.signal(member, Signal::SIGSTOP)
    }

    /// Lets every paused member go on.
    ///
    /// # Errors
    ///
    /// When a signal cannot be sent.
    pub fn resume_all(&mut self) -> Result<()> {
        for member in 0..self.size() {
            if std::mem::take(&mut self.members[member].paused) {
                self.signal(member, Signal::SIGCONT)?;
            }
        }
        Ok(())
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        if let Some(child) = &self.members[member].child {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        }
        Ok(())
    }

    /// Says that a member may end by itself from now until it is started again.
    pub fn excuse_exit(&mut self, member: usize) {
        self.members[member].may_exit = true;
    }

    /// Whether a member's process runs. One that ended by itself is noted as a trouble, once.
    pub fn is_up(&mut self, member: usize) -> bool {
        let slot = &mut self.members[member];
        let Some(child) = &mut slot.child else {
            return false;
        };
        match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                slot.child = None;
                if !slot.may_exit {
                    let how = match (status.code(), status.signal()) {
                        (Some(code), _) => format!("with code {code}"),
                        (None, signal) => format!("by signal {signal:?}"),
                    };
                    let message = format!("member {member} ended by itself {how}");
                    self.troubles.push(Trouble {
                        of_store: true,
                        message,
                    });
                }
                false
            }
            Err(_) => false,
        }
    }

    /// The member that says of itself that it leads, in the highest term.
    pub async fn leader(&self) -> Option<usize> {
        let asked = (0..self.size()).map(|member| async move {
            let status = Client::new(self.target(member), ASK_TIME)
                .status()
                .await
                .ok()?;
            (status.id == status.leader).then_some((status.term, member))
        });
        let answers = futures::future::join_all(asked).await;
        answers
            .into_iter()
            .flatten()
            .max()
            .map(|(_, member)| member)
    }

    /// Waits until every member answers a linearizable read.
    ///
    /// # Errors
    ///
    /// Names the member that does not.
    pub async fn wait_serving(&mut self) -> Result<()> {
        let end = Instant::now() + SERVE_TIME;
        let probe = Call::Get {
            key: "probe".into(),
            serializable: false,
            revision: 0,
        };
        for member in 0..self.size() {
            loop {
                let mut client = Client::new(self.target(member), ASK_TIME);
                let Err(failure) = client.call(&probe).await else {
                    break;
                };
                if !self.is_up(member) {
                    anyhow::bail!(
                        "member {member} is not up; its last words: {}",
                        self.last_words(member)
                    );
                }
                if Instant::now() > end {
                    anyhow::bail!(
                        "member {member} does not serve within {SERVE_TIME:?}: {failure:?}"
                    );
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// The end of a member's log.
    fn last_words(&self, member: usize) -> String {
        let text = std::fs::read(self.log(member)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().last().unwrap_or("none").to_owned()
    }

    /// Looks for members' last words in their logs.
    pub fn read_logs(&mut self) {
        const LAST_WORDS: &[&str] = &["panicked at", "panic: ", "SIGSEGV", "fatal error: "];
        for member in 0..self.size() {
            let text = std::fs::read(self.log(member)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let found = text
                .lines()
                .find(|line| LAST_WORDS.iter().any(|word| line.contains(word)));
            let excused = self.members[member].may_exit || self.plan.disk_bytes.is_some();
            if let Some(line) = found.filter(|_| !excused) {
                let message = format!("log of member {member}: {line}");
                self.troubles.push(Trouble {
                    of_store: true,
                    message,
                });
            }
        }
    }

    /// Kills all members and removes their data.
    pub fn destroy(mut self) {
        for member in 0..self.size() {
            let _ = self.kill(member);
            let data = self.data(member);
            if self.plan.disk_bytes.is_some() {
                let _ = system("umount", &["-l", &data.to_string_lossy()]);
            }
            let _ = std::fs::remove_dir_all(data);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            let _ = self.kill(member);
        }
    }
}

/// The newest file below `dir` whose name ends with `suffix`, by name.
pub fn newest_file(dir: &Path, suffix: &str) -> Option<PathBuf> {
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
