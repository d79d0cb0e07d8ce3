//! The containers of a pod: as they were reported, and as they are now.

use std::time::Duration;

use jiff::Timestamp;

use super::super::behaviour::Kind;
use super::super::pod::{self, Container, ContainerStatus, Pod};
use super::{Alarm, Situation, later};

/// How long a pull that failed is retried before the container backs off.
const PULL_RETRY: Duration = Duration::from_secs(10);

/// The first pause between restarts, which doubles each time.
const BACKOFF: Duration = Duration::from_secs(10);

/// The longest one.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// A container can change several times in one moment: created, run to its end, waiting for a restart.
const CHANGES_MAX: usize = 4;

/// Of a container that had to be killed.
const KILLED: i32 = 137;

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) reason: &'static str,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Nothing was reported of it.
    New,
    Waiting(&'static str),
    Running(Timestamp),
    Ended(End),
}

/// A container, wanted and real.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) spec: &'a Container,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// How it ended the last time.
    pub(super) last: Option<End>,
    pub(super) restarts: i32,
    pub(super) ready: bool,
    /// Whether it differs from what was reported.
    pub(super) changed: bool,
}

/// All containers of a pod.
#[derive(Debug)]
pub(super) struct Containers<'a> {
    /// Init containers and sidecars, in their order.
    pub(super) init: Vec<Live<'a>>,
    pub(super) main: Vec<Live<'a>>,
    pub(super) ephemeral: Vec<Live<'a>>,
}

impl<'a> Containers<'a> {
    /// As they were reported.
    pub(super) fn observe(pod: &'a Pod) -> Containers<'a> {
        let (spec, status) = (&pod.spec, &pod.status);
        let observe = |specs, statuses, kind: fn(&Container) -> Kind| {
            observe(specs, statuses, kind, pod.is_behind())
        };
        let init = |container: &Container| match container.is_sidecar() {
            true => Kind::Sidecar,
            false => Kind::Init,
        };
        let (specs, statuses) = (
            &spec.ephemeral_containers,
            &status.ephemeral_container_statuses,
        );
        Containers {
            init: observe(&spec.init_containers, &status.init_container_statuses, init),
            main: observe(&spec.containers, &status.container_statuses, |_| Kind::Main),
            ephemeral: observe(specs, statuses, |_| Kind::Ephemeral),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Live<'a>> {
        self.init.iter().chain(&self.main).chain(&self.ephemeral)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Live<'a>> {
        let first = self.init.iter_mut().chain(&mut self.main);
        first.chain(&mut self.ephemeral)
    }

    pub(super) fn any_runs(&self) -> bool {
        self.all().any(Live::runs)
    }

    /// Whether a main container has ever been started.
    pub(super) fn has_begun(&self) -> bool {
        let began = |one: &Live<'_>| one.last.is_some() || one.runs() || one.end().is_some();
        self.main.iter().any(began)
    }

    /// Lets time go on to now.
    pub(super) fn advance(&mut self, at: &Situation<'_>, alarm: &mut Alarm) {
        let start = later(later(at.known, at.behaviour.start_after(at.pod)), at.slow);
        let is_started = at.starts && alarm.due(Some(start));
        let begun = self.has_begun();
        let waits = match self.init.is_empty() {
            true => "ContainerCreating",
            false => "PodInitializing",
        };
        let mut is_next = is_started;
        for one in &mut self.init {
            if begun && one.kind == Kind::Init {
                continue;
            }
            one.advance(at, alarm, is_next || begun, "PodInitializing");
            is_next &= one.is_passed();
        }
        for one in &mut self.main {
            one.advance(at, alarm, is_next || begun, waits);
        }
        for one in &mut self.ephemeral {
            one.advance(at, alarm, is_started, "ContainerCreating");
        }
        let is_failed = self.init.iter().any(|one| one.has_failed(at.pod));
        if is_failed || self.main.iter().all(|one| one.is_over(at.pod)) {
            // What goes on beside them ends with them.
            let rest = self.init.iter_mut().chain(&mut self.ephemeral);
            rest.for_each(|one| one.stop(0, "Completed", at.now));
        }
    }

    /// All that runs is killed now; what should run and does not is never found again.
    pub(super) fn kill(&mut self, at: &Situation<'_>) {
        let obeys = at.behaviour.stop_after(at.pod).is_some();
        let (code, reason) = if obeys {
            (0, "Completed")
        } else {
            (KILLED, "Error")
        };
        for one in self.all_mut() {
            one.stop(code, reason, at.now);
        }
    }
}

fn observe<'a>(
    specs: &'a [Container],
    statuses: &'a [ContainerStatus],
    kind: fn(&Container) -> Kind,
    is_behind: bool,
) -> Vec<Live<'a>> {
    let one = |spec: &'a Container| {
        let status = statuses.iter().find(|status| status.name == spec.name);
        Live::observe(spec, status, kind(spec), is_behind)
    };
    specs.iter().map(one).collect()
}

