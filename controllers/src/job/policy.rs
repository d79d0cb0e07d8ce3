//! What a job's policies say of failed pods and of succeeded indexes.

use client::View as _;
use k8s_openapi::api::batch::v1::{
    PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicy,
};

use super::indexes::Indexes;
use super::view::Job;
use crate::pod::{ConditionStatus, ContainerStatus, Pod};

/// How a failed pod counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As a failure.
    Counts,
    /// Not at all.
    Ignored,
    /// Its index has failed, whatever its backoff limit.
    FailsIndex,
    /// The job has failed, in these words.
    FailsJob(String),
}

/// The verdict of the first rule that matches.
pub(crate) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let rules = job
        .spec
        .pod_failure_policy
        .iter()
        .flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let Some(why) = cause(rule, pod) else {
            continue;
        };
        return match &*rule.action {
            "Ignore" => Verdict::Ignored,
            "FailIndex" => Verdict::FailsIndex,
            "FailJob" => Verdict::FailsJob(format!("{why} matching FailJob rule at index {at}")),
            "Count" => Verdict::Counts,
            // A rule of a later version: it says nothing.
            _ => continue,
        };
    }
    Verdict::Counts
}

/// What of a pod a rule matches, in words.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (namespace, name) = (pod.namespace(), pod.name());
    if let Some(codes) = &rule.on_exit_codes {
        let status = &pod.status;
        let all = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses);
        let (container, code) = all.filter_map(|found| ended_badly(found, codes)).next()?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = pod.status.conditions.iter();
    let found = conditions.find(|found| {
        let is_it = |pattern: &PodFailurePolicyOnPodConditionsPattern| {
            let status = match found.status {
                ConditionStatus::True => "True",
                ConditionStatus::False => "False",
                ConditionStatus::Unknown => "Unknown",
            };
            // The status defaults to True on the server.
            pattern.type_ == found.type_.as_str()
                && pattern.status.as_deref().unwrap_or("True") == status
        };
        patterns.iter().any(is_it)
    })?;
    Some(format!(
        "Pod {namespace}/{name} has condition {}",
        found.type_.as_str()
    ))
}

fn ended_badly<'p>(
    container: &'p ContainerStatus,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'p str, i32)> {
    let code = container.state.terminated.as_ref()?.exit_code;
    let is_meant = codes
        .container_name
        .as_deref()
        .is_none_or(|name| *name == *container.name);
    let is_listed = codes.values.contains(&code);
    let matches = match &*codes.operator {
        "In" => is_listed,
        "NotIn" => !is_listed,
        _ => false,
    };
    (is_meant && code != 0 && matches).then_some((&*container.name, code))
}

/// Whether what succeeded is enough, in words.
pub(crate) fn is_enough(
    policy: Option<&SuccessPolicy>,
    indexes: u32,
    succeeded: &Indexes,
) -> Option<String> {
    let rules = policy.filter(|_| !succeeded.is_empty())?.rules.iter();
    let at = rules.into_iter().position(|rule| {
        let count = rule
            .succeeded_count
            .and_then(|count| u32::try_from(count).ok());
        let Some(text) = &rule.succeeded_indexes else {
            return count.is_some_and(|count| succeeded.count() >= count);
        };
        let wanted = Indexes::parse(text, indexes);
        let common = wanted.common(succeeded);
        !wanted.is_empty()
            && (common == wanted.count() || count.is_some_and(|count| common >= count))
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        let pod = json!({"metadata": {"namespace": "default", "name": "mypod"}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    fn job(rules: Value) -> Job {
        serde_json::from_value(json!({"spec": {"podFailurePolicy": {"rules": rules}}})).unwrap()
    }

    fn ended(name: &str, code: i32) -> Value {
        json!({"name": name, "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let codes = |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let five = json!({"containerStatuses": [ended("main", 5)]});
        let fails = "Container main for pod default/mypod failed with exit code 5 matching FailJob rule at index";
        for (name, rules, status, want) in [
            ("ignored", json!([codes("Ignore", "In", &[1, 5])]), &five, Verdict::Ignored),
            ("in a range that is not", json!([codes("FailJob", "In", &[1, 2])]), &five, Verdict::Counts),
            ("fails", json!([codes("FailJob", "In", &[5])]), &five, Verdict::FailsJob(format!("{fails} 0"))),
            (
                "the second rule",
                json!([codes("FailJob", "NotIn", &[5]), codes("FailJob", "In", &[5])]),
                &five,
                Verdict::FailsJob(format!("{fails} 1")),
            ),
            ("counts at once", json!([codes("Count", "In", &[5]), codes("Ignore", "In", &[5])]), &five, Verdict::Counts),
            ("the index", json!([codes("FailIndex", "In", &[5])]), &five, Verdict::FailsIndex),
            (
                "success never matches",
                json!([codes("Ignore", "NotIn", &[5])]),
                &json!({"containerStatuses": [ended("main", 0)]}),
                Verdict::Counts,
            ),
            (
                "init containers count too",
                json!([codes("Ignore", "In", &[7])]),
                &json!({"containerStatuses": [{"name": "main"}], "initContainerStatuses": [ended("init", 7)]}),
                Verdict::Ignored,
            ),
            (
                "another container is meant",
                json!([{"action": "Ignore", "onExitCodes": {"containerName": "other", "operator": "In", "values": [5]}}]),
                &five,
                Verdict::Counts,
            ),
            (
                "a condition",
                json!([{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]),
                &json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "DisruptionTarget", "status": "True"}]}),
                Verdict::FailsJob(
                    "Pod default/mypod has condition DisruptionTarget matching FailJob rule at index 0".to_string(),
                ),
            ),
            (
                "a condition of another status",
                json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]),
                &json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}),
                Verdict::Counts,
            ),
            ("an unknown action", json!([codes("Later", "In", &[5])]), &five, Verdict::Counts),
        ] {
            assert_eq!(judge(&job(rules), &pod(status.clone())), want, "{name}");
        }
    }

    #[test]
    fn success_policies_ask_for_indexes_or_counts() {
        for (rules, succeeded, want) in [
            (json!([{"succeededCount": 2}]), "0", None),
            (json!([{"succeededCount": 2}]), "0,3", Some(0)),
            (json!([{"succeededIndexes": "0-2"}]), "0,1", None),
            (json!([{"succeededIndexes": "0-2"}]), "0-2", Some(0)),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "1-2,7",
                Some(0),
            ),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "2,7-9",
                None,
            ),
            (
                json!([{"succeededIndexes": "20"}, {"succeededCount": 1}]),
                "2",
                Some(1),
            ),
            (json!([{"succeededCount": 0}]), "", None),
        ] {
            let policy: SuccessPolicy = serde_json::from_value(json!({"rules": rules})).unwrap();
            let found = is_enough(Some(&policy), 10, &Indexes::parse(succeeded, 10));
            let want = want.map(|at| format!("Matched rules at index {at}"));
            assert_eq!(found, want, "{policy:?} {succeeded}");
        }
        assert_eq!(is_enough(None, 10, &Indexes::parse("0-9", 10)), None);
    }
}
