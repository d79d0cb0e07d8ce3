//! Binds claims and volumes to each other, asks provisioners for volumes, and reclaims those whose
//! claims are gone.

mod edit;
mod matching;
mod plan;
mod plugins;
#[cfg(test)]
mod stories;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::{Index, Informer, Key as Name, Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, PostParams};

use self::plan::{ClaimWorld, Step, VolumeWorld};
use self::plugins::Deleter;
use super::{Claim, Class, Volume, claim_keys, is_pod_terminated};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::fresh;
use crate::note;
use crate::pod::Pod;

/// How often what is not bound is looked at again.
const INTERVAL: Duration = Duration::from_secs(15);

/// What is synced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A claim.
    Claim(Name),
    /// A volume, by its name.
    Volume(Arc<str>),
}

/// The controller.
pub struct Binder {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Class>,
    pods: Index<Pod>,
    _watches: [Subscription; 4],
}

#[async_trait]
impl Controller for Binder {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let informers = &context.informers;
        let (claims, volumes) = (informers.of::<Claim>(), informers.of::<Volume>());
        let (classes, pods) = (informers.of::<Class>(), informers.of::<Pod>());
        Self {
            context: context.clone(),
            recorder: context.recorder("persistentvolume-controller"),
            queue: queue.clone(),
            _watches: [
                wake_by_claims(&claims, queue),
                wake_by_volumes(&volumes, queue),
                wake_by_classes(&classes, &claims, queue),
                wake_by_pods(&pods, queue),
            ],
            pods: pods.index("claim", claim_keys),
            claims,
            volumes,
            classes,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        match key {
            Key::Claim(name) => self.sync_claim(name).await,
            Key::Volume(name) => self.sync_volume(name).await,
        }
    }
}

fn wake_by_claims(claims: &Informer<Claim>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    claims.on_change(move |old, new| match (old, new) {
        (_, Some(claim)) => queue.add(Key::Claim(Name::of(&**claim))),
        (Some(claim), None) if !claim.spec.volume_name.is_empty() => {
            queue.add(Key::Volume(claim.spec.volume_name.as_str().into()));
        }
        _ => {}
    })
}

fn wake_by_volumes(volumes: &Informer<Volume>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    volumes.on_change(move |old, new| {
        if let Some(volume) = new {
            queue.add(Key::Volume(volume.name().into()));
        }
        // A claim learns at once that its volume is there, has changed or is gone.
        for volume in old.into_iter().chain(new) {
            if let Some(reference) = &volume.spec.claim_ref {
                let namespace = reference.namespace.as_deref().unwrap_or_default();
                let name = reference.name.as_deref().unwrap_or_default();
                queue.add(Key::Claim(Name::new(namespace, name)));
            }
        }
    })
}

/// A new default class is for the claims that have none yet.
fn wake_by_classes(
    classes: &Informer<Class>,
    claims: &Informer<Claim>,
    queue: &Queue<Key>,
) -> Subscription {
    let (claims, queue) = (claims.clone(), queue.clone());
    classes.on_change(move |_, new| {
        let Some(class) = new else {
            return;
        };
        for claim in claims.list() {
            let waits = claim.status.phase == "Pending";
            let may_take = class.is_default() && !claim.has_class();
            if waits && (may_take || claim.class() == class.name()) {
                queue.add(Key::Claim(Name::of(&*claim)));
            }
        }
    })
}

/// What a claim says of the pods it waits for follows the pods.
fn wake_by_pods(pods: &Informer<Pod>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    pods.on_change(move |old, new| {
        let Some(pod) = new.filter(|_| old.is_none()) else {
            return;
        };
        if pod.spec.node_name.is_empty() {
            for volume in &pod.spec.volumes {
                let name = super::claim_name(pod, volume);
                queue.add(Key::Claim(Name::new(pod.namespace(), &name)));
            }
        }
    })
}

/// The objects as the steps before left them.
#[derive(Default)]
struct Written {
    claim: Option<PersistentVolumeClaim>,
    volume: Option<PersistentVolume>,
}

/// The objects as they were judged.
#[derive(Clone, Default)]
struct Judged {
    claim: Option<Arc<Claim>>,
    volume: Option<Arc<Volume>>,
}

