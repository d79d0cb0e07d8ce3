//! How requests get to an API server: one type for whatever carries them, and who sends them.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::TryFutureExt;
use futures::future::BoxFuture;
use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service};

use api::fence::{self, Fence};

/// The body of a response.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Whatever carries requests of one identity to an API server.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<ResponseBody>, BoxError>;

/// A transport out of any service, such as an API server in the same process.
pub fn transport<S, B>(service: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    BoxCloneSyncService::new(Erased(service))
}

#[derive(Clone)]
struct Erased<S>(S);

impl<S, B> Service<Request<Body>> for Erased<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.0.call(request).map_err(Into::into);
        let response = response
            .map_ok(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Box::pin(response)
    }
}

/// Who sends requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The component itself, such as `system:kube-controller-manager`.
    Component,
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Identity {
    /// A service account of the cluster's own, as upstream's controllers have one each.
    pub fn system(name: &str) -> Self {
        Self::ServiceAccount {
            namespace: "kube-system".to_string(),
            name: name.to_string(),
        }
    }

    /// Name and groups of the user that a service account is; none for the component itself, which
    /// whoever carries requests knows.
    pub fn user(&self) -> Option<(String, Vec<String>)> {
        let Self::ServiceAccount { namespace, name } = self else {
            return None;
        };
        let groups = vec![
            "system:serviceaccounts".to_string(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_string(),
        ];
        Some((format!("system:serviceaccount:{namespace}:{name}"), groups))
    }
}

type Connect = dyn Fn(&Identity) -> Transport + Send + Sync;

/// A component's access to the API: clients for it and for the service accounts of its parts.
#[derive(Clone)]
pub struct Access {
    agent: Arc<str>,
    connect: Arc<Connect>,
}

impl Access {
    /// Access by whatever carries requests of an identity. Objects remember the `agent` as their
    /// manager: upstream's name of the component, such as `kube-scheduler`.
    pub fn new(
        agent: &str,
        connect: impl Fn(&Identity) -> Transport + Send + Sync + 'static,
    ) -> Self {
        Self {
            agent: agent.into(),
            connect: Arc::new(connect),
        }
    }

    /// A client whose writes happen only while a fence holds.
    pub fn client(&self, identity: &Identity, fence: Option<&Fence>) -> kube::Client {
        kube::Client::new(self.transport(identity, fence), "default")
    }

    /// The same without a client around it.
    pub fn transport(&self, identity: &Identity, fence: Option<&Fence>) -> Transport {
        let agent = match identity {
            Identity::Component => self.agent.to_string(),
            Identity::ServiceAccount { namespace, name } => {
                format!(
                    "{}/trireme system:serviceaccount:{namespace}:{name}",
                    self.agent
                )
            }
        };
        let header = |text: &str| HeaderValue::from_str(text).ok();
        transport(Stamped {
            inner: (self.connect)(identity),
            agent: header(&agent),
            fence: fence.and_then(|fence| header(&fence.to_string())),
        })
    }
}

/// Adds the component's name to requests, and its fence to those that write.
#[derive(Clone)]
struct Stamped {
    inner: Transport,
    agent: Option<HeaderValue>,
    fence: Option<HeaderValue>,
}

impl Service<Request<Body>> for Stamped {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = <Transport as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let headers = request.headers_mut();
        if let Some(agent) = &self.agent {
            headers.entry(USER_AGENT).or_insert_with(|| agent.clone());
        }
        if let Some(fence) = self.fence.as_ref().filter(|_| !is_read) {
            headers.insert(fence::HEADER, fence.clone());
        }
        self.inner.call(request)
    }
}
