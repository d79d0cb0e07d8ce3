//! `trireme status`: how a cluster is, on one screen.
//!
//! - [`members`]: the store; [`masters`]: the API servers; [`leaders`]: who holds the Leases
//! - [`certificates`]: how long they are good
//!
//! Everybody is asked itself, all at once and for a bounded time, so that what is dead is told and holds
//! nothing up.

mod certificates;
mod leaders;
mod masters;
mod members;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use futures::future::{OptionFuture, join_all};
use serde_json::{Map, Value};

use crate::access::{self, Cluster};
use crate::cli::{Connection, StatusArguments};
use crate::client::{self, Client};
use crate::dev;
use crate::output::{Format, chain, complain, say, table};
use certificates::Certificate;

/// How long whoever is asked may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) async fn run(arguments: StatusArguments) -> Result<()> {
    let (connection, kubeconfig) = whom(&arguments);
    let store = match &connection {
        Some(connection) => Some(Client::new(connection)?.impatient()?),
        None => None,
    };
    let context = arguments.context.as_deref();
    let cluster = kubeconfig.map(|path| Cluster::open(&path, context));
    let (cluster, unopened) = match cluster.transpose() {
        Ok(cluster) => (cluster, None),
        // The store can be looked at all the same.
        Err(error) if store.is_some() => (None, Some(chain(&error))),
        Err(error) => return Err(error),
    };
    let mut report = ask(store.as_ref(), cluster.as_ref()).await?;
    report.unopened = unopened;
    if let Some(dir) = &arguments.dir {
        report.certificates.extend(certificates::of_machine(dir)?);
    }
    let troubles = report.troubles();
    match arguments.output {
        Format::Table => {
            say(&report.tables().join("\n\n"));
            troubles.iter().for_each(|trouble| complain(trouble));
        }
        Format::Json => say(&report.document(&troubles).to_string()),
    }
    report.verdict(&troubles)
}

/// Which store and which API: those of one cluster. What is named counts; else what the environment
/// names, else the user's own local cluster.
fn whom(arguments: &StatusArguments) -> (Option<Connection>, Option<PathBuf>) {
    let connection = &arguments.connection;
    let dev_of = |dir: &Path| Connection {
        data: Some(dir.to_path_buf()),
        ..Connection::default()
    };
    let in_dir = |dir: &Path| {
        let config = dir.join("kubeconfig");
        config.exists().then_some(config)
    };
    if let Some(dir) = &connection.data {
        let config = arguments.kubeconfig.clone().or_else(|| in_dir(dir));
        return (Some(connection.clone()), config);
    }
    if !connection.is_empty() {
        return (Some(connection.clone()), arguments.kubeconfig.clone());
    }
    if let Some(dir) = &arguments.dir
        && let Some((connection, config)) = of_master(dir)
    {
        return (Some(connection), arguments.kubeconfig.clone().or(config));
    }
    let config = arguments.kubeconfig.clone();
    let config = config.or_else(access::from_environment);
    if client::is_in_environment() {
        return (Some(connection.clone()), config);
    }
    if let Some(config) = config {
        // The kubeconfig of a local cluster lies beside the way to its store.
        let dir = config
            .parent()
            .filter(|dir| dir.join("etcdctl.env").exists());
        return (dir.map(dev_of), Some(config));
    }
    let dir = dev::default_dir().ok();
    match dir.filter(|dir| dir.join("etcdctl.env").exists()) {
        Some(dir) => (Some(dev_of(&dir)), in_dir(&dir)),
        // Which says what is missing.
        None => (Some(connection.clone()), None),
    }
}

/// The store and the API of the master on this machine, by the administrator's certificates.
fn of_master(dir: &Path) -> Option<(Connection, Option<PathBuf>)> {
    let there = |path: PathBuf| path.exists().then_some(path);
    let file = |name: &str| there(dir.join("pki").join(name));
    let connection = Connection {
        cacert: Some(file("ca.crt")?),
        cert: Some(file("admin.crt")?),
        key: Some(file("admin.key")?),
        ..Connection::default()
    };
    Some((connection, there(dir.join("admin.kubeconfig"))))
}

/// All that was found out.
struct Report {
    members: Vec<members::Report>,
    masters: Vec<masters::Report>,
    leaders: Vec<leaders::Report>,
    certificates: Vec<Certificate>,
    /// Why the API was not asked at all.
    unopened: Option<String>,
    now: SystemTime,
}

