//! What a quota is to say of what is used.

use std::collections::BTreeMap;

use api::at::At;
use api::quota::{Amounts, Kind};
use api::values::quantity::Quantity as Amount;
use api::values::time::Moment;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whether objects of a kind count towards a quota.
pub(crate) fn concerns(quota: &ResourceQuota, kind: &Kind) -> bool {
    hard(quota).keys().any(|name| kind.counts(name))
}

/// What a quota limits.
pub(crate) fn hard(quota: &ResourceQuota) -> BTreeMap<String, Quantity> {
    let spec = quota.spec.as_ref();
    spec.and_then(|spec| spec.hard.clone()).unwrap_or_default()
}

/// Whether a quota says of everything that it limits how much is used.
pub(crate) fn is_complete(quota: &ResourceQuota) -> bool {
    let status = quota.status.clone().unwrap_or_default();
    let used = status.used.unwrap_or_default();
    let known = status.hard.unwrap_or_default();
    is_same(&known, &hard(quota)) && known.keys().all(|name| used.contains_key(name))
}

/// What is used of what a quota limits, as far as it was counted.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    used: Amounts,
    counted: Vec<String>,
}

impl Sum {
    /// Objects of a kind are counted from here on, even if there are none.
    pub(crate) fn begin(&mut self, kind: &Kind, quota: &ResourceQuota) {
        let names = hard(quota).into_keys().filter(|name| kind.counts(name));
        self.counted.extend(names);
    }

    /// Counts an object, if the quota does.
    pub(crate) fn add(&mut self, kind: &Kind, quota: At<'_>, object: At<'_>, now: Moment) {
        if kind.matches(quota, object) {
            self.used.add(&kind.usage(object, now));
        }
    }

    /// Counts objects of which only the number matters.
    pub(crate) fn add_plain(&mut self, kind: &Kind, quota: At<'_>, count: i64, now: Moment) {
        let nothing = api::doc::Doc::default();
        let object = At::root(&nothing);
        if kind.matches(quota, object) {
            for name in kind.usage(object, now).0.into_keys() {
                let mut some = Amounts::default();
                some.set(name, Amount::from_units(count));
                self.used.add(&some);
            }
        }
    }

    /// The status that a quota is to have; none if it has it. What nobody counts stays as it is.
    pub(crate) fn status(&self, quota: &ResourceQuota) -> Option<ResourceQuotaStatus> {
        let hard = hard(quota);
        let known = quota.status.clone().unwrap_or_default();
        let before = known.used.clone().unwrap_or_default();
        let used = hard.keys().filter_map(|name| {
            let is_counted = self.counted.contains(name);
            let amount = match is_counted {
                true => {
                    let zero = Amount::from_units(0);
                    Quantity(self.used.get(name).unwrap_or(&zero).to_string())
                }
                false => before.get(name)?.clone(),
            };
            Some((name.clone(), amount))
        });
        let used: BTreeMap<String, Quantity> = used.collect();
        let is_known = known.hard.is_some() && known.used.is_some();
        let is_right =
            is_known && is_same(&known.hard.unwrap_or_default(), &hard) && is_same(&before, &used);
        (!is_right).then_some(ResourceQuotaStatus {
            hard: Some(hard),
            used: Some(used),
        })
    }
}

/// Whether two lists say the same, however they write it.
fn is_same(one: &BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) -> bool {
    let value = |quantity: &Quantity| Amount::parse(&quantity.0).ok();
    one.len() == other.len()
        && one.iter().all(|(name, amount)| {
            let found = other.get(name);
            found.is_some_and(|found| value(found).is_some() && value(found) == value(amount))
        })
}

#[cfg(test)]
mod tests {
    use api::doc::Doc;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Moment = Moment {
        seconds: 0,
        nanos: 0,
    };

    fn quota(spec: Value, status: Value) -> (ResourceQuota, Doc) {
        let value = json!({"spec": spec, "status": status});
        (
            serde_json::from_value(value.clone()).unwrap(),
            Doc::literal(&value.to_string()),
        )
    }

    fn used(status: &ResourceQuotaStatus) -> Value {
        json!(status.used)
    }

    #[test]
    fn everything_that_is_limited_is_counted() {
        let hard = json!({"pods": "5", "requests.cpu": "2", "count/configmaps": "3", "services": "1", "other.io/x": "1"});
        let (quota, doc) = quota(
            json!({"hard": hard}),
            json!({"used": {"other.io/x": "7", "gone": "1"}}),
        );
        assert!(!is_complete(&quota));
        let pod = |cpu: &str, phase: &str| {
            let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}});
            Doc::literal(&pod.to_string())
        };
        let mut sum = Sum::default();
        let pods = Kind::of("", "pods").unwrap();
        sum.begin(&pods, &quota);
        for object in [
            pod("300m", "Running"),
            pod("1", "Pending"),
            pod("9", "Succeeded"),
        ] {
            sum.add(&pods, At::root(&doc), At::root(&object), NOW);
        }
        let maps = Kind::of("", "configmaps").unwrap();
        assert!(concerns(&quota, &maps) && maps.is_plain());
        sum.begin(&maps, &quota);
        sum.add_plain(&maps, At::root(&doc), 4, NOW);
        sum.begin(&Kind::of("", "services").unwrap(), &quota);
        let status = sum.status(&quota).unwrap();
        let want = json!({"pods": "2", "requests.cpu": "1300m", "count/configmaps": "4", "services": "0", "other.io/x": "7"});
        assert_eq!(used(&status), want);
        let mut quota = quota;
        quota.status = Some(status);
        assert!(sum.status(&quota).is_none());
    }

    #[test]
    fn scopes_say_what_counts() {
        let spec =
            json!({"hard": {"pods": "5", "count/configmaps": "1"}, "scopes": ["BestEffort"]});
        let (quota, doc) = quota(spec, json!({}));
        let mut sum = Sum::default();
        let (pods, maps) = (
            Kind::of("", "pods").unwrap(),
            Kind::of("", "configmaps").unwrap(),
        );
        sum.begin(&pods, &quota);
        sum.begin(&maps, &quota);
        for text in [
            r#"{"spec":{"containers":[{}]}}"#,
            r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1"}}}]}}"#,
        ] {
            sum.add(&pods, At::root(&doc), At::root(&Doc::literal(text)), NOW);
        }
        sum.add_plain(&maps, At::root(&doc), 3, NOW);
        assert_eq!(
            used(&sum.status(&quota).unwrap()),
            json!({"pods": "1", "count/configmaps": "0"})
        );
    }

    #[test]
    fn amounts_are_the_same_however_they_are_written() {
        let status = json!({"hard": {"cpu": "1000m"}, "used": {"cpu": "0"}});
        let (quota, _) = quota(json!({"hard": {"cpu": "1"}}), status);
        assert!(is_complete(&quota));
        let mut sum = Sum::default();
        sum.begin(&Kind::of("", "pods").unwrap(), &quota);
        assert!(sum.status(&quota).is_none());
    }
}
