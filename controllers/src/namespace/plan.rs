//! What a namespace that goes says of itself, and when to look again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::catalog::Resource;

/// What holds a namespace until all that was in it is gone.
pub(crate) const FINALIZER: &str = "kubernetes";
/// How long finalizers take, for all that is known.
const FINALIZERS_SECONDS: i64 = 15;

/// What is left of one resource after everything was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) count: usize,
    /// Objects by the finalizers that they have.
    pub(crate) finalizers: BTreeMap<String, usize>,
    /// So many seconds it may take until they are gone; 0 if they should be gone by now.
    pub(crate) seconds: i64,
}

impl Left {
    /// What a listing shows. `grace` is how long pods that run may take, from now on.
    pub(crate) fn new<'f>(objects: impl Iterator<Item = &'f [String]>, grace: i64) -> Self {
        let mut left = Self {
            seconds: grace,
            ..Self::default()
        };
        for finalizers in objects {
            left.count += 1;
            for finalizer in finalizers {
                *left.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        if left.count == 0 {
            left.seconds = 0;
        } else if left.seconds == 0 && !left.finalizers.is_empty() {
            left.seconds = FINALIZERS_SECONDS;
        }
        left
    }

    /// Objects that nothing holds any more and that are there nevertheless, in upstream's words.
    pub(crate) fn failure(&self, resource: &Resource, namespace: &str) -> Option<String> {
        let Resource {
            group,
            version,
            name,
            ..
        } = resource;
        (self.count > 0 && self.seconds == 0).then(|| {
            format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {group}/{version}, Resource={name}"
            )
        })
    }
}

/// What deleting everything came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Groups that could not be looked into, in words, and how many.
    pub(crate) discovery: Option<(String, usize)>,
    /// What went wrong with some resource.
    pub(crate) failures: Vec<String>,
    /// What is left, by `resource.group`.
    pub(crate) left: BTreeMap<String, Left>,
}

impl Report {
    /// Takes in what came of one resource.
    pub(crate) fn add(
        &mut self,
        resource: &Resource,
        namespace: &str,
        outcome: Result<Left, String>,
    ) {
        match outcome {
            Ok(left) => {
                self.failures.extend(left.failure(resource, namespace));
                if left.count > 0 {
                    self.left
                        .insert(format!("{}.{}", resource.name, resource.group), left);
                }
            }
            Err(failure) => self.failures.push(failure),
        }
    }

    /// So many seconds until what is left may be gone; none if nothing needs to be waited for.
    pub(crate) fn seconds(&self) -> Option<i64> {
        let most = self.left.values().map(|left| left.seconds).max();
        most.filter(|seconds| *seconds > 0)
    }

    /// Whether nothing is in the way of the end.
    pub(crate) fn is_done(&self) -> bool {
        self.discovery.is_none() && self.failures.is_empty() && self.left.is_empty()
    }

    /// What the status is to say; none if it says so.
    pub(crate) fn conditions(
        &self,
        known: &[NamespaceCondition],
        now: Timestamp,
    ) -> Option<Vec<NamespaceCondition>> {
        let mut conditions = known.to_vec();
        let mut is_changed = false;
        for (which, holds, reason, message) in self.findings() {
            let status = if holds { "True" } else { "False" };
            let mut condition = NamespaceCondition {
                type_: which.to_string(),
                status: status.to_string(),
                reason: Some(reason.to_string()),
                message: Some(message),
                last_transition_time: Some(Time(now)),
            };
            let Some(found) = conditions.iter_mut().find(|found| found.type_ == which) else {
                conditions.push(condition);
                is_changed = true;
                continue;
            };
            if found.status == condition.status {
                condition.last_transition_time = found.last_transition_time.clone();
            }
            is_changed |= *found != condition;
            *found = condition;
        }
        is_changed.then_some(conditions)
    }

