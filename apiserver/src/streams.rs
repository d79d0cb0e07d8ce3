//! Requests that are handed on to nodes, pods and services: logs, exec, attach, port-forward, proxies.
//!
//! - [`options`]: what their parameters say; [`node`]: where the kubelet of a node is
//! - [`backend`]: connections and requests to whoever answers
//! - [`log`]: output of containers
//! - [`remote`]: exec, attach and port-forward, passed on or translated
//! - [`proxy`]: the HTTP of nodes, pods and services, with [`target`], which finds them, and [`html`]
//! - [`upgrade`]: connections that become something else; [`pipe`]: bytes in both directions
//! - [`websocket`] and [`spdy`]: what connections become, with [`outbox`], where frames wait;
//!   [`translate`] and [`tunnel`]: the one for clients, the other for kubelets
//!
//! Nothing is read whole: bodies stream, and whoever reads slowly slows the sender down.

pub mod backend;
pub mod html;
pub mod log;
pub mod node;
pub mod options;
pub mod outbox;
pub mod pipe;
pub mod proxy;
pub mod remote;
pub mod spdy;
pub mod target;
#[cfg(test)]
mod tests;
pub mod translate;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::doc::Doc;
use api::status::Status;
use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::admission::{Attempt, Operation};
use crate::authentication::impersonation;
use crate::authorization::Attributes;
use crate::body::RequestBody;
use crate::failure;
use crate::instance::Api;
use crate::registry::{Call, Outcome};
use crate::request::{Query, RequestInfo};
use crate::respond::Reply;
use crate::storage::Along;
use crate::user::User;

/// What nothing has passed through for so long is over, as upstream has it.
pub const IDLE: Duration = Duration::from_hours(4);

/// A request as it came, with what can become of its connection.
pub struct Inbound<'a> {
    /// Method, path and query.
    pub parts: &'a Parts,
    /// Its headers without credentials.
    pub headers: HeaderMap,
    /// Its body, not read yet.
    pub body: RequestBody,
    /// The connection, once it is upgraded.
    pub upgrade: OnUpgrade,
    /// Who sent it.
    pub peer: SocketAddr,
}

/// A request on its way in, before anybody looked at it.
pub struct Arrival<'a> {
    /// Its head.
    pub parts: &'a Parts,
    /// Its body, not read yet.
    pub body: RequestBody,
    /// The connection, once it is upgraded.
    pub upgrade: OnUpgrade,
    /// Who sent it.
    pub peer: SocketAddr,
}

/// Answers a request that is handed on.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(
    api: &Arc<Api>,
    arrival: Arrival<'_>,
    query: &Query,
    info: &RequestInfo,
    user: &User,
    deadline: Instant,
) -> Outcome<Reply> {
    let found = api.registry.get(&info.group, &info.version, &info.resource);
    let row = found.ok_or_else(Status::no_such_resource)?.clone();
    let known = row.subresource(&info.subresource);
    let known = known.ok_or_else(Status::no_such_resource)?;
    if row.resource.namespaced && info.namespace.is_empty() || info.name.is_empty() {
        return Err(Status::no_such_resource().into());
    }
    let Arrival {
        parts,
        body,
        upgrade,
        peer,
    } = arrival;
    let is_proxied = info.subresource == "proxy" && parts.method == Method::OPTIONS;
    if !is_proxied && !known.verbs.contains(&&*info.verb) {
        let of = row.qualified();
        return Err(Status::method_not_supported(of, &info.verb).into());
    }
    let call = Call::new(api, &row, info, query, &parts.headers, user, deadline)?;
    let inbound = Inbound {
        parts,
        headers: passed_on(api, &parts.headers)?,
        body,
        upgrade,
        peer,
    };
    match &*info.subresource {
        "log" => log::answer(api, &call, inbound).await,
        "proxy" => proxy::answer(api, &call, inbound).await,
        _ => remote::answer(api, &call, inbound).await,
    }
}

/// The headers without what says who asks.
fn passed_on(api: &Api, headers: &HeaderMap) -> Outcome<HeaderMap> {
    let mut headers = headers.clone();
    api.authenticator.clear(&mut headers);
    impersonation::wanted(&mut headers)?;
    Ok(headers)
}

/// Lets admission complete and judge the options of a connection.
async fn admit(call: &Call<'_>, options: &mut Doc) -> Outcome<()> {
    if call.query.all("dryRun").any(|value| !value.is_empty()) {
        return Err(Status::bad_request("dryRun is not supported").into());
    }
    let admission = &call.api.admission;
    let mut attempt = Attempt::new(call, Operation::Connect);
    admission.admit(&mut attempt, Some(options), None).await?;
    let mut along = Along::default();
    admission
        .validate(&mut attempt, Some(options), None, &mut along)
        .await?;
    attempt.finish(0);
    Ok(())
}

/// Whoever connects must be allowed to create, whatever the method: WebSockets begin with a GET.
async fn require_create(call: &Call<'_>) -> Outcome<()> {
    let info = call.info;
    if info.verb == "create" {
        return Ok(());
    }
    let wanted = Attributes {
        version: &info.version,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        ..Attributes::resource(call.user, "create", &info.group, &info.resource)
    };
    let decision = call.api.authorizer.authorize(&wanted).await;
    match decision.is_allowed() {
        true => Ok(()),
        false => Err(Status::forbidden(call.of(), &info.name, decision.reason()).into()),
    }
}

/// An object that a request depends on, not older than the request.
async fn object(call: &Call<'_>, resource: &str, namespace: &str, name: &str) -> Outcome<Doc> {
    let cache = &call.api.storage.cache;
    let caught_up = cache.catch_up(call.deadline).await;
    caught_up.map_err(|error| failure::of_read(&error))?;
    let found = call.api.objects().get("", resource, namespace, name);
    let of = api::status::Qualified {
        group: "",
        name: resource,
    };
    let found = found.ok_or_else(|| Status::not_found(of, name))?;
    Ok(found.doc())
}

/// An error that upstream has no reason for.
fn unknown(message: impl Into<String>) -> Box<Status> {
    Box::new(Status {
        code: 500,
        message: message.into(),
        ..Status::default()
    })
}
