//! Makes claims from templates, reserves them for pods that are on a node already, and takes them
//! back from pods that are done.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use client::{Index, Informer, Key as Name, Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::resource::v1::{
    ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate,
};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use self::plan::{ConsumerState, FINALIZER, PodPlan, PodWorld};
use super::{Claim, Named, claim_keys, named};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::fresh;
use crate::note::{self, Note};
use crate::pod::Pod;

/// In whose name fields of a pod's status are applied.
const FIELD_MANAGER: &str = "ResourceClaimController";

/// What is synced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A pod's claims.
    Pod(Name),
    /// A claim's consumers.
    Claim(Name),
}

/// The controller.
pub struct Claims {
    context: Context,
    recorder: Recorder,
    pods: Informer<Pod>,
    claims: Informer<Claim>,
    claims_by_owner: Index<Claim>,
    templates: Informer<ResourceClaimTemplate>,
    _watches: [Subscription; 3],
}

#[async_trait]
impl Controller for Claims {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let informers = &context.informers;
        let (pods, claims) = (informers.of::<Pod>(), informers.of::<Claim>());
        let templates = informers.of::<ResourceClaimTemplate>();
        Self {
            context: context.clone(),
            recorder: context.recorder("resource_claim"),
            _watches: [
                wake_by_pods(&pods, queue),
                wake_by_claims(&claims, &pods, queue),
                wake_by_templates(&templates, &pods, queue),
            ],
            claims_by_owner: claims.index("owning-pod", |claim| {
                let owner = claim.owning_pod();
                owner.map(|(_, uid)| uid.to_string()).into_iter().collect()
            }),
            pods,
            claims,
            templates,
        }
    }

    fn workers(&self) -> usize {
        50
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        match key {
            Key::Pod(name) => self.sync_pod(name).await,
            Key::Claim(name) => self.sync_claim(name).await,
        }
    }
}

fn wake_by_pods(pods: &Informer<Pod>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    pods.on_change(move |old, new| {
        let Some(pod) = new.or(old).filter(|pod| plan::is_interesting(pod)) else {
            return;
        };
        if new.is_none() || plan::is_done(pod) {
            let extended = pod.status.extended_resource_claim_status.as_ref();
            let extended = extended.map(|status| status.resource_claim_name.to_string());
            let names =
                pod.spec
                    .resource_claims
                    .iter()
                    .filter_map(|claim| match named(pod, claim) {
                        Named::Claim { name, .. } => Some(name.to_string()),
                        _ => None,
                    });
            for name in names.chain(extended) {
                queue.add(Key::Claim(Name::new(pod.namespace(), &name)));
            }
        }
        if new.is_some() && !pod.is_deleted() {
            queue.add(Key::Pod(Name::of(&**pod)));
        }
    })
}

fn wake_by_claims(
    claims: &Informer<Claim>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) -> Subscription {
    let queue = queue.clone();
    let by_claim: Index<Pod> = pods.index("resource-claim", claim_keys);
    claims.on_change(move |old, new| {
        if let Some(claim) = new {
            queue.add(Key::Claim(Name::of(&**claim)));
        }
        if let Some(claim) = new.or(old) {
            let key = format!("{}/{}", claim.namespace(), claim.name());
            for pod in by_claim.get(&key) {
                queue.add(Key::Pod(Name::of(&*pod)));
            }
            // One that was made for a pod and is not in its status yet.
            if let Some((pod, _)) = claim.owning_pod() {
                queue.add(Key::Pod(Name::new(claim.namespace(), pod)));
            }
        }
    })
}

fn wake_by_templates(
    templates: &Informer<ResourceClaimTemplate>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) -> Subscription {
    let queue = queue.clone();
    let by_template: Index<Pod> = pods.index("resource-claim-template", |pod| {
        let claims = pod.spec.resource_claims.iter();
        let names = claims.filter_map(|claim| claim.resource_claim_template_name.as_deref());
        names
            .map(|name| format!("{}/{name}", pod.namespace()))
            .collect()
    });
    templates.on_change(move |_, new| {
        if let Some(template) = new {
            let key = format!("{}/{}", template.namespace(), template.name());
            for pod in by_template.get(&key) {
                queue.add(Key::Pod(Name::of(&*pod)));
            }
        }
    })
}

