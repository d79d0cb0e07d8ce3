//! Writers of roles and bindings, and what they may not write.

use super::*;
use crate::authorization::Mode;
use crate::authorization::tests::{ALICE, binding, role};
use crate::storage::fake::Fake;

fn escalation(fake: &Arc<Fake>) -> Escalation {
    let rbac = Arc::new(Rbac::new(fake.clone()));
    Escalation::new(Authorizer::new(vec![Mode::Rbac(rbac.clone())]), rbac)
}

fn writer<'a>(user: &'a User, resource: &'a str) -> Writer<'a> {
    Writer {
        user,
        namespace: "a",
        resource,
        name: "",
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let fake = Fake::with_bootstrap_policy();
    fake.literal(
        GROUP,
        "roles",
        &role(r#"[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]},{"verbs":["create"],"apiGroups":["*"],"resources":["roles","rolebindings"]}]"#),
    );
    fake.literal(GROUP, "rolebindings", &binding("Role", "r", ALICE));
    let escalation = escalation(&fake);
    let alice = User::new("alice", &["staff", "system:authenticated"]);
    let held = Doc::literal(&role(
        r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["x"]}]"#,
    ));
    escalation
        .check(&writer(&alice, "roles"), &held, None)
        .await
        .unwrap();

    let more = Doc::literal(&role(
        r#"[{"verbs":["get","list","delete"],"apiGroups":[""],"resources":["pods","secrets"]},{"verbs":["get"],"nonResourceURLs":["/metrics"]}]"#,
    ));
    let status = escalation
        .check(&writer(&alice, "roles"), &more, None)
        .await
        .unwrap_err();
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"alice\" (groups=[\"staff\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"delete\"]}\n\
         {NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}"
    );
    // Garbage collection may still be helped.
    let mut collected = more.clone();
    collected.set_path(&["metadata", "deletionGracePeriodSeconds"], 0);
    assert!(
        escalation
            .check(&writer(&alice, "roles"), &collected, Some(&more))
            .await
            .is_err()
    );
    let mut collected = more.clone();
    let metadata = collected.find_path(&["metadata"]).unwrap();
    collected.list(metadata, "finalizers");
    escalation
        .check(&writer(&alice, "roles"), &collected, Some(&more))
        .await
        .unwrap();

    let masters = User::new("root", &["system:masters"]);
    escalation
        .check(&writer(&masters, "roles"), &more, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn bindings_need_the_role_or_the_verb() {
    let fake = Fake::with_bootstrap_policy();
    let escalation = escalation(&fake);
    let alice = User::new("alice", &[]);
    let to = |kind: &str, name: &str| Doc::literal(&binding(kind, name, ALICE));
    let at = writer(&alice, "rolebindings");
    let status = escalation
        .check(&at, &to("ClusterRole", "cluster-admin"), None)
        .await
        .unwrap_err();
    assert!(
        status.message.ends_with(
            "not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
        ),
        "{}",
        status.message
    );
    let status = escalation
        .check(&at, &to("Role", "none"), None)
        .await
        .unwrap_err();
    assert_eq!(
        status.message,
        r#"roles.rbac.authorization.k8s.io "none" not found"#
    );
    fake.literal(
        GROUP,
        "roles",
        &role(r#"[{"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["edit"]}]"#),
    );
    fake.literal(GROUP, "rolebindings", &binding("Role", "r", ALICE));
    escalation
        .check(&at, &to("ClusterRole", "edit"), None)
        .await
        .unwrap();
    assert!(
        escalation
            .check(&at, &to("ClusterRole", "cluster-admin"), None)
            .await
            .is_err()
    );
    // The verb holds in its namespace only.
    let elsewhere = Writer {
        namespace: "",
        resource: "clusterrolebindings",
        ..at
    };
    let empty = to("ClusterRole", "system:aggregate-to-view");
    assert!(escalation.check(&elsewhere, &empty, None).await.is_err());
}

#[tokio::test]
async fn aggregation_needs_everything() {
    let fake = Fake::with_bootstrap_policy();
    let escalation = escalation(&fake);
    let alice = User::new("alice", &[]);
    let doc = Doc::literal(
        r#"{"metadata":{"name":"x"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[]}"#,
    );
    let at = Writer {
        namespace: "",
        ..writer(&alice, "clusterroles")
    };
    let status = escalation.check(&at, &doc, None).await.unwrap_err();
    assert_eq!(
        status.message,
        "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    fake.literal(
        GROUP,
        "clusterrolebindings",
        r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"alice"}]}"#,
    );
    escalation.check(&at, &doc, None).await.unwrap();
}