impl Binder {
    async fn sync_claim(&self, key: &Name) -> Result<Again, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let class = self.classes.get("", claim.class());
        let volume = match claim.spec.volume_name.as_str() {
            "" if claim.annotation(super::BIND_COMPLETED).is_some() => None,
            "" => plan::chosen(&claim, class.as_deref(), &self.volumes.list()),
            name => self.volume(name).await?,
        };
        let world = ClaimWorld {
            waiting_pods: self.waiting_pods(&claim),
            default_class: self.default_class(),
            claim: claim.clone(),
            volume: volume.clone(),
            class,
        };
        let judged = Judged {
            claim: Some(claim.clone()),
            volume,
        };
        self.apply(plan::claim(&world), &judged).await?;
        Ok(match claim.status.phase.as_str() {
            "Bound" => Again::Done,
            _ => Again::After(INTERVAL),
        })
    }

    /// A volume; a claim is not given up as lost before the API server itself says so.
    async fn volume(&self, name: &str) -> Result<Option<Arc<Volume>>, Error> {
        if let Some(found) = self.volumes.get("", name) {
            return Ok(Some(found));
        }
        let volumes: Api<Volume> = Api::all(self.context.client.clone());
        Ok(found(volumes.get(name).await)?.map(Arc::new))
    }

    fn waiting_pods(&self, claim: &Claim) -> Vec<String> {
        let pods = self.pods.get(&claim.key());
        let waits = |pod: &&Arc<Pod>| !is_pod_terminated(pod) && pod.spec.node_name.is_empty();
        let pods = pods.iter().filter(waits);
        pods.map(|pod| pod.name().to_string()).collect()
    }

    /// The newest of the default classes.
    fn default_class(&self) -> Option<String> {
        let classes = self.classes.list();
        let defaults = classes.iter().filter(|class| class.is_default());
        let newest = defaults.min_by(|a, b| {
            let by_age = b
                .metadata
                .creation_timestamp
                .cmp(&a.metadata.creation_timestamp);
            by_age.then_with(|| a.name().cmp(b.name()))
        });
        newest.map(|class| class.name().to_string())
    }

    async fn sync_volume(&self, name: &str) -> Result<Again, Error> {
        let Some(volume) = self.volumes.get("", name) else {
            return Ok(Again::Done);
        };
        let namesake = self.namesake(&volume).await?;
        let reference = volume.spec.claim_ref.as_ref();
        let uid = reference.and_then(|reference| reference.uid.as_deref());
        let claim = namesake.clone().filter(|claim| uid == Some(claim.uid()));
        let world = VolumeWorld {
            using_pods: self.using_pods(&volume),
            has_namesake: namesake.is_some(),
            volume: volume.clone(),
            claim: claim.clone(),
        };
        let judged = Judged {
            claim,
            volume: Some(volume),
        };
        self.apply(plan::volume(&world), &judged).await?;
        Ok(Again::Done)
    }

    /// The claim of the name that a volume refers to. Where there is none, or another one, and that
    /// would be the end of the volume, the API server itself is asked.
    async fn namesake(&self, volume: &Volume) -> Result<Option<Arc<Claim>>, Error> {
        let Some(reference) = &volume.spec.claim_ref else {
            return Ok(None);
        };
        let uid = reference.uid.as_deref().unwrap_or_default();
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        let known = self.claims.get(namespace, name);
        let is_over = matches!(&*volume.status.phase, "Released" | "Failed");
        let is_certain = match &known {
            Some(claim) => claim.uid() == uid,
            None => is_over,
        };
        if is_certain || uid.is_empty() {
            return Ok(known);
        }
        let claims: Api<Claim> = Api::namespaced(self.context.client.clone(), namespace);
        Ok(found(claims.get(name).await)?.map(Arc::new))
    }

    fn using_pods(&self, volume: &Volume) -> Vec<String> {
        let key = volume.claim_key().unwrap_or_default();
        let pods = self.pods.get(&key);
        let pods = pods.iter().filter(|pod| !is_pod_terminated(pod));
        pods.map(|pod| format!("{}/{}", pod.namespace(), pod.name()))
            .collect()
    }

    /// Carries steps out, one after the other.
    async fn apply(&self, steps: Vec<Step>, judged: &Judged) -> Result<(), Error> {
        let mut written = Written::default();
        for step in steps {
            self.step(step, judged, &mut written).await?;
        }
        Ok(())
    }

    async fn step(&self, step: Step, judged: &Judged, written: &mut Written) -> Result<(), Error> {
        let params = PostParams::default();
        match step {
            Step::Volume(edit) => {
                let (volumes, mut volume) = self.take_volume(judged, written).await?;
                edit::volume(&mut volume, &edit);
                let name = volume.name().to_string();
                written.volume = Some(volumes.replace(&name, &params, &volume).await?);
            }
            Step::VolumePhase(phase, message) => {
                let (volumes, mut volume) = self.take_volume(judged, written).await?;
                let status = volume.status.get_or_insert_default();
                status.phase = Some(phase.into());
                status.message = Some(message).filter(|message| !message.is_empty());
                let name = volume.name().to_string();
                written.volume = Some(volumes.replace_status(&name, &params, &volume).await?);
            }
            Step::Claim(edit) => {
                let (claims, mut claim) = self.take_claim(judged, written).await?;
                edit::claim(&mut claim, &edit);
                let name = claim.name().to_string();
                written.claim = Some(claims.replace(&name, &params, &claim).await?);
            }
            Step::ClaimStatus(edit) => {
                let (claims, mut claim) = self.take_claim(judged, written).await?;
                edit::claim_status(&mut claim, &edit);
                let name = claim.name().to_string();
                written.claim = Some(claims.replace_status(&name, &params, &claim).await?);
            }
            Step::NoteClaim(note) => {
                if let Some(claim) = &judged.claim {
                    note::tell(&self.recorder, &note::reference(&**claim), [&note]);
                }
            }
            Step::NoteVolume(note) => {
                if let Some(volume) = &judged.volume {
                    note::tell(&self.recorder, &note::reference(&**volume), [&note]);
                }
            }
            Step::SyncClaim => {
                if let Some(claim) = &judged.claim {
                    self.queue.add(Key::Claim(Name::of(&**claim)));
                }
            }
            Step::Delete(deleter) => self.delete(deleter, judged, written).await?,
            Step::Fail(why) => return Err(Error::other(why)),
        }
        Ok(())
    }

    async fn take_volume(
        &self,
        judged: &Judged,
        written: &mut Written,
    ) -> Result<(Api<PersistentVolume>, PersistentVolume), Error> {
        let volumes = Api::all(self.context.client.clone());
        if let Some(volume) = written.volume.take() {
            return Ok((volumes, volume));
        }
        let seen = judged.volume.as_ref();
        let seen = seen.ok_or_else(|| Error::other("there is no volume to change"))?;
        let volume = fresh::fetch(&volumes, &seen.metadata).await?;
        Ok((volumes, volume))
    }

    async fn take_claim(
        &self,
        judged: &Judged,
        written: &mut Written,
    ) -> Result<(Api<PersistentVolumeClaim>, PersistentVolumeClaim), Error> {
        let seen = judged.claim.as_ref();
        let seen = seen.ok_or_else(|| Error::other("there is no claim to change"))?;
        let claims = Api::namespaced(self.context.client.clone(), seen.namespace());
        if let Some(claim) = written.claim.take() {
            return Ok((claims, claim));
        }
        let claim = fresh::fetch(&claims, &seen.metadata).await?;
        Ok((claims, claim))
    }

    /// Removes what is behind a volume, and the volume.
    async fn delete(
        &self,
        deleter: Deleter,
        judged: &Judged,
        written: &mut Written,
    ) -> Result<(), Error> {
        let Deleter::HostPath(path) = deleter else {
            return Ok(());
        };
        let (volumes, mut volume) = self.take_volume(judged, written).await?;
        let disk = self.context.seams.disk.clone();
        let removed = self.context.tasks.blocking(move || {
            let path = std::path::Path::new(&path);
            match disk.exists(path) {
                true => disk.remove_dir_all(path),
                false => Ok(()),
            }
        });
        if let Err(why) = removed.await {
            let note = crate::note::Note::warning("VolumeFailedDelete", why.to_string());
            written.volume = Some(volume);
            let phase = Step::VolumePhase("Failed", note.message.clone());
            Box::pin(self.step(phase, judged, written)).await?;
            return Box::pin(self.step(Step::NoteVolume(note), judged, written)).await;
        }
        let name = volume.name().to_string();
        if let Some(finalizers) = &mut volume.metadata.finalizers
            && finalizers
                .iter()
                .any(|name| name == plugins::IN_TREE_FINALIZER)
        {
            finalizers.retain(|name| name != plugins::IN_TREE_FINALIZER);
            volumes
                .replace(&name, &PostParams::default(), &volume)
                .await?;
        }
        let deleted = volumes.delete(&name, &DeleteParams::default()).await;
        found(deleted.map(drop))?;
        Ok(())
    }
}

/// What was asked for, unless it is not there.
fn found<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if errors::is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
