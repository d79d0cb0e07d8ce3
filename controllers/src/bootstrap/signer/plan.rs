//! What the ConfigMap shall hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::bootstrap_token::{KUBECONFIG_KEY, SIGNATURE_PREFIX, TokenSecret};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

/// The data with a signature of each token that signs now, and of no other; none if it is so
/// already, or there is nothing to sign.
pub(super) fn signed(
    map: &ConfigMap,
    tokens: &[Arc<TokenSecret>],
    now: Timestamp,
) -> Option<BTreeMap<String, String>> {
    let data = map.data.as_ref()?;
    let content = data.get(KUBECONFIG_KEY)?;
    let mut signed = data.clone();
    signed.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX));
    for token in tokens.iter().filter_map(|secret| secret.signing(now)) {
        let key = format!("{SIGNATURE_PREFIX}{}", token.id);
        signed.insert(key, token.sign(content));
    }
    (signed != *data).then_some(signed)
}
