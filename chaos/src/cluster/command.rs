//! How a member of each system is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Network;
use crate::client::Tls;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub enum System {
    /// etcd, the control: its binary.
    Etcd(PathBuf),
    /// Trireme: its binary and the arguments of a member with placeholders.
    Trireme(PathBuf, String),
}

/// Arguments of a Trireme member unless told otherwise.
///
/// Placeholders: `{name}`, `{data}`, `{client}` and `{peer}` (the member's `host:port`),
/// `{begin}` (how it finds its cluster), `{ca}`, `{cert}` and `{key}` (files). In `{begin}`:
/// `{founders}` and `{all}` (members as `name=https://host:port`), `{others}` (as URLs).
const TRIREME_ARGUMENTS: &str = "store --name {name} --data-dir {data} \
    --listen-client-urls https://{client} --advertise-client-urls https://{client} \
    --listen-peer-urls https://{peer} --initial-advertise-peer-urls https://{peer} \
    {begin} \
    --cert-file {cert} --key-file {key} --trusted-ca-file {ca} \
    --peer-cert-file {cert} --peer-key-file {key} --peer-trusted-ca-file {ca}";

/// Likewise for etcd. Frequent snapshots, so that members that were away get one.
const ETCD_ARGUMENTS: &str = "--name {name} --data-dir {data} \
    --listen-client-urls https://{client} --advertise-client-urls https://{client} \
    --listen-peer-urls https://{peer} --initial-advertise-peer-urls https://{peer} \
    {begin} \
    --cert-file {cert} --key-file {key} --trusted-ca-file {ca} --client-cert-auth \
    --peer-cert-file {cert} --peer-key-file {key} --peer-trusted-ca-file {ca} \
    --peer-client-cert-auth \
    --heartbeat-interval 100 --election-timeout 1000 --snapshot-count 100 \
    --logger zap --log-level warn";

/// One start of one member.
pub struct Launch<'a> {
    /// Which one.
    pub member: usize,
    /// Whether it comes to a cluster that was there before.
    pub joins: bool,
    /// Number of members that founded the cluster.
    pub founders: usize,
    /// The other members there are now.
    pub others: Vec<usize>,
    /// Its data.
    pub data: &'a Path,
    /// Where everybody is.
    pub network: &'a Network,
    /// Certificates.
    pub tls: &'a Tls,
}

impl System {
    /// A system from its names on the command line.
    ///
    /// # Errors
    ///
    /// When there is no such binary.
    pub fn new(
        control: Option<&str>,
        binary: Option<&Path>,
        arguments: Option<&str>,
    ) -> Result<System> {
        let found = |path: &Path| {
            std::fs::canonicalize(path)
                .with_context(|| format!("no such binary: {}", path.display()))
        };
        match (control, binary) {
            (Some("etcd"), binary) => Ok(System::Etcd(found(
                binary.unwrap_or(Path::new("/usr/bin/etcd")),
            )?)),
            (Some(other), _) => bail!("the only control is etcd, not {other}"),
            (None, Some(binary)) => Ok(System::Trireme(
                found(binary)?,
                arguments.unwrap_or(TRIREME_ARGUMENTS).to_owned(),
            )),
            (None, None) => {
                bail!("name the binary under test (--binary) or a control (--control etcd)")
            }
        }
    }

    /// `etcd` or `trireme`.
    pub fn name(&self) -> &'static str {
        match self {
            System::Etcd(_) => "etcd",
            System::Trireme(..) => "trireme",
        }
    }

    /// Its binary.
    pub fn binary(&self) -> &Path {
        let (System::Etcd(path) | System::Trireme(path, _)) = self;
        path
    }

    /// The binary with its size and the first line of its version.
    pub fn identity(&self) -> String {
        let path = self.binary();
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let output = Command::new(path).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let version = text.unwrap_or_default();
        let version = version
            .lines()
            .next()
            .unwrap_or("version unknown")
            .to_owned();
        format!("{}, {bytes} bytes, {version}", path.display())
    }

    /// Seconds' thousandths by which the system may end a lease early: etcd 3.4 renews on a
    /// leader that may have been deposed up to an election timeout ago.
    pub fn lease_early_ms(&self) -> u64 {
        match self {
            System::Etcd(_) => 2000,
            System::Trireme(..) => 0,
        }
    }

    /// The arguments that start a member.
    ///
    /// # Errors
    ///
    /// When a path is not text.
    pub fn arguments(&self, launch: &Launch<'_>) -> Result<Vec<String>> {
        let (template, begin) = match (self, launch.joins) {
            (System::Etcd(_), false) => (
                ETCD_ARGUMENTS,
                "--initial-cluster {founders} --initial-cluster-state new",
            ),
            (System::Etcd(_), true) => (
                ETCD_ARGUMENTS,
                "--initial-cluster {all} --initial-cluster-state existing",
            ),
            (System::Trireme(_, arguments), false) => {
                (arguments.as_str(), "--initial-cluster {founders}")
            }
            // A learner that the harness gives its vote, as with etcd.
            (System::Trireme(_, arguments), true) => {
                (arguments.as_str(), "--join {others} --learner")
            }
        };
        let data = launch.data.to_str().context("a path that is not text")?;
        let url = |member: usize| format!("https://{}", launch.network.peer_address(member));
        let named = |member: usize| format!("m{member}={}", url(member));
        let list =
            |members: &mut dyn Iterator<Item = String>| members.collect::<Vec<_>>().join(",");
        let others = || launch.others.iter().copied();
        let founders = list(&mut (0..launch.founders).map(named));
        let all = list(&mut others().chain([launch.member]).map(named));
        let others = list(&mut others().map(url));
        let fill = |word: &str| {
            word.replace("{name}", &format!("m{}", launch.member))
                .replace("{data}", data)
                .replace("{client}", &launch.network.client_address(launch.member))
                .replace("{peer}", &launch.network.peer_address(launch.member))
                .replace("{founders}", &founders)
                .replace("{all}", &all)
                .replace("{others}", &others)
                .replace("{ca}", &launch.tls.ca.to_string_lossy())
                .replace("{cert}", &launch.tls.cert.to_string_lossy())
                .replace("{key}", &launch.tls.key.to_string_lossy())
        };
        let words = template.replace("{begin}", begin);
        Ok(words.split_whitespace().map(fill).collect())
    }
}
