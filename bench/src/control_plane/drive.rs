//! Masters under load: many requests at once, and watches that count.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench::masters::{self, Cluster};
use futures::future::try_join_all;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Options;
use crate::http::{Connection, Request};
use crate::objects;

/// A measurement without any progress for so long has failed.
const STALL: Duration = Duration::from_secs(60);
/// How long a new cluster may take to make what pods need.
const SETTLE_TIME: Duration = Duration::from_secs(60);
/// How often a request is tried that a server could not take at the moment.
const TRIES: u32 = 50;
const RETRY: Duration = Duration::from_millis(100);

/// Nodes of the load generator have nobody behind them who renews Leases.
const NODES_STAY: &str = "controllers=*,-node-lifecycle-controller";

/// Which masters a measurement needs.
#[derive(Default)]
pub(crate) struct Setting {
    /// Nodes without anybody behind them, in so many zones.
    pub(crate) bare: usize,
    pub(crate) zones: usize,
    pub(crate) hollow: usize,
    pub(crate) without_scheduler: bool,
}

/// Masters, and a connection to each.
pub(crate) struct Masters {
    pub(crate) cluster: Cluster,
    pub(crate) connections: Vec<Connection>,
    in_flight: usize,
}

impl Masters {
    /// Starts masters and makes nodes.
    pub(crate) async fn start(options: &Options, setting: &Setting) -> Result<Self> {
        let mut settings = Vec::new();
        if setting.bare > 0 {
            settings.push(NODES_STAY);
        }
        if setting.without_scheduler {
            settings.push("enable-scheduler=false");
        }
        let cluster = Cluster::start(&masters::Options {
            masters: options.masters,
            hollow: u32::try_from(setting.hollow)?,
            settings: &settings,
            // Pods are to end as fast as they can.
            node_settings: &["pod-stop-after=1ms"],
            ..masters::Options::new(&options.trireme)
        })?;
        let connections = Connection::open_all(&cluster.targets()?).await?;
        let masters = Self {
            cluster,
            connections,
            in_flight: options.in_flight,
        };
        masters.wait_for_account().await?;
        if setting.bare > 0 {
            masters.make_nodes(setting.bare, setting.zones).await?;
        }
        Ok(masters)
    }

    /// Waits until pods can be made.
    async fn wait_for_account(&self) -> Result<()> {
        let request = Request::get("/api/v1/namespaces/default/serviceaccounts/default");
        let began = Instant::now();
        while !self.connections[0]
            .call(&request)
            .await?
            .status
            .is_success()
        {
            if began.elapsed() > SETTLE_TIME {
                bail!("the namespace has no service account");
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    async fn make_nodes(&self, count: usize, zones: usize) -> Result<()> {
        let make = (0..count).map(|at| Request::post("/api/v1/nodes", objects::node(at, zones)));
        self.send_all(make).await?;
        // New nodes are tainted until a controller has seen that they are ready, which is off.
        let untaint = (0..count).map(|at| {
            let body = r#"{"spec":{"taints":null}}"#.to_string();
            Request::patch(&format!("/api/v1/nodes/bare-{at}"), body)
        });
        self.send_all(untaint).await
    }

    /// Sends all requests as fast as they are answered, so many at a time.
    pub(crate) async fn send_all(&self, requests: impl Iterator<Item = Request>) -> Result<()> {
        let requests = RefCell::new(requests);
        let workers = (0..self.in_flight).map(|worker| {
            let connection = &self.connections[worker % self.connections.len()];
            let requests = &requests;
            async move {
                loop {
                    let Some(request) = requests.borrow_mut().next() else {
                        return anyhow::Ok(());
                    };
                    insist(connection, &request).await?;
                }
            }
        });
        try_join_all(workers).await.map(drop)
    }

    /// Counts what a watch shows: `count` tells the new total from an event and the old one.
    pub(crate) async fn tally(
        &self,
        path: &str,
        selector: &str,
        mut count: impl FnMut(&[u8], usize) -> usize + 'static,
    ) -> Result<Tally> {
        // A connection of its own: answers must not wait behind events.
        let connection = Connection::open(&self.cluster.targets()?[0]).await?;
        let mut events = connection.watch(path, selector).await?;
        let counted = Rc::new(Counted::default());
        let shared = counted.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok(true) = events
                .next(|event| {
                    let total = count(event, shared.total.get());
                    shared.set(total);
                })
                .await
            {
                shared.changed.notify_waiters();
            }
            shared.is_over.set(true);
            shared.changed.notify_waiters();
            drop(connection);
        });
        Ok(Tally { counted, task })
    }
}

/// Sends a request until a server takes it.
pub(crate) async fn insist(connection: &Connection, request: &Request) -> Result<()> {
    for tries in 1.. {
        let answer = connection.call(request).await?;
        let is_busy = answer.status == 429 || answer.status.is_server_error();
        if !is_busy || tries == TRIES {
            answer.success()?;
            break;
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

#[derive(Default)]
struct Counted {
    total: Cell<usize>,
    first: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
    is_over: Cell<bool>,
    changed: Notify,
}

impl Counted {
    fn set(&self, total: usize) {
        if total == self.total.replace(total) {
            return;
        }
        let now = Some(Instant::now());
        if self.first.get().is_none() {
            self.first.set(now);
        }
        self.last.set(now);
    }
}

/// A count that a watch keeps; it ends when this is dropped.
pub(crate) struct Tally {
    counted: Rc<Counted>,
    task: JoinHandle<()>,
}

impl Tally {
    /// Waits until there are so many; yields when the count last changed.
    pub(crate) async fn reach(&self, total: usize) -> Result<Instant> {
        let mut best = (self.counted.total.get(), Instant::now());
        loop {
            let seen = self.counted.total.get();
            if seen == total {
                return self.counted.last.get().context("nothing was counted");
            }
            if self.counted.is_over.get() {
                bail!("the watch ended at {seen} of {total}");
            }
            if seen != best.0 {
                best = (seen, Instant::now());
            } else if best.1.elapsed() > STALL {
                bail!("no progress for {STALL:?} at {seen} of {total}");
            }
            let changed = self.counted.changed.notified();
            let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }

    /// When the first one was counted.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.counted.first.get()
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.task.abort();
    }
}
