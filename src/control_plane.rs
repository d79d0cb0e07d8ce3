//! The controllers and the scheduler, which run in one of many processes at a time: each process is a
//! candidate, within a master (`trireme server`) or by itself (`trireme controller-manager`).
//!
//! Whoever leads writes under the fence of its term, so that a leader that was deposed changes nothing
//! more. When the process is told to stop, Leases are given up before anything else ends.

pub(crate) mod settings;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use apiserver::in_process::InProcess;
use apiserver::instance::Api;
use apiserver::user::User;
use client::election::{self, Dead};
use client::transport::transport;
use client::{Access, Elector, Identity, Leadership};
use controllers::cloud;
use controllers::manager::{CONTROLLERS, Manager};
use controllers::{Row, Settings};
use deploy::config::{
    self, CloudConfig, ControllerManagerConfig, ElectionConfig, SchedulerConfig, ServerConfig,
    Sources,
};
use raft_store::member::Member;
use scheduler::metrics::Metrics;
use scheduler::run::Scheduler;
use seams::{Seams, Tasks};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cli::{CloudArguments, ControllerManagerArguments, SchedulerArguments};
use crate::manifests::Manifests;
use crate::process::{self, Process};
use crate::run;

/// Components: their Leases, and whose changes objects say theirs are.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const CLOUD_CONTROLLER_MANAGER: &str = "cloud-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const MANIFESTS: &str = "trireme-manifests";

/// A master that the store's leader has not heard of for so long counts as dead to those who wait for
/// its Leases. Above the store's own election timeout: whoever is mistaken costs a change of leaders.
const SILENCE: Duration = Duration::from_millis(500);

/// A new leader of the store counts those as dead who did not answer since it leads: the one before it was
/// silent for an election timeout already.
const FIRST_SILENCE: Duration = Duration::from_millis(300);

/// Between two looks at who is silent.
const LOOK: Duration = Duration::from_millis(200);

/// Between two looks whether the API server is ready.
const BOOTSTRAP_LOOK: Duration = Duration::from_millis(100);

/// `trireme controller-manager`.
pub(crate) fn run_controllers(arguments: Box<ControllerManagerArguments>) -> Result<()> {
    let config: ControllerManagerConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    settings::check(CONTROLLERS, &config.controllers.controllers)?;
    process::run(&config.process, CONTROLLER_MANAGER, |process| {
        let settings = settings::controllers(&config.controllers, None, &process.seams)?;
        Candidate::of(process, &config.election).control(CONTROLLERS, CONTROLLER_MANAGER, settings);
        Ok(())
    })
}

/// `trireme cloud-controller-manager`.
pub(crate) fn run_cloud(arguments: Box<CloudArguments>) -> Result<()> {
    let config: CloudConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    settings::check(cloud::CONTROLLERS, &config.controllers)?;
    let settings = settings::cloud(&config)?;
    process::run(&config.process, CLOUD_CONTROLLER_MANAGER, |process| {
        let candidate = Candidate::of(process, &config.election);
        candidate.control(cloud::CONTROLLERS, CLOUD_CONTROLLER_MANAGER, settings);
        Ok(())
    })
}

