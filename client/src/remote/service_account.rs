//! Requests in the names of service accounts, as upstream's `--use-service-account-credentials`: the
//! component asks for tokens and makes the accounts that are not there yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::client::Body;
use tokio::time::{Instant, timeout};
use tower::{BoxError, Service};

use crate::errors;
use crate::transport::{ResponseBody, Transport};

/// How long tokens are asked for; a new one is asked for after four fifths of it.
const TTL_SECONDS: u32 = 3600;
const USED: Duration = Duration::from_secs(TTL_SECONDS as u64 / 5 * 4);
/// For a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// The tokens of service accounts.
pub(super) struct Tokens {
    client: kube::Client,
    known: Mutex<HashMap<(String, String), Arc<Token>>>,
}

/// The token of one service account.
pub(super) struct Token {
    client: kube::Client,
    namespace: String,
    name: String,
    state: tokio::sync::Mutex<Option<(Instant, HeaderValue)>>,
}

impl Tokens {
    /// Tokens that are asked for by a client.
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
        }
    }

    pub(super) fn of(&self, namespace: &str, name: &str) -> Arc<Token> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_string(), name.to_string());
        let token = known.entry(key).or_insert_with(|| {
            Arc::new(Token {
                client: self.client.clone(),
                namespace: namespace.to_string(),
                name: name.to_string(),
                state: tokio::sync::Mutex::default(),
            })
        });
        token.clone()
    }
}

impl Token {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let mut state = self.state.lock().await;
        if let Some((since, value)) = &*state
            && since.elapsed() < USED
        {
            return Ok(value.clone());
        }
        let asked = timeout(TOKEN_TIMEOUT, self.ask()).await;
        let token = asked.map_err(|_| "no token in time")??;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        *state = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    async fn ask(&self) -> Result<String, kube::Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TTL_SECONDS.into()),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let options = PostParams::default();
        let mut asked = accounts
            .create_token_request(&self.name, &options, &request)
            .await;
        if asked.as_ref().is_err_and(errors::is_not_found) {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    namespace: Some(self.namespace.clone()),
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            match accounts.create(&options, &account).await {
                Err(error) if !errors::is_already_exists(&error) => return Err(error),
                _ => {}
            }
            asked = accounts
                .create_token_request(&self.name, &options, &request)
                .await;
        }
        Ok(asked?
            .status
            .and_then(|status| status.token)
            .unwrap_or_default())
    }

    /// The server did not believe the token.
    async fn forget(&self) {
        *self.state.lock().await = None;
    }
}

/// Sends requests in the name of a service account.
#[derive(Clone)]
pub(super) struct AsServiceAccount {
    inner: Transport,
    token: Arc<Token>,
}

impl AsServiceAccount {
    pub(super) fn new(inner: Transport, token: Arc<Token>) -> Self {
        Self { inner, token }
    }
}

impl Service<Request<Body>> for AsServiceAccount {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready is taken along; its copy is not yet.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let token = self.token.clone();
        Box::pin(async move {
            let value = token.authorization().await?;
            request.headers_mut().insert(AUTHORIZATION, value);
            let response = inner.call(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                token.forget().await;
            }
            Ok(response)
        })
    }
}
