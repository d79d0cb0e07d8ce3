//! A cluster of three masters and hollow nodes under load: who leads it, and the judgement at its end.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

use client::Fence;
use seams::{Seams, Tasks};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::judge;
use super::load::{self, Load};
use super::server::{Failure, Server};
use super::witness::{Told, Witness};
use crate::support::{Dev, Kubectl, eventually, trireme, until};

/// What a master may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Store,
    Controllers,
    Scheduler,
}

impl Role {
    pub(super) const ALL: [Role; 3] = [Role::Store, Role::Controllers, Role::Scheduler];
    /// Those that are led by a Lease.
    pub(super) const LEASES: [Role; 2] = [Role::Controllers, Role::Scheduler];

    fn lease(self) -> &'static str {
        match self {
            Role::Store => unreachable!("it is elected without a Lease"),
            Role::Controllers => "kube-controller-manager",
            Role::Scheduler => "kube-scheduler",
        }
    }
}

/// The cluster, its load and its witnesses.
pub(super) struct Arena {
    pub(super) dev: Dev,
    kubectl: Kubectl,
    runtime: Runtime,
    /// The way of users: by the balancer.
    balanced: Server,
    masters: Vec<Server>,
    load: Load,
    witnesses: Vec<Witness>,
    _tasks: Tasks,
    _dir: TempDir,
}

const NODES: u32 = 3;

/// What witnesses watch.
const WATCHED: [&str; 7] = [
    load::CONFIG_MAPS,
    load::PODS,
    load::DEPLOYMENTS,
    load::REPLICA_SETS,
    load::STATEFUL_SETS,
    load::JOBS,
    load::LEASES,
];

impl Arena {
    /// A cluster that does its work.
    pub(super) fn start() -> Arena {
        Arena::prepared(|_| {})
    }

