//! One API server: everything that requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::fence::{self, Fence};
use api::status::Status;
use api::values::time::Moment;
use bytes::Bytes;
use http::HeaderMap;
use raft_store::Store;
use seams::{Seams, Tasks};

use crate::admission::Admission;
use crate::allocation::{self, Allocator};
use crate::audit::{self, Auditor};
use crate::authentication::{self, Authenticator};
use crate::authorization::escalation::Escalation;
use crate::authorization::node::NodeAuthorizer;
use crate::authorization::rbac::Rbac;
use crate::authorization::{Authorizer, Mode, Wanted};
use crate::bootstrap;
use crate::catalog::Catalog;
use crate::discovery::{Addresses, Build};
use crate::encryption::{Encrypted, Encryption};
use crate::flow::Flow;
use crate::flow::memory::Memory;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::registry::{Outcome, Registry};
use crate::service_account_tokens::Issuer;
use crate::storage::{Along, Lookup, Objects, Storage};
use crate::streams::backend::Backends;
use crate::user::User;

/// What requests share.
pub struct Api {
    /// The resources that are served.
    pub registry: Registry,
    /// Their objects.
    pub storage: Arc<Storage>,
    /// Who judges writes.
    pub admission: Admission,
    /// Gives services addresses and ports.
    pub allocator: Allocator,
    /// Leases for objects that end by themselves.
    pub leases: Leases,
    /// Clock, randomness and the rest of the world.
    pub seams: Seams,
    /// The name of this server, for audits.
    pub name: String,
    /// Who owns what runs for requests.
    pub tasks: Tasks,
    /// What every cluster has was there once: until then nobody but masters may do anything.
    pub is_bootstrapped: AtomicBool,
    /// Finds out who asks.
    pub authenticator: Authenticator,
    /// Says what they may do.
    pub authorizer: Authorizer,
    /// Issues tokens of service accounts.
    pub issuer: Option<Arc<Issuer>>,
    /// Finds objects that another server may have written a moment ago.
    pub lookup: Lookup,
    /// What discovery tells.
    pub catalog: Arc<Catalog>,
    /// The documents of OpenAPI.
    pub openapi: OpenApi,
    /// Where clients reach the server.
    pub addresses: Addresses,
    /// Whom requests are handed on to.
    pub backends: Arc<Backends>,
    /// What was built.
    pub build: Build,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Appends what else the process counts.
    pub more_metrics: fn(&mut String),
    /// What encrypts, where anything does.
    pub encrypted: Option<Arc<Encrypted>>,
    /// Says when a request may run.
    pub flow: Flow,
    /// Says who is refused while memory is short.
    pub memory: Memory,
    /// Records requests.
    pub auditor: Option<Auditor>,
    /// How many requests in one make their client connect anew, perhaps to another server.
    pub goaway_chance: f64,
    /// Clients are to go elsewhere.
    leaving: AtomicBool,
}

/// What an API server is made of.
pub struct Parts {
    /// The name of this server, for audits.
    pub name: String,
    /// Which credentials count.
    pub authentication: authentication::Config,
    /// Who says what users may do, in order.
    pub authorization: Vec<Wanted>,
    /// Issues tokens of service accounts.
    pub issuer: Option<Arc<Issuer>>,
    /// Where clients reach the server.
    pub addresses: Addresses,
    /// Whom requests are handed on to.
    pub backends: Arc<Backends>,
    /// What services may get.
    pub services: allocation::Settings,
    /// What was built.
    pub build: Build,
    /// How many requests in one make their client connect anew, perhaps to another server.
    pub goaway_chance: f64,
    /// How far the past reaches; 0 leaves forgetting to others.
    pub compaction_interval: Duration,
    /// What is encrypted at rest.
    pub encryption: Option<Arc<Encryption>>,
    /// How much may run at once, in seats of priority levels.
    pub seats: u32,
    /// Bytes that the process may need before it refuses what needs most of them; 0 is no limit.
    pub memory_limit: u64,
    /// What is recorded of requests.
    pub audit: Option<audit::Config>,
    /// Appends what other parts of the process count, as Prometheus reads it.
    pub more_metrics: fn(&mut String),
}

