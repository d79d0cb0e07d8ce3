//! The scheduler at work: informers that live as long as the process, and a loop per term.
//!
//! One task owns cache and queue. What may wake it is in one place, [`Term::run`]: changes that the
//! informers told, outcomes of writes, time. It looks at all of them, then decides on some pods, and
//! hands what is to be written to tasks of the term.

mod observe;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{
    Access, EventType, Fence, Identity, Informer, Informers, Leadership, Recorder, Selection, clock,
};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use seams::{Seams, Tasks};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::binding::{Binding, Done, Eviction, Note, Writer, is_news};
use crate::cache::Cache;
use crate::config::Config;
use crate::cycle::{Decision, Diagnosis, NO_NODES, Nominated, Placement, reserve, schedule};
use crate::filters::{dynamic_resources, scheduling_gates};
use crate::framework::{Action, Change, Event, Failure, Object, Plugin, Plugins};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::preemption::{Circumstances, post_filter};
use crate::profile::Profile;
use crate::queue::{Queue, Queued};
use crate::views::{
    CsiDriver, CsiNode, CsiStorageCapacity, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController, Service,
    StatefulSet, StorageClass, VolumeAttachment,
};

/// Pods decided on before the loop looks around: 64 cycles of 50 µs are 3 ms.
const BATCH: usize = 64;
/// Between looks at what time alone moves.
const TICK: Duration = Duration::from_secs(1);
/// Outcomes that wait for the loop: as many as there can be writes at once.
const OUTCOMES: usize = 1024;
/// Bindings at once, per unit of `parallelism`: each mostly waits for the store.
const BINDINGS_PER_UNIT: usize = 16;
/// Conditions written at once; they yield to bindings.
const NOTES_MAX: usize = 16;

/// All that the scheduler watches.
#[derive(Clone)]
struct Watched {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    replication_controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    budgets: Informer<PodDisruptionBudget>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    csi_nodes: Informer<CsiNode>,
    csi_drivers: Informer<CsiDriver>,
    capacities: Informer<CsiStorageCapacity>,
    attachments: Informer<VolumeAttachment>,
    resource_claims: Informer<ResourceClaim>,
    slices: Informer<ResourceSlice>,
    device_classes: Informer<DeviceClass>,
}

impl Watched {
    fn new(informers: &Informers) -> Self {
        Watched {
            // Pods that are done use nothing: they are not even fetched.
            pods: informers.selected(Selection {
                fields: Some("status.phase!=Succeeded,status.phase!=Failed".to_string()),
                ..Selection::default()
            }),
            nodes: informers.of(),
            namespaces: informers.of(),
            services: informers.of(),
            replication_controllers: informers.of(),
            replica_sets: informers.of(),
            stateful_sets: informers.of(),
            budgets: informers.of(),
            claims: informers.of(),
            volumes: informers.of(),
            classes: informers.of(),
            csi_nodes: informers.of(),
            csi_drivers: informers.of(),
            capacities: informers.of(),
            attachments: informers.of(),
            resource_claims: informers.of(),
            slices: informers.of(),
            device_classes: informers.of(),
        }
    }
}

/// The scheduler of a process.
pub struct Scheduler {
    access: Access,
    config: Arc<Config>,
    seams: Seams,
    informers: Informers,
    watched: Watched,
    metrics: Metrics,
    /// As events name it: `default-scheduler-` and the host.
    instance: String,
}

