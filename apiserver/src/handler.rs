//! One request, from its head to its response: who asks, whether they may, and who answers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use api::selector::{FieldSelector, LabelSelector};
use api::status::{Qualified, Status};
use futures::FutureExt;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, timeout_at};

use crate::audit::event::{AUDIT_ID, Event};
use crate::audit::policy::Stage;
use crate::authentication::{Credentials, Identity, impersonation};
use crate::authorization::{Attributes, forbidden};
use crate::body::RequestBody;
use crate::endpoints::{paths, resource};
use crate::flow::{Class, Permit, estimate::estimate};
use crate::instance::Api;
use crate::metrics::request::{Running, Tracked, is_mutating};
use crate::registry::Outcome;
use crate::request::{Query, RequestInfo};
use crate::respond::{self, Reply};
use crate::server::Peer;
use crate::streams::{self, Arrival};
use crate::user::User;

/// Bodies are as large as upstream takes them.
pub const BODY_MAX: usize = 3 * 1024 * 1024;
/// How long a request may take that does not say.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The part of its time that a request may wait for its turn.
const WAITING_PART: u32 = 4;
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Of requests that end by themselves: how long they look for their place to start.
const LONG_RUNNING_START: Duration = Duration::from_secs(30);

/// Answers a request.
pub async fn handle<B: Into<RequestBody>>(
    api: &Arc<Api>,
    peer: &Peer,
    mut request: Request<B>,
) -> Response<Tracked> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let form = resource::plain_form(&parts.headers, &query);
    let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
    let mut running = Running::start(api, &parts, &query, &info);
    let mut trail = Trail::of(api, &parts);
    let answered = answer(
        api,
        peer,
        &mut parts,
        &query,
        &info,
        &mut trail,
        (body.into(), upgrade),
    );
    let mut reply = match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(Ok(reply)) => reply,
        Ok(Err(status)) => respond::status(&status, form),
        Err(_) => {
            tracing::error!(verb = info.verb, path = info.path, "a request panicked");
            if let Some(mut event) = trail.audit.take() {
                event.panicked();
                event.record(Stage::Panic);
            }
            let why = "This request caused apiserver to panic. Look in the logs for details.";
            let status = Status::internal(why);
            respond::status(&status, form)
        }
    };
    respond::warn(&mut reply, &trail.warnings);
    if let Some(class) = &trail.class {
        for (name, uid) in [
            (SCHEMA_UID, &class.schema_uid),
            (LEVEL_UID, &class.level_uid),
        ] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                reply.headers_mut().insert(name, uid);
            }
        }
    }
    running.permitted(trail.permit);
    if trail.is_refused {
        running.terminated("429");
    }
    if let Ok(id) = HeaderValue::from_str(&trail.id) {
        reply.headers_mut().insert(AUDIT_ID, id);
    }
    if !reply.headers().contains_key(CACHE_CONTROL) {
        let private = HeaderValue::from_static("no-cache, private");
        reply.headers_mut().insert(CACHE_CONTROL, private);
    }
    rebalance(api, peer, &parts);
    running.audited(trail.audit, &reply);
    let code = reply.status().as_u16();
    reply.map(|body| Tracked::new(body, code, running))
}

/// What a request leaves behind on its way.
struct Trail {
    /// Its name in the audit log.
    id: String,
    /// What its client is to be told besides.
    warnings: Vec<String>,
    /// What is recorded of it.
    audit: Option<Box<Event>>,
    /// Where it belongs in priority and fairness.
    class: Option<Class>,
    /// Its right to run.
    permit: Option<Permit>,
    /// There was no place for it.
    is_refused: bool,
}

impl Trail {
    fn of(api: &Api, parts: &Parts) -> Self {
        let id = parts.headers.get(AUDIT_ID).and_then(|id| id.to_str().ok());
        let id = id.filter(|id| !id.is_empty()).map(str::to_string);
        Self {
            id: id.unwrap_or_else(|| api.uuid()),
            warnings: Vec::new(),
            audit: None,
            class: None,
            permit: None,
            is_refused: false,
        }
    }
}

