//! Scales what HorizontalPodAutoscalers name, by what is measured.

pub mod metrics;
pub mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::selector::LabelSelector;
use async_trait::async_trait;
use client::{Informer, Key, Queue, Recorder, Subscription, errors};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use kube::Api;
use kube::api::PostParams;

use self::metrics::Metrics;
use self::plan::limits::History;
use self::plan::{Decision, Measured, Observed};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::note::{self, Note};
use crate::pod::Pod;
use crate::scale::{Scales, Target};

/// Attempts at a scale that others change too.
const ATTEMPTS: usize = 5;

/// What is remembered of an autoscaler.
#[derive(Default)]
struct Memory {
    history: History,
    /// What selects the pods of its target.
    selector: Option<LabelSelector>,
}

/// The controller.
pub struct Autoscaling {
    context: Context,
    recorder: Recorder,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    scales: Scales,
    metrics: Metrics,
    memory: Mutex<HashMap<Key, Memory>>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for Autoscaling {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let autoscalers = context.informers.of::<HorizontalPodAutoscaler>();
        let queue = queue.clone();
        let subscription = autoscalers.on_change(move |old, new| {
            // Not when we write the status: the clock wakes it.
            if let Some(one) = new.or(old)
                && old.map(|old| &old.spec) != new.map(|new| &new.spec)
            {
                queue.add(Key::of(&**one));
            }
        });
        Self {
            recorder: context.recorder("horizontal-pod-autoscaler"),
            pods: context.informers.of(),
            scales: Scales::new(context.client.clone()),
            metrics: Metrics::new(context.client.clone()),
            context: context.clone(),
            autoscalers,
            memory: Mutex::default(),
            _subscription: subscription,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(autoscaler) = self.autoscalers.get(&key.namespace, &key.name) else {
            self.memory().remove(key);
            return Ok(Again::Done);
        };
        if let Err(error) = self.reconcile(key, &autoscaler).await {
            // Metrics are asked for by the clock, not sooner for having failed.
            tracing::debug!(%key, %error, "not scaled");
        }
        Ok(Again::After(self.context.settings.autoscaling.period))
    }
}

fn of_scale(scale: &Scale) -> plan::Scale {
    let status = scale.status.as_ref();
    plan::Scale {
        spec_replicas: scale
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or_default(),
        status_replicas: status.map_or(0, |status| status.replicas),
        selector: status
            .and_then(|status| status.selector.clone())
            .unwrap_or_default(),
    }
}

impl Autoscaling {
    fn memory(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(
        &self,
        key: &Key,
        autoscaler: &Arc<HorizontalPodAutoscaler>,
    ) -> Result<(), Error> {
        let named = &autoscaler.spec.scale_target_ref;
        let target = Target {
            api_version: named.api_version.as_deref().unwrap_or("v1"),
            kind: &named.kind,
            namespace: &key.namespace,
            name: &named.name,
        };
        let mut scale = match self.scales.get(&target).await {
            Ok(scale) => scale,
            Err(error) => {
                let told = errors::message(&error);
                let now = self.context.now();
                let (status, told) = plan::without_scale(autoscaler, &told, now);
                self.tell(autoscaler, &[told]);
                self.write_status(key, autoscaler, status).await?;
                return Err(error.into());
            }
        };
        let mut decision = self.decide(key, autoscaler, &of_scale(&scale)).await;
        if let Some((replicas, _)) = decision.rescale {
            let outcome = self.rescale(&target, &mut scale, replicas).await;
            let mut memory = self.memory();
            let history = &mut memory.entry(key.clone()).or_default().history;
            let (settings, now) = (&self.context.settings.autoscaling, self.context.now());
            plan::conclude(autoscaler, &mut decision, outcome, history, settings, now);
        }
        self.tell(autoscaler, &decision.notes);
        self.write_status(key, autoscaler, decision.status).await?;
        decision
            .failure
            .map_or(Ok(()), |failure| Err(Error::Other(failure)))
    }

    async fn decide(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &plan::Scale,
    ) -> Decision {
        let selector = LabelSelector::parse(&scale.selector).ok();
        let selector = selector.filter(|_| !scale.selector.is_empty());
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| {
            selector
                .as_ref()
                .is_some_and(|selector| matches(selector, pod))
        });
        let mut measured = Vec::new();
        if selector.is_some() && plan::needs_metrics(autoscaler, scale.spec_replicas) {
            for spec in autoscaler.spec.metrics.iter().flatten() {
                let found = self
                    .metrics
                    .measure(&key.namespace, &scale.selector, spec)
                    .await;
                measured.push(found);
            }
        }
        self.plan(key, autoscaler, scale, selector, &pods, &measured)
    }

    fn plan(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &plan::Scale,
        selector: Option<LabelSelector>,
        pods: &[Arc<Pod>],
        measured: &[Measured],
    ) -> Decision {
        let mut memory = self.memory();
        memory.entry(key.clone()).or_default().selector = selector;
        let mut rivals: Vec<_> = memory
            .iter()
            .filter(|(other, _)| other.namespace == key.namespace)
            .filter(|(_, memory)| {
                let selector = memory.selector.as_ref();
                selector.is_some_and(|selector| pods.iter().any(|pod| matches(selector, pod)))
            })
            .map(|(other, _)| format!("{{{} {}}}", other.name, other.namespace))
            .collect();
        rivals.sort_unstable();
        let seen = Observed {
            autoscaler,
            scale,
            pods,
            rivals: &rivals,
            measured,
            settings: &self.context.settings.autoscaling,
            now: self.context.now(),
        };
        let history = &mut memory.entry(key.clone()).or_default().history;
        plan::decide(&seen, history)
    }

    /// Sets a scale; tried again if someone else changed it.
    async fn rescale(
        &self,
        target: &Target<'_>,
        scale: &mut Scale,
        replicas: i32,
    ) -> Result<(), String> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            scale.spec.get_or_insert_default().replicas = Some(replicas);
            match self.scales.set(target, scale).await {
                Ok(_) => return Ok(()),
                Err(error) if errors::is_conflict(&error) && attempts < ATTEMPTS => {
                    let fresh = self.scales.get(target).await;
                    *scale = fresh.map_err(|error| errors::message(&error))?;
                }
                Err(error) => return Err(errors::message(&error)),
            }
        }
    }

    fn tell(&self, autoscaler: &HorizontalPodAutoscaler, notes: &[Note]) {
        note::tell(&self.recorder, &note::reference(autoscaler), notes);
    }

    async fn write_status(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> Result<(), Error> {
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut wanted = autoscaler.clone();
        wanted.status = Some(status);
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.context.client.clone(), &key.namespace);
        match api
            .replace_status(&key.name, &PostParams::default(), &wanted)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if errors::is_not_found(&error) => Ok(()),
            Err(error) => {
                let told = Note::warning("FailedUpdateStatus", errors::message(&error));
                self.tell(autoscaler, &[told]);
                Err(error.into())
            }
        }
    }
}

fn matches(selector: &LabelSelector, pod: &Pod) -> bool {
    selector.matches_by(|key| pod.label(key))
}
