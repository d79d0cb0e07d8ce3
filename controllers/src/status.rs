//! Writing a status: what differs and nothing else.

use client::errors;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::adoption::Owned;

/// Writes what differs between the status that an object has and the one that it should have, and
/// `metadata` with it. One that is gone needs none. `None` if nothing differs.
///
/// It is written only onto the version of the object that it was made from: what differs from an older
/// one would mix two statuses into one that never was.
pub async fn write<V: Owned>(
    client: &Client,
    object: &V,
    old: &impl Serialize,
    new: &impl Serialize,
    metadata: Value,
) -> Result<Option<V>, kube::Error> {
    let value = |status| serde_json::to_value(status).map_err(kube::Error::SerdeError);
    let (old, new) = (serde_json::to_value(old), value(new)?);
    let status = difference(&old.unwrap_or_default(), &new);
    if status.is_empty() && metadata.as_object().is_none_or(Map::is_empty) {
        return Ok(None);
    }
    let mut patch = json!({"metadata": metadata});
    patch["metadata"]["uid"] = json!(object.uid());
    patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
    patch["status"] = Value::Object(status);
    let api = Api::<V>::namespaced(client.clone(), object.namespace());
    match api
        .patch_status(object.name(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(written) => Ok(Some(written)),
        Err(error) if errors::is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The fields that a merge patch must have to make `new` out of `old`. A zero that is not written is
/// no difference.
fn difference(old: &Value, new: &Value) -> Map<String, Value> {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (old, new) = (fields(old), fields(new));
    let gone = old
        .iter()
        .filter(|(key, value)| !new.contains_key(*key) && **value != json!(0));
    let gone = gone.map(|(key, _)| (key.clone(), Value::Null));
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), value.clone()));
    gone.chain(changed).collect()
}

/// A time as objects have it: in whole seconds.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{self as apps, ReplicaSetStatus};
    use kube::api::PostParams;

    use super::*;
    use crate::apps::ReplicaSet;
    use crate::testing::Cluster;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_statuses_are_never_mixed() {
        let cluster = Cluster::start().await;
        cluster.server.namespace("ns").await;
        let set = json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
        let set: apps::ReplicaSet = serde_json::from_value(set).unwrap();
        let client = &cluster.admin;
        let sets: Api<apps::ReplicaSet> = Api::namespaced(client.clone(), "ns");
        sets.create(&PostParams::default(), &set).await.unwrap();
        let views: Api<ReplicaSet> = Api::namespaced(client.clone(), "ns");
        let seen = views.get("web").await.unwrap();
        let status = |replicas, ready| ReplicaSetStatus {
            replicas,
            ready_replicas: Some(ready),
            ..ReplicaSetStatus::default()
        };
        let written = |old, new| {
            let seen = &seen;
            async move { write(client, seen, &old, &new, json!({})).await }
        };
        written(status(0, 0), status(1, 1)).await.unwrap();
        // The cache does not show that yet: what differs from it is not what differs.
        let mixed = written(status(0, 0), status(2, 0)).await;
        assert!(errors::is_conflict(&mixed.unwrap_err()));
        let status = sets.get("web").await.unwrap().status.unwrap();
        assert_eq!((status.replicas, status.ready_replicas), (1, Some(1)));
    }

    #[test]
    fn only_what_differs_is_written() {
        let old = json!({"replicas": 3, "ready": 2, "gone": 1, "zero": 0, "conditions": [1]});
        let new = json!({"replicas": 3, "ready": 3, "more": 1, "conditions": [1]});
        let expected = json!({"ready": 3, "gone": null, "more": 1});
        assert_eq!(Value::Object(difference(&old, &new)), expected);
        assert!(difference(&new, &new).is_empty());
        assert_eq!(
            Value::Object(difference(&json!({}), &json!({"a": 0}))),
            json!({"a": 0})
        );
    }
}