async fn ask(store: Option<&Client>, cluster: Option<&Cluster>) -> Result<Report> {
    let members = OptionFuture::from(store.map(async |client| {
        let members = members::ask(client).await?;
        let shown = join_all(members.iter().map(|member| shown(client, member))).await;
        anyhow::Ok((members, shown))
    }));
    let (members, masters, leaders) = tokio::join!(
        members,
        OptionFuture::from(cluster.map(masters::ask)),
        OptionFuture::from(cluster.map(leaders::ask)),
    );
    let (members, shown) = members.transpose()?.unwrap_or_default();
    let masters = masters.unwrap_or_default();
    let mut certificates: Vec<Certificate> = shown.into_iter().flatten().collect();
    certificates.extend(masters::certificates(&masters));
    Ok(Report {
        members,
        masters,
        leaders: leaders.unwrap_or_default(),
        certificates,
        unopened: None,
        now: SystemTime::now(),
    })
}

/// The certificate that a member shows; none in plain text, or if it shows none.
async fn shown(client: &Client, member: &members::Report) -> Option<Certificate> {
    let net = &*client.seams.net;
    let validity = certificates::shown(&member.endpoint, net).await.ok()?;
    Some(Certificate {
        of: format!("member {}", member.endpoint),
        validity,
    })
}

impl Report {
    /// A table for every kind of part that there is.
    fn tables(&self) -> Vec<String> {
        let leader = members::leader_index(&self.members);
        let members = self.members.iter().map(|one| members::row(one, leader));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|one| certificates::row(one, self.now));
        let parts: [(&[&str], Vec<Vec<String>>); 4] = [
            (&members::HEAD, members.collect()),
            (
                &masters::HEAD,
                self.masters.iter().map(masters::row).collect(),
            ),
            (
                &leaders::HEAD,
                self.leaders.iter().map(leaders::row).collect(),
            ),
            (&certificates::HEAD, certificates.collect()),
        ];
        let there = parts.iter().filter(|(_, rows)| !rows.is_empty());
        there.map(|(head, rows)| table(head, rows)).collect()
    }

    fn document(&self, troubles: &[String]) -> Value {
        let leader = members::leader_index(&self.members);
        let members = self
            .members
            .iter()
            .map(|one| members::document(one, leader));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|one| certificates::document(one, self.now));
        let parts: [(&str, Value); 5] = [
            ("members", members.collect()),
            (
                "apiServers",
                self.masters.iter().map(masters::document).collect(),
            ),
            (
                "leaders",
                self.leaders.iter().map(leaders::document).collect(),
            ),
            ("certificates", certificates.collect()),
            ("troubles", troubles.to_vec().into()),
        ];
        let parts = parts
            .into_iter()
            .map(|(name, value)| (name.to_string(), value));
        Value::Object(parts.collect::<Map<_, _>>())
    }

    /// A line for everything that is not well.
    fn troubles(&self) -> Vec<String> {
        let members = self.members.iter().flat_map(|member| {
            let troubles = members::troubles(member).into_iter();
            troubles.map(|trouble| format!("{}: {trouble}", member.endpoint))
        });
        let masters = self.masters.iter().flat_map(masters::troubles);
        let leaders = self.leaders.iter().filter_map(leaders::troubles);
        let certificates = self.certificates.iter();
        let certificates = certificates.filter_map(|one| certificates::troubles(one, self.now));
        let parts = members.chain(self.unopened.clone()).chain(masters);
        parts.chain(leaders).chain(certificates).collect()
    }

    fn verdict(&self, troubles: &[String]) -> Result<()> {
        let is_unwell = |one: &&members::Report| !members::troubles(one).is_empty();
        let unwell = self.members.iter().filter(is_unwell).count();
        let masters = self.masters.iter();
        let unready = masters
            .filter(|one| !masters::troubles(one).is_empty())
            .count();
        match (unwell, unready) {
            (0, 0) if troubles.is_empty() => Ok(()),
            (0, 0) => bail!("not all is well"),
            (0, _) => bail!(
                "{unready} of {} API servers are not well",
                self.masters.len()
            ),
            (_, _) => bail!("{unwell} of {} members are not well", self.members.len()),
        }
    }
}
