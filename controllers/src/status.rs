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
/// Lists are written as a whole, so conditions are written only onto the version of the object that
/// they were made from; counts are the writer's alone.
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
    if status.contains_key("conditions") {
        patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
    }
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
    use super::*;

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
