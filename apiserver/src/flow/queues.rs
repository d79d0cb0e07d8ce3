//! The queues of one priority level, as a state machine: whoever calls brings the time, and gets back
//! whose turn it is.
//!
//! Flows are dealt hands of queues (shuffle sharding), so that a busy flow shares few queues with any
//! other; a request joins the queue of its hand with the least work. Queues take turns by fair
//! queuing: a virtual time passes as fast as every busy queue gets its share of seats, and the queue
//! goes first whose next request would be the first to finish if all were served evenly.

use std::collections::VecDeque;
use std::time::Duration;

/// How long a request is taken to run before anybody knows better.
const SERVICE_SECONDS: f64 = 0.003;

/// What a request takes: seats while it runs, and seats for a while after, when watchers are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Seats while it runs.
    pub seats: u32,
    /// Seats afterwards.
    pub final_seats: u32,
    /// For how long.
    pub after: Duration,
}

impl Work {
    /// Some seats while it runs, and nothing after.
    pub fn seats(seats: u32) -> Self {
        Self {
            seats,
            final_seats: 0,
            after: Duration::ZERO,
        }
    }

    /// Held for all of the time.
    pub fn max_seats(&self) -> u32 {
        self.seats.max(self.final_seats)
    }

    fn total(&self) -> f64 {
        f64::from(self.seats) * SERVICE_SECONDS
            + f64::from(self.final_seats) * self.after.as_secs_f64()
    }

    /// The work after the request in at most so many seats.
    fn narrowed(mut self, seats: u32) -> Self {
        if self.final_seats > seats && seats > 0 {
            self.after = self.after * self.final_seats / seats;
            self.final_seats = seats;
        }
        self
    }
}

/// What becomes of requests for which there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There always is one.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait.
    Queue {
        /// How many queues there are.
        queues: usize,
        /// How many of them a flow may use.
        hand: usize,
        /// How many requests a queue holds.
        length: usize,
    },
}

/// A running request's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    queue: Option<usize>,
    work: Work,
    started: f64,
}

impl Slot {
    /// The seats that it holds.
    pub fn seats(&self) -> u32 {
        self.work.max_seats()
    }

    /// How long the seats stay taken after the request has ended.
    pub fn after(&self) -> Duration {
        self.work.after
    }
}

/// Why a request is refused, as metrics say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No seat, and no queue.
    ConcurrencyLimit,
    /// The queue is full.
    QueueFull,
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq)]
pub enum Offered {
    /// It may run.
    Runs(Slot),
    /// It waits, under this number.
    Waits(u64),
    /// It may not.
    Refused(Refusal),
}

struct Waiting {
    number: u64,
    work: Work,
    /// The virtual time at which it came.
    arrived: f64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    executing: u32,
    seats_in_use: u32,
    /// The virtual time at which its next request begins.
    next_start: f64,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }

    fn work(&self) -> f64 {
        self.waiting.iter().map(|one| one.work.total()).sum()
    }

    /// A queue does not save up turns while it is empty.
    fn bound_start(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next_start = self.next_start.max(oldest.arrived);
        }
    }
}

/// How many seats were wanted over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// The most.
    pub max: f64,
    /// On average.
    pub average: f64,
    /// The standard deviation.
    pub deviation: f64,
}

#[derive(Default)]
struct DemandMeter {
    since: f64,
    value: f64,
    max: f64,
    elapsed: f64,
    sum: f64,
    squares: f64,
}

impl DemandMeter {
    fn set(&mut self, now: f64, value: f64) {
        let passed = (now - self.since).max(0.0);
        self.elapsed += passed;
        self.sum += self.value * passed;
        self.squares += self.value * self.value * passed;
        self.since = now;
        self.value = value;
        self.max = self.max.max(value);
    }

    fn take(&mut self, now: f64) -> Option<Demand> {
        self.set(now, self.value);
        let (elapsed, max) = (self.elapsed, self.max);
        let average = self.sum / elapsed;
        let variance = (self.squares / elapsed - average * average).max(0.0);
        (self.elapsed, self.sum, self.squares, self.max) = (0.0, 0.0, 0.0, self.value);
        (elapsed > 0.0).then_some(Demand {
            max,
            average,
            deviation: variance.sqrt(),
        })
    }
}

