//! Objects that another server may have written a moment ago.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Object, Objects, Storage};

/// Waits for the watch cache.
#[async_trait::async_trait]
pub trait CatchUp: Send + Sync + 'static {
    /// Returns when the cache knows all that was written before the call, or gives up.
    async fn catch_up(&self);
}

/// Finds objects that others may have written a moment ago, on another server.
#[derive(Clone)]
pub struct Lookup {
    /// The cache.
    pub objects: Arc<dyn Objects>,
    /// How to wait for it; none in tests.
    pub catch_up: Option<Arc<dyn CatchUp>>,
}

impl Lookup {
    /// An object as the cache has it; what the cache does not know yet is waited for.
    pub async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        let found = self.objects.get(group, resource, namespace, name);
        match (&found, &self.catch_up) {
            (None, Some(_)) => self.latest(group, resource, namespace, name).await,
            _ => found,
        }
    }

    /// An object as it was when the call began, or newer.
    pub async fn latest(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        if let Some(catch_up) = &self.catch_up {
            catch_up.catch_up().await;
        }
        self.objects.get(group, resource, namespace, name)
    }
}

/// How long whoever authenticates waits for the cache.
const PATIENCE: Duration = Duration::from_secs(2);

#[async_trait::async_trait]
impl CatchUp for Storage {
    async fn catch_up(&self) {
        // Whoever looks then sees as much as there is.
        let _ = self.cache.catch_up(Instant::now() + PATIENCE).await;
    }
}