    /// The same, after something was done with the cluster.
    pub(super) fn prepared(prepare: impl FnOnce(&Dev)) -> Arena {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::with_nodes(dir.path(), NODES);
        prepare(&dev);
        let kubectl = dev.kubectl();
        kubectl.must(&["create", "namespace", load::NAMESPACE]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let tasks = Seams::real().tasks();
        let balanced = Server::new(dir.path(), None, &tasks);
        let of_master = |n: u16| Server::new(dir.path(), Some(&format!("master-{n}")), &tasks);
        let masters: Vec<Server> = (1..=3).map(of_master).collect();
        // Pods need the account that a controller makes.
        let account = "/api/v1/namespaces/load/serviceaccounts/default";
        until("the namespace has its account", || {
            runtime.block_on(balanced.get(account)).is_ok()
        });
        let mut witnesses = Vec::new();
        for path in WATCHED {
            let since = eventually("a collection is listed", || {
                Some(runtime.block_on(balanced.list(path)).ok()?.1)
            });
            let witness = Witness::new(path, since);
            runtime.spawn(witness.clone().look(masters.clone()));
            witnesses.push(witness);
        }
        let load = Load::default();
        runtime.block_on(load.start(&balanced));
        let arena = Arena {
            dev,
            kubectl,
            balanced,
            masters,
            load,
            witnesses,
            _tasks: tasks,
            _dir: dir,
            runtime,
        };
        arena.work_is_done();
        arena
    }

    /// Tells the reader of the test's output what happens.
    pub(super) fn note(&self, what: &str) {
        println!("{what}; so far {} writes", self.load.acks().len());
    }

    /// The master that leads something.
    pub(super) fn leader(&self, role: Role) -> u16 {
        eventually("somebody leads", || match role {
            Role::Store => self.store_leader(),
            _ => self.holder(role),
        })
    }

    fn holder(&self, role: Role) -> Option<u16> {
        let path = format!("{}/{}", load::LEASES, role.lease());
        let lease = self.runtime.block_on(self.balanced.get(&path)).ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?;
        holder
            .strip_prefix("master-")?
            .split('_')
            .next()?
            .parse()
            .ok()
    }

    /// As the members say it that answer.
    fn store_leader(&self) -> Option<u16> {
        let command = ["status", "--output", "json", "--data", self.dev.data()];
        let output = trireme(&command).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let members = status.get("members").unwrap_or(&status);
        let leads = |one: &&Value| one["role"] == "leader";
        let endpoint = members.as_array()?.iter().find(leads)?["endpoint"].as_str()?;
        let masters = fs::read_to_string(self.dev.dir.join("etcdctl.env")).ok()?;
        let endpoints = masters
            .lines()
            .find_map(|line| line.strip_prefix("ETCDCTL_ENDPOINTS="))?;
        let at = endpoints.split(',').position(|one| one == endpoint)?;
        u16::try_from(at + 1).ok()
    }

    /// Waits until nothing is led by a master that is gone.
    pub(super) fn others_lead(&self, gone: u16) {
        let started = Instant::now();
        for role in [Role::Controllers, Role::Scheduler, Role::Store] {
            until("another master leads", || {
                let leader = match role {
                    Role::Store => self.store_leader(),
                    _ => self.holder(role),
                };
                leader.is_some_and(|leader| leader != gone)
            });
        }
        println!("others lead after {:.1?}", started.elapsed());
    }

    /// Waits until a Job that is made from now on is done.
    pub(super) fn work_is_done(&self) {
        let first = self.load.jobs();
        until("a new Job is made", || self.load.jobs() > first + 1);
        let path = format!("{}/job-{:04}", load::JOBS, first + 1);
        until("it completes", || {
            let job = self.runtime.block_on(self.balanced.get(&path));
            job.is_ok_and(|job| job["status"]["succeeded"] == load::COMPLETIONS)
        });
    }

    /// Starts a master that is down.
    pub(super) fn restart(&self, master: u16) {
        let name = format!("master-{master}");
        // The supervisor may not have noticed its end yet.
        until("it is started", || {
            let command = ["dev", "start", &name, "--data", self.dev.data()];
            trireme(&command).output().unwrap().status.success()
        });
        self.serves(master);
    }

    /// Waits until a master serves.
    pub(super) fn serves(&self, master: u16) {
        let direct = &self.masters[usize::from(master) - 1];
        until("the master serves", || {
            let ready = self.runtime.block_on(direct.list("/api/v1/namespaces"));
            ready.is_ok()
        });
    }

    fn log(&self, master: u16) -> String {
        let path = self.dev.dir.join(format!("master-{master}/log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// How many terms of a master have ended by its own log.
    pub(super) fn terms_ended(&self, master: u16, role: Role) -> usize {
        let log = self.log(master);
        let ends = log.lines().filter(|line| line.contains("leads no more"));
        ends.filter(|line| line.contains(role.lease())).count()
    }

    /// Waits until a master has noticed that a term has ended.
    pub(super) fn notices_its_end(&self, master: u16, role: Role, before: usize) {
        until("it notices that others lead", || {
            self.terms_ended(master, role) > before
        });
    }

    fn told(&self, path: &str) -> Vec<Told> {
        let witness = self.witnesses.iter().find(|witness| witness.path == path);
        witness.map(Witness::told).unwrap_or_default()
    }

    /// A write under the fence of any former term is refused; under that of a present one it is not.
    pub(super) fn former_terms_write_nothing(&self) {
        for role in Role::LEASES {
            let terms = self.terms(role.lease());
            for term in terms.iter().rev().skip(1) {
                match self.fenced(role.lease(), term) {
                    Err(Failure::Refused(409, why)) if why.contains("somebody else leads now") => {}
                    other => panic!("a write under the fence of a former term: {other:?}"),
                }
            }
            until("whoever leads writes", || {
                let terms = self.terms(role.lease());
                // Where nobody was elected since the first line, no fence is known.
                terms
                    .last()
                    .is_none_or(|term| self.fenced(role.lease(), term).is_ok())
            });
        }
    }

    /// The beginnings of the terms that were seen.
    fn terms(&self, lease: &str) -> Vec<Told> {
        let mut terms: Vec<Told> = Vec::new();
        for told in self.told(load::LEASES) {
            let is_new = terms
                .last()
                .is_none_or(|last| last.object.holder != told.object.holder);
            if told.object.name == lease && is_new {
                terms.push(told);
            }
        }
        // The first line is a renewal, which began nothing; nobody holds a Lease that was given up.
        terms.retain(|term| !term.object.holder.is_empty());
        terms.drain(..terms.len().min(1));
        terms
    }

    /// Writes under the fence of a term.
    fn fenced(&self, lease: &str, term: &Told) -> Result<Value, Failure> {
        let revision = term.version.try_into().unwrap();
        let fence = Fence::of_lease("kube-system", lease, revision).to_string();
        let headers = [(api::fence::HEADER, fence.as_str())];
        let name = format!("fenced-{lease}-{revision}-{}", self.load.acks().len());
        let object = json!({"metadata": {"name": name}});
        let path = "/api/v1/namespaces/default/configmaps";
        eventually("an answer", || {
            let answer = self.balanced.ask("POST", path, &headers, Some(&object));
            match self.runtime.block_on(answer) {
                Err(Failure::Unknown(_) | Failure::Refused(429 | 500.., _)) => None,
                answer => Some(answer),
            }
        })
    }

    /// Ends the load, waits until all work is done, and judges everything that was seen.
    pub(super) fn finish(self) {
        self.load.end();
        let terms = self.told(load::LEASES);
        self.settles();
        self.witnesses_know_all();
        let complaints = self.complaints(&terms);
        let (jobs, pods) = judge::waits(&self.told(load::JOBS), &self.told(load::PODS));
        let resumed: usize = self
            .witnesses
            .iter()
            .map(|w| w.resumed.load(Ordering::Relaxed))
            .sum();
        println!(
            "{} writes acknowledged, the longest gap {:.2?}; {} Jobs, the longest wait for a pod {jobs:.2?}, \
             of a pod for its node {pods:.2?}; watches taken up {resumed} times",
            self.load.acks().len(),
            self.load.longest_gap(),
            self.load.jobs(),
        );
        self.witnesses.iter().for_each(Witness::end);
        if !complaints.is_empty() {
            for master in 1..=3 {
                let log = self.log(master);
                let end: Vec<&str> = log.lines().rev().take(60).collect();
                println!(
                    "the end of the log of master-{master}, backwards:\n{}",
                    end.join("\n")
                );
            }
        }
        let terms = judge::history(&terms, |term| term.object.name.starts_with("kube-"));
        assert!(
            complaints.is_empty(),
            "{}\nLeases: {terms}",
            complaints.join("\n")
        );
        self.dev.stop();
    }

    /// Waits until controllers have nothing more to do.
    fn settles(&self) {
        let all_jobs = self.load.jobs();
        let status = ["rollout", "status", "--timeout=90s", "-n", load::NAMESPACE];
        for what in ["deployment/web", "statefulset/db"] {
            self.kubectl.must(&[&status[..], &[what]].concat());
        }
        until("all Jobs are complete", || {
            let jobs = self.runtime.block_on(self.balanced.list(load::JOBS));
            let jobs = jobs.map(|(jobs, _)| jobs).unwrap_or_default();
            let is_complete = |job: &Value| !job["status"]["completionTime"].is_null();
            jobs.len() >= all_jobs && jobs.iter().all(is_complete)
        });
        until("what ends has ended", || {
            let pods = self.runtime.block_on(self.balanced.list(load::PODS));
            let is_ending = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
            pods.is_ok_and(|(pods, _)| !pods.iter().any(is_ending))
        });
    }

    /// Waits until every witness has seen the last of everything.
    fn witnesses_know_all(&self) {
        for witness in &self.witnesses {
            if witness.path == load::LEASES {
                continue;
            }
            until("a witness has seen all", || {
                let listed = self.runtime.block_on(self.balanced.list(witness.path));
                listed.is_ok_and(|(objects, _)| {
                    let of = |object: &Value| {
                        let name = object["metadata"]["name"].as_str().unwrap_or_default();
                        (name.to_owned(), super::server::version_of(object))
                    };
                    let known: BTreeSet<_> = witness.state().into_iter().collect();
                    // What was there before and never changed was not told.
                    let is_known =
                        |one: &(String, u64)| known.contains(one) || one.1 <= witness.since;
                    let listed: BTreeSet<_> = objects.iter().map(of).collect();
                    listed.iter().all(is_known) && known.is_subset(&listed)
                })
            });
        }
    }

    fn complaints(&self, terms: &[Told]) -> Vec<String> {
        let pods = self.told(load::PODS);
        let maps = self.told(load::CONFIG_MAPS);
        let left = self
            .runtime
            .block_on(self.balanced.list(load::CONFIG_MAPS))
            .unwrap()
            .0;
        let left = left
            .iter()
            .filter_map(|map| map["metadata"]["name"].as_str());
        let left: BTreeSet<String> = left.map(str::to_owned).collect();
        let mut complaints = [
            judge::bindings(&pods),
            judge::jobs(&pods),
            judge::surge(&self.told(load::REPLICA_SETS), &pods),
            judge::ordinals(&pods),
            judge::terms(terms),
            judge::acknowledged(&self.load.acks(), &maps, &left),
        ]
        .concat();
        for witness in &self.witnesses {
            let told = witness.told();
            complaints.extend(witness.complaints());
            complaints.extend(judge::order(witness.path, &told));
            for (at, master) in self.masters.iter().enumerate() {
                let what = format!("{} at master-{} and in pieces", witness.path, at + 1);
                match self.runtime.block_on(witness.again(master, told.len())) {
                    Ok(again) => complaints.extend(judge::agreement(&what, &again, &told)),
                    Err(why) => complaints.push(format!("{what}: {why}")),
                }
            }
        }
        complaints
    }
}