/// The queues of a priority level.
pub struct QueueSet {
    kind: Kind,
    limit: u32,
    queues: Vec<Queue>,
    robin: usize,
    offset: usize,
    last_number: u64,
    /// Real time of the last step, and the virtual time then, both in seconds.
    now: f64,
    virtual_now: f64,
    waiting: usize,
    executing: u32,
    seats_in_use: u32,
    seats_waiting: u32,
    demand: DemandMeter,
}

impl QueueSet {
    /// Queues without requests.
    pub fn new(kind: Kind, limit: u32, now: f64) -> Self {
        let mut set = Self {
            kind,
            limit,
            queues: Vec::new(),
            robin: 0,
            offset: 0,
            last_number: 0,
            now,
            virtual_now: 0.0,
            waiting: 0,
            executing: 0,
            seats_in_use: 0,
            seats_waiting: 0,
            demand: DemandMeter {
                since: now,
                ..DemandMeter::default()
            },
        };
        set.fit_queues();
        set
    }

    /// Changes kind and limit. Queues that are too many stay until they are empty. Yields whose turn
    /// it is now.
    pub fn configure(&mut self, kind: Kind, limit: u32, now: f64) -> Vec<(u64, Slot)> {
        self.advance(now);
        (self.kind, self.limit) = (kind, limit);
        self.fit_queues();
        self.dispatch()
    }

