//! The command line. Every subcommand explains itself with examples, which a test parses.

mod apiserver;
mod control_plane;
mod explain;
mod join;
mod node;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::output::Format;

pub(crate) use apiserver::{ApiServerArguments, ServerArguments};
pub(crate) use control_plane::{CloudArguments, ControllerManagerArguments, SchedulerArguments};
pub(crate) use explain::{ExplainArguments, ExplainPod, ExplainSubject};
pub(crate) use join::{
    CertsArguments, CertsCommand, InitArguments, JoinArguments, MachineArguments, TokenArguments,
    TokenCommand,
};
pub(crate) use node::NodeArguments;
pub(crate) use store::StoreArguments;

/// A highly available, Kubernetes-compatible control plane in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "trireme",
    version = env!("LONG_VERSION"),
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Examples:
  trireme dev                          a cluster of 3 masters on this machine
  trireme store --config store.yaml    one member of a store
  trireme status                       how the members are"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one member of the store
    ///
    /// Runs until SIGTERM or Ctrl-C. Settings come from the file, then from variables, then from
    /// flags: the key `data-dir` is the variable TRIREME_DATA_DIR and the flag --data-dir. Times are
    /// such as 100ms, 5s, 1h30m; sizes are such as 512MiB, 16GiB.
    Store(Box<StoreArguments>),
    /// Run a master: a member of the store, an API server, controllers and scheduler in one process
    ///
    /// Runs until SIGTERM or Ctrl-C. Settings are those of `trireme store`, `trireme apiserver` and
    /// `trireme controller-manager` together. Of all masters' controllers those of one act at a time, and
    /// so do schedulers.
    Server(Box<ServerArguments>),
    /// Run an API server over a store that runs elsewhere
    ///
    /// Any number of them serve side by side, over members of `trireme store` or any etcd.
    Apiserver(Box<ApiServerArguments>),
    /// Run the controllers by themselves
    ///
    /// Any number of these processes are peers: one acts, the others take over.
    ControllerManager(Box<ControllerManagerArguments>),
    /// Run the controllers that know the place a cluster runs in: nodes, routes, load balancers
    ///
    /// The provider is `local` (bare metal: load balancers have addresses out of pools) or another process
    /// that speaks the protocol of providers.
    CloudControllerManager(Box<CloudArguments>),
    /// Run the scheduler by itself
    ///
    /// Any number of these processes are peers: one acts, the others take over.
    Scheduler(Box<SchedulerArguments>),
    /// Run hollow nodes: nodes that say they run pods, and run nothing
    ///
    /// For trying a control plane without containers and for tests of scale; thousands fit in one
    /// process. Pods may be told how to behave by annotations: hollow.trireme.io/start-after, ready-after,
    /// run-for, stop-after (times) and exit-code; nodes by hollow.trireme.io/failure (crash, not-ready or
    /// slow=TIME).
    Node(Box<NodeArguments>),
    /// Run a cluster on this machine
    ///
    /// Runs in the foreground: Ctrl-C or SIGTERM stops it. With --data DIR, or with --keep, the same command
    /// resumes it; otherwise its data is temporary and goes at the stop. Prints a line `ready` once all
    /// masters serve, all nodes are ready and what every cluster has is there, and writes DIR/kubeconfig for kubectl, DIR/etcdctl.env for
    /// etcdctl and DIR/master-N/pid and DIR/node-N/pid for each process. What is killed stays down until
    /// `trireme dev start`. Port P is the API of whichever master is up. Master N has the ports from P+10*N on: the
    /// first for clients of the store, the second for its peers, the third for its API.
    Dev(DevArguments),
    /// Make this machine the first master of a new cluster
    ///
    /// Writes authorities, certificates, configuration and the administrator's kubeconfig; starts nothing.
    Init(InitArguments),
    /// Make this machine a node or a master of a cluster
    ///
    /// With a token alone it becomes a node; with a certificate key as well, a master. The cluster is
    /// believed by the token's signature and the pin of its authority.
    Join(Box<JoinArguments>),
    /// Make, show and delete the tokens with which machines join
    Token(TokenArguments),
    /// Show and renew the certificates of this machine
    Certs(CertsArguments),
    /// List and change the members of a cluster
    ///
    /// MEMBER is a name or an ID as `trireme member list` shows them.
    Member(MemberArguments),
    /// Save, check and restore backups, and import from etcd
    ///
    /// A restore makes the data directory of one member; run it once for every member of the new
    /// cluster, with the same file, list and token. The new cluster starts at revisions above all that
    /// were ever issued, so that no client goes on from a past that is gone.
    Backup(BackupArguments),
    /// Make a new cluster of what is left after most members were lost
    ///
    /// Give the data directories of all members that are left, all stopped. The one with the newest
    /// log is chosen; where each one stands is shown before anything is done. The old files are moved
    /// aside, never deleted. Old members that come back are refused by the new cluster.
    Recover(RecoverArguments),
    /// Show how a cluster is: members, API servers, leaders, certificates
    ///
    /// Asks each part itself, all at once and for some seconds at most, and fails if one of them is not well. The members of
    /// the store are found by --endpoints, by variables or by --data; the rest by the kubeconfig.
    Status(StatusArguments),
    /// Explain why something is as it is
    Explain(ExplainArguments),
    /// Print the completion script of a shell
    #[command(after_help = "\
