//! When a pod has to leave its devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};

use super::Slice;
use crate::devices::{AllocatedDevice, Claim, Named, named};
use crate::pod::Pod;

/// The effect that makes pods leave.
pub(super) const NO_EXECUTE: &str = "NoExecute";

/// The newest slices of pools, by driver and pool.
pub(super) type Pools = BTreeMap<(String, String), Vec<Arc<Slice>>>;

/// Groups slices by pool, without those of older generations.
pub(super) fn pools(slices: &[Arc<Slice>]) -> Pools {
    let mut pools = Pools::new();
    for slice in slices {
        let key = (slice.spec.driver.clone(), slice.spec.pool.name.clone());
        pools.entry(key).or_default().push(slice.clone());
    }
    for slices in pools.values_mut() {
        let generation = |slice: &Arc<Slice>| slice.spec.pool.generation;
        let newest = slices.iter().map(generation).max();
        slices.retain(|slice| Some(generation(slice)) == newest);
    }
    pools
}

/// When a pod has to go, if it has to: as soon as one of its claims says so.
pub(super) fn eviction(pod: &Pod, claims: &[Arc<Claim>], pools: &Pools) -> Option<Timestamp> {
    if pod.spec.node_name.is_empty() {
        return None;
    }
    let of_claim = |wanted| {
        let Named::Claim { name, is_own } = named(pod, wanted) else {
            return None;
        };
        let claim = claims.iter().find(|claim| claim.name() == name)?;
        let is_foreign = is_own && claim.check_made_for(pod).is_err();
        match is_foreign || !claim.is_reserved_for(pod) {
            true => None,
            false => claim_eviction(claim, pools),
        }
    };
    pod.spec.resource_claims.iter().filter_map(of_claim).min()
}

fn claim_eviction(claim: &Claim, pools: &Pools) -> Option<Timestamp> {
    let allocation = claim.status.allocation.as_ref()?;
    let devices = allocation.devices.results.iter();
    devices
        .flat_map(|device| taints(device, pools).map(move |taint| (device, taint)))
        .filter_map(|(device, taint)| taint_eviction(&device.tolerations, taint))
        .min()
}

/// The taints of an allocated device that make pods leave.
fn taints<'a>(
    device: &'a AllocatedDevice,
    pools: &'a Pools,
) -> impl Iterator<Item = &'a DeviceTaint> {
    let pool = pools.get(&(device.driver.clone(), device.pool.clone()));
    let mut devices = pool
        .into_iter()
        .flatten()
        .flat_map(|slice| &slice.spec.devices);
    let found = devices.find(|found| found.name == device.device);
    let taints = found.into_iter().flat_map(|found| &found.taints);
    taints.filter(|taint| taint.effect == NO_EXECUTE)
}

/// When a taint makes a pod leave; never if it is tolerated for good.
fn taint_eviction(tolerations: &[DeviceToleration], taint: &DeviceTaint) -> Option<Timestamp> {
    let added = taint.time_added.as_ref()?.0;
    let mut seconds: Option<i64> = None;
    for toleration in tolerations {
        let is_for_eviction = toleration.effect.as_deref() == Some(NO_EXECUTE);
        if is_for_eviction && tolerates(toleration, taint) {
            let bearable = toleration.toleration_seconds?.max(0);
            seconds = Some(seconds.map_or(bearable, |other| other.min(bearable)));
        }
    }
    Some(added + SignedDuration::from_secs(seconds.unwrap_or(0)))
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let is_other = |asked: Option<&str>, found: &str| {
        asked.is_some_and(|asked| !asked.is_empty() && asked != found)
    };
    if is_other(toleration.effect.as_deref(), &taint.effect)
        || is_other(toleration.key.as_deref(), &taint.key)
    {
        return false;
    }
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value(&toleration.value) == value(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ADDED: &str = "2026-01-01T00:00:00Z";

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "p-1"},
            "spec": {"nodeName": "n", "resourceClaims": [{"name": "x", "resourceClaimName": "c"}]},
        }))
        .unwrap()
    }

    fn when(tolerations: Value, effect: &str, generation: i64) -> Option<String> {
        let claim: Claim = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "ns"},
            "status": {
                "allocation": {"devices": {"results": [
                    {"driver": "d", "pool": "q", "device": "g0", "tolerations": tolerations}]}},
                "reservedFor": [{"resource": "pods", "name": "p", "uid": "p-1"}],
            },
        }))
        .unwrap();
        let slice = |generation: i64, taints: Value| -> Arc<Slice> {
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"name": "s"},
                    "spec": {"driver": "d", "pool": {"name": "q", "generation": generation},
                             "devices": [{"name": "g0", "taints": taints}]},
                }))
                .unwrap(),
            )
        };
        let taint = json!([{"key": "k", "value": "v", "effect": effect, "timeAdded": ADDED}]);
        let pools = pools(&[slice(generation, taint), slice(2, json!([]))]);
        eviction(&pod(), &[Arc::new(claim)], &pools).map(|at| at.to_string())
    }

    #[test]
    fn a_pod_leaves_when_no_toleration_keeps_it() {
        assert_eq!(when(json!([]), "NoExecute", 3).as_deref(), Some(ADDED));
        assert_eq!(when(json!([]), "NoSchedule", 3), None);
        // A slice of an older generation does not count.
        assert_eq!(when(json!([]), "NoExecute", 1), None);
        let exists = json!([{"operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(when(exists, "NoExecute", 3), None);
        let equal = json!([{"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60},
                           {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]);
        assert_eq!(
            when(equal, "NoExecute", 3).as_deref(),
            Some("2026-01-01T00:00:30Z")
        );
        let other = json!([{"key": "k", "value": "w", "effect": "NoExecute"}]);
        assert_eq!(when(other, "NoExecute", 3).as_deref(), Some(ADDED));
    }
}
