//! The API for components in the same process: a tower service that takes requests of one user through
//! the whole chain of filters, without connections, credentials and copies of bodies.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::Notify;
use tower::Service;

use crate::body::{RequestBody, RequestError};
use crate::handler;
use crate::instance::Api;
use crate::metrics::request::Tracked;
use crate::server::Peer;
use crate::user::{AUTHENTICATED, User};

/// Requests of one user to a server in this process.
#[derive(Clone)]
pub struct InProcess {
    api: Arc<Api>,
    peer: Arc<Peer>,
}

impl InProcess {
    /// Requests of a user. That it is authenticated goes without saying.
    pub fn new(api: Arc<Api>, mut user: User) -> Self {
        if !user.is_in(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_string());
        }
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificates: Vec::new(),
            user: Some(user),
            leave: Notify::new(),
        };
        Self {
            api,
            peer: Arc::new(peer),
        }
    }
}

impl<B> Service<Request<B>> for InProcess
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<RequestError>,
{
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { api, peer } = self.clone();
        let request = request.map(RequestBody::local);
        Box::pin(async move { Ok(handler::handle(&api, &peer, request).await) })
    }
}
