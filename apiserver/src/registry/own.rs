//! Requests of the server's own, to what it keeps in the cluster.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use http::HeaderMap;
use tokio::time::Instant;

use super::call::{Call, Outcome};
use super::row::Row;
use crate::instance::Api;
use crate::request::{Query, RequestInfo};
use crate::user::{MASTERS, User};

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server itself.
pub fn myself() -> User {
    User::new("system:apiserver", &[MASTERS])
}

/// A request of the server's own.
pub struct Own {
    row: Arc<Row>,
    info: RequestInfo,
    query: Query,
    headers: HeaderMap,
    user: User,
}

impl Own {
    /// A request about an object; `namespace` is empty for those of the cluster.
    ///
    /// # Errors
    ///
    /// If there is no such resource.
    pub fn new(
        api: &Api,
        verb: &str,
        (group, version, resource): (&str, &str, &str),
        (namespace, name): (&str, &str),
    ) -> Outcome<Self> {
        let row = api.registry.get(group, version, resource);
        let row = row.ok_or_else(Status::no_such_resource)?.clone();
        let info = RequestInfo {
            is_resource: true,
            verb: verb.to_string(),
            group: group.to_string(),
            version: version.to_string(),
            namespace: namespace.to_string(),
            resource: resource.to_string(),
            name: name.to_string(),
            ..RequestInfo::default()
        };
        Ok(Self {
            row,
            info,
            query: Query::default(),
            headers: HeaderMap::new(),
            user: myself(),
        })
    }

    /// The same about a part of the object.
    #[must_use]
    pub fn part(mut self, subresource: &str) -> Self {
        self.info.subresource = subresource.to_string();
        self
    }

    /// The same on behalf of another request: with its parameters, and its fence.
    #[must_use]
    pub fn within(mut self, call: &Call<'_>) -> Self {
        self.query = call.query.clone();
        self.headers = call.headers.clone();
        self
    }

    /// The resource.
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// The call that begins now.
    ///
    /// # Errors
    ///
    /// If a parameter has no meaning.
    pub fn call<'a>(&'a self, api: &'a Api) -> Outcome<Call<'a>> {
        Call::new(
            api,
            &self.row,
            &self.info,
            &self.query,
            &self.headers,
            &self.user,
            Instant::now() + PATIENCE,
        )
    }
}