impl Scheduler {
    /// A scheduler on a host. Its informers live as long as the tasks, so that it is warm when it
    /// comes to lead.
    pub fn new(
        access: Access,
        config: Config,
        host: &str,
        metrics: Metrics,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Self {
        let informers = Informers::new(access.client(&Identity::Component, None), seams, tasks);
        Scheduler {
            watched: Watched::new(&informers),
            access,
            config: Arc::new(config),
            seams: seams.clone(),
            informers,
            metrics,
            instance: format!("{}-{host}", crate::config::DEFAULT_SCHEDULER),
        }
    }

    /// How it works.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Schedules for a term, until it ends.
    pub async fn lead(&self, term: Leadership) {
        self.run(Some(&term.fence), &term.tasks).await;
    }

    /// Schedules until the tasks end; with a fence, writes happen as long as that holds.
    pub async fn run(&self, fence: Option<&Fence>, tasks: &Tasks) {
        tokio::select! {
            () = self.informers.caught_up(fence.map_or(0, |fence| fence.revision)) => {}
            () = tasks.cancelled() => return,
        }
        let client = self.access.client(&Identity::Component, fence);
        let (sender, outcomes) = mpsc::channel(OUTCOMES);
        let writer = Writer {
            events: Recorder::start(
                &client,
                crate::config::DEFAULT_SCHEDULER,
                &self.instance,
                &self.seams,
                tasks,
            ),
            client,
            claims: self.watched.claims.clone(),
            seams: self.seams.clone(),
            tasks: tasks.clone(),
            done: sender,
        };
        let term = Term::new(self, writer);
        term.run(tasks, outcomes).await;
    }
}

/// A pod that is being bound.
struct InFlight {
    queued: Queued,
    node: String,
    began: Instant,
    /// Volumes and devices that were taken for it.
    volumes: Vec<String>,
    claims: Vec<(String, String)>,
    devices: Vec<Arc<ResourceClaim>>,
}

/// The loop of a term and all that it owns.
struct Term {
    config: Arc<Config>,
    seams: Seams,
    metrics: Metrics,
    watched: Watched,
    inboxes: Inboxes,
    wake: Arc<Notify>,
    cache: Cache,
    queue: Queue,
    writer: Writer,
    in_flight: HashMap<String, InFlight>,
    /// Pods whose victims are being evicted.
    preempting: HashSet<String>,
    /// Notes that wait for their turn, the latest per pod, and how many are being written.
    notes: HashMap<String, Note>,
    noting: usize,
    next_start: usize,
    next_tick: Instant,
}

/// Changes since the loop last looked.
struct Inboxes {
    pods: Inbox<Pod>,
    nodes: Inbox<Node>,
    namespaces: Inbox<Namespace>,
    services: Inbox<Service>,
    replication_controllers: Inbox<ReplicationController>,
    replica_sets: Inbox<ReplicaSet>,
    stateful_sets: Inbox<StatefulSet>,
    claims: Inbox<PersistentVolumeClaim>,
    volumes: Inbox<PersistentVolume>,
    classes: Inbox<StorageClass>,
    csi_nodes: Inbox<CsiNode>,
    csi_drivers: Inbox<CsiDriver>,
    capacities: Inbox<CsiStorageCapacity>,
    attachments: Inbox<VolumeAttachment>,
    resource_claims: Inbox<ResourceClaim>,
    slices: Inbox<ResourceSlice>,
    device_classes: Inbox<DeviceClass>,
}

impl Inboxes {
    fn new(watched: &Watched, wake: &Arc<Notify>) -> Self {
        Inboxes {
            pods: Inbox::of(&watched.pods, wake),
            nodes: Inbox::of(&watched.nodes, wake),
            namespaces: Inbox::of(&watched.namespaces, wake),
            services: Inbox::of(&watched.services, wake),
            replication_controllers: Inbox::of(&watched.replication_controllers, wake),
            replica_sets: Inbox::of(&watched.replica_sets, wake),
            stateful_sets: Inbox::of(&watched.stateful_sets, wake),
            claims: Inbox::of(&watched.claims, wake),
            volumes: Inbox::of(&watched.volumes, wake),
            classes: Inbox::of(&watched.classes, wake),
            csi_nodes: Inbox::of(&watched.csi_nodes, wake),
            csi_drivers: Inbox::of(&watched.csi_drivers, wake),
            capacities: Inbox::of(&watched.capacities, wake),
            attachments: Inbox::of(&watched.attachments, wake),
            resource_claims: Inbox::of(&watched.resource_claims, wake),
            slices: Inbox::of(&watched.slices, wake),
            device_classes: Inbox::of(&watched.device_classes, wake),
        }
    }
}

/// What gates a pod: its own gates, claims that are yet to be made, an eviction that is under way.
fn gate(config: &Config, cache: &Cache, preempting: &HashSet<String>, pod: &Pod) -> Option<Plugin> {
    let profile = config.profile(&pod.scheduler_name)?;
    if profile.has_gates && scheduling_gates::gate(pod).is_some() {
        return Some(Plugin::SchedulingGates);
    }
    let uses_devices =
        !pod.claims.is_empty() && profile.filters.contains(&Plugin::DynamicResources);
    if uses_devices && dynamic_resources::gate(cache.snapshot(), pod).is_some() {
        return Some(Plugin::DynamicResources);
    }
    preempting
        .contains(pod.uid())
        .then_some(Plugin::DefaultPreemption)
}

/// The gate of a term, with just the parts of it borrowed that it looks at.
macro_rules! gate_of {
    ($term:ident) => {
        &|pod: &Pod| gate(&$term.config, &$term.cache, &$term.preempting, pod)
    };
}
use gate_of;

impl Term {
    fn new(scheduler: &Scheduler, writer: Writer) -> Self {
        let now = scheduler.seams.clock.now();
        let config = Arc::clone(&scheduler.config);
        let wake = Arc::new(Notify::new());
        Term {
            queue: Queue::new(now, config.backoff_initial, config.backoff_max),
            inboxes: Inboxes::new(&scheduler.watched, &wake),
            config,
            seams: scheduler.seams.clone(),
            metrics: scheduler.metrics.clone(),
            watched: scheduler.watched.clone(),
            wake,
            cache: Cache::default(),
            writer,
            in_flight: HashMap::new(),
            preempting: HashSet::new(),
            notes: HashMap::new(),
            noting: 0,
            next_start: 0,
            next_tick: now,
        }
    }

