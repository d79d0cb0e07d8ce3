//! One API server: everything that requests share.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use api::status::Status;
use api::values::time::Moment;
use bytes::Bytes;
use http::HeaderMap;
use raft_store::Store;
use seams::{Seams, Tasks};

use crate::admission::Admission;
use crate::leases::Leases;
use crate::registry::{Outcome, Registry};
use crate::storage::{Along, Storage};
use crate::user::User;

/// The header of a leader's writes: the key of the fence and the revision that it must have.
pub const FENCE: &str = "trireme-fence";

/// What requests share.
pub struct Api {
    /// The resources that are served.
    pub registry: Registry,
    /// Their objects.
    pub storage: Arc<Storage>,
    /// Who judges writes.
    pub admission: Admission,
    /// Leases for objects that end by themselves.
    pub leases: Leases,
    /// Clock, randomness and the rest of the world.
    pub seams: Seams,
    /// The name of this server, for audits.
    pub name: String,
    /// Who owns what runs for requests.
    pub tasks: Tasks,
}

impl Api {
    /// An API server over a store, serving the built-in resources.
    pub fn start(
        store: Arc<dyn Store>,
        name: &str,
        admission: Admission,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let registry = Registry::built_in();
        let storage = Storage::start(store.clone(), registry.sources(), seams, tasks);
        Arc::new(Self {
            registry,
            storage,
            admission,
            leases: Leases::new(store),
            seams: seams.clone(),
            name: name.to_string(),
            tasks: tasks.clone(),
        })
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        let since = self.seams.clock.wall().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Moment {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }

    /// A new random UUID.
    pub fn uuid(&self) -> String {
        let (high, low) = (self.seams.rng.next_u64(), self.seams.rng.next_u64());
        let uuid = uuid::Builder::from_random_bytes(
            ((u128::from(high) << 64) | u128::from(low)).to_be_bytes(),
        );
        uuid.into_uuid().to_string()
    }

    /// What a write's log entry says of its author.
    pub fn stamp(&self, user: &User) -> Bytes {
        format!("{}\0{}", user.name, self.name).into()
    }

    /// Lets a write happen only while the fence that its request names holds.
    ///
    /// # Errors
    ///
    /// If the header cannot be read.
    pub fn fence(&self, headers: &HeaderMap, along: &mut Along) -> Outcome<()> {
        let Some(fence) = headers.get(FENCE) else {
            return Ok(());
        };
        let fence = fence.to_str().ok().and_then(|text| text.split_once('@'));
        let revision = fence.and_then(|(_, revision)| revision.parse().ok());
        let (Some((key, _)), Some(revision)) = (fence, revision) else {
            let message = format!("header {FENCE} is not KEY@REVISION");
            return Err(Status::bad_request(message).into());
        };
        along.needs(key.as_bytes().to_vec(), revision);
        Ok(())
    }
}
