//! Clusters of three processes: starting, killing, restarting and measuring them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Options;

/// How long a cluster or a member may take to come up.
const START_TIME: Duration = Duration::from_secs(60);
const MEMBERS: usize = 3;

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) enum System {
    Etcd(PathBuf),
    Trireme(PathBuf),
}

impl System {
    pub(crate) fn etcd(path: &Path) -> Result<System> {
        Ok(System::Etcd(existing(path)?))
    }

    pub(crate) fn trireme(path: &Path) -> Result<System> {
        Ok(System::Trireme(existing(path)?))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            System::Etcd(_) => "etcd",
            System::Trireme(_) => "trireme",
        }
    }

    fn path(&self) -> &Path {
        let (System::Etcd(path) | System::Trireme(path)) = self;
        path
    }

    /// The first line of its version.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(self.path()).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or("unknown")
            .to_owned()
    }
}

fn existing(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("no such binary: {}", path.display()))
}

/// A running cluster; dropping it kills it.
pub(crate) struct Cluster {
    pub(crate) system: System,
    /// `host:port` of each member.
    pub(crate) endpoints: Vec<String>,
    dir: TempDir,
    port_base: u16,
    /// etcd's members; `None` when one is down.
    members: Vec<Option<Child>>,
    /// Trireme's supervisor.
    supervisor: Option<Child>,
}