    async fn run(mut self, tasks: &Tasks, mut outcomes: mpsc::Receiver<Done>) {
        loop {
            self.observe();
            while let Ok(done) = outcomes.try_recv() {
                self.finish(done);
            }
            self.tick();
            self.write_notes();
            let was_busy = (0..BATCH).all(|_| self.place_next());
            if tasks.is_cancelled() {
                return;
            }
            if was_busy {
                tokio::task::yield_now().await;
                continue;
            }
            let next = self
                .queue
                .next_flush()
                .unwrap_or(self.next_tick)
                .min(self.next_tick);
            tokio::select! {
                () = tasks.cancelled() => return,
                () = self.wake.notified() => {}
                done = outcomes.recv() => {
                    if let Some(done) = done {
                        self.finish(done);
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    fn tick(&mut self) {
        let now = self.seams.clock.now();
        let is_due = self.queue.next_flush().is_some_and(|due| due <= now);
        if now < self.next_tick && !is_due {
            return;
        }
        self.queue.flush(now, gate_of!(self));
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.metrics.sizes(self.queue.sizes(), self.cache.sizes());
        }
    }

    fn write_notes(&mut self) {
        while self.noting < NOTES_MAX {
            let Some(uid) = self.notes.keys().next().cloned() else {
                return;
            };
            if let Some(note) = self.notes.remove(&uid) {
                self.noting += 1;
                self.writer.note(note);
            }
        }
    }
}

// === deciding ===

impl Term {
    /// Decides on the next pod; false if there is none, or enough is on its way.
    fn place_next(&mut self) -> bool {
        if self.in_flight.len() >= self.config.parallelism * BINDINGS_PER_UNIT {
            return false;
        }
        let Some(queued) = self.queue.pop() else {
            return false;
        };
        let config = Arc::clone(&self.config);
        let pod = Arc::clone(&queued.pod);
        let Some(profile) = config.profile(&pod.scheduler_name) else {
            return true;
        };
        if pod.is_terminating() {
            let note = format!(
                "skip schedule deleting pod: {}/{}",
                pod.namespace(),
                pod.name()
            );
            let (kind, reason) = (EventType::Warning, "FailedScheduling");
            self.writer.event(&pod, kind, reason, "Scheduling", &note);
            return true;
        }
        if !self.cache.is_assumed(pod.uid()) {
            self.place(queued, profile);
        }
        true
    }

    fn place(&mut self, queued: Queued, profile: &Profile) {
        let began = self.seams.clock.now();
        let pod = Arc::clone(&queued.pod);
        let info = self.cache.prepare(&pod, &profile.defaults);
        let nominated = match self.queue.nominations.is_empty() {
            true => Nominated::default(),
            false => Nominated::new(self.cache.snapshot_mut(), self.queue.nominations.iter()),
        };
        let seed = self.seams.rng.next_u64();
        let snapshot = self.cache.snapshot();
        let attempt = schedule(snapshot, &info, profile, &nominated, self.next_start, seed);
        self.next_start = attempt.next_start;
        self.metrics.decided(self.seams.clock.now() - began);
        match attempt.decision {
            Decision::Place(placement) => match reserve(snapshot, &info, profile, placement.id) {
                Ok(reservation) => {
                    self.cache.assume(&info, &placement.node);
                    self.bind(queued, placement, reservation, profile, began);
                }
                Err(Failure::Rejected(rejection)) => {
                    let plugins = [rejection.plugin].into_iter().collect();
                    let message = format!("0/1 nodes are available: 1 {}.", rejection.message());
                    self.unfit(queued, plugins, message, None, profile, began);
                }
                Err(Failure::Error(error)) => self.failed(queued, error, profile, began),
            },
            Decision::Unfit(diagnosis) => {
                self.make_room(queued, &info, diagnosis, &nominated, profile, began);
            }
            Decision::Error(error) if error == NO_NODES => {
                // Every plugin may have something to say once there are nodes.
                let plugins: Plugins = profile.filters.iter().copied().collect();
                self.unfit(queued, plugins, error, Some(String::new()), profile, began);
            }
            Decision::Error(error) => self.failed(queued, error, profile, began),
        }
    }

    fn bind(
        &mut self,
        queued: Queued,
        placement: Placement,
        reservation: crate::cycle::Reservation,
        profile: &Profile,
        began: Instant,
    ) {
        let pod = Arc::clone(&queued.pod);
        self.queue.nominations.remove(pod.uid());
        let mut taken = InFlight {
            queued,
            node: placement.node.clone(),
            began,
            volumes: Vec::new(),
            claims: Vec::new(),
            devices: Vec::new(),
        };
        self.take(&reservation, &mut taken);
        self.in_flight.insert(pod.uid().to_string(), taken);
        self.writer.bind(Binding {
            pod,
            node: placement.node,
            reservation,
            timeout: profile.bind_timeout,
        });
    }

    /// Counts volumes and devices as taken before the API shows it.
    fn take(&mut self, reservation: &crate::cycle::Reservation, taken: &mut InFlight) {
        let snapshot = self.cache.snapshot_mut();
        for (volume, claim) in &reservation.volumes.bindings {
            let mut promised = (**volume).clone();
            promised.claim = Some(Box::new(crate::views::storage::ClaimRef {
                namespace: claim.namespace().to_string(),
                name: claim.name().to_string(),
                uid: claim.metadata.uid.clone().unwrap_or_default(),
            }));
            taken.volumes.push(volume.name().to_string());
            snapshot.volumes.assume_volume(promised);
        }
        for claim in &reservation.volumes.provisions {
            let mut selected = (**claim).clone();
            let annotations = selected.metadata.annotations.get_or_insert_default();
            let key = crate::views::storage::SELECTED_NODE.to_string();
            annotations.insert(key, taken.node.clone());
            let name = (claim.namespace().to_string(), claim.name().to_string());
            taken.claims.push(name);
            snapshot.volumes.assume_claim(selected);
        }
        for (claim, allocation) in &reservation.devices.allocations {
            snapshot.devices.assume(claim, allocation.clone());
            taken.devices.push(Arc::clone(claim));
        }
    }

    fn give_back(&mut self, taken: &InFlight) {
        let snapshot = self.cache.snapshot_mut();
        for volume in &taken.volumes {
            snapshot.volumes.forget_volume(volume);
        }
        for (namespace, name) in &taken.claims {
            snapshot.volumes.forget_claim(namespace, name);
        }
        for claim in &taken.devices {
            snapshot.devices.forget(claim);
        }
    }

    /// Runs PostFilter for a pod that fits nowhere.
    fn make_room(
        &mut self,
        queued: Queued,
        info: &crate::snapshot::PodInfo,
        mut diagnosis: Diagnosis,
        nominated: &Nominated,
        profile: &Profile,
        began: Instant,
    ) {
        let plugins = diagnosis.plugins;
        let mut nomination = None;
        if !profile.post_filters.is_empty() {
            let budgets = self.watched.budgets.list();
            let now = clock::now(&*self.seams.clock);
            let circumstances = Circumstances {
                budgets: &budgets,
                nominated,
                now,
                seed: self.seams.rng.next_u64(),
            };
            let snapshot = self.cache.snapshot();
            let outcome = post_filter(snapshot, info, profile, &diagnosis, &circumstances);
            diagnosis.post_filter = outcome.message;
            if outcome.clears_nomination {
                nomination = Some(String::new());
            }
            let victims = outcome.eviction.as_ref().map(|one| one.victims.len());
            self.metrics.preempted(victims);
            if let Some(eviction) = outcome.eviction {
                nomination = Some(eviction.node.clone());
                self.evict(&queued.pod, eviction);
            }
        }
        self.unfit(
            queued,
            plugins,
            diagnosis.message(),
            nomination,
            profile,
            began,
        );
    }

    fn evict(&mut self, pod: &Arc<Pod>, eviction: crate::preemption::Eviction) {
        let nominated = self.queue.nominations.of(&eviction.node).iter();
        let losers: Vec<_> = nominated
            .filter(|one| one.priority < pod.priority)
            .map(Arc::clone)
            .collect();
        for loser in &losers {
            self.queue.nominations.remove(loser.uid());
        }
        if eviction
            .victims
            .iter()
            .all(|victim| victim.is_terminating())
            && losers.is_empty()
        {
            return;
        }
        self.preempting.insert(pod.uid().to_string());
        self.writer.evict(Eviction {
            preemptor: Arc::clone(pod),
            node: eviction.node,
            victims: eviction.victims,
            losers,
        });
    }

    /// A pod has to wait for something to change.
    fn unfit(
        &mut self,
        queued: Queued,
        plugins: Plugins,
        message: String,
        nomination: Option<String>,
        profile: &Profile,
        began: Instant,
    ) {
        self.metrics.attempted(
            "unschedulable",
            &profile.name,
            self.seams.clock.now() - began,
        );
        self.retry_later(queued, plugins, ("Unschedulable", message), nomination);
    }

    /// Something went wrong; the pod is tried again.
    fn failed(&mut self, queued: Queued, error: String, profile: &Profile, began: Instant) {
        tracing::warn!(pod = queued.pod.name(), %error, "cannot schedule a pod; it is tried again");
        self.metrics
            .attempted("error", &profile.name, self.seams.clock.now() - began);
        let nomination = Some(String::new());
        self.retry_later(
            queued,
            Plugins::default(),
            ("SchedulerError", error),
            nomination,
        );
    }

    fn retry_later(
        &mut self,
        queued: Queued,
        plugins: Plugins,
        (reason, message): (&'static str, String),
        nomination: Option<String>,
    ) {
        let pod = Arc::clone(&queued.pod);
        let now = self.seams.clock.now();
        self.queue.reject(queued, plugins, now, gate_of!(self));
        self.queue.nominations.add(&pod, nomination.as_deref());
        let (kind, event) = (EventType::Warning, "FailedScheduling");
        self.writer.event(&pod, kind, event, "Scheduling", &message);
        let note = Note {
            condition: Some((reason, message)),
            nominated: nomination,
            pod,
        };
        if is_news(&note) {
            self.notes.insert(note.pod.uid().to_string(), note);
        }
    }
}

// === outcomes ===

impl Term {
    fn finish(&mut self, done: Done) {
        match done {
            Done::Noted => self.noting = self.noting.saturating_sub(1),
            Done::Bound { uid, result } => self.bound(&uid, result),
            Done::Preempted { uid, result } => {
                if let Err(error) = result {
                    tracing::warn!(uid, %error, "cannot evict the victims of a pod");
                }
                self.preempting.remove(&uid);
                let now = self.seams.clock.now();
                self.queue
                    .ungate(Plugin::DefaultPreemption, now, gate_of!(self));
            }
        }
    }

    fn bound(&mut self, uid: &str, result: Result<(), String>) {
        let Some(flight) = self.in_flight.remove(uid) else {
            return;
        };
        let now = self.seams.clock.now();
        let config = Arc::clone(&self.config);
        let Some(profile) = config.profile(&flight.queued.pod.scheduler_name) else {
            return;
        };
        let error = match result {
            Ok(()) => {
                let queued = &flight.queued;
                self.metrics
                    .attempted("scheduled", &profile.name, now - flight.began);
                self.metrics
                    .bound(queued.attempts, now - queued.first_seen, queued.was_flushed);
                return;
            }
            Err(error) => error,
        };
        self.give_back(&flight);
        let pod = Arc::clone(&flight.queued.pod);
        // Unless the API shows it bound after all, its room is free again.
        if self.cache.is_assumed(uid) {
            self.cache.remove_pod(uid);
            self.left(&pod, |_| true);
        }
        let current = self.watched.pods.get(pod.namespace(), pod.name());
        match current {
            Some(current) if current.uid() == uid && !current.is_assigned() => {
                let mut queued = flight.queued;
                queued.pod = current;
                self.failed(queued, error, profile, flight.began);
            }
            _ => {
                tracing::info!(pod = pod.name(), node = flight.node, %error, "a pod that is gone or bound was not bound")
            }
        }
    }

    /// Room became free, for some pods.
    fn left(&mut self, pod: &Pod, concerns: impl Fn(&Pod) -> bool) {
        let change = Change {
            old: Some(pod),
            new: None,
        };
        let event = Event {
            action: Action::DELETE,
            object: Object::Pod(change),
        };
        self.happened(&event, concerns);
    }

    fn happened(&mut self, event: &Event<'_>, concerns: impl Fn(&Pod) -> bool) {
        let now = self.seams.clock.now();
        let moved = self.queue.happened(event, concerns, now, gate_of!(self));
        if moved > 0 {
            self.metrics.came("active", &event.label(), moved);
        }
    }
}

#[cfg(test)]
mod tests;
