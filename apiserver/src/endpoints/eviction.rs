//! Eviction: deletes a pod, if the disruption budgets that cover it allow that.

use api::doc::{Doc, Node};
use api::selector::LabelSelector;
use api::status::{Cause, Qualified, Status};

use super::write;
use crate::admission::Attempt;
use crate::kinds::conditions;
use crate::registry::delete::DeleteOptions;
use crate::registry::write::Change;
use crate::registry::{Call, Outcome, Own};
use crate::respond::{self, Form, Reply};

/// Disruptions of a budget that the controller has not seen yet; more are refused.
const DISRUPTED_PODS_MAX: usize = 2000;
const BUDGETS: Qualified<'static> = Qualified {
    group: "policy",
    name: "poddisruptionbudgets",
};

/// Answers a request to evict a pod.
///
/// # Errors
///
/// 429 if a budget does not allow it, or whatever stands against the deletion.
pub async fn evict(call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let (mut eviction, schema) = write::read_as(call, body, ("policy", "v1", "Eviction"))?;
    let wanted = eviction.root().text(&["metadata", "name"]);
    if wanted != call.info.name {
        let message = format!(
            "name in URL does not match name in Eviction object: {} != {wanted}",
            call.info.name
        );
        return Err(Status::bad_request(message).into());
    }
    let mut options = options(&eviction);
    options.dry_run |= call.dry_run;
    Attempt::of_action(call, &mut eviction).await?;
    let pod = call.current().await?.doc();
    if needs_budget(&pod) {
        charge(call, &pod, options.dry_run).await?;
        // What was charged for is this pod, not its successor.
        let uid = pod.root().text(&["metadata", "uid"]).to_string();
        options.uid.get_or_insert(uid);
    }
    call.delete(&options).await?;
    let doc = respond::success("", "", "", "");
    let schema = respond::status_schema().unwrap_or(schema);
    Ok(respond::object(201, &doc, schema, form))
}

fn options(eviction: &Doc) -> DeleteOptions {
    let options = eviction.root().get("deleteOptions");
    options.map_or_else(DeleteOptions::default, DeleteOptions::of)
}

/// Pods that are over, on their way or not running yet disrupt nothing.
fn needs_budget(pod: &Doc) -> bool {
    let root = pod.root();
    !matches!(
        root.text(&["status", "phase"]),
        "Succeeded" | "Failed" | "Pending"
    ) && root.text(&["metadata", "deletionTimestamp"]).is_empty()
}

/// Takes a disruption from the budget that covers a pod.
async fn charge(call: &Call<'_>, pod: &Doc, dry_run: bool) -> Outcome<()> {
    let namespace = pod.root().text(&["metadata", "namespace"]);
    let labels = pod.root().path(&["metadata", "labels"]);
    let budgets = call.api.objects().list("policy", BUDGETS.name, namespace);
    let budgets = budgets.iter().map(|budget| budget.doc());
    let covering: Vec<Doc> = budgets.filter(|budget| covers(budget, labels)).collect();
    let [budget] = &covering[..] else {
        if covering.is_empty() {
            return Ok(());
        }
        let message = "This pod has more than one PodDisruptionBudget, which the eviction \
                       subresource does not support.";
        return Err(Box::new(Status {
            code: 500,
            message: message.to_string(),
            ..Status::default()
        }));
    };
    if is_unready(pod) && allows_unready(budget) {
        return Ok(());
    }
    let name = budget.root().text(&["metadata", "name"]).to_string();
    let of = ("policy", "v1", BUDGETS.name);
    let own = Own::new(call.api, "update", of, (namespace, &name))?;
    let own = own.part("status").within(call);
    let mut inner = own.call(call.api)?;
    inner.deadline = call.deadline;
    inner.dry_run |= dry_run;
    let pod = pod.root().text(&["metadata", "name"]).to_string();
    inner.update(&Disrupt { pod }).await?;
    Ok(())
}

fn covers(budget: &Doc, labels: Option<Node<'_>>) -> bool {
    let selector = budget.root().path(&["spec", "selector"]);
    let selector = selector.and_then(|selector| LabelSelector::from_node(selector).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

fn is_unready(pod: &Doc) -> bool {
    let conditions = pod.root().path(&["status", "conditions"]);
    !conditions
        .into_iter()
        .flat_map(Node::children)
        .any(|one| one.text(&["type"]) == "Ready" && one.text(&["status"]) == "True")
}

/// Whether a pod that is not ready may go whatever the budget's count says.
fn allows_unready(budget: &Doc) -> bool {
    let root = budget.root();
    let number = |key| {
        let found = root.path(&["status", key]);
        found.and_then(Node::as_i64).unwrap_or_default()
    };
    match root.text(&["spec", "unhealthyPodEvictionPolicy"]) {
        "AlwaysAllow" => true,
        _ => {
            let desired = number("desiredHealthy");
            number("currentHealthy") >= desired && desired > 0
        }
    }
}

/// One more disruption of a budget.
struct Disrupt {
    pod: String,
}

impl Change for Disrupt {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let name = &call.info.name;
        let Some(live) = live else {
            return Err(Status::not_found(call.of(), name).into());
        };
        let root = live.root();
        let number = |path: &[&str]| {
            let found = root.path(path);
            found.and_then(Node::as_i64).unwrap_or_default()
        };
        if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
            let cause =
                format!("The disruption budget {name} is still being processed by the server.");
            return Err(refuse(cause, 10));
        }
        let allowed = number(&["status", "disruptionsAllowed"]);
        if allowed < 0 {
            let why = "pdb disruptions allowed is negative";
            return Err(Status::forbidden(BUDGETS, name, why).into());
        }
        let disrupted = root.path(&["status", "disruptedPods"]);
        if disrupted.is_some_and(|pods| pods.len() > DISRUPTED_PODS_MAX) {
            let why =
                "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
            return Err(Status::forbidden(BUDGETS, name, why).into());
        }
        if allowed == 0 {
            let healthy = number(&["status", "currentHealthy"]);
            let desired = number(&["status", "desiredHealthy"]);
            let cause = format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} \
                 currently"
            );
            return Err(refuse(cause, 0));
        }
        let mut doc = live.clone();
        doc.set_path(&["status", "disruptionsAllowed"], allowed - 1);
        doc.set_path(&["status", "disruptedPods", &self.pod], &*call.now);
        if allowed == 1 {
            insufficient(&mut doc, &call.now, number(&["metadata", "generation"]));
        }
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn expects_revision(&self) -> bool {
        false
    }
}

/// Notes that the budget allows no more.
fn insufficient(doc: &mut Doc, now: &str, generation: i64) {
    let condition = conditions::of_type(doc, "DisruptionAllowed");
    doc.set(condition, "status", "False");
    doc.set(condition, "observedGeneration", generation);
    doc.set(condition, "lastTransitionTime", now);
    doc.set(condition, "reason", "InsufficientPods");
    doc.set(condition, "message", "");
}

/// 429 with what the budget says.
fn refuse(cause: String, retry_after_seconds: u32) -> Box<Status> {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_after_seconds);
    status.details.causes.push(Cause {
        kind: "DisruptionBudget".to_string(),
        message: cause,
        field: String::new(),
    });
    Box::new(status)
}