Examples:
  trireme completion bash > /etc/bash_completion.d/trireme
  trireme completion zsh > ~/.zfunc/_trireme
  trireme completion fish > ~/.config/fish/completions/trireme.fish")]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// How commands reach a cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Client URLs of the members, with commas between them
    /// [env: TRIREME_ENDPOINTS, ETCDCTL_ENDPOINTS] [default: https://127.0.0.1:2379]
    #[arg(long, global = true, value_name = "URL,...", value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
    /// The authority of the members' certificates [env: TRIREME_CACERT, ETCDCTL_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// The certificate to connect with [env: TRIREME_CERT, ETCDCTL_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key [env: TRIREME_KEY, ETCDCTL_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The directory of a local cluster (`trireme dev`), in place of all of these
    #[arg(long, global = true, value_name = "DIR", conflicts_with_all = ["endpoints", "cacert", "cert", "key"])]
    pub(crate) data: Option<PathBuf>,
}

impl Connection {
    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        let files = [&self.cacert, &self.cert, &self.key, &self.data];
        self.endpoints.is_empty() && files.iter().all(|file| file.is_none())
    }
}

/// `trireme dev`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = false,
    after_help = "\
Examples:
  trireme dev
  trireme dev --masters 3 --hollow 3
  trireme dev --keep --write-kubeconfig
  trireme dev --hollow 3 --manifests ./manifests
  trireme dev --hollow 1000 --node-set pod-stop-after=1s
  trireme dev --masters 5 --data /tmp/five --port-base 12000
  trireme dev --store-only --data /tmp/plain --insecure --set quota-backend-bytes=64MiB
  trireme dev start master-2 --data /tmp/five
  trireme dev status --data /tmp/five"
)]
pub(crate) struct DevArguments {
    #[command(subcommand)]
    pub(crate) request: Option<DevRequest>,
    /// The directory of the cluster [default: $XDG_STATE_HOME/trireme/dev, else ~/.local/state/trireme/dev]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Run the store alone, without API servers
    #[arg(long)]
    pub(crate) store_only: bool,
    /// Number of masters [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) masters: Option<u16>,
    /// Number of hollow nodes; up to 9 have a process each [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) hollow: Option<u32>,
    /// Master N takes the ports from P+10*N on [default: 2369, so that master-1 has etcd's ports]
    #[arg(long, value_name = "P")]
    pub(crate) port_base: Option<u16>,
    /// Serve plain text on loopback instead of mTLS
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A setting of every member, as `trireme store` names it; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// A setting of every process that runs nodes, as `trireme node` names it; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) node_set: Vec<(String, String)>,
    /// Keep the data of a cluster without --data: it is resumed by the next `trireme dev`, and kept from
    /// then on. Without this it is removed at the stop
    #[arg(long)]
    pub(crate) keep: bool,
    /// Keep the manifests of a directory applied: *.yaml, *.yml and *.json. Objects whose manifest goes
    /// are deleted. What is wrong stands in the ConfigMap kube-system/trireme-manifests
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// Serve the API at an address of this machine too, which the service kubernetes then leads to; without
    /// it the API is on loopback alone, and that service leads nowhere
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// When all is ready, add the contexts trireme-dev, trireme-dev-master-1, … to a kubeconfig, beside what
    /// it holds, and make trireme-dev the current one [default file: that of KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) write_kubeconfig: Option<Option<PathBuf>>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevRequest {
    /// Start what is down, in a cluster that runs
    Start {
        /// Such as master-2 or node-1
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Stop masters or nodes gracefully; they stay down
    Stop {
        /// Such as master-2 or node-1
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show what is up
    Status,
}

/// `trireme member`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme member list
  trireme member add https://10.0.0.4:2380
  trireme member replace master-2 https://10.0.0.4:2380
  trireme member remove 8e9e05c52164694d
  trireme member move-leader master-1")]
pub(crate) struct MemberArguments {
    #[command(subcommand)]
    pub(crate) change: MemberCommand,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Show all members
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Announce a new member; it then joins with `trireme store --join`
    Add {
        /// Where its peers will reach it
        #[arg(required = true, value_name = "PEER-URL")]
        peer_urls: Vec<String>,
        /// Keep it a learner instead of giving it a vote when it has caught up
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member; refused where too few would be left
    Remove {
        /// Name or ID
        member: String,
    },
    /// Give a learner that has caught up a vote
    Promote {
        /// Name or ID
        member: String,
    },
    /// Put a new member in the place of an old one: adds it, waits until it has a vote, and
    /// removes the old one. Can be repeated after an interruption
    Replace {
        /// Name or ID of the old member
        member: String,
        /// Where the peers of the new member will reach it
        #[arg(required = true, value_name = "PEER-URL")]
        peer_urls: Vec<String>,
        /// How many seconds to wait for the new member
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        wait: u64,
    },
    /// Hand leadership to a member
    MoveLeader {
        /// Name or ID
        member: String,
    },
}

/// `trireme backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme backup save /backups/monday.backup --endpoints https://10.0.0.1:2379
  trireme backup verify /backups/monday.backup
  trireme backup restore /backups/monday.backup --name a --data-dir /var/lib/trireme/store --initial-cluster a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,c=https://10.0.0.3:2380
  trireme backup import /backups/etcd.snapshot --name a --data-dir /var/lib/trireme/store --initial-cluster a=https://10.0.0.1:2380")]
pub(crate) struct BackupArguments {
    #[command(subcommand)]
    pub(crate) action: BackupCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Save the state of a running cluster to a file, and check it
    Save {
        /// The file to write
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Check that a backup is complete and undamaged
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Show what a backup holds
    Status {
        /// The backup
        file: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make the data directory of a member of a new cluster from a backup
    Restore {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        target: NewMember,
    },
    /// Make the data directory of a member of a new cluster from an etcd snapshot
    Import {
        /// What `etcdctl snapshot save` wrote, or member/snap/db of a stopped etcd
        file: PathBuf,
        #[command(flatten)]
        target: NewMember,
    },
}

/// The member whose data directory is made.
#[derive(Debug, Args)]
#[command(next_help_heading = "The new cluster")]
pub(crate) struct NewMember {
    /// The name of this member
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// All members of the new cluster [default: this one alone, at https://127.0.0.1:2380]
    #[arg(long, value_name = "NAME=URL,...")]
    pub(crate) initial_cluster: Option<String>,
    /// Tells apart clusters that are made from the same file with the same members
    #[arg(long, value_name = "TOKEN", default_value = "trireme")]
    pub(crate) initial_cluster_token: String,
    /// The directory to make; it must be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// How far revisions are raised above the backup's
    #[arg(long, value_name = "N", default_value_t = raft_store::backup::restore::DEFAULT_REVISION_BUMP)]
    pub(crate) bump_revision: i64,
}

/// `trireme recover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme recover /var/lib/trireme/store
  trireme recover /mnt/a/store /mnt/b/store --initial-cluster a=https://10.0.0.1:2380 --yes")]
pub(crate) struct RecoverArguments {
    /// Data directories of stopped members
    #[arg(required = true, value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,
    /// The members of the new cluster, the chosen one among them [default: the chosen one alone]
    #[arg(long, value_name = "NAME=URL,...")]
    pub(crate) initial_cluster: Option<String>,
    /// Tells this recovery apart from others of the same members
    #[arg(long, value_name = "TOKEN", default_value = "recovery")]
    pub(crate) initial_cluster_token: String,
    /// How far revisions are raised
    #[arg(long, value_name = "N", default_value_t = raft_store::backup::restore::DEFAULT_REVISION_BUMP)]
    pub(crate) bump_revision: i64,
    /// Only show where the members stand and what would be done
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do not ask before acting
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `trireme status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trireme status
  trireme status --data ~/.local/state/trireme/dev
  trireme status --dir /etc/trireme
  trireme status --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert admin.crt --key admin.key -o json")]
pub(crate) struct StatusArguments {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// The administrator's way to the API [default: the local cluster's; without --endpoints KUBECONFIG]
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) context: Option<String>,
    /// Also show the certificates of this machine, which are in DIR/pki; of a master, its cluster is the one
    /// that is meant if nothing else is named
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_string(), value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The commands in a help text: lines that are indented by two and begin with the program.
    fn examples(help: &str) -> impl Iterator<Item = Vec<&str>> {
        let lines = help
            .lines()
            .filter_map(|line| line.strip_prefix("  trireme "));
        // What follows two spaces is a remark, what follows `>` is the shell's.
        lines
            .map(|line| {
                line.split("  ")
                    .next()
                    .unwrap()
                    .split(" > ")
                    .next()
                    .unwrap()
            })
            .map(|line| line.split_whitespace().collect())
    }

    fn check(command: &clap::Command, seen: &mut usize) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        for example in examples(&help) {
            let words = std::iter::once("trireme").chain(example.iter().copied());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("trireme {}: {error}", example.join(" "));
            }
            *seen += 1;
        }
        for inner in command.get_subcommands() {
            check(inner, seen);
        }
    }

    #[test]
    fn every_example_in_the_help_parses() {
        let mut seen = 0;
        check(&Cli::command(), &mut seen);
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn the_version_names_the_commit() {
        let version = env!("LONG_VERSION");
        assert!(
            version.starts_with(env!("CARGO_PKG_VERSION")) && version.contains('('),
            "{version}"
        );
    }

    #[test]
    fn a_connection_may_stand_before_or_after_what_is_asked() {
        for line in [
            "member list --endpoints a,b --cacert c",
            "member --endpoints a,b --cacert c list",
        ] {
            let words = std::iter::once("trireme").chain(line.split(' '));
            match Cli::try_parse_from(words).unwrap().command {
                Command::Member(member) => assert_eq!(member.connection.endpoints, ["a", "b"]),
                other => panic!("{other:?}"),
            }
        }
        let both = ["trireme", "status", "--data", "x", "--endpoints", "a"];
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn dev_takes_its_directory_before_or_after_the_request() {
        for line in [
            "dev start master-1 --data /x",
            "dev --data /x start master-1",
        ] {
            let words = std::iter::once("trireme").chain(line.split(' '));
            match Cli::try_parse_from(words).unwrap().command {
                Command::Dev(dev) => assert_eq!(dev.data.as_deref(), Some("/x".as_ref())),
                other => panic!("{other:?}"),
            }
        }
    }
}
