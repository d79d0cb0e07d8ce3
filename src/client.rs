//! How commands reach a cluster: flags, then `TRIREME_*`, then `ETCDCTL_*`, then defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use raft_store::pb::etcdserverpb::Member;
use raft_store::remote::{RemoteConfig, RemoteStore};
use raft_store::server::tls::{ClientFiles, ClientTls};
use seams::{Seams, Tasks};

use crate::cli::Connection;

/// Where a member listens by default.
const DEFAULT_ENDPOINT: &str = "https://127.0.0.1:2379";

/// Whose variables count, the first most.
const PREFIXES: [&str; 2] = ["TRIREME_", "ETCDCTL_"];

/// How long a member that is asked how it is may take.
const IMPATIENT: Duration = Duration::from_secs(2);

/// A connection to a cluster. Its tasks end with the process.
pub(crate) struct Client {
    pub(crate) store: RemoteStore,
    pub(crate) seams: Seams,
    config: RemoteConfig,
    tasks: Tasks,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Client> {
        let environment = match &connection.data {
            Some(dir) => env_file(dir)?,
            None => std::env::vars().collect(),
        };
        Client::with(resolve(connection, &environment)?)
    }

    fn with(target: Target) -> Result<Client> {
        let seams = Seams::real();
        let tasks = seams.tasks();
        let mut config = RemoteConfig::new(target.endpoints);
        config.tls = match target.tls {
            Some(files) => Some(ClientTls::load(files, &*seams.disk)?),
            None => None,
        };
        Client::from_parts(config, seams, tasks)
    }

    fn from_parts(config: RemoteConfig, seams: Seams, tasks: Tasks) -> Result<Client> {
        let store = RemoteStore::new(config.clone(), &seams, &tasks)?;
        Ok(Client {
            store,
            seams,
            config,
            tasks,
        })
    }

    /// The members, as the cluster knows them now.
    pub(crate) async fn members(&self) -> Result<Vec<Member>> {
        let list = self
            .store
            .members(true)
            .await
            .context("cannot list the members")?;
        Ok(list.members)
    }

    /// A connection that knows all members, whichever were named at first.
    pub(crate) fn of_all(&self, members: &[Member]) -> Result<Client> {
        let mut config = self.config.clone();
        for url in members.iter().flat_map(|member| &member.client_ur_ls) {
            if !config.endpoints.contains(url) {
                config.endpoints.push(url.clone());
            }
        }
        Client::from_parts(config, self.seams.clone(), self.tasks.clone())
    }

    /// A connection that does not wait long for what is dead.
    pub(crate) fn impatient(&self) -> Result<Client> {
        let config = RemoteConfig {
            connect_rounds: 1,
            request_timeout: IMPATIENT,
            ..self.config.clone()
        };
        Client::from_parts(config, self.seams.clone(), self.tasks.clone())
    }

    /// A connection to one endpoint only.
    pub(crate) fn of_one(&self, endpoint: &str) -> Result<Client> {
        let config = RemoteConfig {
            endpoints: vec![endpoint.to_string()],
            ..self.config.clone()
        };
        Client::from_parts(config, self.seams.clone(), self.tasks.clone())
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.config.endpoints
    }
}

/// What was found to connect to.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    endpoints: Vec<String>,
    tls: Option<ClientFiles>,
}

/// Whether the environment says anything of a connection.
pub(crate) fn is_in_environment() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let names = ["ENDPOINTS", "CACERT", "CERT", "KEY"];
    let prefixes = |name| {
        PREFIXES
            .iter()
            .any(|prefix| is_set(&format!("{prefix}{name}")))
    };
    names.iter().any(prefixes)
}

fn resolve(connection: &Connection, environment: &[(String, String)]) -> Result<Target> {
    let variable = |name: &str| {
        PREFIXES.iter().find_map(|prefix| {
            let found = environment
                .iter()
                .find(|(n, _)| *n == format!("{prefix}{name}"));
            found
                .map(|(_, value)| value.clone())
                .filter(|value| !value.is_empty())
        })
    };
    let file =
        |flag: &Option<PathBuf>, name| flag.clone().or_else(|| variable(name).map(PathBuf::from));
    let mut endpoints = connection.endpoints.clone();
    if endpoints.is_empty() {
        let listed = variable("ENDPOINTS").unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        endpoints = listed
            .split(',')
            .map(|url| url.trim().to_string())
            .collect();
    }
    endpoints.retain(|url| !url.is_empty());
    let ca = file(&connection.cacert, "CACERT");
    let identity = match (file(&connection.cert, "CERT"), file(&connection.key, "KEY")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => bail!("a certificate needs its key: give both --cert and --key, or none"),
    };
    let tls = match ca {
        Some(ca) => Some(ClientFiles {
            ca,
            identity,
            server_name: None,
        }),
        None if identity.is_some() || endpoints.iter().any(|url| url.starts_with("https://")) => {
            bail!(
                "{} is served over TLS: name the authority by --cacert (and --cert, --key), or a \
                 local cluster by --data",
                endpoints.join(",")
            )
        }
        None => None,
    };
    Ok(Target { endpoints, tls })
}

