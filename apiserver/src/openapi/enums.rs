//! The named text types whose values OpenAPI publishes. Those of other types are constants that
//! programs may add to.

use api::schema::Facts;

/// Sorted.
const PUBLISHED: &[&str] = &[
    "admissionregistration/v1.FailurePolicyType",
    "admissionregistration/v1.MatchPolicyType",
    "admissionregistration/v1.OperationType",
    "admissionregistration/v1.PatchType",
    "admissionregistration/v1.ReinvocationPolicyType",
    "admissionregistration/v1.ScopeType",
    "admissionregistration/v1.SideEffectClass",
    "admissionregistration/v1.ValidationAction",
    "admissionregistration/v1alpha1.FailurePolicyType",
    "admissionregistration/v1alpha1.MatchPolicyType",
    "admissionregistration/v1alpha1.ParameterNotFoundActionType",
    "admissionregistration/v1alpha1.PatchType",
    "admissionregistration/v1alpha1.ReinvocationPolicyType",
    "admissionregistration/v1alpha1.ValidationAction",
    "admissionregistration/v1beta1.PatchType",
    "admissionregistration/v1beta1.ReinvocationPolicyType",
    "admissionregistration/v1beta1.ValidationAction",
    "apiextensions/v1.FieldValueErrorReason",
    "apiextensions/v1beta1.FieldValueErrorReason",
    "apps/v1.DaemonSetUpdateStrategyType",
    "apps/v1.DeploymentStrategyType",
    "apps/v1.PodManagementPolicyType",
    "apps/v1.StatefulSetUpdateStrategyType",
    "autoscaling/v1.MetricSourceType",
    "batch/v1.CompletionMode",
    "batch/v1.ConcurrencyPolicy",
    "batch/v1.PodFailurePolicyAction",
    "batch/v1.PodFailurePolicyOnExitCodesOperator",
    "batch/v1.PodReplacementPolicy",
    "certificates/v1.KeyUsage",
    "core/v1.AppArmorProfileType",
    "core/v1.AzureDataDiskCachingMode",
    "core/v1.AzureDataDiskKind",
    "core/v1.ClaimResourceStatus",
    "core/v1.DNSPolicy",
    "core/v1.HostPathType",
    "core/v1.IPFamily",
    "core/v1.IPFamilyPolicy",
    "core/v1.MountPropagationMode",
    "core/v1.NamespacePhase",
    "core/v1.NodeInclusionPolicy",
    "core/v1.NodePhase",
    "core/v1.NodeSelectorOperator",
    "core/v1.PersistentVolumeAccessMode",
    "core/v1.PersistentVolumeClaimModifyVolumeStatus",
    "core/v1.PersistentVolumeClaimPhase",
    "core/v1.PersistentVolumeMode",
    "core/v1.PersistentVolumePhase",
    "core/v1.PersistentVolumeReclaimPolicy",
    "core/v1.PodFSGroupChangePolicy",
    "core/v1.PodPhase",
    "core/v1.PodQOSClass",
    "core/v1.PreemptionPolicy",
    "core/v1.ProcMountType",
    "core/v1.Protocol",
    "core/v1.PullPolicy",
    "core/v1.ResourceQuotaScope",
    "core/v1.RestartPolicy",
    "core/v1.ScopeSelectorOperator",
    "core/v1.SeccompProfileType",
    "core/v1.ServiceAffinity",
    "core/v1.ServiceExternalTrafficPolicy",
    "core/v1.ServiceInternalTrafficPolicy",
    "core/v1.ServiceType",
    "core/v1.Signal",
    "core/v1.SupplementalGroupsPolicy",
    "core/v1.TaintEffect",
    "core/v1.TerminationMessagePolicy",
    "core/v1.TolerationOperator",
    "core/v1.URIScheme",
    "core/v1.UnsatisfiableConstraintAction",
    "discovery/v1.AddressType",
    "discovery/v1beta1.AddressType",
    "networking/v1.PathType",
    "networking/v1.PolicyType",
    "policy/v1.UnhealthyPodEvictionPolicyType",
    "policy/v1beta1.UnhealthyPodEvictionPolicyType",
    "resource/v1.AllocationConfigSource",
    "resource/v1.DeviceAllocationMode",
    "resource/v1.DeviceTaintEffect",
    "resource/v1.DeviceTolerationOperator",
    "resource/v1alpha3.DeviceTaintEffect",
    "resource/v1beta1.AllocationConfigSource",
    "resource/v1beta1.DeviceAllocationMode",
    "resource/v1beta1.DeviceTaintEffect",
    "resource/v1beta1.DeviceTolerationOperator",
    "resource/v1beta2.AllocationConfigSource",
    "resource/v1beta2.DeviceAllocationMode",
    "resource/v1beta2.DeviceTaintEffect",
    "resource/v1beta2.DeviceTolerationOperator",
    "scheduling/v1alpha2.DisruptionMode",
    "storage/v1.VolumeBindingMode",
];

/// Types whose values are constants of another package.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "admissionregistration/v1alpha1.ReinvocationPolicyType",
        &["IfNeeded", "Never"],
    ),
    ("discovery/v1.AddressType", &["FQDN", "IPv4", "IPv6"]),
    ("discovery/v1beta1.AddressType", &["FQDN", "IPv4", "IPv6"]),
];

/// The values that a field may have, sorted; none where any will do.
pub(crate) fn values(facts: &Facts) -> Vec<&'static str> {
    if PUBLISHED.binary_search(&facts.alias).is_err() {
        return Vec::new();
    }
    let elsewhere = ELSEWHERE.iter().find(|known| known.0 == facts.alias);
    let mut values = elsewhere.map_or(facts.values, |known| known.1).to_vec();
    values.sort_unstable();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closed_types_have_values() {
        assert!(PUBLISHED.is_sorted());
        let field = |name: &str, field: &str| {
            let schema = api::schema::type_named(name).unwrap();
            values(&schema.field(field).unwrap().facts)
        };
        let pull = field("core/v1.Container", "imagePullPolicy");
        assert_eq!(pull, ["Always", "IfNotPresent", "Never"]);
        assert_eq!(field("core/v1.Container", "name"), [""; 0]);
        let families = field("discovery/v1.EndpointSlice", "addressType");
        assert_eq!(families, ["FQDN", "IPv4", "IPv6"]);
    }
}
