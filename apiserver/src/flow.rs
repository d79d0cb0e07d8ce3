//! API priority and fairness: how many requests run at once, and whose.
//!
//! A request belongs to the first FlowSchema that fits it, and with that to a priority level, which
//! has a share of the server's seats. Where there is no seat it waits in one of the level's queues.
//!
//! - [`schema`]: which requests belong where; [`estimate`]: what they cost
//! - [`queues`]: whose turn it is; [`allocation`]: how levels share the server
//! - [`memory`]: who is refused while memory is short
//! - [`status`]: tells what schemas refer to

pub mod allocation;
pub mod estimate;
pub mod memory;
pub mod queues;
pub mod schema;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::values::time::Precision;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::instance::Api;
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use crate::user::User;
use allocation::Wish;
use queues::{Demand, Kind, Offered, QueueSet, Refusal, Slot, Work};
use schema::{Level, Schema};

/// The API group of schemas and levels.
pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub(crate) const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// Between two looks at whether schemas or levels have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two divisions of the seats.
const BORROWING_INTERVAL: Duration = Duration::from_secs(10);
/// How much of an old, higher demand counts after an interval.
const SMOOTHING: f64 = 0.977;
/// No request gets more seats than this part of its level's.
const SEATS_PART_MAX: f64 = 0.15;
/// The seats of a request, at most.
const SEATS_MAX: u32 = 100;

/// Who may run, and who waits.
pub struct Flow {
    /// Seats of the whole server.
    total: u32,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    schemas: Arc<Vec<Schema>>,
    levels: HashMap<String, Running>,
    waiters: HashMap<(Arc<str>, u64), oneshot::Sender<Slot>>,
}

/// A priority level at work.
struct Running {
    name: Arc<str>,
    level: Level,
    set: QueueSet,
    nominal: u32,
    min: u32,
    max: u32,
    /// What it wanted of late, slow to forget.
    smoothed: f64,
    demand: Demand,
    /// It is not wanted any more, and ends once it is idle.
    is_leaving: bool,
}

/// Where a request belongs.
#[derive(Debug, Clone)]
pub struct Class {
    /// The UID of its schema.
    pub schema_uid: String,
    /// The UID of its level.
    pub level_uid: String,
    schema: String,
    level: Arc<str>,
}

/// A request's right to run; its seats are free once this is dropped.
pub struct Permit {
    api: Arc<Api>,
    class: Class,
    slot: Slot,
    began: Instant,
    kind: &'static str,
}