/// What `trireme dev` wrote for etcdctl.
fn env_file(dir: &Path) -> Result<Vec<(String, String)>> {
    let path = dir.join("etcdctl.env");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} holds no local cluster: cannot read {}",
            dir.display(),
            path.display()
        )
    })?;
    Ok(text.lines().filter_map(assignment).collect())
}

/// `NAME=VALUE`, the value perhaps in single quotes.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let quoted = value
        .strip_prefix('\'')
        .and_then(|value| value.strip_suffix('\''));
    let value = quoted.map_or(value.to_string(), |value| value.replace(r"'\''", "'"));
    Some((name.to_string(), value))
}

/// A member by its name or hexadecimal ID.
pub(crate) fn find<'a>(members: &'a [Member], wanted: &str) -> Result<&'a Member> {
    let id = u64::from_str_radix(wanted.trim_start_matches("0x"), 16).ok();
    let named: Vec<&Member> = members
        .iter()
        .filter(|member| member.name == wanted)
        .collect();
    match named.as_slice() {
        [one] => Ok(one),
        [] => members
            .iter()
            .find(|member| Some(member.id) == id)
            .with_context(|| {
                let known: Vec<String> = members.iter().map(describe).collect();
                format!("no member is `{wanted}`; there are {}", known.join(", "))
            }),
        _ => bail!("several members are named `{wanted}`: use the ID"),
    }
}

/// `NAME (ID)`.
pub(crate) fn describe(member: &Member) -> String {
    match member.name.as_str() {
        "" => format!("{:016x}", member.id),
        name => format!("{name} ({:016x})", member.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect()
    }

    #[test]
    fn flags_win_over_our_variables_and_these_over_etcdctl_s() {
        let variables = environment(&[
            ("ETCDCTL_ENDPOINTS", "https://a:1,https://b:2"),
            ("ETCDCTL_CACERT", "/etcd/ca"),
            ("TRIREME_CACERT", "/trireme/ca"),
            ("ETCDCTL_CERT", "/etcd/cert"),
            ("ETCDCTL_KEY", "/etcd/key"),
        ]);
        let flags = Connection {
            cert: Some("/flag/cert".into()),
            ..Connection::default()
        };
        let target = resolve(&flags, &variables).unwrap();
        assert_eq!(target.endpoints, ["https://a:1", "https://b:2"]);
        let tls = target.tls.unwrap();
        assert_eq!(tls.ca, Path::new("/trireme/ca"));
        assert_eq!(
            tls.identity,
            Some(("/flag/cert".into(), "/etcd/key".into()))
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = resolve(&Connection::default(), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(DEFAULT_ENDPOINT) && error.contains("--cacert"),
            "{error}"
        );
        let lonely = Connection {
            cert: Some("/c".into()),
            cacert: Some("/ca".into()),
            ..Connection::default()
        };
        assert!(
            resolve(&lonely, &[])
                .unwrap_err()
                .to_string()
                .contains("--key")
        );
        let plain = Connection {
            endpoints: vec!["http://a:1".into()],
            ..Connection::default()
        };
        assert_eq!(resolve(&plain, &[]).unwrap().tls, None);
    }

    #[test]
    fn the_file_of_a_local_cluster_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let lines =
            "ETCDCTL_ENDPOINTS=https://127.0.0.1:1\nETCDCTL_CACERT='/it'\\''s/ca'\nETCDCTL_CERT=\n";
        std::fs::write(dir.path().join("etcdctl.env"), lines).unwrap();
        let variables = env_file(dir.path()).unwrap();
        let target = resolve(&Connection::default(), &variables).unwrap();
        assert_eq!(target.tls.unwrap().ca, Path::new("/it's/ca"));
        assert!(
            env_file(Path::new("/nonexistent"))
                .unwrap_err()
                .to_string()
                .contains("no local cluster")
        );
    }

    #[test]
    fn members_are_found_by_name_and_id() {
        let member = |id, name: &str| Member {
            id,
            name: name.into(),
            ..Member::default()
        };
        let all = [
            member(0x1a, "a"),
            member(0xb, "b"),
            member(0xc, "twin"),
            member(0xd, "twin"),
        ];
        assert_eq!(find(&all, "a").unwrap().id, 0x1a);
        assert_eq!(find(&all, "1A").unwrap().id, 0x1a);
        // A name wins over an ID that reads alike.
        assert_eq!(find(&all, "b").unwrap().name, "b");
        assert!(
            find(&all, "twin")
                .unwrap_err()
                .to_string()
                .contains("use the ID")
        );
        let error = find(&all, "zz").unwrap_err().to_string();
        assert!(error.contains("a (000000000000001a)"), "{error}");
    }
}
