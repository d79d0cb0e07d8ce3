//! Watch streams that go on over broken connections and other members.

use std::time::Duration;

use raft_store::pb::etcdserverpb::WatchResponse;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Targets;
use crate::client::{Client, event_from_wire};
use crate::dice::Dice;
use crate::history::{Event, Frame, Recorder, WatchSpec};

/// Opening a watch may take this long.
const OPEN_TIME: Duration = Duration::from_secs(2);

/// One stream.
pub struct Watcher {
    /// Its number in the history.
    pub stream: u64,
    /// What it asks for; its start moves on.
    pub spec: WatchSpec,
    /// Where it may go.
    pub targets: Targets,
    /// Its choices.
    pub dice: Dice,
    /// Where it is recorded.
    pub recorder: Recorder,
    /// Whether to resume one revision late: a planted fault.
    pub late: bool,
    /// Set to the last revision seen.
    pub reached: watch::Sender<i64>,
}

impl Watcher {
    /// Follows the store until `stop` is true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let target = self.dice.pick(&self.targets.borrow()).cloned();
            let Some(target) = target else {
                return;
            };
            let node = target.node;
            let mut client = Client::new(target, OPEN_TIME);
            let stay =
                Duration::from_secs(2).mul_f64(0.2) + self.dice.exponential(Duration::from_secs(4));
            self.recorder
                .frame(self.stream, node, Frame::Open(self.spec.clone()));
            let reason = tokio::select! {
                reason = self.follow(&mut client, node, Instant::now() + stay) => reason,
                _ = stop.wait_for(|stop| *stop) => "stopped".into(),
            };
            self.recorder
                .frame(self.stream, node, Frame::Closed(reason));
            sleep(Duration::from_millis(20 + self.dice.below(100) as u64)).await;
        }
    }

    /// Follows one member until `until` or until the stream breaks; says why it ended.
    async fn follow(&mut self, client: &mut Client, node: u32, until: Instant) -> String {
        let mut spec = self.spec.clone();
        if self.late && spec.start > 2 {
            spec.start += 1;
        }
        let (_requests, mut stream) = match client.watch(&spec).await {
            Ok(opened) => opened,
            Err(reason) => return reason,
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let response = match timeout(left, stream.message()).await {
                Err(_) => return "moved on".into(),
                Ok(Err(status)) => return format!("{:?}: {}", status.code(), status.message()),
                Ok(Ok(None)) => return "end of stream".into(),
                Ok(Ok(Some(response))) => response,
            };
            if let Some(reason) = self.frame(node, response) {
                return reason;
            }
        }
    }

    /// Records a response; a reason when it ended the watch.
    fn frame(&mut self, node: u32, response: WatchResponse) -> Option<String> {
        let revision = response.header.map_or(0, |header| header.revision);
        if response.canceled {
            let reason = response.cancel_reason;
            let frame = Frame::Canceled {
                compacted: response.compact_revision,
                reason: reason.clone(),
            };
            self.recorder.frame(self.stream, node, frame);
            self.spec.start = self.spec.start.max(response.compact_revision);
            return Some(reason);
        }
        if response.created {
            self.recorder
                .frame(self.stream, node, Frame::Created(revision));
            if self.spec.start == 0 {
                self.spec.start = revision + 1;
            }
            return None;
        }
        if response.events.is_empty() {
            self.recorder
                .frame(self.stream, node, Frame::Progress(revision));
            self.reach(revision);
            return None;
        }
        let events: Vec<Event> = response.events.into_iter().map(event_from_wire).collect();
        let last = events.iter().map(Event::revision).max().unwrap_or(0);
        self.recorder
            .frame(self.stream, node, Frame::Events(events));
        self.reach(last);
        None
    }

    fn reach(&mut self, revision: i64) {
        self.spec.start = self.spec.start.max(revision + 1);
        self.reached.send_if_modified(|reached| {
            let higher = revision > *reached;
            *reached = revision.max(*reached);
            higher
        });
    }
}
