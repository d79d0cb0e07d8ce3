//! The table, and how it is brought into a cluster.

use std::collections::BTreeMap;

use api::codec::yaml;

use super::*;
use crate::storage::fake::Fake;

fn one(resource: &str, name: &str) -> Wanted {
    let found = wanted()
        .into_iter()
        .find(|one| one.resource == resource && one.name == name);
    found.unwrap_or_else(|| panic!("{resource} {name}"))
}

#[test]
fn the_table_reads_as_objects() {
    let count = |resource: &str| {
        wanted()
            .iter()
            .filter(|one| one.resource == resource)
            .count()
    };
    assert_eq!(
        [
            "clusterroles",
            "clusterrolebindings",
            "roles",
            "rolebindings"
        ]
        .map(count),
        [70, 51, 7, 7]
    );
    assert_eq!(
        one("clusterroles", "view").doc.to_string(),
        r#"{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"view","labels":{"kubernetes.io/bootstrapping":"rbac-defaults","rbac.authorization.k8s.io/aggregate-to-edit":"true"},"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"}},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}}]},"rules":null}"#
    );
    assert_eq!(
        one("clusterrolebindings", "system:controller:job-controller")
            .doc
            .root()
            .get("subjects")
            .map(|s| s.to_string()),
        Some(
            r#"[{"kind":"ServiceAccount","name":"job-controller","namespace":"kube-system"}]"#
                .to_string()
        )
    );
    assert!(node_rules().len() > 20);
}

/// Upstream's fixtures, where somebody has them: their folder is named by `RBAC_FIXTURES`.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a fixture outside of the repository"
)]
fn the_table_is_upstreams() {
    let Ok(folder) = std::env::var("RBAC_FIXTURES") else {
        return;
    };
    let mut all = BTreeMap::new();
    for file in [
        "cluster-roles",
        "controller-roles",
        "cluster-role-bindings",
        "controller-role-bindings",
        "namespace-roles",
        "namespace-role-bindings",
    ] {
        let text = std::fs::read_to_string(format!("{folder}/{file}.yaml")).unwrap();
        let (list, _) = yaml::parse(text.as_bytes()).unwrap();
        for item in list.root().get("items").unwrap().children() {
            let key = |at: &str| item.text(&["metadata", at]).to_string();
            let key = (
                item.text(&["kind"]).to_string(),
                key("namespace"),
                key("name"),
            );
            // A fork adds these.
            if !key.2.contains("openshift") && !key.2.contains("service-ca") {
                all.insert(key, item.to_string());
            }
        }
    }
    for wanted in wanted() {
        let kind = wanted.doc.root().text(&["kind"]).to_string();
        let fixture = all.remove(&(kind, wanted.namespace, wanted.name.clone()));
        let fixture = fixture.unwrap_or_else(|| panic!("{} is not upstream's", wanted.name));
        assert_eq!(Doc::literal(&fixture), wanted.doc);
    }
    assert!(all.is_empty(), "missing: {all:?}");
}

#[test]
fn an_empty_cluster_gets_all_and_then_nothing() {
    let fake = Fake::default();
    let steps = plan_all(&fake);
    assert_eq!(steps.len(), wanted().len());
    assert!(steps.iter().all(|step| step.operation == Operation::Create));
    for step in steps {
        fake.put(GROUP, step.resource, &step.doc);
    }
    assert!(plan_all(&fake).is_empty());
}

#[test]
fn what_was_added_stays_and_what_lacks_is_added() {
    let wanted = one("clusterroles", "system:kube-dns");
    let existing = Doc::literal(
        r#"{"metadata":{"name":"system:kube-dns","labels":{"mine":"x"}},"rules":[{"verbs":["list"],"apiGroups":[""],"resources":["*"]},{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]}"#,
    );
    let step = plan(Some(&existing), &wanted).unwrap();
    assert_eq!(step.operation, Operation::Update);
    assert_eq!(
        step.doc.to_string(),
        r#"{"metadata":{"name":"system:kube-dns","labels":{"mine":"x","kubernetes.io/bootstrapping":"rbac-defaults"},"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"}},"rules":[{"verbs":["list"],"apiGroups":[""],"resources":["*"]},{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]},{"verbs":["watch"],"apiGroups":[""],"resources":["endpoints"]},{"verbs":["watch"],"apiGroups":[""],"resources":["services"]}]}"#
    );
    assert!(plan(Some(&step.doc), &wanted).is_none());

    let mut kept = existing.clone();
    kept.set_path(&["metadata", "annotations", AUTO_UPDATE], "false");
    assert!(plan(Some(&kept), &wanted).is_none());
}

#[test]
fn bindings_get_subjects_and_the_right_role() {
    let wanted = one("clusterrolebindings", "system:discovery");
    let mut existing = wanted.doc.clone();
    let top = existing.top();
    existing.remove(top, "subjects");
    let step = plan(Some(&existing), &wanted).unwrap();
    assert_eq!(
        (step.operation, &step.doc),
        (Operation::Update, &wanted.doc)
    );
    existing.set_path(&["roleRef", "name"], "cluster-admin");
    let step = plan(Some(&existing), &wanted).unwrap();
    assert_eq!(
        (step.operation, &step.doc),
        (Operation::Recreate, &wanted.doc)
    );
}

#[test]
fn aggregated_roles_keep_what_they_gathered() {
    let wanted = one("clusterroles", "admin");
    let mut existing = wanted.doc.clone();
    existing.set_path(&["rules"], New::List);
    let list = existing.find_path(&["rules"]).unwrap();
    node_rules()[0].write(&mut existing, list);
    assert!(plan(Some(&existing), &wanted).is_none());
    let top = existing.top();
    existing.remove(top, "aggregationRule");
    let step = plan(Some(&existing), &wanted).unwrap();
    assert!(step.doc.find_path(&["aggregationRule"]).is_some());
}