impl Api {
    /// An API server over a store, serving the built-in resources.
    pub fn start(store: Arc<dyn Store>, parts: Parts, seams: &Seams, tasks: &Tasks) -> Arc<Self> {
        let metrics = Arc::new(Metrics::default());
        let auditor = parts.audit;
        let auditor = auditor.map(|config| Auditor::start(config, &metrics, seams, tasks));
        let registry = Registry::built_in();
        let encrypted = parts.encryption.map(|encryption| {
            let sources = registry.sources().into_iter();
            let prefixes = sources.map(|(resource, source)| (source.prefix, resource));
            Arc::new(Encrypted::new(store.clone(), encryption, prefixes))
        });
        let store = encrypted
            .clone()
            .map_or(store, |store| store as Arc<dyn Store>);
        let storage = Storage::start(
            store.clone(),
            registry.sources(),
            parts.compaction_interval,
            seams,
            tasks,
        );
        let lookup = Lookup {
            objects: storage.clone(),
            catch_up: Some(storage.clone()),
        };
        let rbac = Arc::new(Rbac::new(storage.clone()));
        let modes = parts.authorization.into_iter();
        let modes = modes.filter_map(|wanted| match wanted {
            Wanted::AlwaysAllow => Some(Mode::AlwaysAllow),
            // Who is asked by nobody is refused.
            Wanted::AlwaysDeny => None,
            Wanted::Node => {
                let node = NodeAuthorizer::new(storage.clone());
                Some(Mode::Node(Arc::new(node)))
            }
            Wanted::Rbac => Some(Mode::Rbac(rbac.clone())),
            Wanted::Webhook(webhook) => Some(Mode::Webhook(webhook)),
        });
        let authorizer = Authorizer::new(modes.collect());
        let escalation = Escalation::new(authorizer.clone(), rbac);
        let catalog = Arc::new(Catalog::builtin());
        let api = Arc::new(Self {
            registry,
            storage,
            // Before others may judge it, an object must not grant too much.
            admission: Admission::standard(Box::new(escalation)),
            allocator: Allocator::new(parts.services),
            leases: Leases::new(store),
            seams: seams.clone(),
            name: parts.name,
            tasks: tasks.clone(),
            is_bootstrapped: AtomicBool::new(false),
            authenticator: Authenticator::new(parts.authentication, &lookup, seams),
            authorizer,
            issuer: parts.issuer,
            lookup,
            openapi: OpenApi::new(catalog.clone(), Vec::new()),
            catalog,
            addresses: parts.addresses,
            backends: parts.backends,
            build: parts.build,
            encrypted,
            flow: Flow::new(parts.seats, seams.clock.now()),
            memory: Memory::new(parts.memory_limit),
            auditor,
            metrics,
            goaway_chance: parts.goaway_chance,
            more_metrics: parts.more_metrics,
            leaving: AtomicBool::new(false),
        });
        Flow::follow(&api);
        bootstrap::keep(&api);
        api.backends.watch(seams.disk.clone(), tasks);
        api
    }

    /// Lets readiness fail, so that clients go elsewhere before the server stops.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether clients are to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.tasks.is_cancelled()
    }

    /// What is stored, as fresh as the watch cache.
    pub fn objects(&self) -> &dyn Objects {
        &*self.storage
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        self.seams.clock.wall().into()
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
        if let Some(fence) = self.fence_of(headers)? {
            along.needs(fence.key, fence.revision);
        }
        Ok(())
    }

    /// The fence that a request names.
    ///
    /// # Errors
    ///
    /// If the header cannot be read.
    pub fn fence_of(&self, headers: &HeaderMap) -> Outcome<Option<Fence>> {
        let Some(fence) = headers.get(fence::HEADER) else {
            return Ok(None);
        };
        let fence = fence.to_str().unwrap_or_default().parse();
        Ok(Some(fence.map_err(Status::bad_request)?))
    }
}
