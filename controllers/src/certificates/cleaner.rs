//! Deletes requests that are done, or that nobody cared for.

mod plan;

use std::time::Duration;

use async_trait::async_trait;
use client::{Informer, Key, Queue, errors};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::time::sleep;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// Between two looks at all requests.
const INTERVAL: Duration = Duration::from_secs(3600);

/// The controller.
pub struct Cleaner {
    context: Context,
    requests: Informer<CertificateSigningRequest>,
}

#[async_trait]
impl Controller for Cleaner {
    type Key = Key;

    fn start(context: &Context, _: &Queue<Key>) -> Self {
        Self {
            context: context.clone(),
            requests: context.informers.of(),
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn background(&self, queue: &Queue<Key>) {
        loop {
            for csr in self.requests.list() {
                if plan::reason(&csr, self.context.now()).is_some() {
                    queue.add(Key::of(&*csr));
                }
            }
            sleep(INTERVAL).await;
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(csr) = self.requests.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let Some(reason) = plan::reason(&csr, self.context.now()) else {
            return Ok(Again::Done);
        };
        tracing::info!(csr = &*key.name, reason, "deletes a request");
        let requests: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: csr.metadata.uid.clone(),
            resource_version: None,
        });
        match requests.delete(&key.name, &params).await {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => Ok(Again::Done),
        }
    }
}
