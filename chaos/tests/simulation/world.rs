//! One simulation: hosts, clients, steps; a safety phase with faults, then a liveness phase.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use chaos::client::{Client, Target};
use chaos::dice::Dice;
use chaos::history::Recorder;
use chaos::ops::Call;
use chaos::run::{Load, converge, final_reads};
use chaos::workloads::{Shared, Workload};
use seams::sim::SimNet;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cluster::{self, CLIENT_PORT, host_name};
use crate::invariants::Invariants;
use crate::nemesis::{CLIENTS, Nemesis};
use crate::plan::Plan;
use crate::trace::{self, Collector, Detail};
use crate::verdict::{self, Found};

/// Every member must serve so soon after everything was healed.
const SERVE_WITHIN: Duration = Duration::from_secs(20);
/// Everything at the end must be done so soon after that.
const FINISH_WITHIN: Duration = Duration::from_secs(90);
/// Load goes on for so long when everybody serves again.
const AFTERMATH: Duration = Duration::from_millis(500);
/// See `chaos::run`: leases must have ended by then.
const LEASE_TIME: Duration = Duration::from_secs(15);
/// Seconds since the epoch when every simulation begins.
const EPOCH: u64 = 1_700_000_000;

/// Which members the clients are to find at the end; `None` as long as faults strike.
type Goal = watch::Receiver<Option<Vec<usize>>>;

/// Runs a plan to its end.
pub fn run(plan: &Plan, detail: Detail) -> Found {
    trace::note_panics(plan.seed);
    let _ = (
        trace::take_lines(),
        trace::take_votes(),
        trace::take_said(),
        trace::take_panics(),
    );
    raft_store::consensus::runtime::seed_thread(plan.seed);
    align_task_ids();
    if detail == Detail::Shown {
        println!("{plan:?}");
    }
    tracing::subscriber::with_default(Collector(detail), || simulate(plan))
}

/// Has every run begin with a task of a round number. The numbers go on through the process, and
/// tokio drops the tasks of a crashed host, with their sockets, in an order that follows from them:
/// a seed would not run alone as it ran after others.
fn align_task_ids() {
    const ROUND: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing");
    let number = || runtime.spawn(async {}).id().to_string().parse::<u64>();
    while number().is_ok_and(|number| number % ROUND != ROUND - 1) {}
}

fn simulate(plan: &Plan) -> Found {
    let hosts = cluster::hosts(plan);
    let mut sim = builder(plan).build();
    for at in 0..=plan.members {
        let (hosts, plan) = (hosts.clone(), plan.clone());
        sim.host(host_name(at), move || {
            cluster::live(hosts.clone(), plan.clone(), at)
        });
    }
    let recorder = Recorder::in_memory(Arc::new(|| {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }));
    let (healed, goal) = watch::channel(None);
    let trouble = Rc::new(RefCell::new(Vec::new()));
    let done = Rc::new(Cell::new(false));
    // A host rather than a client of the simulation, because that can be ended from outside.
    sim.host(CLIENTS, {
        let (plan, recorder) = (plan.clone(), recorder.clone());
        let (trouble, done) = (trouble.clone(), done.clone());
        move || {
            let (plan, recorder, goal) = (plan.clone(), recorder.clone(), goal.clone());
            let (trouble, done) = (trouble.clone(), done.clone());
            async move {
                clients(&plan, recorder, goal, &trouble).await;
                done.set(true);
                Ok(())
            }
        }
    });

    let mut invariants = Invariants::default();
    let mut nemesis = Nemesis::new(plan, hosts.clone());
    let mut end = None;
    let mut left_out = None;
    let mut finals: Vec<usize> = Vec::new();
    while !done.get() {
        if let Err(error) = sim.step() {
            invariants.problems.push(format!("harness: {error}"));
            break;
        }
        invariants.votes(&trace::take_votes());
        invariants.observe(&hosts.borrow());
        let now = sim.elapsed();
        nemesis.act(&mut sim, &mut invariants, now < plan.span);
        match end {
            None if now >= plan.span => {
                nemesis.heal(&mut sim, &mut invariants);
                end = Some(now);
            }
            Some(end) if now > end + FINISH_WITHIN => {
                invariants
                    .problems
                    .push("liveness: the end was not reached in time".to_owned());
                break;
            }
            Some(_) if finals.is_empty() && nemesis.is_idle() => {
                let Poll::Ready(bereft) = nemesis.bereave(&mut sim, &mut invariants) else {
                    continue;
                };
                left_out = bereft;
                let there = |at: &usize| {
                    Some(*at) != left_out
                        && hosts.borrow().slots[*at].begin != cluster::Begin::Absent
                };
                finals = (0..=plan.members).filter(there).collect();
                let _ = healed.send(Some(finals.clone()));
            }
            _ => {}
        }
        if !invariants.problems.is_empty() {
            break;
        }
    }
    for (at, slot) in hosts.borrow().slots.iter().enumerate() {
        if let Some(refused) = &slot.refused
            && finals.contains(&at)
        {
            invariants
                .problems
                .push(format!("start: m{at} did not start: {refused}"));
        }
    }
    invariants.problems.extend(
        trace::take_panics()
            .into_iter()
            .map(|panic| format!("panic: {panic}")),
    );
    let mut problems = std::mem::take(&mut invariants.problems);
    problems.append(&mut trouble.borrow_mut());
    let places: Vec<u32> = finals.iter().map(|at| *at as u32).collect();
    let mut situations = std::mem::take(&mut nemesis.situations);
    situations.said(&trace::take_said());
    situations.seen(&invariants);
    if left_out.is_some() {
        situations.add("one member down for good", 1);
    }
    let (reports, invalid) =
        verdict::check(plan, &recorder, &invariants.log(), &places, &mut situations);
    problems.extend(invalid);
    let found = Found {
        plan: plan.clone(),
        problems,
        reports,
        deeds: nemesis.deeds.clone(),
        trace: trace::take_lines(),
        situations,
        elapsed: sim.elapsed(),
    };
    // What lives in a host must end inside of it.
    for at in 0..=plan.members {
        hosts.borrow_mut().forget(at);
        sim.crash(host_name(at));
    }
    sim.crash(CLIENTS);
    found
}