impl Flow {
    /// Only the mandatory objects, until [`Self::follow`] has found others.
    pub fn new(total: u32, now: Instant) -> Self {
        let flow = Self {
            total,
            started: now,
            state: Mutex::new(State {
                schemas: Arc::default(),
                levels: HashMap::new(),
                waiters: HashMap::new(),
            }),
        };
        flow.configure(Vec::new(), Vec::new(), now);
        flow
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.started).as_secs_f64()
    }

    /// Puts other schemas and levels into force.
    fn configure(&self, levels: Vec<Level>, schemas: Vec<Schema>, now: Instant) {
        let (levels, schemas) = schema::digest(levels, schemas);
        let now = self.seconds(now);
        let state = &mut *self.state();
        state.schemas = Arc::new(schemas);
        for running in state.levels.values_mut() {
            running.is_leaving = !levels.iter().any(|level| level.name == running.level.name);
        }
        state
            .levels
            .retain(|_, running| !running.is_leaving || !running.set.is_idle());
        for level in levels {
            let running = state.levels.entry(level.name.clone());
            let running = running.or_insert_with(|| Running {
                name: level.name.as_str().into(),
                set: QueueSet::new(level.kind, 0, now),
                level: level.clone(),
                nominal: 0,
                min: 0,
                max: 0,
                smoothed: 0.0,
                demand: Demand::default(),
                is_leaving: false,
            });
            running.level = level;
        }
        let shares: f64 = state.levels.values().map(|one| one.level.shares).sum();
        for running in state.levels.values_mut() {
            let total = f64::from(self.total);
            let level = &running.level;
            let nominal = (total * level.shares / shares.max(1.0)).ceil();
            let lendable = (nominal * level.lendable_percent / 100.0).round();
            let borrowing = level
                .borrowing_percent
                .map_or(total, |percent| (nominal * percent / 100.0).round());
            running.nominal = nominal as u32;
            running.min = (nominal - lendable) as u32;
            running.max = (nominal + borrowing) as u32;
        }
        state.divide(now);
    }

    /// Divides the seats anew, by what levels have wanted since the last time.
    fn borrow(&self, now: Instant, metrics: &Metrics) {
        let now = self.seconds(now);
        let state = &mut *self.state();
        for running in state.levels.values_mut() {
            if let Some(demand) = running.set.take_demand(now) {
                let envelope = demand.average + demand.deviation;
                let old = SMOOTHING * running.smoothed + (1.0 - SMOOTHING) * envelope;
                running.smoothed = envelope.max(old);
                running.demand = demand;
            }
        }
        state.divide(now);
        for running in state.levels.values() {
            let of = [&*running.name];
            let gauges = [
                (&metrics.flow_nominal, running.nominal),
                (&metrics.flow_lower, running.min),
                (&metrics.flow_upper, running.max),
                (&metrics.flow_limit, running.set.limit()),
            ];
            for (family, value) in gauges {
                family.of(&of).set(i64::from(value));
            }
        }
    }

    /// Finds out where a request belongs.
    pub fn classify(&self, info: &RequestInfo, user: &User) -> Option<(Class, u64, u32)> {
        let schemas = self.state().schemas.clone();
        let schema = schemas.iter().find(|schema| schema.fits(info, user));
        let schema = schema.or_else(|| schemas.last())?;
        let state = self.state();
        let running = state.levels.get(&schema.level)?;
        let class = Class {
            schema_uid: schema.uid.clone(),
            level_uid: running.level.uid.clone(),
            schema: schema.name.clone(),
            level: running.name.clone(),
        };
        let is_queued = matches!(running.level.kind, Kind::Queue { .. });
        let seats_max = running.seats_max();
        drop(state);
        let flow = if is_queued {
            schema.flow(info, user)
        } else {
            0
        };
        Some((class, flow, seats_max))
    }

    /// Lets a request run as soon as it is its turn.
    ///
    /// # Errors
    ///
    /// If it has to be refused, or its turn does not come in time.
    pub async fn enter(
        &self,
        api: &Arc<Api>,
        (class, flow): (&Class, u64),
        work: Work,
        kind: &'static str,
        deadline: Instant,
    ) -> Result<Permit, ()> {
        let came = api.seams.clock.now();
        let labels = [&*class.level, &*class.schema];
        let metrics = &api.metrics;
        let refused = |why: &str| {
            let refused = &metrics.flow_rejected;
            refused.of(&[labels[0], labels[1], why]).inc();
        };
        let turn = match self.offer(class, flow, work, came) {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(turn)) => Err(turn),
            Err(why) => {
                refused(match why {
                    Refusal::ConcurrencyLimit => "concurrency-limit",
                    Refusal::QueueFull => "queue-full",
                });
                return Err(());
            }
        };
        let permit = |slot| Permit {
            api: api.clone(),
            class: class.clone(),
            slot,
            began: api.seams.clock.now(),
            kind,
        };
        let permit = match turn {
            Ok(slot) => permit(slot),
            Err((number, turn)) => {
                let waiting = Waiting {
                    api,
                    class,
                    number,
                    kind,
                    turn,
                };
                match waiting.end(deadline).await {
                    Some(slot) => permit(slot),
                    None => {
                        refused("time-out");
                        let waits = &metrics.flow_waits;
                        let took = came.elapsed().as_secs_f64();
                        waits.of(&[labels[0], labels[1], "false"]).observe(took);
                        return Err(());
                    }
                }
            }
        };
        let took = came.elapsed().as_secs_f64();
        let waits = &metrics.flow_waits;
        waits.of(&[labels[0], labels[1], "true"]).observe(took);
        metrics.flow_dispatched.of(&labels).inc();
        metrics.flow_running.of(&labels).add(1);
        let seats = i64::from(permit.slot.seats());
        metrics.flow_seats.of(&labels).add(seats);
        Ok(permit)
    }

    fn offer(
        &self,
        class: &Class,
        flow: u64,
        work: Work,
        now: Instant,
    ) -> Result<Result<Slot, (u64, oneshot::Receiver<Slot>)>, Refusal> {
        let now = self.seconds(now);
        let state = &mut *self.state();
        let Some(running) = state.levels.get_mut(&*class.level) else {
            return Err(Refusal::ConcurrencyLimit);
        };
        let (offered, next) = running.set.offer(flow, work, now);
        state.wake(&class.level, next, now);
        match offered {
            Offered::Runs(slot) => Ok(Ok(slot)),
            Offered::Refused(why) => Err(why),
            Offered::Waits(number) => {
                let (turn, waiter) = oneshot::channel();
                state.waiters.insert((class.level.clone(), number), turn);
                Ok(Err((number, waiter)))
            }
        }
    }

    /// A request has ended. Yields how long its seats stay taken.
    fn finish(&self, level: &str, slot: &Slot, now: Instant) {
        let now = self.seconds(now);
        if let Some(running) = self.state().levels.get_mut(level) {
            running.set.finish(slot, now);
        }
    }

    fn release(&self, level: &Arc<str>, slot: &Slot, now: Instant) {
        let now = self.seconds(now);
        let state = &mut *self.state();
        if let Some(running) = state.levels.get_mut(&**level) {
            let next = running.set.release(slot, now);
            state.wake(level, next, now);
        }
    }

    /// Follows what is stored, and lets levels borrow, until the tasks end.
    pub fn follow(api: &Arc<Api>) {
        let (api, owner) = (api.clone(), api.tasks.clone());
        owner.clone().spawn("priority-and-fairness", async move {
            let (mut seen, mut divided) = (None, api.seams.clock.now());
            loop {
                api.memory.look(&*api.seams.disk);
                let objects = api.objects();
                let found = [LEVELS, SCHEMAS].map(|resource| objects.version(GROUP, resource));
                if seen != Some(found) && api.storage.cache.applied() > 0 {
                    seen = api.flow.reload(&api).await.then_some(found);
                }
                let now = api.seams.clock.now();
                if now.saturating_duration_since(divided) >= BORROWING_INTERVAL {
                    divided = now;
                    api.flow.borrow(now, &api.metrics);
                }
                tokio::select! {
                    () = sleep(LOOK_INTERVAL) => {}
                    () = owner.cancelled() => return,
                }
            }
        });
    }

    /// Puts what is stored into force. Whether all that follows from it is done.
    async fn reload(&self, api: &Arc<Api>) -> bool {
        let levels = api.objects().list(GROUP, LEVELS, "");
        let levels: Vec<Level> = levels
            .iter()
            .filter_map(|object| Level::read(&object.doc()))
            .collect();
        let docs = api.objects().list(GROUP, SCHEMAS, "");
        let docs: Vec<_> = docs.iter().map(|object| object.doc()).collect();
        let schemas: Vec<Schema> = docs.iter().map(Schema::read).collect();
        let names: Vec<String> = levels.iter().map(|level| level.name.clone()).collect();
        self.configure(levels, schemas.clone(), api.seams.clock.now());
        let now = api.moment().text(Precision::Seconds);
        let mut is_done = true;
        for (doc, schema) in docs.iter().zip(&schemas) {
            let Some(doc) = status::wanted(doc, names.contains(&schema.level), &now) else {
                continue;
            };
            if let Err(error) = status::write(api, doc).await {
                tracing::debug!(%error, schema = schema.name, "its status could not be written");
                is_done = false;
            }
        }
        is_done
    }
}

