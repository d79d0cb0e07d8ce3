//! Leases of the store for objects that end by themselves. One is shared by the objects of a minute,
//! since a lease per object would cost more than the object.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use raft_store::Store;
use raft_store::pb::etcdserverpb::LeaseGrantRequest;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::failure;
use crate::registry::Outcome;

/// How long a lease takes new objects; they live that much longer at most.
const SHARED: Duration = Duration::from_secs(60);
/// Objects that share a lease at most: all of them end in one transaction.
const OBJECTS_MAX: u32 = 1000;

struct Current {
    id: i64,
    until: Instant,
    objects: u32,
}

/// The leases that take objects now, by their times to live.
pub struct Leases {
    store: Arc<dyn Store>,
    current: Mutex<HashMap<i64, Current>>,
}

impl Leases {
    /// None yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            current: Mutex::default(),
        }
    }

    /// A lease for one more object that is to live so many seconds.
    ///
    /// # Errors
    ///
    /// If the store grants none.
    pub async fn lease(&self, seconds: i64) -> Outcome<i64> {
        let mut current = self.current.lock().await;
        let now = Instant::now();
        if let Some(lease) = current.get_mut(&seconds)
            && lease.until > now
            && lease.objects < OBJECTS_MAX
        {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let request = LeaseGrantRequest {
            id: 0,
            ttl: seconds + i64::try_from(SHARED.as_secs()).unwrap_or_default(),
        };
        let granted = self.store.lease_grant(request).await;
        let granted = granted.map_err(|error| failure::of_store(&error))?;
        let lease = Current {
            id: granted.id,
            until: now + SHARED,
            objects: 1,
        };
        current.insert(seconds, lease);
        Ok(granted.id)
    }
}