    fn findings(&self) -> [(&'static str, bool, &'static str, String); 5] {
        let finding =
            |which, bad: Option<(&'static str, String)>, good: (&'static str, &str)| match bad {
                Some((reason, message)) => (which, true, reason, message),
                None => (which, false, good.0, good.1.to_string()),
            };
        let discovery = self.discovery.as_ref().map(|(why, groups)| {
            let message = match groups {
                0 => why.clone(),
                groups => format!("Discovery failed for some groups, {groups} failing: {why}"),
            };
            ("DiscoveryFailed", message)
        });
        [
            finding(
                "NamespaceDeletionDiscoveryFailure",
                discovery,
                (
                    "ResourcesDiscovered",
                    "All resources successfully discovered",
                ),
            ),
            // Group versions cannot but be parsed: discovery gives them in parts.
            finding(
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                (
                    "ParsedGroupVersions",
                    "All legacy kube types successfully parsed",
                ),
            ),
            finding(
                "NamespaceDeletionContentFailure",
                self.content_failure(),
                (
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            finding(
                "NamespaceContentRemaining",
                self.content_left(),
                ("ContentRemoved", "All content successfully removed"),
            ),
            finding(
                "NamespaceFinalizersRemaining",
                self.finalizers_left(),
                (
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                ),
            ),
        ]
    }

    fn content_failure(&self) -> Option<(&'static str, String)> {
        let mut failures = self.failures.clone();
        failures.sort_unstable();
        let (count, failures) = (failures.len(), failures.join(", "));
        (count > 0).then(|| {
            let message =
                format!("Failed to delete all resource types, {count} remaining: {failures}");
            ("ContentDeletionFailed", message)
        })
    }

    fn content_left(&self) -> Option<(&'static str, String)> {
        let left = self
            .left
            .iter()
            .map(|(name, left)| format!("{name} has {} resource instances", left.count));
        let left: Vec<String> = left.collect();
        (!left.is_empty()).then(|| {
            let message = format!("Some resources are remaining: {}", left.join(", "));
            ("SomeResourcesRemain", message)
        })
    }

    fn finalizers_left(&self) -> Option<(&'static str, String)> {
        let mut sums = BTreeMap::<&str, usize>::new();
        for (finalizer, count) in self.left.values().flat_map(|left| &left.finalizers) {
            *sums.entry(finalizer).or_default() += count;
        }
        let sums = sums
            .iter()
            .map(|(name, count)| format!("{name} in {count} resource instances"));
        let sums: Vec<String> = sums.collect();
        (!sums.is_empty()).then(|| {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                sums.join(", ")
            );
            ("SomeFinalizersRemain", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, name: &str) -> Resource {
        Resource {
            group: group.to_string(),
            version: "v1".to_string(),
            name: name.to_string(),
            kind: String::new(),
            namespaced: true,
            verbs: Default::default(),
        }
    }

    fn left(finalizers: &[&[&str]], grace: i64) -> Left {
        let texts = |list: &&[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let objects: Vec<Vec<String>> = finalizers.iter().map(texts).collect();
        Left::new(objects.iter().map(Vec::as_slice), grace)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The conditions that hold, as `type reason message`.
    fn holding(report: &Report) -> Vec<String> {
        let conditions = report.conditions(&[], at(0)).unwrap();
        assert_eq!(conditions.len(), 5);
        let holding = conditions
            .into_iter()
            .filter(|found| found.status == "True");
        holding
            .map(|found| {
                format!(
                    "{} {} {}",
                    found.type_,
                    found.reason.unwrap(),
                    found.message.unwrap()
                )
            })
            .collect()
    }

    #[test]
    fn what_is_left_is_told_in_upstreams_words() {
        let mut report = Report::default();
        report.add(&resource("", "pods"), "ns", Ok(left(&[&[], &["a/b"]], 30)));
        report.add(
            &resource("apps", "deployments"),
            "ns",
            Ok(left(&[&["a/b", "c/d"]], 0)),
        );
        report.add(&resource("", "secrets"), "ns", Ok(left(&[], 30)));
        assert_eq!(
            holding(&report),
            [
                "NamespaceContentRemaining SomeResourcesRemain Some resources are remaining: \
                 deployments.apps has 1 resource instances, pods. has 2 resource instances",
                "NamespaceFinalizersRemaining SomeFinalizersRemain Some content in the namespace has finalizers \
                 remaining: a/b in 2 resource instances, c/d in 1 resource instances",
            ]
        );
        assert_eq!(report.seconds(), Some(30));
        assert!(!report.is_done());
    }

    #[test]
    fn failures_are_told_in_upstreams_words() {
        let mut report = Report {
            discovery: Some((
                "unable to retrieve the complete list of server APIs: x".to_string(),
                1,
            )),
            ..Report::default()
        };
        report.add(&resource("", "secrets"), "ns", Ok(left(&[&[]], 0)));
        report.add(&resource("", "pods"), "ns", Err("boom".to_string()));
        assert_eq!(
            holding(&report),
            [
                "NamespaceDeletionDiscoveryFailure DiscoveryFailed Discovery failed for some groups, 1 failing: \
                 unable to retrieve the complete list of server APIs: x",
                "NamespaceDeletionContentFailure ContentDeletionFailed Failed to delete all resource types, 2 \
                 remaining: boom, unexpected items still remain in namespace: ns for gvr: /v1, Resource=secrets",
                "NamespaceContentRemaining SomeResourcesRemain Some resources are remaining: secrets. has 1 resource \
                 instances",
            ]
        );
        assert_eq!(report.seconds(), None);
    }

    #[test]
    fn conditions_change_only_when_they_must() {
        let mut report = Report::default();
        assert!(report.is_done());
        let first = report.conditions(&[], at(1)).unwrap();
        assert_eq!(report.conditions(&first, at(2)), None);
        report.failures.push("boom".to_string());
        let second = report.conditions(&first, at(3)).unwrap();
        let moved = |found: &&NamespaceCondition| found.last_transition_time == Some(Time(at(3)));
        assert_eq!(second.iter().filter(moved).count(), 1);
    }

    #[test]
    fn finalizers_are_waited_for_and_grace_comes_first() {
        assert_eq!(left(&[&["x"]], 0).seconds, 15);
        assert_eq!(left(&[&["x"]], 30).seconds, 30);
        assert_eq!(left(&[&[]], 0).seconds, 0);
        assert_eq!(left(&[], 30).seconds, 0);
    }
}
