//! Keeps load balancers of Services of that type.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Informer, Key, Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use self::plan::{FINALIZER, Step};
use super::local::ANNOTATION_PREFIX;
use super::provider::{Balancer, CloudError, CloudProvider, LoadBalancers};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;
use crate::service_endpoints::{service_of, spec_of};

/// The first wait after a failure, and the longest: places are asked less often than API servers.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wake {
    /// A Service.
    Service(Key),
    /// The nodes behind a Service's load balancer.
    Hosts(Key),
    /// The nodes behind all load balancers.
    Nodes,
}

/// The controller.
pub struct ServiceController {
    context: Context,
    recorder: Recorder,
    queue: Queue<Wake>,
    provider: Option<Arc<dyn CloudProvider>>,
    services: Informer<Service>,
    nodes: Informer<Node>,
    hosts: Mutex<BTreeSet<String>>,
    failures: Mutex<HashMap<Wake, u32>>,
    _subscriptions: Vec<Subscription>,
}

#[async_trait]
impl Controller for ServiceController {
    type Key = Wake;

    fn start(context: &Context, queue: &Queue<Wake>) -> Self {
        let provider = super::provider(context);
        let services = context.informers.of::<Service>();
        let nodes = context.informers.of::<Node>();
        let slices = context.informers.of::<EndpointSlice>();
        let recorder = context.recorder("service-controller");
        let balancers = provider
            .as_ref()
            .and_then(|provider| provider.load_balancers());
        let class = balancers
            .and_then(|balancers| balancers.class())
            .map(str::to_owned);
        let subscriptions = vec![
            services.on_change({
                let (queue, recorder) = (queue.clone(), recorder.clone());
                move |old, new| {
                    let Some(new) = new else { return };
                    let class = class.as_deref();
                    let (is_news, told) = match old {
                        None => (plan::step(new, class) != Step::Nothing, None),
                        Some(old) => plan::change(old, new, class, ANNOTATION_PREFIX),
                    };
                    note::tell(&recorder, &note::reference(&**new), &told);
                    if is_news {
                        queue.add(Wake::Service(Key::of(&**new)));
                    }
                }
            }),
            nodes.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let serves = |node: &Arc<Node>| plan::serves(node);
                    if old.map(serves) != new.map(serves) {
                        queue.add(Wake::Nodes);
                    }
                }
            }),
            slices.on_change({
                let (queue, services) = (queue.clone(), services.clone());
                move |old, new| {
                    let key = new.or(old).and_then(|slice| service_of(slice));
                    let service = key
                        .as_ref()
                        .and_then(|k| services.get(&k.namespace, &k.name));
                    // Only nodes with endpoints may answer for such a Service.
                    let is_local = service.is_some_and(|service| {
                        let spec = spec_of(&service);
                        spec.type_.as_deref() == Some("LoadBalancer")
                            && spec.external_traffic_policy.as_deref() == Some("Local")
                    });
                    if let Some(key) = key.filter(|_| is_local) {
                        queue.add(Wake::Hosts(key));
                    }
                }
            }),
        ];
        Self {
            recorder,
            context: context.clone(),
            queue: queue.clone(),
            provider,
            services,
            nodes,
            hosts: Mutex::default(),
            failures: Mutex::default(),
            _subscriptions: subscriptions,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, wake: &Wake) -> Result<Again, Error> {
        let Some(balancers) = self.provider.as_ref().and_then(|p| p.load_balancers()) else {
            return Ok(Again::Done);
        };
        let done = match wake {
            Wake::Service(key) => self.sync_service(key, balancers).await,
            Wake::Hosts(key) => self.sync_hosts(key, balancers).await,
            Wake::Nodes => {
                self.sync_nodes(balancers);
                Ok(())
            }
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(()) => {
                failures.remove(wake);
                Ok(Again::Done)
            }
            Err(error) => {
                let count = failures.entry(wake.clone()).or_default();
                let wait = (RETRY.0 * (1 << (*count).min(10))).min(RETRY.1);
                *count += 1;
                tracing::warn!(?wake, %error, "a load balancer is not as it should be");
                Ok(Again::After(wait))
            }
        }
    }
}

impl ServiceController {
    fn serving(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes.list();
        nodes.retain(|node| plan::serves(node));
        nodes
    }

    fn tell(&self, service: &Service, kind: EventType, reason: &str, message: impl Into<String>) {
        self.recorder
            .event(&note::reference(service), kind, reason, message);
    }

    async fn sync_service(&self, key: &Key, balancers: &dyn LoadBalancers) -> Result<(), Error> {
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let done = match plan::step(&service, balancers.class()) {
            Step::Nothing => Ok(()),
            Step::Ensure => self.ensure(&service, balancers).await,
            Step::Remove => self.remove(&service, balancers).await,
        };
        if let Err(error) = &done {
            let message = format!("Error syncing load balancer: {error}");
            self.tell(
                &service,
                EventType::Warning,
                "SyncLoadBalancerFailed",
                message,
            );
        }
        done
    }

    async fn ensure(&self, service: &Service, balancers: &dyn LoadBalancers) -> Result<(), Error> {
        self.tell(
            service,
            EventType::Normal,
            "EnsuringLoadBalancer",
            "Ensuring load balancer",
        );
        // First the finalizer, so that no load balancer outlives its Service.
        if !plan::is_held(service) {
            let done = self.hold(service, true).await;
            done.map_err(|error| {
                let error = errors::message(&error);
                Error::other(format!(
                    "failed to add load balancer cleanup finalizer: {error}"
                ))
            })?;
        }
        let nodes = self.serving();
        if nodes.is_empty() {
            let message = "There are no available nodes for LoadBalancer";
            self.tell(
                service,
                EventType::Warning,
                "UnAvailableLoadBalancer",
                message,
            );
        }
        match balancers.ensure(service, &nodes).await {
            Ok(balancer) => {
                self.tell(
                    service,
                    EventType::Normal,
                    "EnsuredLoadBalancer",
                    "Ensured load balancer",
                );
                self.write(service, &balancer).await
            }
            Err(CloudError::ImplementedElsewhere) => Ok(()),
            Err(error) => Err(Error::other(format!(
                "failed to ensure load balancer: {error}"
            ))),
        }
    }

