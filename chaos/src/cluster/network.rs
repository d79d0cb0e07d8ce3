//! Where members are: on loopback, or each on a host of its own made of a network namespace.
//!
//! A host is a sleeping process that holds the namespace; a bridge in the sandbox's network
//! joins all hosts and our clients. Packets from a blocked host are dropped on input, so a cut
//! can be one-way.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sandbox::{is_inside, system};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// A namespace must exist within this time.
const MAKE_TIME: Duration = Duration::from_secs(10);

/// The members' places.
pub struct Network {
    places: Vec<Place>,
    /// Holders of the namespaces; empty on loopback.
    hosts: Vec<Child>,
}

struct Place {
    ip: String,
    client_port: u16,
    peer_port: u16,
}

impl Network {
    /// Everybody on 127.0.0.1 with free ports.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub fn loopback(members: usize) -> Result<Network> {
        // All are held until all are known, so that no two are the same.
        let mut held = Vec::new();
        let mut port = || -> Result<u16> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        let mut places = Vec::new();
        for _ in 0..members {
            let ip = "127.0.0.1".to_owned();
            places.push(Place {
                ip,
                client_port: port()?,
                peer_port: port()?,
            });
        }
        Ok(Network {
            places,
            hosts: Vec::new(),
        })
    }

    /// A namespace for each.
    ///
    /// # Errors
    ///
    /// Outside of a sandbox, or when the tools refuse.
    pub fn namespaces(members: usize) -> Result<Network> {
        if !is_inside() {
            bail!("network namespaces are made only inside a sandbox");
        }
        system("ip", &["link", "set", "lo", "up"])?;
        system("ip", &["link", "add", "chaos0", "type", "bridge"])?;
        system("ip", &["addr", "add", "10.77.0.254/24", "dev", "chaos0"])?;
        system("ip", &["link", "set", "chaos0", "up"])?;
        let mut network = Network {
            places: Vec::new(),
            hosts: Vec::new(),
        };
        for member in 0..members {
            let ip = format!("10.77.0.{}", member + 1);
            let place = Place {
                ip,
                client_port: CLIENT_PORT,
                peer_port: PEER_PORT,
            };
            network.places.push(place);
            network.add_host(member)?;
        }
        Ok(network)
    }

    fn add_host(&mut self, member: usize) -> Result<()> {
        let host = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("start unshare")?;
        let pid = host.id().to_string();
        self.hosts.push(host);
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        let end = Instant::now() + MAKE_TIME;
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == ours) {
            if Instant::now() > end {
                bail!("no network namespace within {MAKE_TIME:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let link = format!("host{member}");
        let veth = [
            "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ];
        system("ip", &veth)?;
        system("ip", &["link", "set", &link, "master", "chaos0", "up"])?;
        let address = format!("{}/24", self.places[member].ip);
        self.inside(member, &["ip", "link", "set", "lo", "up"])?;
        self.inside(member, &["ip", "addr", "add", &address, "dev", "eth0"])?;
        self.inside(member, &["ip", "link", "set", "eth0", "up"])?;
        self.inside(member, &["nft", "add table inet chaos"])?;
        self.inside(
            member,
            &["nft", "add set inet chaos blocked { type ipv4_addr; }"],
        )?;
        let chain = "add chain inet chaos input { type filter hook input priority 0; }";
        self.inside(member, &["nft", chain])?;
        self.inside(
            member,
            &["nft", "add rule inet chaos input ip saddr @blocked drop"],
        )?;
        // Healed links are used again within a second; older kernels lack the setting.
        let _ = self.inside(member, &["sysctl", "-qw", "net.ipv4.tcp_rto_max_ms=1000"]);
        Ok(())
    }

    fn inside(&self, member: usize, command: &[&str]) -> Result<String> {
        let pid = self.hosts[member].id().to_string();
        let mut arguments = vec!["-t", &pid, "-n", "--"];
        arguments.extend(command);
        system("nsenter", &arguments)
    }

    /// Whether members have networks that can be cut.
    pub fn can_be_cut(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The addresses that certificates must be good for.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = self.places.iter().filter_map(|place| place.ip.parse().ok());
        let mut all: Vec<IpAddr> = all.chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).collect();
        all.sort();
        all.dedup();
        all
    }

    /// `host:port` for clients.
    pub fn client_address(&self, member: usize) -> String {
        let place = &self.places[member];
        format!("{}:{}", place.ip, place.client_port)
    }

    /// `host:port` for other members.
    pub fn peer_address(&self, member: usize) -> String {
        let place = &self.places[member];
        format!("{}:{}", place.ip, place.peer_port)
    }

    /// Program and first arguments that start `binary` at a member's place.
    pub fn wrap<'a>(&self, member: usize, binary: &'a Path) -> (&'a Path, Vec<String>) {
        match self.hosts.get(member) {
            None => (binary, Vec::new()),
            Some(host) => {
                let binary = binary.to_string_lossy().into_owned();
                let pid = host.id().to_string();
                let arguments = ["-t", &pid, "-n", "--", &binary].map(str::to_owned);
                (Path::new("nsenter"), arguments.to_vec())
            }
        }
    }

    /// Member `to` hears nothing more from member `from`.
    ///
    /// # Errors
    ///
    /// When nft refuses.
    pub fn deafen(&self, to: usize, from: usize) -> Result<()> {
        let rule = format!(
            "add element inet chaos blocked {{ {} }}",
            self.places[from].ip
        );
        self.inside(to, &["nft", &rule]).map(drop)
    }

    /// Cuts all links between two groups, both ways.
    ///
    /// # Errors
    ///
    /// When nft refuses.
    pub fn cut(&self, left: &[usize], right: &[usize]) -> Result<()> {
        for a in left {
            for b in right {
                self.deafen(*a, *b)?;
                self.deafen(*b, *a)?;
            }
        }
        Ok(())
    }

    /// Everybody hears everybody.
    ///
    /// # Errors
    ///
    /// When nft refuses.
    pub fn heal(&self) -> Result<()> {
        for member in 0..self.hosts.len() {
            self.inside(member, &["nft", "flush set inet chaos blocked"])?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = host.kill();
            let _ = host.wait();
        }
        if self.can_be_cut() {
            // The links went with their namespaces.
            let _ = system("ip", &["link", "del", "chaos0"]);
        }
    }
}
