//! Making and deleting pods in an owner's name, with events that say so.

use std::sync::Arc;

use client::{EventType, Recorder, View, errors};
use futures::future::join_all;
use k8s_openapi::Resource;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client};
use seams::Clock;
use serde_json::{Value, json};

use crate::adoption::{Owned, controller_ref};
use crate::context::Context;
use crate::controller::Error;
use crate::expectations::Expectations;
use crate::pod::Pod;
use crate::template::Template;

/// The most pods that are made or deleted at a time.
const BATCH_MAX: usize = 500;

/// Makes and deletes pods, and remembers that for their owner.
#[derive(Clone)]
pub struct PodControl {
    client: Client,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    /// What was written and perhaps not yet seen.
    pub expectations: Arc<Expectations>,
}

impl PodControl {
    /// In the name of a component, such as `replicaset-controller`.
    pub fn new(context: &Context, component: &str) -> Self {
        Self {
            client: context.client.clone(),
            recorder: context.recorder(component),
            clock: context.seams.clock.clone(),
            expectations: Arc::default(),
        }
    }

    /// Makes a pod; with no event if the namespace is going away. `body` is the whole pod, so that
    /// many equal ones are written down once.
    pub async fn create<O: Owned>(&self, owner: &O, body: &[u8]) -> Result<(), Error> {
        match self.create_silently(owner, body).await {
            Ok(name) => {
                let message = format!("Created pod: {name}");
                self.event(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !errors::is_namespace_terminating(&error) {
                    let message = format!("Error creating: {}", errors::message(&error));
                    self.event(owner, EventType::Warning, "FailedCreate", message);
                }
                Err(error.into())
            }
        }
    }

    /// Makes a pod; its name. Who says so is the caller.
    pub async fn create_silently<O: Owned>(
        &self,
        owner: &O,
        body: &[u8],
    ) -> Result<String, kube::Error> {
        let url = Api::<Pod>::namespaced(self.client.clone(), owner.namespace());
        let request =
            Request::new(url.resource_url()).create(&PostParams::default(), body.to_vec());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let pod: PartialObjectMeta<Pod> = self.client.request(request).await?;
        let version = pod.metadata.resource_version.as_deref();
        self.expectations
            .wrote(owner.uid(), version, self.clock.now());
        Ok(pod.metadata.name.unwrap_or_default())
    }

    /// Deletes a pod. One that is gone, or another by now, is none that fails.
    pub async fn delete<O: Owned>(&self, owner: &O, pod: &Pod) -> Result<(), Error> {
        match self.delete_silently(owner, pod).await {
            Ok(true) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.event(owner, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                let cause = errors::message(&error);
                self.event(
                    owner,
                    EventType::Warning,
                    "FailedDelete",
                    format!("Error deleting: {cause}"),
                );
                Err(Error::other(format!("unable to delete pods: {cause}")))
            }
        }
    }

    /// Deletes a pod; whether it was there. Who says so is the caller.
    pub async fn delete_silently<O: Owned>(
        &self,
        owner: &O,
        pod: &Pod,
    ) -> Result<bool, kube::Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.namespace());
        let preconditions = Some(Preconditions {
            uid: Some(pod.uid().into()),
            ..Preconditions::default()
        });
        let how = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        };
        let done = match api.delete(pod.name(), &how).await {
            Ok(_) => true,
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => false,
            Err(error) => return Err(error),
        };
        self.expectations
            .deleted(owner.uid(), pod.name(), pod.uid(), self.clock.now());
        Ok(done)
    }

    /// Tells the user of an owner.
    pub fn event<O: Owned>(&self, owner: &O, type_: EventType, reason: &str, message: String) {
        let object = kube::Resource::object_ref(owner, &());
        self.recorder.event(&object, type_, reason, &message);
    }
}

/// A pod of a template that an owner controls, named after it.
pub fn pod_of<O: Owned>(template: &Template, owner: &O) -> Value {
    let template = template.value();
    let owner_name = owner.name();
    // A name that leaves no room for the dash is a prefix without one.
    let masked = format!("{owner_name}a");
    let prefix = match api::name::dns_1123_subdomain(&masked).is_empty() {
        true => format!("{owner_name}-"),
        false => owner_name.to_string(),
    };
    let mut metadata = json!({"generateName": prefix, "ownerReferences": [controller_ref(owner)]});
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let (api_version, kind) = (Pod::API_VERSION, Pod::KIND);
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": template["spec"]})
}

/// Does something `count` times: once, then twice at a time, then four times, ..., until a batch
/// fails, so that a request that cannot succeed is not sent hundreds of times. How often it was done,
/// and the first failure.
pub async fn slow_start<F>(count: usize, task: impl Fn(usize) -> F) -> (usize, Result<(), Error>)
where
    F: Future<Output = Result<(), Error>>,
{
    let (mut done, mut next, mut batch) = (0, 0, 1);
    while next < count {
        let end = count.min(next + batch);
        let results = join_all((next..end).map(&task)).await;
        done += results.iter().filter(|result| result.is_ok()).count();
        if let Some(failure) = results.into_iter().find(Result::is_err) {
            return (done, failure);
        }
        (next, batch) = (end, (batch * 2).min(BATCH_MAX));
    }
    (done, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::apps::ReplicaSet;

    /// Upstream's TestSlowStartBatch, retold.
    #[tokio::test]
    async fn batches_double_until_one_fails() {
        let attempt = async |count: usize, limit: usize| {
            let calls = Mutex::new(0);
            let task = |at: usize| {
                *calls.lock().unwrap() += 1;
                async move {
                    if at < limit {
                        Ok(())
                    } else {
                        Err(Error::other("no"))
                    }
                }
            };
            let (done, result) = slow_start(count, task).await;
            (done, *calls.lock().unwrap(), result.is_ok())
        };
        assert_eq!(attempt(0, 9).await, (0, 0, true));
        assert_eq!(attempt(10, 10).await, (10, 10, true));
        assert_eq!(attempt(10, 5).await, (5, 7, false));
        assert_eq!(attempt(10, 0).await, (0, 1, false));
    }

    #[test]
    fn a_pod_is_its_template_under_its_owner() {
        let owner: ReplicaSet =
            serde_json::from_value(json!({"metadata": {"name": "web", "uid": "1"}})).unwrap();
        let template = Template::new(json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "name": "ignored"},
            "spec": {"containers": [{"name": "c"}]}}));
        let pod = pod_of(&template, &owner);
        assert_eq!(
            pod["metadata"],
            json!({
            "generateName": "web-", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                "uid": "1", "controller": true, "blockOwnerDeletion": true}]})
        );
        assert_eq!(pod["spec"], json!({"containers": [{"name": "c"}]}));
    }
}