impl Running {
    /// The seats that one request may have.
    fn seats_max(&self) -> u32 {
        let Kind::Queue { hand, .. } = self.level.kind else {
            return SEATS_MAX;
        };
        let part = (f64::from(self.nominal) * SEATS_PART_MAX).ceil() as u32;
        part.min(self.nominal / u32::try_from(hand).unwrap_or(1).max(1))
            .clamp(1, SEATS_MAX)
    }

    /// What the level keeps, whatever others want.
    fn floor(&self) -> u32 {
        let watermark = self.demand.max.round() as u32;
        match self.level.kind {
            Kind::Exempt => self.min.max(watermark),
            _ => self.min.max(self.nominal.min(watermark)),
        }
    }
}

impl State {
    /// Divides the seats among the levels.
    fn divide(&mut self, now: f64) {
        let is_exempt = |running: &&Running| running.level.kind == Kind::Exempt;
        let nominal: u32 = self.levels.values().map(|one| one.nominal).sum();
        let exempt: u32 = self
            .levels
            .values()
            .filter(is_exempt)
            .map(Running::floor)
            .sum();
        let limited: BTreeMap<String, &Running> = self
            .levels
            .iter()
            .filter(|(_, running)| !is_exempt(running))
            .map(|(name, running)| (name.clone(), running))
            .collect();
        let left = f64::from(nominal) - f64::from(exempt);
        let min: f64 = limited.values().map(|one| f64::from(one.min)).sum();
        let floor: f64 = limited.values().map(|one| f64::from(one.floor())).sum();
        let given: Vec<f64> = if left <= min {
            limited.values().map(|one| f64::from(one.min)).collect()
        } else if left <= floor {
            let part = (left - min) / (floor - min);
            let give =
                |one: &&Running| f64::from(one.min) + f64::from(one.floor() - one.min) * part;
            limited.values().map(give).collect()
        } else {
            let wish = |one: &&Running| Wish {
                low: f64::from(one.floor()),
                high: f64::from(one.max),
                target: one.smoothed.max(f64::from(one.floor())),
            };
            let wishes: Vec<Wish> = limited.values().map(wish).collect();
            let kept = || limited.values().map(|one| f64::from(one.nominal)).collect();
            allocation::divide(left, &wishes).unwrap_or_else(kept)
        };
        let mut given: BTreeMap<String, u32> = limited
            .keys()
            .cloned()
            .zip(given.into_iter().map(|seats| seats.round() as u32))
            .collect();
        let mut next = Vec::new();
        for (name, running) in &mut self.levels {
            let limit = given.remove(name).unwrap_or_else(|| running.floor());
            let kind = running.level.kind;
            next.push((
                running.name.clone(),
                running.set.configure(kind, limit, now),
            ));
        }
        for (level, next) in next {
            self.wake(&level, next, now);
        }
    }

