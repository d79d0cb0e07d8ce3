//! When the change happened that a write of endpoints answers, so that programming latency can be
//! measured from outside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;

use crate::pod::{ConditionType, Pod};

/// What the last sync of a Service saw.
#[derive(Debug, Clone, Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

/// What the last syncs saw, by Service.
#[derive(Debug, Default)]
pub struct TriggerTimes {
    services: Mutex<HashMap<Key, Seen>>,
}

impl TriggerTimes {
    /// The earliest change since the last sync of this Service, whose creation it is at first.
    pub fn next(&self, key: &Key, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let last = services.get(key);
        let mut seen = Seen {
            service: created,
            pods: HashMap::new(),
        };
        let mut earliest = None;
        let mut changed = |at: Timestamp| {
            earliest = Some(earliest.map_or(at, |earliest: Timestamp| earliest.min(at)));
        };
        for pod in pods {
            let Some(at) = pod
                .condition(&ConditionType::Ready)
                .and_then(|c| c.last_transition_time.as_ref())
            else {
                continue;
            };
            let name = pod.metadata.name.clone().unwrap_or_default();
            if last
                .and_then(|last| last.pods.get(&name))
                .is_none_or(|before| at.0 > *before)
            {
                changed(at.0);
            }
            seen.pods.insert(name, at.0);
        }
        if let (Some(created), Some(last)) = (created, last)
            && last.service.is_none_or(|before| created > before)
        {
            changed(created);
        }
        let is_new = last.is_none();
        services.insert(key.clone(), seen);
        if is_new { created } else { earliest }
    }

    /// Forgets a Service.
    pub fn forget(&self, key: &Key) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.remove(key);
    }
}

/// A time as annotations have it: with fractions of a second only if there are some.
pub fn written(at: Timestamp) -> String {
    at.to_string()
}