/// Makes a few connections end once their requests are answered, so that their clients spread anew
/// over all servers.
fn rebalance(api: &Api, peer: &Peer, parts: &Parts) {
    const STEPS: u64 = 1 << 32;
    let chance = (api.goaway_chance * STEPS as f64) as u64;
    if chance > 0 && parts.version == Version::HTTP_2 && api.seams.rng.below(STEPS) < chance {
        peer.leave.notify_one();
    }
}

async fn answer(
    api: &Arc<Api>,
    peer: &Peer,
    parts: &mut Parts,
    query: &Query,
    info: &RequestInfo,
    trail: &mut Trail,
    (body, upgrade): (RequestBody, OnUpgrade),
) -> Outcome<Reply> {
    let deadline = Instant::now() + time_allowed(query, info);
    let user = identify(api, peer, parts, info, trail).await?;
    let (fields, labels) = selectors(info, query);
    let mut wanted = attributes(&user, info);
    (wanted.field_selector, wanted.label_selector) = (fields.as_ref(), labels.as_ref());
    let acting = act(api, &wanted, parts, trail).await?;
    wanted.user = acting.as_ref().unwrap_or(&user);
    if let Err(refusal) = take_turn(api, &wanted, info, query, trail).await {
        return Ok(refusal);
    }
    require(api, &wanted, trail).await?;
    let user = wanted.user;
    let arrival = Arrival {
        parts,
        body,
        upgrade,
        peer: peer.address,
    };
    if info.is_handed_on() {
        return streams::answer(api, arrival, query, info, user, deadline).await;
    }
    let body = if matches!(parts.method, Method::GET | Method::HEAD) {
        Vec::new()
    } else {
        read(arrival.body, deadline).await?
    };
    if let Some(event) = &mut trail.audit {
        event.sends(&parts.headers, &body);
    }
    if !info.is_resource {
        return Ok(paths::answer(api, peer, parts, query, info, user).await);
    }
    let incoming = resource::Incoming {
        info,
        query,
        headers: &parts.headers,
        user,
        body,
        deadline,
    };
    Ok(resource::answer(api, incoming).await)
}

/// Who sends the request. From here on it is recorded.
async fn identify(
    api: &Arc<Api>,
    peer: &Peer,
    parts: &mut Parts,
    info: &RequestInfo,
    trail: &mut Trail,
) -> Outcome<User> {
    let identity = match authenticate(api, peer, parts, info).await {
        Ok(identity) => identity,
        Err(status) => {
            if let Some(mut event) = Event::begin(api, peer, parts, info, &trail.id, None) {
                event.is_unauthenticated(&attempted(peer, parts));
                event.record(Stage::ResponseStarted);
            }
            return Err(status);
        }
    };
    trail.warnings.extend(identity.warnings);
    let event = Event::begin(api, peer, parts, info, &trail.id, Some(&identity.user));
    if let Some(mut event) = event {
        event.record(Stage::RequestReceived);
        for (key, value) in &identity.annotations {
            event.annotate(key, value);
        }
        if event.wants_response() {
            // Recorded as it is sent.
            parts.headers.remove(ACCEPT_ENCODING);
        }
        trail.audit = Some(event);
    }
    Ok(identity.user)
}

/// By what means somebody tried to say who they are.
fn attempted(peer: &Peer, parts: &Parts) -> String {
    let mut means = Vec::new();
    let value = parts.headers.get(AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok());
    let scheme = value.and_then(|value| value.split(' ').next());
    match scheme.map(str::to_ascii_lowercase).as_deref() {
        Some("bearer") => means.push("bearer"),
        Some("basic") => means.push("basic"),
        _ => {}
    }
    if !peer.certificates.is_empty() {
        means.push("x509");
    }
    match means.is_empty() {
        true => "Authentication failed, no credentials provided".to_string(),
        false => format!("Authentication failed, attempted: {}", means.join(", ")),
    }
}

fn time_allowed(query: &Query, info: &RequestInfo) -> Duration {
    if info.is_long_running() {
        return LONG_RUNNING_START;
    }
    let asked = api::values::duration::parse(query.text("timeout")).unwrap_or_default();
    match u64::try_from(asked) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos).min(TIMEOUT),
        _ => TIMEOUT,
    }
}

