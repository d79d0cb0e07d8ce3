//! Which tokens nobody uses any more.

use std::collections::BTreeSet;

use client::View as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::Value;

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Since when a token is accepted no more; to be seen before it is removed.
pub(crate) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Where API servers say since when they note the use of tokens.
pub(crate) const TRACKING: (&str, &str, &str) = (
    "kube-system",
    "kube-apiserver-legacy-service-account-token-tracking",
    "since",
);

/// What to do with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// It is marked by this date.
    Mark(String),
    Delete,
}

/// Whether use has been noted for so long that not to be used means something.
pub(crate) fn is_tracked(since: &str, period: SignedDuration, now: Timestamp) -> bool {
    let Ok(since) = since.parse::<Date>() else {
        return false;
    };
    let next = since
        .tomorrow()
        .and_then(|next| next.to_zoned(TimeZone::UTC));
    next.is_ok_and(|next| now.duration_since(next.timestamp()) >= period)
}

/// Whether a token has not been used for long, and was made for its account by itself.
pub(crate) fn is_idle(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    period: SignedDuration,
    now: Timestamp,
) -> bool {
    let created = secret.metadata.creation_timestamp.as_ref();
    let is_old = created.is_some_and(|created| now.duration_since(created.0) > period);
    let used = label(secret, LAST_USED).map(str::parse::<Date>);
    let is_used = used
        .is_some_and(|used| used.is_err() || used.is_ok_and(|used| used >= horizon(period, now)));
    let secrets = account
        .and_then(|account| account.secrets.as_deref())
        .unwrap_or_default();
    let is_automatic = secrets
        .iter()
        .any(|found| found.name.as_deref() == Some(secret.name()));
    is_old && !secret.is_deleted() && !is_used && is_automatic
}

/// What to do with an idle token that no pod mounts.
pub(crate) fn judge(secret: &Secret, period: SignedDuration, now: Timestamp) -> Verdict {
    let since = label(secret, INVALID_SINCE).map(str::parse::<Date>);
    match since {
        Some(Ok(since)) if since >= horizon(period, now) => Verdict::Keep,
        Some(Ok(_)) => Verdict::Delete,
        _ => Verdict::Mark(day(now).to_string()),
    }
}

fn label<'s>(secret: &'s Secret, key: &str) -> Option<&'s str> {
    secret
        .metadata
        .labels
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The day from which on something is recent.
fn horizon(period: SignedDuration, now: Timestamp) -> Date {
    day(now.checked_sub(period).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The secrets that a pod's spec names, wherever it does.
pub(crate) fn mounted(spec: &Value, names: &mut BTreeSet<String>) {
    match spec {
        Value::Array(all) => all.iter().for_each(|one| mounted(one, names)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let named = match key.as_str() {
                    "secret" => value.get("secretName").or_else(|| value.get("name")),
                    "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => value.get("name"),
                    "secretName" => Some(value),
                    _ => None,
                };
                names.extend(named.and_then(Value::as_str).map(str::to_string));
                if key == "imagePullSecrets" {
                    let pull = value.as_array().into_iter().flatten();
                    names.extend(
                        pull.filter_map(|one| one["name"].as_str())
                            .map(str::to_string),
                    );
                }
                mounted(value, names);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

    fn now() -> Timestamp {
        "2026-06-15T12:00:00Z".parse().unwrap()
    }

    fn secret(created: &str, labels: Value) -> Secret {
        serde_json::from_value(
            json!({"metadata": {"name": "s", "creationTimestamp": created, "labels": labels}}),
        )
        .unwrap()
    }

    #[test]
    fn use_must_have_been_noted_for_long() {
        for (since, want) in [
            ("2025-06-13", true),
            ("2025-06-15", false),
            ("x", false),
            ("2026-01-01", false),
        ] {
            assert_eq!(is_tracked(since, YEAR, now()), want, "{since}");
        }
    }

    #[test]
    fn only_what_is_old_unused_and_automatic_is_idle() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"secrets": [{"name": "s"}]})).unwrap();
        let other = ServiceAccount::default();
        const OLD: &str = "2024-01-01T00:00:00Z";
        for (name, secret, account, want) in [
            ("never used", secret(OLD, json!({})), Some(&account), true),
            (
                "used long ago",
                secret(OLD, json!({LAST_USED: "2025-01-01"})),
                Some(&account),
                true,
            ),
            (
                "used",
                secret(OLD, json!({LAST_USED: "2025-07-01"})),
                Some(&account),
                false,
            ),
            (
                "used at some time",
                secret(OLD, json!({LAST_USED: "x"})),
                Some(&account),
                false,
            ),
            (
                "new",
                secret("2026-01-01T00:00:00Z", json!({})),
                Some(&account),
                false,
            ),
            ("made by hand", secret(OLD, json!({})), Some(&other), false),
            ("nobody's", secret(OLD, json!({})), None, false),
        ] {
            assert_eq!(is_idle(&secret, account, YEAR, now()), want, "{name}");
        }
    }

    #[test]
    fn a_token_is_marked_long_before_it_goes() {
        for (since, want) in [
            (json!({}), Verdict::Mark("2026-06-15".to_string())),
            (
                json!({INVALID_SINCE: "x"}),
                Verdict::Mark("2026-06-15".to_string()),
            ),
            (json!({INVALID_SINCE: "2026-01-01"}), Verdict::Keep),
            (json!({INVALID_SINCE: "2025-01-01"}), Verdict::Delete),
        ] {
            assert_eq!(
                judge(&secret("2024-01-01T00:00:00Z", since), YEAR, now()),
                want
            );
        }
    }

    #[test]
    fn pods_name_secrets_in_many_places() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"secret": {"secretName": "volume"}}, {"projected": {"sources": [{"secret": {"name": "projected"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "csi"}}}, {"azureFile": {"secretName": "azure"}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "all"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "one"}}}]}],
        });
        let mut names = BTreeSet::new();
        mounted(&spec, &mut names);
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["all", "azure", "csi", "one", "projected", "pull", "volume"]
        );
    }
}
