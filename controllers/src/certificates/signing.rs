//! Signs approved requests with the cluster's authority.

mod plan;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription};
use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, PostParams};

use super::authority::{Authority, Terms};
use super::request::Request;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::settings::Signer;

/// The controller.
pub struct Signing {
    context: Context,
    requests: Informer<CertificateSigningRequest>,
    _watch: Subscription,
}

#[async_trait]
impl Controller for Signing {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let requests = context.informers.of::<CertificateSigningRequest>();
        Self {
            context: context.clone(),
            _watch: super::wake(&requests, queue),
            requests,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(signer) = &self.context.settings.signer else {
            return Ok(Again::Done);
        };
        let Some(csr) = self.requests.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let decision = plan::decide(&csr)
            .map_err(|why| Error::other(format!("unable to parse csr {:?}: {why}", &*key.name)))?;
        let changed = match decision {
            plan::Decision::Nothing => return Ok(Again::Done),
            plan::Decision::Fail(why) => plan::failed(&csr, why, self.context.now()),
            plan::Decision::Sign(request) => self.sign(signer, &csr, &request).await?,
        };
        let requests: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        requests
            .replace_status(&key.name, &PostParams::default(), &changed)
            .await?;
        Ok(Again::Done)
    }
}

impl Signing {
    async fn sign(
        &self,
        signer: &Signer,
        csr: &CertificateSigningRequest,
        request: &Request,
    ) -> Result<CertificateSigningRequest, Error> {
        let authority = self.authority(signer).await?;
        let longest = SignedDuration::try_from(signer.life).unwrap_or(SignedDuration::MAX);
        let mut serial = [0; 16];
        self.context.seams.rng.fill(&mut serial);
        let terms = Terms {
            life: plan::life(csr.spec.expiration_seconds, longest),
            usages: csr.spec.usages.as_deref().unwrap_or_default(),
            now: self.context.now(),
            serial,
        };
        let certificate = authority
            .sign(request, &terms)
            .map_err(|why| Error::other(format!("error auto signing csr: {why}")))?;
        let mut csr = csr.clone();
        let status = csr.status.get_or_insert_default();
        status.certificate = Some(ByteString(certificate.into_bytes()));
        Ok(csr)
    }

    /// Reads the authority each time: it may have been replaced, and requests are few.
    async fn authority(&self, signer: &Signer) -> Result<Authority, Error> {
        let (disk, files) = (self.context.seams.disk.clone(), signer.clone());
        let read = self.context.tasks.blocking(move || {
            let certificate = disk.read(&files.certificate)?;
            Ok((certificate, disk.read(&files.key)?))
        });
        let read: std::io::Result<(Vec<u8>, Vec<u8>)> = read.await;
        let (certificate, key) =
            read.map_err(|why| Error::other(format!("cannot read the signing authority: {why}")))?;
        Authority::from_pem(&certificate, &key).map_err(|why| {
            let file = signer.certificate.display();
            Error::other(format!("error reading CA cert file {file}: {why}"))
        })
    }
}