fn builder(plan: &Plan) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(plan.seed)
        .enable_random_order()
        .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH))
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(plan.latency_max)
        .tcp_capacity(1 << 16);
    if plan.torn_writes {
        builder.fs().block_size(512);
    }
    builder
}

fn target(at: usize) -> Target {
    Target {
        node: at as u32,
        address: format!("m{at}:{CLIENT_PORT}"),
        tls: None,
        net: Arc::new(SimNet),
    }
}

async fn clients(plan: &Plan, recorder: Recorder, mut goal: Goal, trouble: &RefCell<Vec<String>>) {
    let shared = Shared::new(plan.value_bytes, None);
    let dice = Dice::new(plan.seed).fork(0xC11E);
    let founders: Vec<Target> = (0..plan.members).map(target).collect();
    let mut load = Load::start(
        &founders,
        plan.workload,
        (plan.clients, plan.pause),
        &recorder,
        &shared,
        &dice,
    );
    let places = match goal.wait_for(Option::is_some).await {
        Ok(places) => places.clone().unwrap_or_default(),
        Err(_) => return,
    };
    let targets: Vec<Target> = places.into_iter().map(target).collect();
    // Nobody is expected to be served by a member that stays down.
    load.go_to(targets.clone());
    for target in &targets {
        if timeout(SERVE_WITHIN, serves(target)).await.is_err() {
            let problem = format!(
                "liveness: m{} did not serve within {SERVE_WITHIN:?}",
                target.node
            );
            trouble.borrow_mut().push(problem);
            return;
        }
    }
    sleep(AFTERMATH).await;
    load.stop_clients().await;
    if plan.workload == Workload::Lease {
        sleep(LEASE_TIME).await;
    }
    let finished = async {
        let last = converge(&targets, &recorder, &mut load).await?;
        drop(load);
        for target in &targets {
            final_reads(target, &recorder, last).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = finished.await {
        trouble
            .borrow_mut()
            .push(format!("liveness: at the end: {error:#}"));
    }
}

/// Waits until a member answers a linearizable read.
async fn serves(target: &Target) {
    let mut client = Client::new(target.clone(), Duration::from_secs(2));
    let read = Call::Get {
        key: "serves".to_owned(),
        serializable: false,
        revision: 0,
    };
    while let Err(failure) = client.call(&read).await {
        tracing::info!(target: "raft_store::nemesis", node = target.node, ?failure, "not served");
        sleep(Duration::from_millis(50)).await;
    }
}
