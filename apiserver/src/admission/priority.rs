//! Priority: a class gives a pod its priority, and there is one class at most for those without.

use std::sync::Arc;

use api::doc::{Doc, New};
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::{Along, Object};
use crate::validation::At;

const CLASSES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");

pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let Some(new) = new.filter(|_| attempt.is_of("", "pods")) else {
            return Ok(());
        };
        match (attempt.operation, old) {
            (Operation::Create, _) => resolve(attempt, new).await,
            (Operation::Update, Some(old)) => {
                keep(new, old);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let Some(new) = new.filter(|_| attempt.is_of(CLASSES.0, CLASSES.1)) else {
            return Ok(());
        };
        if !At::root(new).get("globalDefault").flag() {
            return Ok(());
        }
        attempt.catch_up().await;
        let Some(other) = default_class(attempt) else {
            return Ok(());
        };
        let name = other.root().text(&["metadata", "name"]);
        if attempt.operation == Operation::Create || name != attempt.name {
            return Err(attempt.forbidden(format!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            )));
        }
        Ok(())
    }
}

/// Whoever writes an older version of a pod does not know its priority.
fn keep(new: &mut Doc, old: &Doc) {
    for key in ["priority", "preemptionPolicy"] {
        let is_missing = !At::root(new).get("spec").has(key);
        if let (true, Some(value)) = (is_missing, old.root().path(&["spec", key])) {
            let value = new.graft(value);
            let top = new.top();
            let spec = new.object(top, "spec");
            new.put(spec, key, value);
        }
    }
}

async fn resolve(attempt: &Attempt<'_>, pod: &mut Doc) -> Outcome<()> {
    let name = At::root(pod)
        .path(&["spec", "priorityClassName"])
        .str()
        .to_string();
    let class = match &*name {
        "" => default_class(attempt),
        name => Some(find(attempt, name).await?.doc()),
    };
    let nothing =
        Doc::literal(r#"{"metadata":{"name":""},"preemptionPolicy":"PreemptLowerPriority"}"#);
    let class = At::root(class.as_ref().unwrap_or(&nothing));
    let (value, policy) = (
        class.get("value").int(),
        class.get("preemptionPolicy").str(),
    );
    let spec = At::root(pod).get("spec");
    if let Some(given) = spec
        .get("priority")
        .opt_int()
        .filter(|given| *given != value)
    {
        return Err(attempt.forbidden(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let given = spec.get("preemptionPolicy").str();
    if !policy.is_empty() && !given.is_empty() && given != policy {
        return Err(attempt.forbidden(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let name = class.path(&["metadata", "name"]).str();
    if !name.is_empty() {
        pod.set_path(&["spec", "priorityClassName"], name);
    }
    pod.set_path(&["spec", "priority"], New::Int(value));
    if !policy.is_empty() {
        pod.set_path(&["spec", "preemptionPolicy"], policy);
    }
    Ok(())
}

async fn find(attempt: &Attempt<'_>, name: &str) -> Outcome<Arc<Object>> {
    let found = attempt.get(CLASSES.0, CLASSES.1, "", name).await;
    found.ok_or_else(|| attempt.forbidden(format!("no PriorityClass with name {name} was found")))
}

/// The class of pods without one; of several, which only a race can make, the lowest.
fn default_class(attempt: &Attempt<'_>) -> Option<Doc> {
    let classes = attempt.objects().list(CLASSES.0, CLASSES.1, "");
    let docs = classes.iter().map(|class| class.doc());
    docs.filter(|doc| At::root(doc).get("globalDefault").flag())
        .min_by_key(|doc| At::root(doc).get("value").int())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_class_gives_a_pod_its_priority() {
        let server = Server::start().await;
        server.namespace("a").await;
        let pod = |more: &str| {
            format!(
                r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i"}}]{more}}}}}"#
            )
        };
        let path = "/api/v1/namespaces/a/pods?dryRun=All";
        let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let spec = |doc: &Doc, key: &'static str| {
            At::root(doc)
                .path(&["spec", key])
                .node()
                .map(|n| n.to_string())
        };
        let made = server.create(path, &pod("")).await.ok();
        assert_eq!(spec(&made, "priority").as_deref(), Some("0"));
        assert_eq!(spec(&made, "priorityClassName"), None);
        assert_eq!(
            spec(&made, "preemptionPolicy").unwrap(),
            "\"PreemptLowerPriority\""
        );

        let high = r#"{"metadata":{"name":"high"},"value":7,"globalDefault":true,"preemptionPolicy":"Never"}"#;
        server.create(classes, high).await.ok();
        let second = server
            .create(
                classes,
                r#"{"metadata":{"name":"b"},"value":1,"globalDefault":true}"#,
            )
            .await;
        let want = "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass high is already \
                    marked as default. Only one default can exist";
        assert_eq!(second.refusal(), (403, want));
        let made = server.create(path, &pod("")).await.ok();
        assert_eq!(spec(&made, "priority").as_deref(), Some("7"));
        assert_eq!(spec(&made, "priorityClassName").unwrap(), "\"high\"");
        assert_eq!(spec(&made, "preemptionPolicy").unwrap(), "\"Never\"");
        for (more, want) in [
            (
                r#","priorityClassName":"no""#,
                "no PriorityClass with name no was found",
            ),
            (
                r#","priorityClassName":"high","priority":3"#,
                "the integer value of priority (3) must not be provided in pod spec; priority \
                 admission controller computed 7 from the given PriorityClass name",
            ),
        ] {
            let refused = server.create(path, &pod(more)).await;
            assert_eq!(
                refused.refusal(),
                (403, &*format!("pods \"p\" is forbidden: {want}"))
            );
        }
    }
}
