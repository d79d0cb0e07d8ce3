//! Attaches volumes of CSI drivers to the nodes where pods use them, by VolumeAttachments that the
//! drivers' sidecars act on, and says in a node's status what is attached to it.
//!
//! What is attached is what VolumeAttachments say: nothing has to be rebuilt when another process
//! takes over. Since when nobody wants a volume is remembered here alone, as upstream does.

mod observe;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use client::{Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::storage::v1::{
    VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};

use self::observe::Informed;
use self::plan::{Memory, Step, World};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;
use crate::pod::Pod;

/// What is synced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A volume of a driver, by its [`unique name`](unique_name).
    Volume(Arc<str>),
    /// What a node's status says is attached.
    Node(Arc<str>),
}

/// How a node's status calls a volume of a driver.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("{PLUGIN}{driver}^{handle}")
}

/// The driver and the handle in a volume's unique name.
fn split(unique_name: &str) -> Option<(&str, &str)> {
    unique_name.strip_prefix(PLUGIN)?.split_once('^')
}

const PLUGIN: &str = "kubernetes.io/csi/";

/// The name of the VolumeAttachment for a volume of a driver on a node.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    use ring::digest::{SHA256, digest};
    let hash = digest(&SHA256, format!("{handle}{driver}{node}").as_bytes());
    let digits = hash.as_ref().iter();
    digits.fold("csi-".to_string(), |name, byte| format!("{name}{byte:02x}"))
}

/// The controller.
pub struct AttachDetach {
    context: Context,
    recorder: Recorder,
    informed: Informed,
    memories: Mutex<BTreeMap<Arc<str>, Memory>>,
    /// Volumes that a node's status leaves out since they are about to be detached.
    leaving: Mutex<BTreeMap<Arc<str>, Vec<String>>>,
    _watches: Vec<Subscription>,
}

#[async_trait]
impl Controller for AttachDetach {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let informed = Informed::new(&context.informers);
        Self {
            context: context.clone(),
            recorder: context.recorder("attachdetach-controller"),
            _watches: informed.wake(queue),
            informed,
            memories: Mutex::default(),
            leaving: Mutex::default(),
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        match key {
            Key::Volume(name) => self.sync_volume(name).await,
            Key::Node(name) => self.sync_node(name).await,
        }
    }
}

impl AttachDetach {
    async fn sync_volume(&self, name: &Arc<str>) -> Result<Again, Error> {
        let Some((driver, handle)) = split(name) else {
            return Ok(Again::Done);
        };
        let world = self.informed.world(driver, handle);
        let memory = lock(&self.memories).get(name).cloned().unwrap_or_default();
        let plan = plan::plan(&world, &memory, self.context.now());
        self.remember(name, plan.memory);
        for step in plan.steps {
            self.step(name, &world, step).await?;
        }
        Ok(match plan.again.and_then(|wait| wait.try_into().ok()) {
            Some(wait) => Again::After(wait),
            None => Again::Done,
        })
    }

    /// Before anything is tried: since when nobody wants a volume counts, however often that fails.
    fn remember(&self, volume: &Arc<str>, memory: Memory) {
        let mut memories = lock(&self.memories);
        match memory == Memory::default() {
            true => memories.remove(volume),
            false => memories.insert(volume.clone(), memory),
        };
    }

    async fn step(&self, volume: &str, world: &World, step: Step) -> Result<(), Error> {
        match step {
            Step::Attach { node } => self.attach(world, &node).await,
            Step::Detach {
                node,
                attachment,
                is_forced,
            } => self.detach(volume, &node, &attachment, is_forced).await,
            Step::Note { node, note } => {
                for pod in world.wanted.get(&node).into_iter().flatten() {
                    note::tell(&self.recorder, &note::reference(&**pod), [&note]);
                }
                Ok(())
            }
        }
    }

    async fn attach(&self, world: &World, node: &str) -> Result<(), Error> {
        let name = attachment_name(&world.handle, &world.driver, node);
        let volume = world.volume.as_ref();
        let attachment = VolumeAttachment {
            metadata: ObjectMeta {
                name: Some(name),
                ..ObjectMeta::default()
            },
            spec: VolumeAttachmentSpec {
                attacher: world.driver.clone(),
                node_name: node.into(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: volume.map(|volume| volume.name().into()),
                    inline_volume_spec: None,
                },
            },
            status: None,
        };
        match self
            .attachments()
            .create(&PostParams::default(), &attachment)
            .await
        {
            Err(error) if !errors::is_already_exists(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The node's status must not say that a volume is attached when it may be detached already:
    /// the node would mount what is gone.
    async fn detach(
        &self,
        volume: &str,
        node: &str,
        attachment: &str,
        is_forced: bool,
    ) -> Result<(), Error> {
        lock(&self.leaving)
            .entry(node.into())
            .or_default()
            .push(volume.into());
        let done = self.detach_once(volume, node, attachment, is_forced).await;
        if let Some(leaving) = lock(&self.leaving).get_mut(node) {
            leaving.retain(|name| name != volume);
        }
        done
    }

    async fn detach_once(
        &self,
        volume: &str,
        node: &str,
        attachment: &str,
        is_forced: bool,
    ) -> Result<(), Error> {
        self.sync_node(node).await?;
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        match nodes.get(node).await {
            Ok(node) if !is_forced && node.uses(volume) => {
                return Err(Error::other(format!(
                    "DetachVolume failed for volume {volume:?}: volume is still in use by node, \
                     according to Node status"
                )));
            }
            Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
            _ => {}
        }
        tracing::info!(volume, node, is_forced, "detaches a volume");
        let deleted = self
            .attachments()
            .delete(attachment, &DeleteParams::default())
            .await;
        match deleted {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn attachments(&self) -> Api<VolumeAttachment> {
        Api::all(self.context.client.clone())
    }

    /// Brings the list of attached volumes in a node's status up to date.
    async fn sync_node(&self, name: &str) -> Result<Again, Error> {
        let Some(node) = self.informed.nodes.get("", name) else {
            return Ok(Again::Done);
        };
        let leaving = lock(&self.leaving).get(name).cloned().unwrap_or_default();
        let attached = self.informed.attached_to(name);
        if let Some(patch) = report::patch(&node, &attached, &leaving) {
            let nodes: Api<k8s_openapi::api::core::v1::Node> =
                Api::all(self.context.client.clone());
            report::write(&nodes, name, &patch).await?;
        }
        Ok(Again::Done)
    }
}

/// Pods that keep volumes attached.
fn keeps_volumes(pod: &Pod) -> bool {
    !pod.spec.node_name.is_empty() && !super::is_pod_terminated(pod)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