async fn authenticate(
    api: &Api,
    peer: &Peer,
    parts: &Parts,
    info: &RequestInfo,
) -> Outcome<Identity> {
    if let Some(user) = &peer.user {
        return Ok(Identity::of(user.clone()));
    }
    let credentials = Credentials {
        headers: &parts.headers,
        peer: &peer.certificates,
    };
    match api
        .authenticator
        .authenticate(&credentials, &info.path)
        .await
    {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(Status::unauthorized().into()),
        Err(error) => {
            tracing::debug!(peer = %peer.address, error, "credentials were refused");
            Err(Status::unauthorized().into())
        }
    }
}

/// The selectors of a list; none where they make no sense, which is found out later.
fn selectors(info: &RequestInfo, query: &Query) -> (Option<FieldSelector>, Option<LabelSelector>) {
    if !matches!(&*info.verb, "list" | "watch" | "deletecollection") {
        return (None, None);
    }
    (
        FieldSelector::parse(query.text("fieldSelector")).ok(),
        LabelSelector::parse(query.text("labelSelector")).ok(),
    )
}

fn attributes<'a>(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
    Attributes {
        user,
        verb: &info.verb,
        is_resource: info.is_resource,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        field_selector: None,
        label_selector: None,
    }
}

/// Whom the request acts as, if it does.
async fn act(
    api: &Api,
    wanted: &Attributes<'_>,
    parts: &Parts,
    trail: &mut Trail,
) -> Outcome<Option<User>> {
    if !impersonation::is_wanted(&parts.headers) {
        return Ok(None);
    }
    let Some(acts_as) = impersonation::wanted(&mut parts.headers.clone())? else {
        return Ok(None);
    };
    let acting = impersonation::impersonate(&api.authorizer, &acts_as, wanted).await?;
    if let Some(event) = &mut trail.audit {
        event.acts_as(&acting.user, &acting.constraint);
    }
    Ok(Some(acting.user))
}

/// Waits until it is the request's turn.
///
/// # Errors
///
/// The answer to those for whom there is no place.
async fn take_turn(
    api: &Arc<Api>,
    wanted: &Attributes<'_>,
    info: &RequestInfo,
    query: &Query,
    trail: &mut Trail,
) -> Result<(), Reply> {
    if info.is_long_running() && info.verb != "watch" {
        return Ok(());
    }
    if api.memory.refuses(info, query, wanted.user) {
        trail.is_refused = true;
        return Err(too_many());
    }
    let Some((class, flow, seats_max)) = api.flow.classify(info, wanted.user) else {
        return Ok(());
    };
    let kind = match is_mutating(info) {
        true => "mutating",
        false => "readOnly",
    };
    let work = estimate(api, info, query, seats_max);
    let patience = match info.is_long_running() {
        true => TIMEOUT,
        false => time_allowed(query, info),
    };
    let deadline = Instant::now() + patience / WAITING_PART;
    let permit = api
        .flow
        .enter(api, (&class, flow), work, kind, deadline)
        .await;
    trail.class = Some(class);
    trail.is_refused = permit.is_err();
    trail.permit = permit.ok();
    if !trail.is_refused {
        return Ok(());
    }
    Err(too_many())
}

/// The answer to those for whom there is no place.
fn too_many() -> Reply {
    let text = "Too many requests, please try again later.\n";
    let mut reply = respond::raw(429, "text/plain; charset=utf-8", text);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

async fn require(api: &Api, wanted: &Attributes<'_>, trail: &mut Trail) -> Outcome<()> {
    let decision = api.authorizer.authorize(wanted).await;
    if let Some(event) = &mut trail.audit {
        event.decided(&decision);
    }
    if decision.is_allowed() {
        return Ok(());
    }
    Err(forbidden(wanted, decision.reason()).into())
}

/// A body of bounded size.
async fn read(body: RequestBody, deadline: Instant) -> Outcome<Vec<u8>> {
    let collected = timeout_at(deadline, Limited::new(body, BODY_MAX).collect()).await;
    let collected = collected.map_err(|_| {
        let of = Qualified {
            group: "",
            name: "request",
        };
        Status::server_timeout(of, "read", 1)
    })?;
    let collected = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Status::too_large(&format!("limit is {BODY_MAX}"))
        } else {
            Status::bad_request(format!("the body could not be read: {error}"))
        }
    })?;
    Ok(collected.to_bytes().into())
}
