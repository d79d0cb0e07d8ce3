//! Approves requests of nodes for their client certificates, where their authors may have them.

mod plan;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, PostParams};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// The controller.
pub struct Approving {
    client: kube::Client,
    requests: Informer<CertificateSigningRequest>,
    _watch: Subscription,
}

#[async_trait]
impl Controller for Approving {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let requests = context.informers.of::<CertificateSigningRequest>();
        Self {
            client: context.client.clone(),
            _watch: super::wake(&requests, queue),
            requests,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(csr) = self.requests.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let recognisers = plan::recognise(&csr)
            .map_err(|why| Error::other(format!("unable to parse csr {:?}: {why}", &*key.name)))?;
        for recogniser in recognisers {
            let review = plan::review(&csr, recogniser);
            let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let review = reviews.create(&PostParams::default(), &review).await?;
            if review.status.is_some_and(|status| status.allowed) {
                return self.approve(&csr, recogniser).await;
            }
        }
        match recognisers {
            [] => Ok(Again::Done),
            // Whoever grants the permission does not change the request.
            tried => Err(Error::other(plan::refused(&key.name, tried))),
        }
    }
}

impl Approving {
    async fn approve(
        &self,
        csr: &CertificateSigningRequest,
        recogniser: &plan::Recogniser,
    ) -> Result<Again, Error> {
        let approved = plan::approved(csr, recogniser);
        let name = csr.metadata.name.as_deref().unwrap_or_default();
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let params = PostParams::default();
        requests
            .replace_subresource("approval", name, &params, &approved)
            .await?;
        Ok(Again::Done)
    }
}
