//! The controllers and the scheduler, which run in one of many processes at a time: each process is a
//! candidate, within a master (`trireme server`) or by itself (`trireme controller-manager`).
//!
//! Whoever leads writes under the fence of its term, so that a leader that was deposed changes nothing
//! more. When the process is told to stop, Leases are given up before anything else ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use apiserver::in_process::InProcess;
use apiserver::instance::Api;
use apiserver::user::User;
use client::election::{self, Dead};
use client::transport::transport;
use client::{Access, Elector, Identity};
use controllers::manager::{CONTROLLERS, Manager};
use controllers::{Settings, controller};
use deploy::config::{
    self, ConfigError, ControlPlaneConfig, ControllerManagerConfig, ControllersConfig,
    ElectionConfig, Problem, Sources,
};
use raft_store::member::Member;
use seams::{Seams, Tasks};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::cli::ControllerManagerArguments;
use crate::process::{self, Process};
use crate::run;

/// The controllers' Lease, and whose changes objects say theirs are.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// A master that the store's leader has not heard of for so long counts as dead to those who wait for
/// its Leases. Above the store's own election timeout: whoever is mistaken costs a change of leaders.
const SILENCE: Duration = Duration::from_millis(400);

/// Between two looks at who is silent.
const LOOK: Duration = Duration::from_millis(100);

/// `trireme controller-manager`.
pub(crate) fn run(arguments: Box<ControllerManagerArguments>) -> Result<()> {
    let config: ControllerManagerConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    check(&config.controllers)?;
    process::run(&config.process, CONTROLLER_MANAGER, |process: &Process| {
        let candidate = Candidate {
            process: process.name.clone(),
            access: process.access.clone(),
            election: config.election.clone(),
            dead: None,
            seams: process.seams.clone(),
            tasks: process.tasks.clone(),
        };
        controllers(&candidate, &config.controllers);
        Ok(())
    })
}

/// The controllers and the scheduler of a master.
pub(crate) struct ControlPlane {
    tasks: Tasks,
}

impl ControlPlane {
    /// Runs what the settings want, over the API server of the same process.
    pub(crate) fn start(
        config: &ControlPlaneConfig,
        api: &Arc<Api>,
        member: &Member,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Result<ControlPlane> {
        let tasks = tasks.child();
        check(&config.controllers)?;
        if config.enable_controllers {
            let candidate = Candidate {
                process: member.name().to_string(),
                access: in_process(CONTROLLER_MANAGER, api),
                election: config.election.clone(),
                dead: Some(dead(member, &tasks)),
                seams: seams.clone(),
                tasks: tasks.clone(),
            };
            controllers(&candidate, &config.controllers);
        }
        Ok(ControlPlane { tasks })
    }

    /// Gives up what it leads, and ends.
    pub(crate) async fn shutdown(&self) {
        self.tasks.shutdown().await;
    }
}

/// One who would lead.
struct Candidate {
    /// The name of the process, which no other candidate has.
    process: String,
    access: Access,
    election: ElectionConfig,
    dead: Option<Dead>,
    seams: Seams,
    tasks: Tasks,
}

impl Candidate {
    fn elector(&self, lease: &str) -> Elector {
        let own = self.access.client(&Identity::Component, None);
        let config = election::Config {
            lease_duration: self.election.leader_elect_lease_duration.0,
            renew_deadline: self.election.leader_elect_renew_deadline.0,
            retry_period: self.election.leader_elect_retry_period.0,
            ..election::Config::new(lease, &self.process)
        };
        Elector::new(config, &own, self.dead.clone(), &self.seams, &self.tasks)
    }
}

/// Runs the controllers whenever this candidate leads. Their informers are warm before.
fn controllers(candidate: &Candidate, config: &ControllersConfig) {
    let settings = Settings {
        controllers: config.controllers.clone(),
        cluster_name: config.cluster_name.clone(),
        ..Settings::default()
    };
    let access = candidate.access.clone();
    let manager = Arc::new(Manager::new(
        access,
        settings,
        &candidate.seams,
        &candidate.tasks,
    ));
    manager.warm();
    let elector = candidate.elector(CONTROLLER_MANAGER);
    let tasks = candidate.tasks.clone();
    candidate.tasks.spawn("controllers", async move {
        let lead = |term| {
            let manager = manager.clone();
            async move { manager.lead(term).await }
        };
        elector.run(&tasks, lead).await;
    });
}

/// Names of controllers that do not exist are mistakes.
fn check(config: &ControllersConfig) -> Result<(), ConfigError> {
    let unknown = controller::unknown(CONTROLLERS, &config.controllers);
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<&str> = CONTROLLERS.iter().map(|row| row.name).collect();
    Err(ConfigError::Unusable(vec![Problem {
        key: "controllers",
        message: format!(
            "there is no {}; there are {}",
            unknown.join(", "),
            known.join(", ")
        ),
    }]))
}

/// Access to the API server of the same process, as a component of the cluster.
fn in_process(component: &'static str, api: &Arc<Api>) -> Access {
    let api = api.clone();
    Access::new(component, move |identity| {
        let user = match identity.user() {
            Some((name, groups)) => User {
                name,
                groups,
                ..User::default()
            },
            None => User::new(&format!("system:{component}"), &[]),
        };
        transport(InProcess::new(api.clone(), user))
    })
}

/// Which masters are dead, as long as this one leads the store; nobody else can tell.
fn dead(member: &Member, tasks: &Tasks) -> Dead {
    let (sender, receiver) = watch::channel(BTreeSet::new());
    let member = member.clone();
    let ends = tasks.token();
    tasks.spawn("silent masters", async move {
        let mut leader = member.leader_watch();
        let watching = async {
            loop {
                let leads = |leader: &Option<u64>| *leader == Some(member.id());
                if leader.wait_for(leads).await.is_err() {
                    return;
                }
                look_while_leading(&member, &sender).await;
                sender.send_replace(BTreeSet::new());
            }
        };
        tokio::select! {
            () = watching => {}
            () = ends.cancelled() => {}
        }
    });
    receiver
}

async fn look_while_leading(member: &Member, sender: &watch::Sender<BTreeSet<String>>) {
    // Who has just begun to lead has not heard of anybody yet.
    let since = Instant::now();
    while member.is_leader() {
        sleep(LOOK).await;
        let silent = match since.elapsed() >= SILENCE {
            true => member.silent(SILENCE).into_iter().collect(),
            false => BTreeSet::new(),
        };
        sender.send_if_modified(|known| {
            let is_news = *known != silent;
            *known = silent;
            is_news
        });
    }
}