impl Cluster {
    /// Starts three members on fresh data and waits until all of them serve.
    pub(crate) fn start(system: &System, options: &Options) -> Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("store-bench-")
            .tempdir_in(&options.dir)?;
        *DATA.lock().unwrap_or_else(PoisonError::into_inner) = Some(dir.path().to_owned());
        let mut cluster = Cluster {
            system: system.clone(),
            endpoints: Vec::new(),
            dir,
            port_base: options.port_base,
            members: Vec::new(),
            supervisor: None,
        };
        match system {
            System::Etcd(_) => {
                for member in 0..MEMBERS {
                    cluster
                        .endpoints
                        .push(format!("127.0.0.1:{}", cluster.port(member, 0)));
                    let child = cluster.spawn_etcd(member)?;
                    cluster.members.push(Some(child));
                }
            }
            System::Trireme(path) => cluster.spawn_trireme(&path.clone())?,
        }
        cluster.wait_serving(&[0, 1, 2])?;
        Ok(cluster)
    }

    fn port(&self, member: usize, offset: u16) -> u16 {
        self.port_base + 10 * member as u16 + offset
    }

    fn spawn_etcd(&self, member: usize) -> Result<Child> {
        let url = |member, offset| format!("http://127.0.0.1:{}", self.port(member, offset));
        let peers: Vec<String> = (0..MEMBERS)
            .map(|m| format!("m{m}={}", url(m, 1)))
            .collect();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("m{member}.log")))?;
        let child = Command::new(self.system.path())
            .args(["--name", &format!("m{member}")])
            .arg("--data-dir")
            .arg(self.dir.path().join(format!("m{member}")))
            .args(["--listen-client-urls", &url(member, 0)])
            .args(["--advertise-client-urls", &url(member, 0)])
            .args(["--listen-peer-urls", &url(member, 1)])
            .args(["--initial-advertise-peer-urls", &url(member, 1)])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", "17179869184"])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start etcd")?;
        remember(child.id());
        Ok(child)
    }

    /// `trireme dev` starts and supervises the members; see the contract for scripts.
    fn spawn_trireme(&mut self, path: &Path) -> Result<()> {
        let log = File::create(self.dir.path().join("dev.log"))?;
        let data = self.dir.path().join("data");
        let mut child = Command::new(path)
            .args(["dev", "--store-only", "--masters", "3", "--insecure"])
            .arg("--data")
            .arg(&data)
            .args(["--port-base", &self.port_base.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start trireme dev")?;
        remember(child.id());
        let output = child.stdout.take();
        self.supervisor = Some(child);
        let (sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output
                .map(BufReader::new)
                .into_iter()
                .flat_map(BufRead::lines)
            {
                if line.is_ok_and(|line| line.trim() == "ready") {
                    let _ = sender.send(());
                }
            }
        });
        if ready.recv_timeout(START_TIME).is_err() {
            let log = fs::read_to_string(self.dir.path().join("dev.log")).unwrap_or_default();
            bail!("trireme dev ended or did not say ready within {START_TIME:?}:\n{log}");
        }
        let env = fs::read_to_string(data.join("etcdctl.env"))?;
        let endpoints = env
            .lines()
            .find_map(|line| {
                line.trim_start_matches("export ")
                    .strip_prefix("ETCDCTL_ENDPOINTS=")
            })
            .ok_or_else(|| anyhow!("etcdctl.env names no endpoints"))?;
        self.endpoints = endpoints
            .trim_matches(['"', '\''])
            .split(',')
            .map(|url| url.rsplit('/').next().unwrap_or(url).to_owned())
            .collect();
        for member in 0..self.endpoints.len() {
            remember(self.pid(member)?);
        }
        Ok(())
    }

    /// Waits until these members answer a linearizable read.
    pub(crate) fn wait_serving(&self, members: &[usize]) -> Result<()> {
        let end = Instant::now() + START_TIME;
        for member in members {
            let endpoint = &self.endpoints[*member];
            loop {
                match crate::load::probe(endpoint, false) {
                    Ok(()) => break,
                    Err(error) if Instant::now() > end => {
                        return Err(error.context(format!("{endpoint} does not serve")));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        Ok(())
    }

    /// The process of a member.
    pub(crate) fn pid(&self, member: usize) -> Result<u32> {
        if let System::Etcd(_) = self.system {
            let child = self.members.get(member).and_then(Option::as_ref);
            return child
                .map(Child::id)
                .ok_or_else(|| anyhow!("member {member} is down"));
        }
        let path = self
            .dir
            .path()
            .join(format!("data/master-{}/pid", member + 1));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    fn pids(&self) -> Vec<u32> {
        (0..self.endpoints.len())
            .filter_map(|member| self.pid(member).ok())
            .collect()
    }

    /// Signals a member.
    pub(crate) fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid(member)? as i32), signal)?)
    }

    /// Waits until the process of a member that was told to end is gone.
    pub(crate) fn reap(&mut self, member: usize) -> Result<()> {
        let Ok(pid) = self.pid(member) else {
            return Ok(());
        };
        let end = Instant::now() + START_TIME;
        loop {
            let gone = match self.members.get_mut(member).and_then(Option::as_mut) {
                Some(child) => child.try_wait()?.is_some(),
                None => is_gone(pid),
            };
            if gone {
                break;
            }
            if Instant::now() > end {
                bail!("process {pid} of member {member} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(slot) = self.members.get_mut(member) {
            *slot = None;
        }
        Ok(())
    }

    /// Starts a member that is down; returns at once.
    pub(crate) fn bring_up(&mut self, member: usize) -> Result<()> {
        if let System::Etcd(_) = self.system {
            self.members[member] = Some(self.spawn_etcd(member)?);
            return Ok(());
        }
        let mut starter = Command::new(self.system.path())
            .args(["dev", "start", &format!("master-{}", member + 1), "--data"])
            .arg(self.dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("trireme dev start")?;
        // Reaps the starter whenever it ends.
        std::thread::spawn(move || drop(starter.wait()));
        Ok(())
    }

    /// Processor time of all members so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.pids().into_iter().map(cpu_of).sum()
    }

    /// Resident memory of each member: all of it, and what is not backed by files, in bytes.
    pub(crate) fn memory(&self) -> Vec<(u64, u64)> {
        self.pids().into_iter().map(memory_of).collect()
    }

    /// Stops everything, gracefully where that is quick.
    pub(crate) fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let pids = self.pids();
        let supervisor = self.supervisor.as_ref().map(Child::id);
        for pid in supervisor
            .iter()
            .chain(if supervisor.is_some() { &[][..] } else { &pids })
        {
            let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(10);
        for child in self
            .members
            .iter_mut()
            .flatten()
            .chain(self.supervisor.as_mut())
        {
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(child.kill());
            drop(child.wait());
        }
        for pid in pids
            .into_iter()
            .filter(|pid| supervisor.is_some() && !is_gone(*pid))
        {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        self.members.clear();
        self.supervisor = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}

/// utime + stime of a process; zero when it is gone.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // utime and stime are fields 14 and 15; `rest` begins with field 3.
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // Linux reports these in hundredths of a second on every architecture we run on.
    Duration::from_millis(ticks * 10)
}

fn memory_of(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        number
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    (field("VmRSS"), field("RssAnon"))
}

/// Processes to kill when this one is told to stop.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Data of the cluster that runs, to be removed likewise.
static DATA: Mutex<Option<PathBuf>> = Mutex::new(None);

fn remember(pid: u32) {
    STARTED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(pid);
}

/// On SIGINT or SIGTERM kills what was started and ends.
pub(crate) fn kill_members_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            for pid in STARTED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                // A number may have been given to another process since: only kill ours.
                if is_ours(*pid) {
                    let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
                }
            }
            if let Some(data) = DATA.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                // Processes that are just dying may still create files: once more.
                for _ in 0..20 {
                    if fs::remove_dir_all(data).is_ok() || !data.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            std::process::exit(130);
        });
    });
    Ok(())
}

/// Whether a process was started by this program or by what it started.
fn is_ours(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains("store-bench-")
}
