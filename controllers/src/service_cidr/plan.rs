//! When a ServiceCIDR is ready, and when it may go: not while addresses would be left without one.

use std::time::Duration;

use api::values::ip::{self, Cidr};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};

use crate::service_endpoints::{name_of, strings};

/// Keeps a ServiceCIDR until no address needs it.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// The label of an address that says who manages it.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Who manages the addresses of Services.
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long a block without addresses stays, since API servers may still give out its addresses
/// until they have heard that it goes.
const GRACE: Duration = Duration::from_secs(10);

/// What to do about a ServiceCIDR.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// To add the finalizer.
    Protect,
    /// To say whether it is ready.
    Tell(Ready),
    /// To look again later.
    Wait(Duration),
    /// To remove the finalizer.
    Release,
}

/// Its condition Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The status.
    pub status: &'static str,
    /// The reason.
    pub reason: &'static str,
    /// The message.
    pub message: &'static str,
}

const READY: Ready = Ready {
    status: "True",
    reason: "",
    message: "Kubernetes Service CIDR is ready",
};
const TERMINATING: Ready = Ready {
    status: "False",
    reason: "Terminating",
    message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or \
              create a new ServiceCIDR",
};

/// Plans a ServiceCIDR, given all of them and all addresses.
pub fn plan<'a>(
    cidr: &ServiceCIDR,
    all: &[impl AsRef<ServiceCIDR>],
    addresses: impl IntoIterator<Item = &'a IPAddress>,
    now: Timestamp,
) -> Vec<Step> {
    let finalizers = cidr.metadata.finalizers.as_deref().unwrap_or_default();
    let is_protected = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        let mut steps = Vec::new();
        if !is_protected {
            steps.push(Step::Protect);
        }
        steps.extend(tell(cidr, READY));
        return steps;
    };
    if !may_go(cidr, all, addresses) {
        return tell(cidr, TERMINATING).into_iter().collect();
    }
    let waited = now.duration_since(deleted.0);
    let left = GRACE.saturating_sub(waited.try_into().unwrap_or_default());
    if !left.is_zero() {
        return vec![Step::Wait(left)];
    }
    if is_protected {
        vec![Step::Release]
    } else {
        Vec::new()
    }
}

fn tell(cidr: &ServiceCIDR, ready: Ready) -> Option<Step> {
    let conditions = cidr
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let said = conditions.into_iter().any(|c| {
        c.type_ == "Ready"
            && (c.status.as_str(), c.reason.as_str(), c.message.as_str())
                == (ready.status, ready.reason, ready.message)
    });
    (!said).then_some(Step::Tell(ready))
}

/// The blocks of a ServiceCIDR.
pub fn blocks(cidr: &ServiceCIDR) -> impl Iterator<Item = Cidr> {
    let cidrs = cidr
        .spec
        .iter()
        .flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|text| Cidr::parse(text))
}

/// Whether one block is in another, or is it.
fn is_within(inner: &Cidr, outer: &Cidr) -> bool {
    inner.is_v6() == outer.is_v6()
        && inner.plain_bits() >= outer.plain_bits()
        && outer.contains(inner.network())
}

/// Whether two ServiceCIDRs have addresses in common.
pub fn overlap(a: &ServiceCIDR, b: &ServiceCIDR) -> bool {
    blocks(a).any(|a| blocks(b).any(|b| is_within(&a, &b) || is_within(&b, &a)))
}

/// Whether an address of a Service is in a ServiceCIDR.
pub fn holds(cidr: &ServiceCIDR, address: &IPAddress) -> bool {
    let managed_by = strings(&address.metadata.labels).get(MANAGED_BY);
    managed_by.is_some_and(|by| by == ALLOCATOR)
        && ip::parse(name_of(&address.metadata))
            .is_some_and(|address| blocks(cidr).any(|block| block.contains(address)))
}

fn may_go<'a>(
    cidr: &ServiceCIDR,
    all: &[impl AsRef<ServiceCIDR>],
    addresses: impl IntoIterator<Item = &'a IPAddress>,
) -> bool {
    let others = || {
        let all = all.iter().map(AsRef::as_ref);
        all.filter(|other| other.metadata.name != cidr.metadata.name)
    };
    let covers = |block: &Cidr| others().any(|o| blocks(o).any(|outer| is_within(block, &outer)));
    blocks(cidr).all(|block| covers(&block))
        || !addresses
            .into_iter()
            .any(|address| holds(cidr, address) && !others().any(|other| holds(other, address)))
}