impl<'a> Live<'a> {
    fn observe(
        spec: &'a Container,
        status: Option<&ContainerStatus>,
        kind: Kind,
        is_behind: bool,
    ) -> Live<'a> {
        let Some(status) = status else {
            return Live {
                spec,
                kind,
                state: State::New,
                last: None,
                restarts: 0,
                ready: false,
                changed: false,
            };
        };
        let mut one = Live {
            spec,
            kind,
            state: state(&status.state),
            last: status.last_state.terminated.as_ref().map(end),
            restarts: status.restart_count,
            ready: status.ready,
            // Resources are changed in place.
            changed: is_behind && status.resources != spec.resources,
        };
        if is_behind
            && status.image != spec.image
            && let State::Running(since) = one.state
        {
            // Another image is another container, which starts as any other does.
            one.restarts += 1;
            one.last = Some(End {
                code: 0,
                reason: "Completed",
                started: Some(since),
                finished: None,
            });
            one.set(State::New);
        }
        one
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub(super) fn end(&self) -> Option<&End> {
        match &self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether the init containers after it may start.
    pub(super) fn is_passed(&self) -> bool {
        match self.kind {
            Kind::Sidecar => self.runs(),
            _ => self.end().is_some_and(|end| end.code == 0),
        }
    }

    /// Whether it has ended for good.
    fn is_over(&self, pod: &Pod) -> bool {
        self.end()
            .is_some_and(|end| !pod.restarts(self.spec, end.code))
    }

    /// Whether it keeps the pod from ever starting.
    pub(super) fn has_failed(&self, pod: &Pod) -> bool {
        self.kind == Kind::Init && self.is_over(pod) && !self.is_passed()
    }

    fn set(&mut self, state: State) {
        self.changed |= self.state != state;
        self.state = state;
    }

    fn advance(
        &mut self,
        at: &Situation<'_>,
        alarm: &mut Alarm,
        may_start: bool,
        waits: &'static str,
    ) {
        for _ in 0..CHANGES_MAX {
            let before = self.state.clone();
            self.step(at, alarm, may_start, waits);
            if self.state == before {
                break;
            }
        }
        self.settle(at, alarm);
    }

    fn step(
        &mut self,
        at: &Situation<'_>,
        alarm: &mut Alarm,
        may_start: bool,
        waits: &'static str,
    ) {
        match &self.state {
            State::New | State::Waiting(_) if !may_start => self.set(match self.state {
                State::New => State::Waiting(waits),
                ref state => state.clone(),
            }),
            State::New | State::Waiting(_) if !at.behaviour.is_pullable(self.spec) => {
                self.pull(at, alarm);
            }
            State::Waiting("CrashLoopBackOff") => {
                if alarm.due(self.restarts_at(at)) {
                    self.restarts += 1;
                    self.set(State::Running(at.now));
                }
            }
            State::New | State::Waiting(_) => self.set(State::Running(at.now)),
            State::Running(since) => {
                let since = *since;
                let span = at.behaviour.runs_for(at.pod, self.spec, self.kind);
                if alarm.due(span.map(|span| later(later(since, span), at.slow))) {
                    let code = at.behaviour.exit_code(at.pod, self.spec, self.kind);
                    let reason = if code == 0 { "Completed" } else { "Error" };
                    self.stop(code, reason, at.now);
                }
            }
            State::Ended(end) => {
                if self.is_started_again(at.pod, end.code) && may_start {
                    self.last = Some(end.clone());
                    self.set(State::Waiting("CrashLoopBackOff"));
                }
            }
        }
    }

    fn is_started_again(&self, pod: &Pod, code: i32) -> bool {
        match self.kind {
            Kind::Ephemeral => false,
            Kind::Init => code != 0 && pod.restarts(self.spec, code),
            Kind::Main | Kind::Sidecar => {
                pod.metadata.deletion_timestamp.is_none() && pod.restarts(self.spec, code)
            }
        }
    }

    /// The first restart is at once.
    fn restarts_at(&self, at: &Situation<'_>) -> Option<Timestamp> {
        let ended = self.last.as_ref().and_then(|end| end.finished);
        Some(later(ended.unwrap_or(at.known), self.pause()))
    }

    /// How long it waits for its next restart.
    pub(super) fn pause(&self) -> Duration {
        match u32::try_from(self.restarts).unwrap_or(0) {
            0 => Duration::ZERO,
            n => BACKOFF.saturating_mul(1 << (n - 1).min(5)).min(BACKOFF_MAX),
        }
    }

    fn pull(&mut self, at: &Situation<'_>, alarm: &mut Alarm) {
        let gives_up = later(at.known, PULL_RETRY);
        let reason = match alarm.due(Some(gives_up)) {
            true => "ImagePullBackOff",
            false => "ErrImagePull",
        };
        self.set(State::Waiting(reason));
    }

    fn stop(&mut self, code: i32, reason: &'static str, now: Timestamp) {
        if let State::Running(since) = self.state {
            self.set(State::Ended(End {
                code,
                reason,
                started: Some(since),
                finished: Some(now),
            }));
            self.ready = false;
        }
    }

    /// Whether it is ready, now that its state is known.
    fn settle(&mut self, at: &Situation<'_>, alarm: &mut Alarm) {
        let ready = match (&self.state, self.kind) {
            (_, Kind::Ephemeral) => false,
            (State::Ended(end), Kind::Init) => end.code == 0,
            (State::Running(since), Kind::Main | Kind::Sidecar) => {
                let span = at.behaviour.ready_after(at.pod);
                self.ready || alarm.due(span.map(|span| later(*since, span)))
            }
            _ => false,
        };
        self.changed |= ready != self.ready;
        self.ready = ready;
    }
}

fn state(seen: &pod::State) -> State {
    let since = |time: &Option<_>| match time {
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time)) => *time,
        None => Timestamp::UNIX_EPOCH,
    };
    match seen {
        pod::State {
            terminated: Some(terminated),
            ..
        } => State::Ended(end(terminated)),
        pod::State {
            running: Some(running),
            ..
        } => State::Running(since(&running.started_at)),
        pod::State {
            waiting: Some(waiting),
            ..
        } => State::Waiting(known_reason(&waiting.reason)),
        _ => State::New,
    }
}

fn end(seen: &pod::Terminated) -> End {
    End {
        code: seen.exit_code,
        reason: known_reason(&seen.reason),
        started: seen.started_at.as_ref().map(|time| time.0),
        finished: seen.finished_at.as_ref().map(|time| time.0),
    }
}

/// The reasons that a hollow node gives.
fn known_reason(text: &str) -> &'static str {
    const KNOWN: [&str; 7] = [
        "CrashLoopBackOff",
        "Completed",
        "Error",
        "ErrImagePull",
        "ImagePullBackOff",
        "PodInitializing",
        "ContainerStatusUnknown",
    ];
    let known = KNOWN.into_iter().find(|known| *known == text);
    known.unwrap_or("ContainerCreating")
}
