//! Objects of a namespace of which there mostly are none: whoever finds none asks whether that is so, but
//! not every time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Attempt;
use crate::storage::Object;

/// How long it is believed that there are none, unless the cache says otherwise.
const TRUST: Duration = Duration::from_secs(30);
/// Namespaces that are remembered.
const NAMESPACES_MAX: usize = 10_000;

/// When it was asked, by namespace.
#[derive(Default)]
pub(super) struct Lookups(Mutex<HashMap<String, Instant>>);

impl Lookups {
    /// The objects of a resource of the core group in the attempt's namespace.
    pub(super) async fn list(&self, attempt: &Attempt<'_>, resource: &str) -> Vec<Arc<Object>> {
        let namespace = attempt.namespace();
        let found = attempt.objects().list("", resource, namespace);
        if !found.is_empty() || self.was_asked(namespace) {
            return found;
        }
        attempt.catch_up().await;
        attempt.objects().list("", resource, namespace)
    }

    fn was_asked(&self, namespace: &str) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if asked.get(namespace).is_some_and(|when| now - *when < TRUST) {
            return true;
        }
        if asked.len() >= NAMESPACES_MAX {
            asked.retain(|_, when| now - *when < TRUST);
        }
        if asked.len() < NAMESPACES_MAX {
            asked.insert(namespace.to_string(), now);
        }
        false
    }
}
