//! What drives hollow nodes: shared watches wake keys, workers observe, plan and write.
//!
//! Two queues, so that many pods cannot keep a node from renewing its Lease. Nodes begin at moments drawn
//! over one interval each, and stay spread by jitter.

mod nodes;
mod pods;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Informer, Informers, Key, Queue, Selection, Subscription, clock};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use seams::{Seams, Tasks};
use serde::Deserialize;
use tokio::time::timeout;

use super::addresses::{Pool, nth, subnet};
use super::node::{Identity, Node, architecture};
use super::pod::Pod;
use super::voice::Voices;
use super::{Config, Failure, POD_BITS};

/// For one request.
const DEADLINE: Duration = Duration::from_secs(15);

/// The first pause after a failed write, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Of all writers, one in so many is for nodes, but never fewer than two.
const NODE_SHARE: usize = 4;

/// The hollow nodes of a process.
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    voices: Voices,
    seams: Seams,
    nodes: Vec<Hollow>,
    by_name: HashMap<String, usize>,
    /// One watch for all, or one for each node.
    watches: Vec<Watches>,
    pods: Queue<Key>,
    work: Queue<Work>,
    known: Mutex<HashMap<Key, Known>>,
}

/// What is watched for one or all nodes.
struct Watches {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    informers: Informers,
}

/// What is due for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Its object.
    Report(usize),
    /// Its Lease.
    Lease(usize),
}

/// One hollow node.
struct Hollow {
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failure: Failure,
    /// It has a Node object, or had one: one that is deleted is not made again, as with kubelets.
    is_registered: bool,
    /// When it last gave a sign of life by its object.
    reported: Option<Timestamp>,
    /// The version of its Lease; `None` if that is not known.
    lease: Option<String>,
    /// Failed writes in a row.
    failures: u32,
    pool: Pool,
}

/// What the process remembers of a pod.
struct Known {
    uid: String,
    node: usize,
    since: Timestamp,
    /// Since when it is known that it is to be deleted.
    told: Option<Timestamp>,
    address: Option<IpAddr>,
    /// The version that its last write made: what is older is not looked at.
    written: u64,
    failures: u32,
}

/// What is read of the answer to a write.
#[derive(Debug, Deserialize)]
struct Written {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl Agent {
    /// Hollow nodes that reach the API by these voices. Nothing happens before [`Self::run`].
    pub fn new(config: Config, voices: Voices, seams: &Seams, tasks: &Tasks) -> Agent {
        let nodes: Vec<Hollow> = config
            .names()
            .zip(config.first..)
            .map(|(name, number)| Hollow::new(&config, name, number))
            .collect();
        let names = nodes.iter().map(|node| node.identity.name.clone());
        let watches = match voices.shared() {
            Some(client) => vec![Watches::of_all(client, seams, tasks)],
            None => {
                let all = nodes.iter().enumerate();
                let clients =
                    all.filter_map(|(at, node)| Some((voices.of(at)?, &node.identity.name)));
                clients
                    .map(|(client, name)| Watches::of_one(client, name, seams, tasks))
                    .collect()
            }
        };
        let shared = Shared {
            by_name: names.zip(0..).collect(),
            pods: Queue::new("pods", seams.rng.clone()),
            work: Queue::new("nodes", seams.rng.clone()),
            known: Mutex::default(),
            seams: seams.clone(),
            config,
            voices,
            nodes,
            watches,
        };
        Agent {
            shared: Arc::new(shared),
        }
    }

