//! Cluster role aggregation: roles whose rules are those of other roles.

use std::sync::Arc;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription, View};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::selector::Selector;

/// Who owns the rules of aggregated roles.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// Puts roles together.
pub(crate) struct ClusterRoleAggregation {
    context: Context,
    roles: Informer<ClusterRole>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for ClusterRoleAggregation {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let roles = context.informers.of::<ClusterRole>();
        let (queue, all) = (queue.clone(), roles.clone());
        let aggregates = roles.index("aggregates", |role| {
            let is_aggregate = role.aggregation_rule.is_some();
            is_aggregate
                .then(|| "all".to_string())
                .into_iter()
                .collect()
        });
        let subscription = all.on_change(move |_, _| {
            for role in aggregates.get("all") {
                queue.add(Key::of(&*role));
            }
        });
        Self {
            context: context.clone(),
            roles,
            _subscription: subscription,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(role) = self.roles.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let Some(rules) = rules(&role, &self.roles.list()) else {
            return Ok(Again::Done);
        };
        let apply = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role.name()},
            "rules": rules,
        });
        let api = Api::<ClusterRole>::all(self.context.client.clone());
        let params = PatchParams::apply(MANAGER).force();
        api.patch(role.name(), &params, &Patch::Apply(apply))
            .await?;
        Ok(Again::Done)
    }
}

/// The rules that a role is to have; none if it has them, or is no aggregate. `all` are sorted by
/// name.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let rule = role.aggregation_rule.as_ref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let selector = Selector::new(Some(selector));
        let selected = all.iter().filter(|found| found.name() != role.name());
        let selected = selected.filter(|found| selector.matches(found.metadata.labels.as_ref()));
        for rule in selected.flat_map(|found| found.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (rules != role.rules.clone().unwrap_or_default()).then_some(rules)
}

#[cfg(test)]
mod tests {
    use kube::api::PostParams;
    use serde_json::Value;

    use super::*;
    use crate::controller::Row;
    use crate::testing::{Cluster, eventually};

    const ROW: Row =
        Row::of::<ClusterRoleAggregation>("clusterrole-aggregation-controller", MANAGER);

    fn role(name: &str, label: &str, resources: &[&str]) -> Value {
        let rules: Vec<Value> = resources
            .iter()
            .map(|resource| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]}))
            .collect();
        json!({"metadata": {"name": name, "labels": {"aggregate": label}}, "rules": rules})
    }

    fn aggregate(resources: &[&str]) -> Value {
        let mut found = role("sum", "yes", resources);
        let selectors =
            json!([{"matchLabels": {"aggregate": "yes"}}, {"matchLabels": {"aggregate": "also"}}]);
        found["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        found
    }

    fn read(value: Value) -> ClusterRole {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rules_are_put_together_in_order_and_once() {
        let all = [
            role("a", "yes", &["pods", "secrets"]),
            role("b", "also", &["secrets", "nodes"]),
            role("c", "no", &["events"]),
            role("sum", "yes", &["leases"]),
        ]
        .map(|value| Arc::new(read(value)));
        let wanted = read(role("x", "", &["pods", "secrets", "nodes"])).rules;
        assert_eq!(rules(&read(aggregate(&[])), &all), wanted);
        assert_eq!(
            rules(&read(aggregate(&["pods", "secrets", "nodes"])), &all),
            None
        );
        assert_eq!(rules(&all[0], &all), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn aggregates_follow_what_they_are_made_of() {
        let cluster = Cluster::start().await;
        cluster.run(&[ROW]);
        let roles = Api::<ClusterRole>::all(cluster.admin.clone());
        for value in [aggregate(&[]), role("part", "yes", &["pods"])] {
            roles
                .create(&PostParams::default(), &read(value))
                .await
                .unwrap();
        }
        let resources = || async {
            let rules = roles.get("sum").await.unwrap().rules.unwrap_or_default();
            rules
                .into_iter()
                .flat_map(|rule| rule.resources.unwrap_or_default())
                .collect::<Vec<_>>()
        };
        eventually("the part counts", || async {
            (resources().await == ["pods"]).then_some(())
        })
        .await;
        roles
            .create(
                &PostParams::default(),
                &read(role("more", "also", &["nodes"])),
            )
            .await
            .unwrap();
        eventually("more counts", || async {
            (resources().await == ["pods", "nodes"]).then_some(())
        })
        .await;
    }
}
