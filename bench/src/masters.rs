//! Masters under `trireme dev`, and hollow nodes beside them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// How long a process may take to end, or to be known to have ended.
const END_TIME: Duration = Duration::from_secs(30);
/// Between looks at a process.
const LOOK: Duration = Duration::from_millis(10);

/// A server of the API, and how to be let in.
#[derive(Clone)]
pub struct Target {
    /// Host and port.
    pub address: String,
    /// Roots, and the administrator's certificate.
    pub tls: Arc<ClientConfig>,
}

/// Which masters.
pub struct Options<'a> {
    /// The trireme binary.
    pub program: &'a Path,
    /// How many masters.
    pub masters: u16,
    /// How many hollow nodes.
    pub hollow: u32,
    /// Settings of every master, as `KEY=VALUE`.
    pub settings: &'a [&'a str],
    /// Settings of whatever runs hollow nodes.
    pub node_settings: &'a [&'a str],
}

impl<'a> Options<'a> {
    /// Three masters as they are by default, without nodes.
    pub fn new(program: &'a Path) -> Self {
        Self {
            program,
            masters: 3,
            hollow: 0,
            settings: &[],
            node_settings: &[],
        }
    }
}

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, with all that is shared.
    pub resident: u64,
    /// Resident, with its share of what is shared.
    pub proportional: u64,
}

/// Masters that run; they are stopped when this is dropped.
pub struct Cluster {
    dir: TempDir,
    program: PathBuf,
    supervisor: Child,
    base: u16,
    masters: u16,
}

impl Cluster {
    /// Starts masters and nodes, and waits until all are ready.
    ///
    /// # Errors
    /// If they do not become ready.
    pub fn start(options: &Options<'_>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let base = free_ports(options.masters)?;
        let mut command = Command::new(options.program);
        command.arg("dev").arg("--data").arg(dir.path());
        command.args(["--port-base", &base.to_string()]);
        command.args(["--masters", &options.masters.to_string()]);
        command.args(["--hollow", &options.hollow.to_string()]);
        for setting in options.settings {
            command.args(["--set", setting]);
        }
        for setting in options.node_settings {
            command.args(["--node-set", setting]);
        }
        let mut supervisor = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start trireme dev")?;
        let out = supervisor.stdout.take().context("no output")?;
        let cluster = Self {
            dir,
            program: options.program.to_path_buf(),
            supervisor,
            base,
            masters: options.masters,
        };
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        if !lines.any(|line| line == "ready") {
            bail!("the masters did not become ready");
        }
        // What it says of processes that end is read, so that it is never held up.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(cluster)
    }

    /// The numbers of the masters.
    pub fn masters(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.masters
    }

    /// The directory of the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The binary that the masters run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command of the binary on this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--data").arg(self.dir.path());
        command
    }

    /// Where the API of a master is.
    pub fn address(&self, master: u16) -> String {
        format!("127.0.0.1:{}", self.base + 10 * master + 2)
    }

    /// Where clients of the store reach a master.
    pub fn store_port(&self, master: u16) -> u16 {
        self.base + 10 * master
    }

    /// The APIs of all masters.
    ///
    /// # Errors
    /// If certificates cannot be read.
    pub fn targets(&self) -> Result<Vec<Target>> {
        let pki = self.dir.path().join("pki");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("api-ca.crt"))?)?;
        let certificate = CertificateDer::from_pem_file(pki.join("api-admin.crt"))?;
        let key = PrivateKeyDer::from_pem_file(pki.join("api-admin.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        let tls = Arc::new(tls);
        let target = |master| Target {
            address: self.address(master),
            tls: tls.clone(),
        };
        Ok(self.masters().map(target).collect())
    }

    fn pid(&self, master: u16) -> Option<i32> {
        let file = self.dir.path().join(format!("master-{master}/pid"));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Processor time of all masters together.
    pub fn cpu(&self) -> Duration {
        let each = self.masters().filter_map(|n| self.cpu_of(n));
        each.sum()
    }

    /// Processor time of a master that is up.
    pub fn cpu_of(&self, master: u16) -> Option<Duration> {
        processor_time(self.pid(master)?)
    }

    /// Memory of each master that is up.
    pub fn memory(&self) -> Vec<Memory> {
        let of = |n| memory(self.pid(n)?);
        self.masters().filter_map(of).collect()
    }

    /// Sends a signal to a master and waits until it has ended.
    ///
    /// # Errors
    /// If it was down, or does not end.
    pub fn end(&self, master: u16, signal: Signal) -> Result<()> {
        self.signal(master, signal)?;
        self.wait_down(master)
    }

    /// Sends a signal to a master.
    ///
    /// # Errors
    /// If it is down.
    pub fn signal(&self, master: u16, signal: Signal) -> Result<()> {
        let pid = self.pid(master).context("the master is down")?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Waits until the supervisor knows that a master has ended.
    ///
    /// # Errors
    /// If it does not end.
    pub fn wait_down(&self, master: u16) -> Result<()> {
        let began = Instant::now();
        while let Some(pid) = self.pid(master) {
            if began.elapsed() > END_TIME {
                bail!("master-{master} (pid {pid}) does not end");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Starts a master that is down; it need not serve yet.
    ///
    /// # Errors
    /// If the supervisor refuses.
    pub fn start_master(&self, master: u16) -> Result<()> {
        let mut command = self.command(&["dev", "start", &format!("master-{master}")]);
        if !command.stdout(Stdio::null()).status()?.success() {
            bail!("master-{master} was not started");
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.supervisor.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.supervisor.wait();
    }
}

/// The first of the ports that so many masters take, all free, and below those that the kernel gives to
/// connections: these come and go while masters are down.
fn free_ports(masters: u16) -> Result<u16> {
    let count = 10 * (masters + 1);
    let places = (32_000 - 10_000) / count;
    let first = u16::try_from(std::process::id() % u32::from(places))?;
    let mut bases = (0..places).map(|at| 10_000 + (first + at) % places * count);
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    bases
        .find(|base| (*base..base + count).all(is_free))
        .context("there are no free ports")
}

/// Processor time of a process, in the hundredths of a second that Linux counts in.
pub fn processor_time(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

fn memory(pid: i32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Memory {
        resident: of("Rss:")?,
        proportional: of("Pss:")?,
    })
}