impl Claims {
    async fn sync_pod(&self, key: &Name) -> Result<Again, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        if !plan::is_interesting(&pod) {
            return Ok(Again::Done);
        }
        let world = self.pod_world(pod.clone());
        let plan = match plan::pod(&world) {
            Ok(plan) => plan,
            Err(refusal) => return Err(self.refuse(&pod, &refusal.claim, &refusal.message)),
        };
        self.provide(&pod, plan).await?;
        Ok(Again::Done)
    }

    fn pod_world(&self, pod: Arc<Pod>) -> PodWorld {
        let namespace = pod.namespace();
        let mut claims = self.claims_by_owner.get(pod.uid());
        let mut templates = BTreeMap::new();
        for claim in &pod.spec.resource_claims {
            if let Named::Claim { name, .. } = named(&pod, claim)
                && !claims.iter().any(|known| known.name() == name)
            {
                claims.extend(self.claims.get(namespace, name));
            }
            if let Some(name) = &claim.resource_claim_template_name
                && let Some(template) = self.templates.get(namespace, name)
            {
                templates.insert(name.to_string(), template);
            }
        }
        PodWorld {
            pod,
            claims,
            templates,
        }
    }

    fn refuse(&self, pod: &Pod, claim: &str, why: &str) -> Error {
        let message = format!("PodResourceClaim {claim}: {why}");
        let note = Note::warning("FailedResourceClaimCreation", message.clone());
        note::tell(&self.recorder, &note::reference(pod), [&note]);
        let (namespace, pod) = (pod.namespace(), pod.name());
        Error::other(format!("pod {namespace}/{pod}, {message}"))
    }

    async fn provide(&self, pod: &Pod, plan: PodPlan) -> Result<(), Error> {
        let claims: Api<ResourceClaim> =
            Api::namespaced(self.context.client.clone(), pod.namespace());
        let mut names = plan.found;
        for (name, claim) in plan.create {
            let made = claims.create(&PostParams::default(), &claim).await;
            let made = made
                .map_err(|why| self.refuse(pod, &name, &format!("create ResourceClaim : {why}")))?;
            names.push((name, made.name().into()));
        }
        if !names.is_empty() {
            self.apply_names(pod, names).await?;
        }
        for name in plan.reserve {
            self.reserve(&claims, pod, &name).await?;
        }
        Ok(())
    }

    /// Says in a pod's status which claims were made for it, those of before included.
    async fn apply_names(&self, pod: &Pod, names: Vec<(String, String)>) -> Result<(), Error> {
        let known = pod.status.resource_claim_statuses.iter();
        let known = known.filter(|status| names.iter().all(|(name, _)| **name != *status.name));
        let known = known.map(
            |status| json!({"name": status.name, "resourceClaimName": status.resource_claim_name}),
        );
        let new = names
            .iter()
            .map(|(name, claim)| json!({"name": name, "resourceClaimName": claim}));
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "status": {"resourceClaimStatuses": known.chain(new).collect::<Vec<_>>()},
        });
        let pods: Api<v1::Pod> = Api::namespaced(self.context.client.clone(), pod.namespace());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        pods.patch_status(pod.name(), &params, &Patch::Apply(&patch))
            .await?;
        Ok(())
    }

    async fn reserve(
        &self,
        claims: &Api<ResourceClaim>,
        pod: &Pod,
        name: &str,
    ) -> Result<(), Error> {
        let Some(seen) = self.claims.get(pod.namespace(), name) else {
            return Ok(());
        };
        let mut claim = fresh::fetch(claims, &seen.metadata).await?;
        let status = claim.status.get_or_insert_default();
        let consumers = status.reserved_for.get_or_insert_default();
        consumers.push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".into(),
            name: pod.name().into(),
            uid: pod.uid().into(),
        });
        claims
            .replace_status(name, &PostParams::default(), &claim)
            .await?;
        Ok(())
    }

    async fn sync_claim(&self, key: &Name) -> Result<Again, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let mut states = Vec::new();
        for consumer in &claim.status.reserved_for {
            states.push(match consumer.is_pod() {
                true => {
                    self.state(claim.namespace(), &consumer.name, &consumer.uid)
                        .await?
                }
                // Whoever reserves for something else takes care of it.
                false => ConsumerState::Lives,
            });
        }
        let owner = claim.owning_pod();
        let owner = owner.and_then(|(name, _)| self.pods.get(claim.namespace(), name));
        let plan = plan::claim(&claim, &states, owner.as_deref());
        self.carry_out(&claim, plan).await?;
        Ok(Again::Done)
    }

    /// How a pod is; only the API server itself can say that one is not there.
    async fn state(&self, namespace: &str, name: &str, uid: &str) -> Result<ConsumerState, Error> {
        let pod = match self.pods.get(namespace, name) {
            Some(pod) => Some(pod),
            None => {
                let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
                match pods.get(name).await {
                    Ok(pod) => Some(Arc::new(pod)),
                    Err(error) if errors::is_not_found(&error) => None,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let lives = pod.is_some_and(|pod| pod.uid() == uid && !plan::is_done(&pod));
        Ok(match lives {
            true => ConsumerState::Lives,
            false => ConsumerState::Done,
        })
    }

    async fn carry_out(&self, seen: &Claim, plan: plan::ClaimPlan) -> Result<(), Error> {
        let claims: Api<ResourceClaim> =
            Api::namespaced(self.context.client.clone(), seen.namespace());
        let (name, params) = (seen.name(), PostParams::default());
        if plan.keep.is_some() || plan.remove_finalizer {
            let mut claim = fresh::fetch(&claims, &seen.metadata).await?;
            if plan.keep.is_some() || plan.deallocate {
                let status = claim.status.get_or_insert_default();
                if let (Some(keep), Some(consumers)) = (&plan.keep, &mut status.reserved_for) {
                    consumers.retain(|consumer| keep.contains(&consumer.uid));
                }
                if plan.deallocate {
                    status.allocation = None;
                }
                claim = claims.replace_status(name, &params, &claim).await?;
            }
            if plan.remove_finalizer {
                let finalizers = claim.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                claims.replace(name, &params, &claim).await?;
            }
        }
        if plan.delete {
            let deleted = claims.delete(name, &DeleteParams::default()).await;
            match deleted {
                Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
