//! RuntimeClass: what a runtime costs besides its containers, and on which nodes there is one.

use std::sync::Arc;

use api::doc::Doc;
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::{Along, Object};
use crate::validation::{At, same};
use api::quota::Amounts;

pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let Some(pod) = new.filter(|_| concerns(attempt)) else {
            return Ok(());
        };
        let Some(class) = class_of(attempt, At::root(pod)).await? else {
            return Ok(());
        };
        let class = class.doc();
        let class = At::root(&class);
        let overhead = class.path(&["overhead", "podFixed"]);
        if class.has("overhead") {
            let given = Amounts::read(At::root(pod).path(&["spec", "overhead"]));
            if !given.0.is_empty() && given != Amounts::read(overhead) {
                return Err(attempt.forbidden(MISMATCH));
            }
            if let Some(overhead) = overhead.node() {
                let copy = pod.graft(overhead);
                crate::kinds::facts::put_path(pod, &["spec", "overhead"], copy);
            }
        }
        if class.has("scheduling") {
            select_nodes(attempt, pod, class.path(&["scheduling", "nodeSelector"]))?;
            merge_tolerations(pod, class.path(&["scheduling", "tolerations"]));
        }
        Ok(())
    }

    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let Some(pod) = new.filter(|_| concerns(attempt)) else {
            return Ok(());
        };
        let overhead = At::root(pod).path(&["spec", "overhead"]);
        let class = class_of(attempt, At::root(pod))
            .await?
            .map(|class| class.doc());
        let wanted = class.as_ref().map(|class| At::root(class).get("overhead"));
        match wanted.filter(|wanted| wanted.is_set()) {
            Some(wanted) if Amounts::read(wanted.get("podFixed")) != Amounts::read(overhead) => {
                Err(attempt.forbidden(MISMATCH))
            }
            None if overhead.is_set() => Err(attempt.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn concerns(attempt: &Attempt<'_>) -> bool {
    attempt.operation == Operation::Create && attempt.is_of("", "pods")
}

async fn class_of(attempt: &Attempt<'_>, pod: At<'_>) -> Outcome<Option<Arc<Object>>> {
    let name = pod.path(&["spec", "runtimeClassName"]);
    if !name.is_set() {
        return Ok(None);
    }
    let name = name.str();
    match attempt.get("node.k8s.io", "runtimeclasses", "", name).await {
        Some(found) => Ok(Some(found)),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(attempt.forbidden(why))
        }
    }
}

fn select_nodes(attempt: &Attempt<'_>, pod: &mut Doc, wanted: At<'_>) -> Outcome<()> {
    for label in wanted.items() {
        let (key, value) = (label.key(), label.str());
        let given = At::root(pod).path(&["spec", "nodeSelector"]).entry(key);
        if let Some(given) = given.filter(|given| given.str() != value) {
            return Err(attempt.forbidden(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                 pod.spec.nodeSelector[{key}] = {}",
                given.str()
            )));
        }
        pod.set_path(&["spec", "nodeSelector", key], value);
    }
    Ok(())
}

/// Adds tolerations; those that another one makes needless are left out.
fn merge_tolerations(pod: &mut Doc, wanted: At<'_>) {
    let given = pod.clone();
    let given = At::root(&given).path(&["spec", "tolerations"]);
    let all: Vec<At<'_>> = given.items().chain(wanted.items()).collect();
    let mut merged: Vec<At<'_>> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let by_earlier = merged.iter().any(|known| covers(*known, *one));
        let by_later = all[at + 1..]
            .iter()
            .any(|next| !same(*one, *next) && covers(*next, *one));
        if !by_earlier && !by_later {
            merged.push(*one);
        }
    }
    if merged.is_empty() {
        return;
    }
    let list = pod.make(api::doc::New::List);
    for one in merged.into_iter().filter_map(At::node) {
        let copy = pod.graft(one);
        pod.push_id(list, copy);
    }
    crate::kinds::facts::put_path(pod, &["spec", "tolerations"], list);
}

/// Whether a toleration tolerates all that another one does.
fn covers(wide: At<'_>, narrow: At<'_>) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let text = |at: At<'_>, key| -> String { at.get(key).str().to_string() };
    let (operator, key) = (text(wide, "operator"), text(wide, "key"));
    if text(narrow, "key") != key && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    let effect = text(wide, "effect");
    if text(narrow, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if let (true, Some(most)) = (
        effect == "NoExecute",
        wide.get("tolerationSeconds").opt_int(),
    ) {
        let seconds = narrow.get("tolerationSeconds").opt_int();
        if seconds.is_none_or(|seconds| seconds > most) {
            return false;
        }
    }
    match &*operator {
        "" | "Equal" => {
            text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value")
        }
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_class_says_what_it_costs_and_where_it_is() {
        let server = Server::start().await;
        server.namespace("a").await;
        let class = r#"{"metadata":{"name":"vm"},"handler":"h","overhead":{"podFixed":{"cpu":"100m"}},
            "scheduling":{"nodeSelector":{"x":"y"},"tolerations":[{"key":"vm","operator":"Exists"}]}}"#;
        server
            .create("/apis/node.k8s.io/v1/runtimeclasses", class)
            .await
            .ok();
        let pods = "/api/v1/namespaces/a/pods?dryRun=All";
        let pod = |more: &str| {
            format!(
                r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i"}}],{more}}}}}"#
            )
        };
        let made = server
            .create(pods, &pod(r#""runtimeClassName":"vm""#))
            .await
            .ok();
        let spec = At::root(&made).get("spec");
        assert_eq!(Amounts::read(spec.get("overhead")).shown(), "cpu=100m");
        assert_eq!(spec.path(&["nodeSelector", "x"]).str(), "y");
        assert!(spec.get("tolerations").find("key", "vm").is_some());
        for (more, want) in [
            (
                r#""runtimeClassName":"no""#,
                "pod rejected: RuntimeClass \"no\" not found",
            ),
            (
                r#""runtimeClassName":"vm","overhead":{"cpu":"1"}"#,
                MISMATCH,
            ),
            (
                r#""overhead":{"cpu":"1"}"#,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                r#""runtimeClassName":"vm","nodeSelector":{"x":"z"}"#,
                "conflict: runtimeClass.scheduling.nodeSelector[x] = y; pod.spec.nodeSelector[x] = z",
            ),
        ] {
            let refused = server.create(pods, &pod(more)).await;
            assert_eq!(
                refused.refusal(),
                (403, &*format!("pods \"p\" is forbidden: {want}"))
            );
        }
    }
}
