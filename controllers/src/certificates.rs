//! CertificateSigningRequests: which are approved without a human, who signs them and when they go.
//!
//! - [`approving`]: nodes' client certificates, where a SubjectAccessReview allows it.
//! - [`signing`]: the four signers of the cluster.
//! - [`cleaner`]: requests that are done, or that nobody cared for.
//! - `request`, `authority` and `der`: PKCS#10 in, X.509 out; pure.
//!
//! It leaves who may name which signer to the API server's admission, and ClusterTrustBundles and
//! PodCertificateRequests to clusters that turn on their (beta, off by default) APIs.

pub mod approving;
mod authority;
pub mod cleaner;
mod der;
mod request;
pub mod signing;

pub use authority::{Authority, AuthorityError};

use client::{Informer, Key, Queue, Subscription};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};

/// A request is approved.
const APPROVED: &str = "Approved";
/// A request is denied.
const DENIED: &str = "Denied";
/// A request cannot be signed.
const FAILED: &str = "Failed";

const KUBE_APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBE_APISERVER_CLIENT_KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// Wakes every request that is there or changes.
fn wake(requests: &Informer<CertificateSigningRequest>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    requests.on_change(move |_, new| {
        if let Some(csr) = new {
            queue.add(Key::of(&**csr));
        }
    })
}

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = csr.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

fn has_condition(csr: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(csr).iter().any(|found| found.type_ == kind)
}

/// Whether a condition is there and not false; an empty status is a true one, as it was before
/// conditions had one.
fn has_true_condition(csr: &CertificateSigningRequest, kind: &str) -> bool {
    let is_true =
        |found: &CertificateSigningRequestCondition| matches!(&*found.status, "" | "True");
    conditions(csr)
        .iter()
        .any(|found| found.type_ == kind && is_true(found))
}

/// The certificate, once it is issued.
fn issued(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = &csr.status.as_ref()?.certificate.as_ref()?.0;
    (!certificate.is_empty()).then_some(certificate)
}

#[cfg(test)]
mod tests;