    /// Tells those whose turn it is. Who does not wait any more gives its seats back.
    fn wake(&mut self, level: &Arc<str>, mut next: Vec<(u64, Slot)>, now: f64) {
        while let Some((number, slot)) = next.pop() {
            let waiter = self.waiters.remove(&(level.clone(), number));
            let Some(slot) = waiter.map_or(Some(slot.clone()), |waiter| waiter.send(slot).err())
            else {
                continue;
            };
            if let Some(running) = self.levels.get_mut(&**level) {
                running.set.finish(&slot, now);
                next.extend(running.set.release(&slot, now));
            }
        }
    }
}

/// A request in a queue, which it leaves when this is dropped.
struct Waiting<'a> {
    api: &'a Arc<Api>,
    class: &'a Class,
    number: u64,
    kind: &'static str,
    turn: oneshot::Receiver<Slot>,
}

impl Waiting<'_> {
    async fn end(mut self, deadline: Instant) -> Option<Slot> {
        let labels = [&*self.class.level, &*self.class.schema];
        let metrics = &self.api.metrics;
        metrics.flow_queued.of(&labels).add(1);
        metrics.in_queue.of(&[self.kind]).add(1);
        let turn = timeout_at(deadline, &mut self.turn).await;
        turn.ok()?.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let labels = [&*self.class.level, &*self.class.schema];
        let metrics = &self.api.metrics;
        metrics.flow_queued.of(&labels).add(-1);
        metrics.in_queue.of(&[self.kind]).add(-1);
        let flow = &self.api.flow;
        let now = flow.seconds(self.api.seams.clock.now());
        let state = &mut *flow.state();
        let level = &self.class.level;
        state.waiters.remove(&(level.clone(), self.number));
        if let Some(running) = state.levels.get_mut(&**level) {
            running.set.withdraw(self.number, now);
        }
        // Its turn may have come after it had stopped waiting.
        if let Ok(slot) = self.turn.try_recv()
            && let Some(running) = state.levels.get_mut(&**level)
        {
            running.set.finish(&slot, now);
            let next = running.set.release(&slot, now);
            state.wake(level, next, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.api.seams.clock.now();
        let labels = [&*self.class.level, &*self.class.schema];
        let metrics = &self.api.metrics;
        metrics.flow_running.of(&labels).add(-1);
        let seats = i64::from(self.slot.seats());
        metrics.flow_seats.of(&labels).add(-seats);
        let took = now.saturating_duration_since(self.began).as_secs_f64();
        let runs = &metrics.flow_runs;
        runs.of(&[labels[0], labels[1], self.kind]).observe(took);
        self.api.flow.finish(&self.class.level, &self.slot, now);
        let after = self.slot.after();
        if after.is_zero() {
            self.api.flow.release(&self.class.level, &self.slot, now);
            return;
        }
        let (api, level, slot) = (
            self.api.clone(),
            self.class.level.clone(),
            self.slot.clone(),
        );
        self.api.tasks.spawn("seats", async move {
            sleep(after).await;
            api.flow.release(&level, &slot, api.seams.clock.now());
        });
    }
}

#[cfg(test)]
mod tests;
