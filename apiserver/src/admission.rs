//! Admission: what judges and completes a write after authorization and before validation.
//!
//! Every plugin is a file. The order is upstream's: all of them may change the object first, then all
//! may refuse it.

mod amounts;
mod certificates;
mod claim_resize;
mod default_ingress_class;
mod default_storage_class;
mod limit_ranger;
mod lookups;
mod namespace_lifecycle;
mod node_restriction;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;
mod tolerations;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::doc::Doc;
use api::status::Status;
use async_trait::async_trait;

use crate::metrics::family::Histogram;
use crate::registry::{Call, Outcome, metadata};
use crate::storage::{Along, Object, Objects};

/// What a request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// A connection is handed on to it.
    Connect,
}

/// A write on its way, with what has to happen once it is done.
pub struct Attempt<'a> {
    /// The request.
    pub call: &'a Call<'a>,
    /// What it does.
    pub operation: Operation,
    /// The object's name.
    pub name: String,
    after: Vec<Box<dyn FnOnce(u64) + Send + Sync>>,
}

impl<'a> Attempt<'a> {
    /// An attempt at a write of the object that the request names.
    pub fn new(call: &'a Call<'a>, operation: Operation) -> Self {
        Self {
            call,
            operation,
            name: call.info.name.clone(),
            after: Vec::new(),
        }
    }

    /// The same of an object that the request does not name.
    #[must_use]
    pub fn of(self, doc: &Doc) -> Self {
        Self {
            name: metadata::text(doc, "name").to_string(),
            ..self
        }
    }

    /// Lets all complete and judge the body of an action, such as an Eviction: nothing of it is stored.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn of_action(call: &'a Call<'a>, body: &mut Doc) -> Outcome<()> {
        let admission = &call.api.admission;
        let mut attempt = Self::new(call, Operation::Create);
        admission.admit(&mut attempt, Some(body), None).await?;
        let along = &mut Along::default();
        admission
            .validate(&mut attempt, Some(body), None, along)
            .await
    }

    /// Runs something once the write is done, with its revision (0 if nothing was written). It is
    /// dropped if the write is refused.
    pub fn afterwards(&mut self, act: impl FnOnce(u64) + Send + Sync + 'static) {
        self.after.push(Box::new(act));
    }

    /// The write is done.
    pub fn finish(self, revision: u64) {
        for act in self.after {
            act(revision);
        }
    }

    /// Group and resource.
    pub fn resource(&self) -> (&'static str, &'static str) {
        let resource = self.call.row.resource;
        (resource.group, resource.name)
    }

    /// Whether it is about an object of a resource itself, not about a part of it.
    pub fn is_of(&self, group: &str, resource: &str) -> bool {
        self.resource() == (group, resource) && self.subresource().is_empty()
    }

    /// The part of the object that it is about; empty for the object itself.
    pub fn subresource(&self) -> &'a str {
        &self.call.info.subresource
    }

    /// The object's namespace; empty for those of the cluster.
    pub fn namespace(&self) -> &'a str {
        match self.call.row.resource.namespaced {
            true => &self.call.info.namespace,
            false => "",
        }
    }

    /// What is stored, as fresh as the watch cache.
    pub fn objects(&self) -> &'a dyn Objects {
        self.call.api.objects()
    }

    /// An object as the cache has it; what it lacks is waited for.
    pub async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        if let Some(found) = self.objects().get(group, resource, namespace, name) {
            return Some(found);
        }
        self.catch_up().await;
        self.objects().get(group, resource, namespace, name)
    }

    /// Returns when the cache knows all that was written before the call, or gives up.
    pub async fn catch_up(&self) {
        // Whoever looks then sees as much as there is.
        let cache = &self.call.api.storage.cache;
        let _ = cache.catch_up(self.call.deadline).await;
    }

    /// The refusal of the write.
    pub fn forbidden(&self, why: impl fmt::Display) -> Box<Status> {
        let name = match &*self.name {
            "" => "Unknown",
            name => name,
        };
        Status::forbidden(self.call.of(), name, why).into()
    }
}

/// One judge of writes. Documents are of the version that is stored; for a subresource with a kind of
/// its own, of that kind.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Whether connections are its business too: of upstream's own plugins it is none's.
    fn judges_connections(&self) -> bool {
        false
    }

    /// Its name in metrics: that of the type, which is upstream's where it is one of theirs.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Completes an object. Deletions have none.
    async fn admit(
        &self,
        _attempt: &mut Attempt<'_>,
        _new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        Ok(())
    }

    /// Judges an object as it would be written; what has to be written with it goes along.
    async fn validate(
        &self,
        _attempt: &mut Attempt<'_>,
        _new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        Ok(())
    }
}

