//! Gives nodes their blocks of pod addresses.

pub mod plan;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::values::ip::Cidr;
use async_trait::async_trait;
use client::{EventType, Informer, Queue, Recorder, Subscription, View, errors};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::OnceCell;

use self::plan::{Pool, PoolError};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;

/// How often a write is tried before the block is given back.
const ATTEMPTS: usize = 3;

/// From which blocks nodes get theirs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The cluster's blocks, at most one per family, with the length of the nodes' prefixes; none: no
    /// addresses are given.
    pub cluster: Vec<(Cidr, u8)>,
    /// Blocks of Services, which are left out.
    pub services: Vec<Cidr>,
}

impl Settings {
    /// The pools.
    pub fn pools(&self) -> Result<Vec<Pool>, PoolError> {
        let pools = self.cluster.iter().map(|(cluster, bits)| {
            let mut pool = Pool::new(*cluster, *bits)?;
            for block in &self.services {
                // A block elsewhere is not in the way.
                let _ = pool.occupy(block);
            }
            Ok(pool)
        });
        pools.collect()
    }
}

/// The controller. Keys are names of nodes.
pub struct NodeIpam {
    context: Context,
    recorder: Recorder,
    nodes: Informer<Node>,
    pools: Arc<Mutex<Vec<Pool>>>,
    /// The nodes that were given blocks which the cache does not show yet, by uid.
    given: Arc<Mutex<HashSet<String>>>,
    is_filled: OnceCell<()>,
    _subscription: Subscription,
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Controller for NodeIpam {
    type Key = String;

    fn start(context: &Context, queue: &Queue<String>) -> Self {
        let nodes = context.informers.of::<Node>();
        let pools = context.settings.node_ipam.pools().unwrap_or_else(|error| {
            tracing::error!(%error, "nodes get no addresses");
            Vec::new()
        });
        let pools = Arc::new(Mutex::new(pools));
        let given = Arc::<Mutex<HashSet<String>>>::default();
        let subscription = nodes.on_change({
            let (queue, pools, given) = (queue.clone(), pools.clone(), given.clone());
            move |old, new| {
                if let Some(node) = new {
                    queue.add(node.name().to_owned());
                } else if let Some(node) = old {
                    unpoisoned(&given).remove(node.uid());
                    let mut pools = unpoisoned(&pools);
                    if let Err(error) = plan::release(&mut pools, node.name(), &node.pod_cidrs()) {
                        tracing::debug!(error, "a node's block was not given back");
                    }
                }
            }
        });
        Self {
            recorder: context.recorder("cidrAllocator"),
            context: context.clone(),
            nodes,
            pools,
            given,
            is_filled: OnceCell::new(),
            _subscription: subscription,
        }
    }

    async fn sync(&self, name: &String) -> Result<Again, Error> {
        self.is_filled.get_or_try_init(|| self.fill()).await?;
        let Some(node) = self.nodes.get("", name) else {
            return Ok(Again::Done);
        };
        if node.metadata.deletion_timestamp.is_some() || self.pools().is_empty() {
            return Ok(Again::Done);
        }
        let blocks = node.pod_cidrs();
        if blocks.is_empty() {
            // Another one for a node whose cache does not show the first yet would be missing elsewhere for a
            // while.
            if !unpoisoned(&self.given).contains(node.uid()) {
                self.give(&node).await?;
                unpoisoned(&self.given).insert(node.uid().to_owned());
            }
        } else {
            unpoisoned(&self.given).remove(node.uid());
            plan::occupy(&mut self.pools(), name, &blocks).map_err(Error::Other)?;
        }
        Ok(Again::Done)
    }
}

impl NodeIpam {
    fn pools(&self) -> MutexGuard<'_, Vec<Pool>> {
        unpoisoned(&self.pools)
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    /// Takes what nodes have, as the store knows it: the last leader may have given blocks that a cache
    /// does not show yet.
    async fn fill(&self) -> Result<(), Error> {
        let nodes = self.api().list(&ListParams::default()).await?;
        for node in &nodes.items {
            if let Err(error) = plan::occupy(&mut self.pools(), node.name(), &node.pod_cidrs()) {
                tracing::warn!(node = node.name(), error, "a node has an odd block");
            }
        }
        Ok(())
    }

    async fn give(&self, node: &Node) -> Result<(), Error> {
        let allocated = plan::allocate(&mut self.pools());
        let blocks = allocated.map_err(|why| {
            self.tell(node, "CIDRNotAvailable");
            Error::Other(why)
        })?;
        let texts: Vec<_> = blocks.iter().map(Cidr::canonical).collect();
        // Refused if the node got one meanwhile: they never change.
        let patch =
            Patch::Strategic(json!({"spec": {"podCIDR": texts.first(), "podCIDRs": texts}}));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self
                .api()
                .patch(node.name(), &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let is_final = errors::is_not_found(&error) || errors::is_invalid(&error);
                    last = Some(error);
                    if is_final {
                        break;
                    }
                }
            }
        }
        let Some(error) = last else { return Ok(()) };
        self.tell(node, "CIDRAssignmentFailed");
        // If nobody knows whether it was written, the block stays taken until the node shows it.
        if errors::status(&error).is_some_and(|status| status.reason != "ServerTimeout") {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let _ = plan::release(&mut self.pools(), node.name(), &texts);
        }
        Err(error.into())
    }

    fn tell(&self, node: &Node, status: &str) {
        let message = format!("Node {} status is now: {status}", node.name());
        self.recorder
            .event(&note::reference(node), EventType::Normal, status, message);
    }
}