    /// Whether nobody waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0 && self.seats_in_use == 0
    }

    /// The seats that may be taken.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many seats were wanted since the last time that somebody asked.
    pub fn take_demand(&mut self, now: f64) -> Option<Demand> {
        self.demand.take(now)
    }

    /// A request of a flow arrives. Yields what becomes of it, and whose turn it is besides.
    pub fn offer(&mut self, flow: u64, work: Work, now: f64) -> (Offered, Vec<(u64, Slot)>) {
        self.advance(now);
        let mut next = Vec::new();
        let offered = self.place(flow, work, &mut next);
        self.note_demand();
        (offered, next)
    }

    fn place(&mut self, flow: u64, work: Work, next: &mut Vec<(u64, Slot)>) -> Offered {
        let Kind::Queue {
            queues,
            hand,
            length,
        } = self.kind
        else {
            if !self.has_seats(work.max_seats()) {
                return Offered::Refused(Refusal::ConcurrencyLimit);
            }
            return Offered::Runs(self.run(None, work));
        };
        let at = self.choose(flow, queues, hand);
        if self.seats_in_use >= self.limit && self.queues[at].waiting.len() >= length {
            return Offered::Refused(Refusal::QueueFull);
        }
        let queue = &mut self.queues[at];
        if queue.is_idle() {
            queue.next_start = self.virtual_now;
        }
        self.last_number += 1;
        let number = self.last_number;
        queue.waiting.push_back(Waiting {
            number,
            work,
            arrived: self.virtual_now,
        });
        queue.bound_start();
        self.waiting += 1;
        self.seats_waiting += work.max_seats();
        next.extend(self.dispatch());
        match next.iter().position(|one| one.0 == number) {
            Some(at) => Offered::Runs(next.swap_remove(at).1),
            None => Offered::Waits(number),
        }
    }

    /// Which queue of the flow's hand a request joins.
    fn choose(&mut self, flow: u64, queues: usize, hand: usize) -> usize {
        let cards = deal(flow, queues, hand);
        let offset = self.offset % cards.len();
        self.offset = self.offset.wrapping_add(1);
        let (early, late) = cards.split_at(offset);
        let mut best = (f64::INFINITY, 0);
        for &card in late.iter().chain(early) {
            let work = self.queues[card].work();
            if work < best.0 {
                best = (work, card);
            }
        }
        best.1
    }

    /// A waiting request is given up. Whether it was still waiting.
    pub fn withdraw(&mut self, number: u64, now: f64) -> bool {
        self.advance(now);
        for queue in &mut self.queues {
            let found = queue.waiting.iter().position(|one| one.number == number);
            if let Some(gone) = found.and_then(|at| queue.waiting.remove(at)) {
                queue.bound_start();
                self.waiting -= 1;
                self.seats_waiting -= gone.work.max_seats();
                self.note_demand();
                return true;
            }
        }
        false
    }

    /// A request has ended; its seats are free once they are [released](Self::release), after the
    /// time that its slot says.
    pub fn finish(&mut self, slot: &Slot, now: f64) {
        self.advance(now);
        self.executing -= 1;
        if let Some(queue) = slot.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.executing -= 1;
            let took = now - slot.started;
            queue.next_start -= f64::from(slot.work.seats) * (SERVICE_SECONDS - took);
            queue.bound_start();
        }
    }

    /// The seats of a request are free. Yields whose turn it is.
    pub fn release(&mut self, slot: &Slot, now: f64) -> Vec<(u64, Slot)> {
        self.advance(now);
        self.seats_in_use -= slot.seats();
        if let Some(queue) = slot.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.seats_in_use -= slot.seats();
        }
        self.fit_queues();
        let next = self.dispatch();
        self.note_demand();
        next
    }

    fn dispatch(&mut self) -> Vec<(u64, Slot)> {
        std::iter::from_fn(|| self.dispatch_one()).collect()
    }

    /// Gives seats to the request whose turn it is, if there are enough.
    fn dispatch_one(&mut self) -> Option<(u64, Slot)> {
        if self.waiting == 0 || (self.seats_in_use >= self.limit && self.kind != Kind::Exempt) {
            return None;
        }
        let mut best: Option<(f64, usize)> = None;
        let mut robin = self.robin;
        for _ in 0..self.queues.len() {
            robin = (robin + 1) % self.queues.len();
            let queue = &self.queues[robin];
            if let Some(oldest) = queue.waiting.front() {
                let finish = queue.next_start + oldest.work.total();
                if best.is_none_or(|best| finish < best.0) {
                    best = Some((finish, robin));
                }
            }
        }
        let (_, at) = best?;
        let seats = self.queues[at].waiting.front()?.work.max_seats();
        if !self.has_seats(seats) {
            return None;
        }
        let next = self.queues[at].waiting.pop_front()?;
        self.robin = at;
        self.waiting -= 1;
        self.seats_waiting -= seats;
        let work = next.work.narrowed(self.limit);
        let slot = self.run(Some(at), work);
        let queue = &mut self.queues[at];
        queue.next_start += work.total();
        queue.bound_start();
        Some((next.number, slot))
    }

    fn run(&mut self, queue: Option<usize>, work: Work) -> Slot {
        let slot = Slot {
            queue,
            work,
            started: self.now,
        };
        self.executing += 1;
        self.seats_in_use += slot.seats();
        if let Some(queue) = queue.and_then(|at| self.queues.get_mut(at)) {
            queue.executing += 1;
            queue.seats_in_use += slot.seats();
        }
        slot
    }

    fn has_seats(&self, seats: u32) -> bool {
        match self.kind {
            Kind::Exempt => true,
            // Who wants more than there are may have all.
            _ if seats > self.limit => self.executing == 0 && self.limit > 0,
            _ => self.seats_in_use + seats <= self.limit,
        }
    }

    fn note_demand(&mut self) {
        let wanted = f64::from(self.seats_in_use + self.seats_waiting);
        self.demand.set(self.now, wanted);
    }

    /// Lets real and virtual time pass.
    fn advance(&mut self, now: f64) {
        let passed = (now - self.now).max(0.0);
        self.now = self.now.max(now);
        let busy = self.queues.iter().filter(|queue| !queue.is_idle()).count();
        if busy > 0 {
            let in_queues: u32 = self.queues.iter().map(|queue| queue.seats_in_use).sum();
            let served = (in_queues + self.seats_waiting).min(self.limit);
            self.virtual_now += passed * f64::from(served) / busy as f64;
        }
    }

    fn fit_queues(&mut self) {
        let wanted = match self.kind {
            Kind::Queue { queues, .. } => queues,
            _ => 0,
        };
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        let is_free = |queue: &Queue| queue.is_idle() && queue.seats_in_use == 0;
        while self.queues.len() > wanted && self.queues.last().is_some_and(is_free) {
            self.queues.pop();
        }
        self.robin = self.robin.min(self.queues.len().saturating_sub(1));
    }
}

/// Deals a flow its hand: different cards, which ones its hash says.
fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut remainders = Vec::with_capacity(hand);
    let mut cards = Vec::with_capacity(hand);
    for at in 0..hand.clamp(1, deck) {
        let left = (deck - at) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        remainders.push(card);
        for earlier in remainders[..at].iter().rev() {
            if card >= *earlier {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests;