/// `trireme scheduler`.
pub(crate) fn run_scheduler(arguments: Box<SchedulerArguments>) -> Result<()> {
    let config: SchedulerConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    process::run(&config.process, SCHEDULER, |process| {
        let scheduling = settings::scheduler(config.scheduler_config.as_deref(), &process.seams)?;
        Candidate::of(process, &config.election).schedule(scheduling);
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
        config: &ServerConfig,
        api: &Arc<Api>,
        member: &Member,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Result<ControlPlane> {
        let tasks = tasks.child();
        let ServerConfig {
            api: serving,
            control_plane,
            ..
        } = config;
        settings::check(CONTROLLERS, &control_plane.controllers.controllers)?;
        let dead = dead(member, &tasks);
        let candidate = |component| Candidate {
            process: member.name().to_string(),
            access: in_process(component, api),
            election: control_plane.election.clone(),
            dead: Some(dead.clone()),
            api: Some(api.clone()),
            seams: seams.clone(),
            tasks: tasks.clone(),
        };
        if control_plane.enable_controllers {
            let key = serving.service_account_key_file.as_deref();
            let settings = settings::controllers(&control_plane.controllers, key, seams)?;
            candidate(CONTROLLER_MANAGER).control(CONTROLLERS, CONTROLLER_MANAGER, settings);
        }
        if control_plane.enable_scheduler {
            let file = control_plane.scheduler_config.as_deref();
            candidate(SCHEDULER).schedule(settings::scheduler(file, seams)?);
        }
        if let Some(dir) = &control_plane.manifests_dir {
            candidate(MANIFESTS).keep_applied(dir);
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
    /// The API server of the same process.
    api: Option<Arc<Api>>,
    seams: Seams,
    tasks: Tasks,
}

impl Candidate {
    /// A process of its own.
    fn of(process: &Process, election: &ElectionConfig) -> Candidate {
        Candidate {
            process: process.name.clone(),
            access: process.access.clone(),
            election: election.clone(),
            dead: None,
            api: None,
            seams: process.seams.clone(),
            tasks: process.tasks.clone(),
        }
    }

    fn elector(&self, lease: election::Config) -> Elector {
        let own = self.access.client(&Identity::Component, None);
        let config = election::Config {
            lease_duration: self.election.leader_elect_lease_duration.0,
            renew_deadline: self.election.leader_elect_renew_deadline.0,
            retry_period: self.election.leader_elect_retry_period.0,
            ..lease
        };
        Elector::new(config, &own, self.dead.clone(), &self.seams, &self.tasks)
    }

    /// Runs controllers whenever this candidate leads. Their informers are warm before.
    fn control(&self, rows: &[Row], lease: &str, settings: Settings) {
        let (access, seams) = (self.access.clone(), &self.seams);
        let manager = Arc::new(Manager::of(rows, access, settings, seams, &self.tasks));
        manager.warm();
        let elector = self.elector(election::Config::new(lease, &self.process));
        self.compete("controllers", elector, move |term| {
            let manager = manager.clone();
            async move { manager.lead(term).await }
        });
    }

    /// Does its work whenever it is elected. Before its API server has given the components their roles,
    /// nobody could do anything.
    fn compete<F>(
        &self,
        name: &'static str,
        elector: Elector,
        lead: impl FnMut(Leadership) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, api) = (self.tasks.clone(), self.api.clone());
        self.tasks.spawn(name, async move {
            tokio::select! {
                () = bootstrapped(api) => elector.run(&tasks, lead).await,
                () = tasks.cancelled() => {}
            }
        });
    }

    /// Keeps a directory of manifests applied whenever this candidate leads.
    fn keep_applied(&self, dir: &Path) {
        let elector = self.elector(election::Config::new(MANIFESTS, &self.process));
        let (access, seams, dir) = (self.access.clone(), self.seams.clone(), dir.to_path_buf());
        self.compete("manifests", elector, move |term: Leadership| {
            let manifests = Manifests {
                dir: dir.clone(),
                client: access.client(&Identity::Component, Some(&term.fence)),
                seams: seams.clone(),
            };
            async move { manifests.run(&term.tasks).await }
        });
    }

    /// Schedules whenever this candidate leads.
    fn schedule(&self, config: scheduler::config::Config) {
        let (namespace, name) = config.lease.clone();
        let lease = election::Config {
            namespace,
            ..election::Config::new(&name, &self.process)
        };
        let is_alone = !config.leader_elect;
        let (access, seams) = (self.access.clone(), &self.seams);
        let metrics = Metrics::default();
        metrics.publish();
        let scheduler = Scheduler::new(access, config, &self.process, metrics, seams, &self.tasks);
        let scheduler = Arc::new(scheduler);
        if is_alone {
            let tasks = self.tasks.clone();
            let run = async move { scheduler.run(None, &tasks).await };
            self.tasks.spawn("scheduler", run);
            return;
        }
        self.compete("scheduler", self.elector(lease), move |term| {
            let scheduler = scheduler.clone();
            async move { scheduler.lead(term).await }
        });
    }
}

/// Waits until the API server of the same process has what every cluster has.
async fn bootstrapped(api: Option<Arc<Api>>) {
    let Some(api) = api else { return };
    while !api.is_bootstrapped.load(Ordering::Acquire) {
        sleep(BOOTSTRAP_LOOK).await;
    }
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
            // Whoever may write files on a master is an administrator.
            None if component == MANIFESTS => User::new(MANIFESTS, &["system:masters"]),
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
    sleep(FIRST_SILENCE).await;
    while member.is_leader() {
        let silent = member.silent(SILENCE).into_iter().collect();
        sender.send_if_modified(|known| {
            let is_news = *known != silent;
            *known = silent;
            is_news
        });
        sleep(LOOK).await;
    }
}
