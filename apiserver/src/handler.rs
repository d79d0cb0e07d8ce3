//! One request, from its head to its response: who asks, whether they may, and who answers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use api::selector::{FieldSelector, LabelSelector};
use api::status::{Qualified, Status};
use futures::FutureExt;
use http::request::Parts;
use http::{Method, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::authentication::{Credentials, impersonation};
use crate::authorization::Attributes;
use crate::endpoints::{paths, resource};
use crate::instance::Api;
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
/// Of requests that end by themselves: how long they look for their place to start.
const LONG_RUNNING_START: Duration = Duration::from_secs(30);

/// Answers a request.
pub async fn handle(api: &Arc<Api>, peer: &Peer, mut request: Request<Incoming>) -> Reply {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let form = resource::plain_form(&parts.headers, &query);
    let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
    let arrival = Arrival {
        parts: &parts,
        body,
        upgrade,
        peer: peer.address,
    };
    let answered = AssertUnwindSafe(answer(api, peer, &query, &info, arrival));
    match answered.catch_unwind().await {
        Ok(Ok(reply)) => reply,
        Ok(Err(status)) => respond::status(&status, form),
        Err(_) => {
            tracing::error!(verb = info.verb, path = info.path, "a request panicked");
            let why = "This request caused apiserver to panic. Look in the logs for details.";
            let status = Status::internal(why);
            respond::status(&status, form)
        }
    }
}

async fn answer(
    api: &Arc<Api>,
    peer: &Peer,
    query: &Query,
    info: &RequestInfo,
    arrival: Arrival<'_>,
) -> Outcome<Reply> {
    let parts = arrival.parts;
    let deadline = Instant::now() + time_allowed(query, info);
    let user = authenticate(api, peer, parts, info).await?;
    let user = authorize(api, user, parts, info, query).await?;
    if info.is_handed_on() {
        return streams::answer(api, arrival, query, info, &user, deadline).await;
    }
    let body = if matches!(parts.method, Method::GET | Method::HEAD) {
        Vec::new()
    } else {
        read(arrival.body, deadline).await?
    };
    if !info.is_resource {
        return Ok(paths::answer(api, peer, parts, query, info, &user).await);
    }
    let incoming = resource::Incoming {
        info,
        query,
        headers: &parts.headers,
        user: &user,
        body,
        deadline,
    };
    Ok(resource::answer(api, incoming).await)
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

async fn authenticate(api: &Api, peer: &Peer, parts: &Parts, info: &RequestInfo) -> Outcome<User> {
    let credentials = Credentials {
        headers: &parts.headers,
        peer: &peer.certificates,
    };
    match api
        .authenticator
        .authenticate(&credentials, &info.path)
        .await
    {
        Ok(Some(identity)) => Ok(identity.user),
        Ok(None) => Err(Status::unauthorized().into()),
        Err(error) => {
            tracing::debug!(peer = %peer.address, error, "credentials were refused");
            Err(Status::unauthorized().into())
        }
    }
}

/// Whom the request counts as, once it may: whoever asks, or whom they act as.
async fn authorize(
    api: &Api,
    user: User,
    parts: &Parts,
    info: &RequestInfo,
    query: &Query,
) -> Outcome<User> {
    let selects = matches!(&*info.verb, "list" | "watch" | "deletecollection");
    let fields = selects.then(|| FieldSelector::parse(query.text("fieldSelector")).ok());
    let labels = selects.then(|| LabelSelector::parse(query.text("labelSelector")).ok());
    let (fields, labels) = (fields.flatten(), labels.flatten());
    let mut wanted = Attributes {
        user: &user,
        verb: &info.verb,
        is_resource: info.is_resource,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        field_selector: fields.as_ref(),
        label_selector: labels.as_ref(),
    };
    let acts_as = if impersonation::is_wanted(&parts.headers) {
        impersonation::wanted(&mut parts.headers.clone())?
    } else {
        None
    };
    let Some(acts_as) = acts_as else {
        api.authorizer.require(&wanted).await?;
        return Ok(user);
    };
    let acting = impersonation::impersonate(&api.authorizer, &acts_as, &wanted).await?;
    wanted.user = &acting.user;
    api.authorizer.require(&wanted).await?;
    Ok(acting.user)
}

/// A body of bounded size.
async fn read(body: Incoming, deadline: Instant) -> Outcome<Vec<u8>> {
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
