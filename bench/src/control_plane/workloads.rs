//! What hollow nodes run: how fast Deployments come and go, how fast a pod starts.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::Options;
use crate::drive::{Masters, Setting, Tally, insist};
use crate::http::Request;
use crate::objects::{self, DEPLOYMENTS, Kind, PODS};
use crate::report::{Results, Wanted};

/// Replicas of each of many Deployments.
const REPLICAS: usize = 10;
/// Pods that a hollow node takes, and how full the nodes become at most.
const PODS_PER_NODE: usize = 110;
const FULL: (usize, usize) = (9, 10);

async fn masters(options: &Options) -> Result<Masters> {
    let hollow = (options.pods * FULL.1).div_ceil(PODS_PER_NODE * FULL.0);
    let setting = Setting {
        hollow: hollow.max(options.hollow),
        ..Setting::default()
    };
    Masters::start(options, &setting).await
}

/// One large Deployment, up and down.
pub(crate) async fn one_large(options: &Options, name: &str, results: &mut Results) -> Result<()> {
    let masters = masters(options).await?;
    let count = |event: &[u8], _| objects::field(event, "readyReplicas").unwrap_or(0);
    let ready = masters.tally(DEPLOYMENTS, "", count).await?;
    let gone = gone(&masters).await?;
    let stretch = Stretch::begin(&masters, options.pods);
    let make = Request::post(DEPLOYMENTS, objects::deployment("large", options.pods));
    insist(&masters.connections[0], &make).await?;
    let ended = ready.reach(options.pods).await?;
    stretch.tell(name, "up: create to ready", ended, results);
    let stretch = Stretch::begin(&masters, options.pods);
    let path = format!("{DEPLOYMENTS}/large");
    let down = Request::patch(&path, r#"{"spec":{"replicas":0}}"#.to_string());
    insist(&masters.connections[0], &down).await?;
    let ended = gone.reach(options.pods).await?;
    stretch.tell(name, "down: scaled to gone", ended, results);
    Ok(())
}

/// Many small Deployments, made and deleted.
pub(crate) async fn many_small(options: &Options, name: &str, results: &mut Results) -> Result<()> {
    let masters = masters(options).await?;
    let count = options.pods / REPLICAS;
    let mut complete = HashSet::new();
    let ready = move |event: &[u8], _| {
        if objects::field(event, "readyReplicas") == Some(REPLICAS) {
            complete.extend(objects::number(event, "small-"));
        }
        complete.len()
    };
    let ready = masters.tally(DEPLOYMENTS, "", ready).await?;
    let gone = gone(&masters).await?;
    let stretch = Stretch::begin(&masters, options.pods);
    let make = (0..count).map(|at| {
        let body = objects::deployment(&format!("small-{at}"), REPLICAS);
        Request::post(DEPLOYMENTS, body)
    });
    masters.send_all(make).await?;
    let ended = ready.reach(count).await?;
    stretch.tell(name, "up: create to ready", ended, results);
    let stretch = Stretch::begin(&masters, options.pods);
    let delete = Request::delete(&format!("{DEPLOYMENTS}?propagationPolicy=Background"));
    insist(&masters.connections[0], &delete).await?;
    let ended = gone.reach(count * REPLICAS).await?;
    stretch.tell(name, "down: deleted to gone", ended, results);
    Ok(())
}

async fn gone(masters: &Masters) -> Result<Tally> {
    let count = |event: &[u8], total| total + usize::from(objects::is(event, "DELETED"));
    masters.tally(PODS, "", count).await
}

/// Work on all pods, from when it began, with the processor time that the masters had used by then.
struct Stretch<'m> {
    masters: &'m Masters,
    pods: f64,
    began: Instant,
    cpu: Duration,
}

impl<'m> Stretch<'m> {
    fn begin(masters: &'m Masters, pods: usize) -> Self {
        Self {
            masters,
            pods: pods as f64,
            began: Instant::now(),
            cpu: masters.cluster.cpu(),
        }
    }

    fn tell(self, name: &str, metric: &str, ended: Instant, results: &mut Results) {
        let took = (ended - self.began).as_secs_f64();
        results.tell(name, metric, self.pods / took, "pods/s");
        let cpu = self.masters.cluster.cpu().saturating_sub(self.cpu);
        let each = cpu.as_secs_f64() * 1e3 / self.pods;
        results.tell(name, "  masters' CPU", each, "ms/pod");
    }
}

/// From the request to make a pod until a watch shows that it is ready, at a steady rate.
pub(crate) async fn start_latency(
    options: &Options,
    name: &str,
    results: &mut Results,
) -> Result<()> {
    let count = (options.rate * options.seconds).round().max(1.0) as usize;
    let masters = Masters::start(
        options,
        &Setting {
            hollow: count.div_ceil(PODS_PER_NODE).max(options.hollow),
            ..Setting::default()
        },
    )
    .await?;
    let times = Rc::new(RefCell::new(vec![(None, None); count]));
    let seen = times.clone();
    let ready = masters.tally(PODS, "", move |event, total| {
        let number = objects::number(event, "start-").filter(|_| objects::is_ready(event));
        let mut seen = seen.borrow_mut();
        match number.and_then(|number| seen.get_mut(number)) {
            Some((_, ready @ None)) => {
                *ready = Some(Instant::now());
                total + 1
            }
            _ => total,
        }
    });
    let ready = ready.await?;
    let cpu = masters.cluster.cpu();
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate));
    let mut sent = Vec::new();
    for at in 0..count {
        beat.tick().await;
        let body = objects::pod(&format!("start-{at}"), at, Kind::Basic, options.nodes);
        let request = Request::post(PODS, body);
        let connection = masters.connections[at % masters.connections.len()].clone();
        times.borrow_mut()[at].0 = Some(Instant::now());
        sent.push(tokio::task::spawn_local(async move {
            insist(&connection, &request).await
        }));
    }
    for task in sent {
        task.await??;
    }
    ready.reach(count).await?;
    let latencies: Vec<Duration> = times
        .borrow()
        .iter()
        .filter_map(|(sent, ready): &(Option<Instant>, Option<Instant>)| Some((*ready)? - (*sent)?))
        .collect();
    if latencies.len() != count {
        bail!("only {} of {count} pods were timed", latencies.len());
    }
    results.times(name, "create to ready", latencies, Wanted::Nothing);
    let cpu = masters.cluster.cpu().saturating_sub(cpu).as_secs_f64();
    results.tell(name, "masters' CPU", cpu * 1e3 / count as f64, "ms/pod");
    Ok(())
}
