//! Masters under `trireme dev`: started, measured, restarted.

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

use crate::connection::Target;

const MASTERS: u16 = 3;

/// Three masters.
pub(crate) struct Cluster {
    dir: TempDir,
    program: PathBuf,
    supervisor: Child,
    base: u16,
}

impl Cluster {
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let base = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let base = base.clamp(10_000, 60_000);
        let mut supervisor = Command::new(program)
            .args(["dev", "--port-base", &base.to_string(), "--data"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start trireme dev")?;
        let out = supervisor.stdout.take().context("no output")?;
        let is_ready = BufReader::new(out)
            .lines()
            .map_while(Result::ok)
            .any(|line| line == "ready");
        if !is_ready {
            bail!("the masters did not become ready");
        }
        Ok(Self {
            dir,
            program: program.to_path_buf(),
            supervisor,
            base,
        })
    }

    /// The APIs of all masters.
    pub(crate) fn targets(&self) -> Result<Vec<Target>> {
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
            address: format!("127.0.0.1:{}", self.base + 10 * master + 2),
            tls: tls.clone(),
        };
        Ok((1..=MASTERS).map(target).collect())
    }

    fn pid(&self, master: u16) -> Option<i32> {
        let file = self.dir.path().join(format!("master-{master}/pid"));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Processor time of all masters together.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks = (1..=MASTERS).filter_map(|n| cpu_ticks(self.pid(n)?));
        // Linux counts in hundredths of a second.
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Memory of a master, about.
    pub(crate) fn memory_mib(&self) -> u64 {
        let kilobytes = (1..=MASTERS).filter_map(|n| {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid(n)?)).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        kilobytes.sum::<u64>() / u64::from(MASTERS) / 1024
    }

    /// Kills a master and starts it again; yields the time until it is ready.
    pub(crate) fn restart_one(&mut self) -> Result<Duration> {
        let pid = self.pid(1).context("master-1 is down")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        while self.pid(1) == Some(pid) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let started = Instant::now();
        let status = Command::new(&self.program)
            .args(["dev", "start", "master-1", "--data"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("master-1 was not started");
        }
        let kubeconfig = self.dir.path().join("kubeconfig");
        loop {
            let ready = Command::new("kubectl")
                .env("KUBECONFIG", &kubeconfig)
                .args(["--context=master-1", "get", "--raw", "/readyz"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if ready.success() {
                return Ok(started.elapsed());
            }
            if started.elapsed() > Duration::from_secs(60) {
                bail!("master-1 is not ready after a minute");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.supervisor.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.supervisor.wait();
    }
}

fn cpu_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
