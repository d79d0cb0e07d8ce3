//! What watches saw: one watch per collection, which is resumed at another master every few seconds and
//! whenever it breaks off, each time where it was.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::core::WatchEvent;
use serde_json::Value;
use tokio::time::sleep;

use super::server::{Failure, Server, version_of};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
}

/// An object, as far as it is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) uid: String,
    /// Kind and name of the controller that owns it.
    pub(super) owner: String,
    /// Of pods: where it is bound to.
    pub(super) node: String,
    /// Of pods: it neither ended nor was it told to.
    pub(super) is_active: bool,
    /// Of pods.
    pub(super) is_ready: bool,
    /// Of what has replicas: how many are wanted.
    pub(super) replicas: u64,
    /// Of Leases.
    pub(super) holder: String,
}

impl Object {
    pub(super) fn of(object: &Value) -> Object {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let owner = &meta["ownerReferences"][0];
        let has_ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        let conditions = status["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        Object {
            name: text(&meta["name"]),
            uid: text(&meta["uid"]),
            owner: format!("{}/{}", text(&owner["kind"]), text(&owner["name"])),
            node: text(&spec["nodeName"]),
            is_active: !has_ended && meta["deletionTimestamp"].is_null(),
            is_ready: conditions.any(|one| one["type"] == "Ready" && one["status"] == "True"),
            replicas: spec["replicas"].as_u64().unwrap_or(0),
            holder: text(&spec["holderIdentity"]),
        }
    }
}

/// A line of a watch.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) at: Instant,
    pub(super) version: u64,
    pub(super) change: Change,
    pub(super) object: Object,
}

impl Told {
    fn of(event: &WatchEvent<Value>) -> Option<Told> {
        let (change, object) = match event {
            WatchEvent::Added(object) => (Change::Added, object),
            WatchEvent::Modified(object) => (Change::Modified, object),
            WatchEvent::Deleted(object) => (Change::Deleted, object),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => return None,
        };
        Some(Told {
            at: Instant::now(),
            version: version_of(object),
            change,
            object: Object::of(object),
        })
    }

    /// What must be the same wherever it is told.
    pub(super) fn essence(&self) -> (u64, Change, &Object) {
        (self.version, self.change, &self.object)
    }
}

/// A witness of one collection.
#[derive(Clone)]
pub(super) struct Witness {
    /// The collection.
    pub(super) path: &'static str,
    /// Where it began.
    pub(super) since: u64,
    told: Arc<Mutex<Vec<Told>>>,
    /// What went wrong with the watch itself.
    complaints: Arc<Mutex<Vec<String>>>,
    pub(super) resumed: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

/// How long a watch stays at one master.
const STAY_SECONDS: u64 = 5;

impl Witness {
    /// Watches a collection of which nothing has changed since a version.
    pub(super) fn new(path: &'static str, since: u64) -> Witness {
        Witness {
            path,
            since,
            told: Arc::default(),
            complaints: Arc::default(),
            resumed: Arc::default(),
            ends: Arc::default(),
        }
    }

    /// Looks until it is told to end, at the masters in turn.
    pub(super) async fn look(self, masters: Vec<Server>) {
        let mut version = self.since;
        for master in masters.iter().cycle() {
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            let from = version;
            let on = |event: WatchEvent<Value>| {
                match (&event, Told::of(&event)) {
                    (_, Some(told)) => {
                        version = told.version;
                        self.told.lock().unwrap().push(told);
                    }
                    (WatchEvent::Bookmark(bookmark), None) => {
                        version = bookmark
                            .metadata
                            .resource_version
                            .parse()
                            .unwrap_or(version);
                    }
                    (WatchEvent::Error(status), None) => {
                        self.complain(status.code, &status.message)
                    }
                    _ => {}
                }
                !self.ends.load(Ordering::Relaxed)
            };
            match master.watch(self.path, from, STAY_SECONDS, on).await {
                Ok(()) => {}
                Err(Failure::Refused(code, message)) => {
                    self.complain(code, &message);
                    sleep(Duration::from_millis(100)).await;
                }
                Err(Failure::Unknown(_)) => sleep(Duration::from_millis(50)).await,
            }
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A server that has just started or has no quorum says so; that it no longer has what happened
    /// since is a loss.
    fn complain(&self, code: u16, message: &str) {
        if !matches!(code, 429 | 500 | 503 | 504) {
            let complaint = format!("{}: {code} {message}", self.path);
            self.complaints.lock().unwrap().push(complaint);
        }
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Names and versions as the last lines have them.
    pub(super) fn state(&self) -> Vec<(String, u64)> {
        let mut state = std::collections::BTreeMap::new();
        for told in self.told.lock().unwrap().iter() {
            match told.change {
                Change::Deleted => state.remove(&told.object.name),
                _ => state.insert(told.object.name.clone(), told.version),
            };
        }
        state.into_iter().collect()
    }

    /// What one master tells of the same time, in one piece.
    pub(super) async fn again(&self, master: &Server, count: usize) -> Result<Vec<Told>, Failure> {
        let mut again = Vec::new();
        let on = |event: WatchEvent<Value>| {
            again.extend(Told::of(&event));
            again.len() < count
        };
        if count > 0 {
            master.watch(self.path, self.since, 20, on).await?;
        }
        Ok(again)
    }
}