/// All plugins, in order.
#[derive(Default)]
pub struct Admission {
    plugins: Vec<(Box<dyn Plugin>, Times)>,
    times: Times,
}

/// The steps of admission.
#[derive(Clone, Copy)]
enum Step {
    Admit,
    Validate,
}

/// How long a plugin took, or all of them: by step, operation and outcome. Every write asks for some
/// forty of these, which is why they are not looked up by name.
#[derive(Default)]
struct Times([[[OnceLock<Arc<Histogram>>; 2]; 4]; 2]);

impl Times {
    /// Counts one time. All plugins together have no name.
    fn count(
        &self,
        attempt: &Attempt<'_>,
        plugin: Option<&dyn Plugin>,
        step: Step,
        took: Duration,
        is_rejected: bool,
    ) {
        let series = &self.0[step as usize][attempt.operation as usize][usize::from(is_rejected)];
        let series = series.get_or_init(|| {
            let operation = match attempt.operation {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Delete => "DELETE",
                Operation::Connect => "CONNECT",
            };
            let step = match step {
                Step::Admit => "admit",
                Step::Validate => "validate",
            };
            let rejected = if is_rejected { "true" } else { "false" };
            let metrics = &attempt.call.api.metrics;
            match plugin.map(|plugin| plugin.name()) {
                None => metrics.admission_steps.of(&[step, operation, rejected]),
                Some(name) => metrics
                    .admission_plugins
                    .of(&[name, step, operation, rejected]),
            }
        });
        series.observe(took.as_secs_f64());
    }
}

impl Admission {
    /// The plugins that upstream turns on, in its order, behind one more.
    pub fn standard(first: Box<dyn Plugin>) -> Self {
        Self::new(vec![
            first,
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger::default()),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(tolerations::DefaultTolerationSeconds),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_protection::StorageObjectInUseProtection),
            Box::new(claim_resize::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificates::CertificateApproval),
            Box::new(certificates::CertificateSigning),
            Box::new(certificates::CertificateSubjectRestriction),
            Box::new(default_ingress_class::DefaultIngressClass),
            Box::new(pod_topology_labels::PodTopologyLabels),
            Box::new(pod_resize::PodResize),
            // Webhooks and policies belong here; quotas count what is left as it is in the end.
            Box::new(resource_quota::ResourceQuota::default()),
        ])
    }

    /// Plugins in the order in which they are asked.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        let plugins = plugins.into_iter();
        Self {
            plugins: plugins.map(|plugin| (plugin, Times::default())).collect(),
            times: Times::default(),
        }
    }

    /// The plugins whose business an operation is.
    fn asked(&self, operation: Operation) -> impl Iterator<Item = (&dyn Plugin, &Times)> {
        let plugins = self.plugins.iter();
        plugins
            .map(|(plugin, times)| (&**plugin, times))
            .filter(move |(plugin, _)| {
                operation != Operation::Connect || plugin.judges_connections()
            })
    }

    /// Lets all complete an object.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        mut new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let clock = &attempt.call.api.seams.clock;
        let started = clock.now();
        let (mut now, mut done) = (started, Ok(()));
        for (plugin, times) in self.asked(attempt.operation) {
            let began = now;
            done = plugin.admit(attempt, new.as_deref_mut(), old).await;
            now = clock.now();
            let took = now - began;
            times.count(attempt, Some(plugin), Step::Admit, took, done.is_err());
            if done.is_err() {
                break;
            }
        }
        let took = now - started;
        self.times
            .count(attempt, None, Step::Admit, took, done.is_err());
        done
    }

    /// Lets all judge an object.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        along: &mut Along,
    ) -> Outcome<()> {
        let clock = &attempt.call.api.seams.clock;
        let started = clock.now();
        let (mut now, mut done) = (started, Ok(()));
        for (plugin, times) in self.asked(attempt.operation) {
            let began = now;
            done = plugin.validate(attempt, new, old, along).await;
            now = clock.now();
            let took = now - began;
            times.count(attempt, Some(plugin), Step::Validate, took, done.is_err());
            if done.is_err() {
                break;
            }
        }
        let took = now - started;
        self.times
            .count(attempt, None, Step::Validate, took, done.is_err());
        done
    }
}