    /// Runs the nodes until the tasks end.
    pub async fn run(&self, tasks: &Tasks) {
        let shared = &self.shared;
        let ready = async {
            for watches in &shared.watches {
                watches.informers.synced().await;
            }
        };
        tokio::select! {
            () = ready => {}
            () = tasks.cancelled() => return,
        }
        let _subscriptions = subscribe(shared);
        for node in 0..shared.nodes.len() {
            let spread = |span: Duration| {
                let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                Duration::from_millis(shared.seams.rng.below(millis))
            };
            // All register within a second or so, the first of them at once.
            shared
                .work
                .add_after(Work::Report(node), spread(registration(shared.nodes.len())));
            shared
                .work
                .add_after(Work::Lease(node), spread(shared.lease_interval()));
        }
        let of_nodes = (shared.config.writers / NODE_SHARE).max(2);
        for _ in 0..of_nodes {
            let shared = shared.clone();
            tasks.spawn("hollow nodes", async move {
                while let Some(work) = shared.work.next().await {
                    shared.tend(work).await;
                    shared.work.done(&work);
                }
            });
        }
        for _ in 0..shared.config.writers.max(1) {
            let shared = shared.clone();
            tasks.spawn("hollow pods", async move {
                while let Some(key) = shared.pods.next().await {
                    shared.sync(&key).await;
                    shared.pods.done(&key);
                }
            });
        }
        tasks.cancelled().await;
        shared.pods.close();
        shared.work.close();
    }
}

/// Over how long nodes register: 1000 in a second.
fn registration(nodes: usize) -> Duration {
    Duration::from_millis(u64::try_from(nodes).unwrap_or(u64::MAX).saturating_sub(1))
}

fn subscribe(shared: &Arc<Shared>) -> Vec<Subscription> {
    let mut subscriptions = Vec::new();
    for watches in &shared.watches {
        let hollow = shared.clone();
        subscriptions.push(watches.nodes.on_change(move |_, new| {
            if let Some(new) = new {
                hollow.node_changed(new);
            }
        }));
        let hollow = shared.clone();
        subscriptions.push(watches.pods.on_change(move |old, new| match (old, new) {
            (_, Some(new)) => hollow.pod_changed(new),
            (Some(old), None) => hollow.pod_gone(old),
            (None, None) => {}
        }));
    }
    subscriptions
}

impl Watches {
    /// Of all nodes and all pods that are bound.
    fn of_all(client: &kube::Client, seams: &Seams, tasks: &Tasks) -> Watches {
        Watches::new(
            client,
            String::new(),
            "spec.nodeName!=".into(),
            seams,
            tasks,
        )
    }

    /// Of one node and its pods, which is all that a node may see.
    fn of_one(client: &kube::Client, name: &str, seams: &Seams, tasks: &Tasks) -> Watches {
        let node = format!("metadata.name={name}");
        Watches::new(client, node, format!("spec.nodeName={name}"), seams, tasks)
    }

    fn new(
        client: &kube::Client,
        nodes: String,
        pods: String,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Watches {
        let informers = Informers::new(client.clone(), seams, tasks);
        let selected = |fields: String| Selection {
            fields: Some(fields).filter(|fields| !fields.is_empty()),
            ..Selection::default()
        };
        Watches {
            nodes: informers.selected(selected(nodes)),
            pods: informers.selected(selected(pods)),
            informers,
        }
    }
}

impl Hollow {
    fn new(config: &Config, name: String, number: u32) -> Hollow {
        let place = u128::from(number);
        let mut labels = config.labels.clone();
        for (key, value) in [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/arch", architecture()),
            ("kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", architecture()),
            ("beta.kubernetes.io/os", "linux"),
        ] {
            labels.entry(key.into()).or_insert_with(|| value.into());
        }
        let address = nth(&config.addresses, place).unwrap_or(config.addresses.address);
        let block = subnet(&config.pod_addresses, POD_BITS, place).unwrap_or(config.pod_addresses);
        Hollow {
            identity: Identity {
                address,
                labels,
                taints: config.taints.clone(),
                capacity: config.capacity.clone(),
                machine: format!("00000000-0000-4000-8000-{number:012x}"),
                name,
            },
            state: Mutex::new(State {
                failure: config.failure,
                is_registered: false,
                reported: None,
                lease: None,
                failures: 0,
                pool: Pool::new(block),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn now(&self) -> Timestamp {
        clock::now(&*self.seams.clock)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease_interval(&self) -> Duration {
        self.config.lease_duration / 4
    }

    /// How long to wait after so many failures.
    fn pause(&self, failures: u32) -> Duration {
        let pause = RETRY.0.saturating_mul(1 << failures.min(10)).min(RETRY.1);
        self.seams.rng.jitter(pause)
    }

    /// The watches that a node is seen by.
    fn watches(&self, node: usize) -> Option<&Watches> {
        let shared = self.voices.shared().is_some();
        self.watches.get(if shared { 0 } else { node })
    }

    /// Waits for an answer, but not for ever.
    async fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        let answer = timeout(DEADLINE, request).await;
        answer.unwrap_or_else(|late| Err(kube::Error::Service(late.into())))
    }
}

/// A version as a number, to tell the older from the newer.
fn version(meta: &ObjectMeta) -> u64 {
    let text = meta.resource_version.as_deref().unwrap_or_default();
    text.parse().unwrap_or_default()
}
