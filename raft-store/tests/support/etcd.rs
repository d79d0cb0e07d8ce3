//! Debian's etcd: a single member in a directory of its own, on free ports, which ends with the
//! test that started it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a real process outside of any simulation; each test uses its own part"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where Debian puts it.
pub const BINARY: &str = "/usr/bin/etcd";
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Etcd {
    /// `http://host:port` for clients.
    pub endpoint: String,
    pub home: TempDir,
    process: Child,
}

impl Etcd {
    pub fn is_installed() -> bool {
        Path::new(BINARY).exists()
    }

    /// Starts it with further flags and waits until it serves. Blocks.
    pub fn start(further: &[&str]) -> Etcd {
        // Another process may take a port between its choice and its use.
        let mut attempts = (0..5).filter_map(|_| Etcd::try_start(further));
        attempts.next().expect("etcd does not start")
    }

    fn try_start(further: &[&str]) -> Option<Etcd> {
        let home = TempDir::new().unwrap();
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = listeners.map(|l| format!("http://{}", l.local_addr().unwrap()));
        let process = Command::new(BINARY)
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--logger", "zap", "--log-level", "error"])
            .args(further)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut etcd = Etcd {
            endpoint: client,
            home,
            process,
        };
        let deadline = Instant::now() + START_LIMIT;
        while !etcd.is_healthy() {
            let exited = etcd.process.try_wait().unwrap().is_some();
            if exited || Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(etcd)
    }

    fn is_healthy(&self) -> bool {
        let address = self.endpoint.trim_start_matches("http://");
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(stream, "GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains("\"true\""))
    }

    /// Stops it in good order; yields its database file, which is complete then.
    pub fn stop(&mut self) -> PathBuf {
        let id = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.unwrap().success());
        self.process.wait().unwrap();
        self.home.path().join("data/member/snap/db")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