    async fn remove(&self, service: &Service, balancers: &dyn LoadBalancers) -> Result<(), Error> {
        let found = balancers.get(service).await.map_err(|error| {
            Error::other(format!(
                "failed to check if load balancer exists before cleanup: {error}"
            ))
        })?;
        if found.is_some() {
            self.tell(
                service,
                EventType::Normal,
                "DeletingLoadBalancer",
                "Deleting load balancer",
            );
            let deleted = balancers.delete(service).await;
            deleted.map_err(|error| {
                Error::other(format!("failed to delete load balancer: {error}"))
            })?;
        }
        let done = self.hold(service, false).await;
        done.map_err(|error| {
            let error = errors::message(&error);
            Error::other(format!(
                "failed to remove load balancer cleanup finalizer: {error}"
            ))
        })?;
        self.tell(
            service,
            EventType::Normal,
            "DeletedLoadBalancer",
            "Deleted load balancer",
        );
        let own = service.metadata.annotations.iter().flatten();
        let own = own.filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX));
        let annotations = own.map(|(key, _)| (key.clone(), String::new())).collect();
        self.write(
            service,
            &Balancer {
                annotations,
                ..Balancer::default()
            },
        )
        .await
    }

    fn api(&self, service: &Service) -> Api<Service> {
        Api::namespaced(self.context.client.clone(), service.namespace())
    }

    /// Adds or removes the finalizer.
    async fn hold(&self, service: &Service, is_held: bool) -> Result<(), kube::Error> {
        let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if is_held {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": service.metadata.resource_version,
            "finalizers": finalizers,
        }}));
        let api = self.api(service);
        match api
            .patch_status(View::name(service), &PatchParams::default(), &patch)
            .await
        {
            Err(error) if errors::is_not_found(&error) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Writes where a load balancer is reached, and what annotations say about it.
    async fn write(&self, service: &Service, balancer: &Balancer) -> Result<(), Error> {
        let api = self.api(service);
        let current = service.metadata.annotations.clone().unwrap_or_default();
        let changed: BTreeMap<_, _> = balancer
            .annotations
            .iter()
            .map(|(key, value)| (key, Some(value).filter(|value| !value.is_empty())))
            .filter(|(key, value)| current.get(*key) != *value)
            .collect();
        let ingress = |status: Option<&k8s_openapi::api::core::v1::LoadBalancerStatus>| {
            status
                .and_then(|status| status.ingress.clone())
                .unwrap_or_default()
        };
        let before = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let after = ingress(Some(&balancer.status));
        if changed.is_empty() && ingress(before) == after {
            return Ok(());
        }
        let ingress = (!after.is_empty()).then_some(after);
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": changed},
            "status": {"loadBalancer": {"ingress": ingress}},
        }));
        match api
            .patch_status(View::name(service), &PatchParams::default(), &patch)
            .await
        {
            Err(error) if !errors::is_not_found(&error) => {
                let error = errors::message(&error);
                Err(Error::other(format!(
                    "failed to update load balancer status: {error}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Wakes all load balancers if other nodes serve than before.
    fn sync_nodes(&self, balancers: &dyn LoadBalancers) {
        let serving = self
            .serving()
            .iter()
            .map(|node| node.name().to_owned())
            .collect();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if *hosts == serving {
            return;
        }
        *hosts = serving;
        for service in self.services.list() {
            if plan::wants(&service, balancers.class()) {
                self.queue.add(Wake::Hosts(Key::of(&*service)));
            }
        }
    }

    async fn sync_hosts(&self, key: &Key, balancers: &dyn LoadBalancers) -> Result<(), Error> {
        let service = self.services.get(&key.namespace, &key.name);
        let wants = |service: &Arc<Service>| {
            plan::step(service, balancers.class()) == Step::Ensure && plan::is_held(service)
        };
        let Some(service) = service.filter(wants) else {
            return Ok(());
        };
        let nodes = self.serving();
        match balancers.update(&service, &nodes).await {
            Ok(balancer) => {
                if nodes.is_empty() {
                    let message = "There are no available nodes for LoadBalancer";
                    self.tell(
                        &service,
                        EventType::Warning,
                        "UnAvailableLoadBalancer",
                        message,
                    );
                } else {
                    let message = "Updated load balancer with new hosts";
                    self.tell(&service, EventType::Normal, "UpdatedLoadBalancer", message);
                }
                self.write(&service, &balancer).await
            }
            Err(CloudError::ImplementedElsewhere) => Ok(()),
            Err(error) => {
                if matches!(balancers.get(&service).await, Ok(None)) {
                    return Ok(());
                }
                let names: Vec<_> = nodes
                    .iter()
                    .map(|node| format!("{}:{{}}", node.name()))
                    .collect();
                let names = names.join(" ");
                let message =
                    format!("Error updating load balancer with new hosts map[{names}]: {error}");
                self.tell(
                    &service,
                    EventType::Warning,
                    "UpdateLoadBalancerFailed",
                    message,
                );
                Err(Error::other(error.to_string()))
            }
        }
    }
}
