//! What can be done to objects: binding, eviction, tokens, and connections that are handed on.

use std::sync::Arc;

use api::doc::Doc;
use api::status::{Qualified, Status};

use super::{eviction, write};
use crate::admission::Attempt;
use crate::instance::Api;
use crate::kinds::conditions;
use crate::registry::write::Change;
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply, success};
use crate::validation::pod::validate_binding;

/// Answers a request that acts on an object.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(_api: &Arc<Api>, call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    match (call.row.resource.name, &*call.info.subresource) {
        ("pods", "eviction") => eviction::evict(call, body, form).await,
        ("pods", "binding") => bind(call, body, form).await,
        ("serviceaccounts", "token") => token(call, body, form).await,
        (_, name) => Err(Status::method_not_supported(call.of(), name).into()),
    }
}

/// Gives a pod its node.
///
/// # Errors
///
/// If the pod has one, or is not to have one.
pub async fn bind(call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let (mut binding, schema) = write::read_as(call, body, ("", "v1", "Binding"))?;
    let errors = validate_binding(&binding);
    if !errors.is_empty() {
        let of = Qualified {
            group: "",
            name: "Binding",
        };
        return Err(Status::invalid(of, &call.info.name, &errors).into());
    }
    Attempt::of_action(call, &mut binding).await?;
    bind_pod(call, binding).await?;
    let doc = success("", "", "", "");
    let schema = respond::status_schema().unwrap_or(schema);
    Ok(respond::object(201, &doc, schema, form))
}

/// Writes a binding into its pod, whichever of the two endpoints it came to.
async fn bind_pod(call: &Call<'_>, binding: Doc) -> Outcome<()> {
    let row = call.api.registry.get("", "v1", "pods");
    let row = row.ok_or_else(Status::no_such_resource)?;
    let mut info = call.info.clone();
    if info.resource != "pods" {
        info.resource = "pods".to_string();
        info.subresource = "binding".to_string();
        info.name = binding.root().text(&["metadata", "name"]).to_string();
    }
    let inner = Call::new(
        call.api,
        row,
        &info,
        call.query,
        call.headers,
        call.user,
        call.deadline,
    )?;
    let node = binding.root().text(&["target", "name"]).to_string();
    inner.update(&Bind { node, binding }).await?;
    Ok(())
}

/// Issues a token of a service account.
async fn token(call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let api = call.api;
    let issuer = api.issuer.as_ref();
    let issuer = issuer.ok_or_else(|| Status::unavailable("this server issues no tokens"))?;
    let kind = ("authentication.k8s.io", "v1", "TokenRequest");
    let (mut request, schema) = write::read_as(call, body, kind)?;
    let account = call.current().await?.doc();
    Attempt::of_action(call, &mut request).await?;
    let now = api.seams.clock.wall();
    issuer.prepare(&mut request, &account, now)?;
    let bound = issuer.bound(&request, &api.lookup).await?;
    let issued = issuer.issue(request, &bound, now, &*api.seams.rng)?;
    for warning in issued.warnings {
        call.warn(warning);
    }
    let mut review = issued.review;
    crate::registry::object::canonical(&mut review, schema)?;
    Ok(respond::object(201, &review, schema, form))
}

struct Bind {
    node: String,
    binding: Doc,
}

impl Change for Bind {
    fn next(&self, call: &Call<'_>, live: Option<&Doc>) -> Outcome<Doc> {
        let name = &call.info.name;
        let Some(live) = live else {
            return Err(Status::not_found(call.of(), name).into());
        };
        let conflict = |why: String| Err(Status::conflict(binding_of(), name, why).into());
        let root = live.root();
        let wanted = self.binding.root().text(&["metadata", "uid"]);
        if !wanted.is_empty() && wanted != root.text(&["metadata", "uid"]) {
            let found = root.text(&["metadata", "uid"]);
            return conflict(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
            ));
        }
        if !root.text(&["metadata", "deletionTimestamp"]).is_empty() {
            return conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        let assigned = root.text(&["spec", "nodeName"]);
        if !assigned.is_empty() {
            return conflict(format!(
                "pod {name} is already assigned to node {assigned:?}"
            ));
        }
        if root
            .path(&["spec", "schedulingGates"])
            .is_some_and(|gates| !gates.is_empty())
        {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut doc = live.clone();
        doc.set_path(&["spec", "nodeName"], &self.node);
        for key in ["annotations", "labels"] {
            let added = self.binding.root().path(&["metadata", key]);
            for entry in added.into_iter().flat_map(api::doc::Node::children) {
                let value = entry.as_str().unwrap_or_default();
                doc.set_path(&["metadata", key, entry.key()], value);
            }
        }
        set_scheduled(&mut doc, &call.now);
        Ok(doc)
    }

    fn creates(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn expects_revision(&self) -> bool {
        false
    }
}

fn binding_of() -> Qualified<'static> {
    Qualified {
        group: "",
        name: "pods/binding",
    }
}

/// The condition that a pod has a node.
fn set_scheduled(doc: &mut Doc, now: &str) {
    let condition = conditions::of_type(doc, "PodScheduled");
    for key in ["reason", "message"] {
        doc.remove(condition, key);
    }
    doc.set(condition, "status", "True");
    doc.set(condition, "lastTransitionTime", now);
}
