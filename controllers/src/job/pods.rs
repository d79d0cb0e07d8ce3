//! What the pods of a job are made of.

use client::View as _;
use serde_json::{Value, json};

use super::plan::{Creation, FAILURES, FINALIZER, IGNORED_FAILURES, INDEX};
use super::view::Job;
use crate::pod_control::pod_of;

/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Longer prefixes of names are cut, so that what makes them unique fits.
const PREFIX_MAX: usize = 58;

/// A pod that is to be created.
pub(super) fn body(job: &Job, creation: &Creation) -> Value {
    let mut pod = pod_of(&job.spec.template, job);
    let metadata = &mut pod["metadata"];
    let mut finalizers = metadata["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if finalizers.iter().all(|found| found != FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    metadata["finalizers"] = finalizers.into();
    let Some(index) = creation.index else {
        return pod;
    };
    metadata["annotations"][INDEX] = index.to_string().into();
    metadata["labels"][INDEX] = index.to_string().into();
    metadata["generateName"] = prefix(job.name(), index).into();
    if let Some((counted, ignored)) = creation.failures {
        metadata["annotations"][FAILURES] = counted.to_string().into();
        if ignored > 0 {
            metadata["annotations"][IGNORED_FAILURES] = ignored.to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{}-{index}", job.name()).into();
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(add_variable);
    }
    pod
}

fn prefix(name: &str, index: u32) -> String {
    let end = format!("-{index}-");
    let most = PREFIX_MAX.saturating_sub(end.len()).min(name.len());
    // Names are ASCII.
    format!("{}{end}", name.get(..most).unwrap_or(name))
}

fn add_variable(container: &mut Value) {
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    if env.iter().all(|variable| variable["name"] != VARIABLE) {
        let path = format!("metadata.labels['{INDEX}']");
        env.push(json!({"name": VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
        container["env"] = env.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": "u"},
            "spec": {"template": {
                "metadata": {"labels": {"a": "b"}, "finalizers": ["x"]},
                "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": "1"}]}, {"name": "d", "env": [{"name": VARIABLE, "value": "mine"}]}]},
            }},
        }))
        .unwrap()
    }

    #[test]
    fn pods_are_held_until_they_are_counted() {
        let plain = Creation {
            index: None,
            failures: None,
        };
        let pod = body(&job("j"), &plain);
        assert_eq!(pod["metadata"]["finalizers"], json!(["x", FINALIZER]));
        assert_eq!(pod["metadata"]["generateName"], "j-");
        assert_eq!(
            pod["spec"]["containers"][0]["env"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn pods_know_their_index() {
        let creation = Creation {
            index: Some(7),
            failures: Some((2, 0)),
        };
        let pod = body(&job("j"), &creation);
        let metadata = &pod["metadata"];
        assert_eq!(metadata["annotations"], json!({INDEX: "7", FAILURES: "2"}));
        assert_eq!(metadata["labels"], json!({"a": "b", INDEX: "7"}));
        assert_eq!(
            (&metadata["generateName"], &pod["spec"]["hostname"]),
            (&json!("j-7-"), &json!("j-7"))
        );
        let containers = &pod["spec"]["containers"];
        assert_eq!(
            containers[0]["env"][1]["valueFrom"]["fieldRef"]["fieldPath"],
            "metadata.labels['batch.kubernetes.io/job-completion-index']"
        );
        assert_eq!(
            containers[1]["env"],
            json!([{"name": VARIABLE, "value": "mine"}])
        );
        let long = "x".repeat(63);
        assert_eq!(prefix(&long, 12), format!("{}-12-", "x".repeat(54)));
    }
}
