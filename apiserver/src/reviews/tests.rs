//! Questions and their answers.

use std::sync::Arc;

use seams::Seams;

use super::*;
use crate::authentication::static_tokens::StaticTokens;
use crate::authentication::{Config, impersonation};
use crate::authorization::node::NodeAuthorizer;
use crate::authorization::rbac::{GROUP, Rbac};
use crate::authorization::{Attributes, Mode};
use crate::storage::Lookup;
use crate::storage::fake::Fake;

fn chain(fake: &Arc<Fake>) -> Authorizer {
    Authorizer::new(vec![
        Mode::Node(Arc::new(NodeAuthorizer::new(fake.clone()))),
        Mode::Rbac(Arc::new(Rbac::new(fake.clone()))),
    ])
}

fn status(review: &Doc) -> String {
    review
        .root()
        .get("status")
        .map(|status| status.to_string())
        .unwrap_or_default()
}

fn question(spec: &str) -> Doc {
    Doc::literal(&format!(
        r#"{{"metadata":{{}},"spec":{spec},"status":{{"allowed":false}}}}"#
    ))
}

#[tokio::test]
async fn access_reviews_answer() {
    let chain = chain(&Fake::with_bootstrap_policy());
    for (spec, want) in [
        (
            r#"{"resourceAttributes":{"verb":"list","resource":"pods"},"user":"system:kube-scheduler"}"#,
            r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \"system:kube-scheduler\""}"#,
        ),
        (
            r#"{"nonResourceAttributes":{"verb":"get","path":"/livez"},"groups":["system:unauthenticated"]}"#,
            r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:public-info-viewer\" of ClusterRole \"system:public-info-viewer\" to Group \"system:unauthenticated\""}"#,
        ),
        (
            r#"{"resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"requirements":[{"key":"a","operator":"Later","values":[]}]},"labelSelector":{"rawSelector":"a in ("}},"user":"x"}"#,
            r#"{"allowed":false,"evaluationError":"spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"}"#,
        ),
        (
            r#"{"resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["n"]},{"key":"a","operator":"Exists"}]}},"user":"system:node:n","groups":["system:nodes"]}"#,
            r#"{"allowed":true,"evaluationError":"spec.resourceAttributes.fieldSelector partially ignored due to parse error"}"#,
        ),
        (
            r#"{"resourceAttributes":{"verb":"delete","resource":"nodes","name":"n"},"groups":["system:masters"]}"#,
            r#"{"allowed":true}"#,
        ),
    ] {
        let answer = subject_access(&chain, question(spec)).await.unwrap();
        assert_eq!(status(&answer), want, "{spec}");
    }
}

#[tokio::test]
async fn questions_that_make_no_sense() {
    let chain = chain(&Fake::with_bootstrap_policy());
    let neither = subject_access(&chain, question("{}")).await.unwrap_err();
    assert_eq!(
        neither.message,
        ".authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]"
    );
    let mut named = question(r#"{"nonResourceAttributes":{"path":"/","verb":"get"},"user":"x"}"#);
    named.set_path(&["metadata", "name"], "n");
    assert_eq!(
        subject_access(&chain, named).await.unwrap_err().message,
        ".authorization.k8s.io \"\" is invalid: metadata: Invalid value: {\"name\":\"n\"}: must be empty"
    );
    let both = question(
        r#"{"resourceAttributes":{"fieldSelector":{}},"nonResourceAttributes":{"path":"/"}}"#,
    );
    let user = User::new("x", &[]);
    assert_eq!(
        self_subject_access(&chain, &user, both)
            .await
            .unwrap_err()
            .message,
        ".authorization.k8s.io \"\" is invalid: [spec.nonResourceAttributes: Invalid value: {\"path\":\"/\"}: cannot be specified in combination with resourceAttributes, spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required]"
    );
    let mut local = question(r#"{"resourceAttributes":{"namespace":"b","verb":"get"},"user":"x"}"#);
    local.set_path(&["metadata", "namespace"], "a");
    assert_eq!(
        local_subject_access(&chain, "a", local)
            .await
            .unwrap_err()
            .message,
        ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace"
    );
    let unnamed = question(r#"{"resourceAttributes":{"namespace":"a","verb":"get"},"user":"x"}"#);
    local_subject_access(&chain, "a", unnamed).await.unwrap();
    let error = self_subject_rules(&chain, &user, &question("{}")).unwrap_err();
    assert_eq!(error.message, "no namespace on request");
}

#[tokio::test]
async fn rules_reviews_list_what_is_known() {
    let fake = Fake::with_bootstrap_policy();
    fake.literal(GROUP, "rolebindings", r#"{"metadata":{"name":"b","namespace":"a"},"roleRef":{"kind":"Role","name":"none"},"subjects":[{"kind":"User","name":"x"}]}"#);
    let user = User::new("x", &["system:authenticated"]);
    let answer =
        self_subject_rules(&chain(&fake), &user, &question(r#"{"namespace":"a"}"#)).unwrap();
    let text = status(&answer);
    assert!(text.starts_with(r#"{"resourceRules":[{"verbs":["create"],"apiGroups":["authorization.k8s.io"],"resources":["selfsubjectaccessreviews","selfsubjectrulesreviews"]},"#), "{text}");
    assert!(text.ends_with(r#""incomplete":false,"evaluationError":"role.rbac.authorization.k8s.io \"none\" not found"}"#), "{text}");
    let node = User::new("system:node:n", &["system:nodes"]);
    let answer =
        self_subject_rules(&chain(&fake), &node, &question(r#"{"namespace":"a"}"#)).unwrap();
    assert_eq!(
        status(&answer),
        r#"{"resourceRules":[],"nonResourceRules":[],"incomplete":true,"evaluationError":"node authorizer does not support user rule resolution"}"#
    );
}

#[tokio::test]
async fn token_reviews_say_whose_it_is() {
    let config = Config {
        api_audiences: vec!["api".to_string()],
        static_tokens: Some(StaticTokens::parse("t,alice,1,dev", "f").unwrap()),
        ..Config::default()
    };
    let lookup = Lookup {
        objects: Arc::new(Fake::default()),
        catch_up: None,
    };
    let authenticator = Authenticator::new(config, &lookup, &Seams::real());
    for (spec, want) in [
        (
            r#"{"token":"t"}"#,
            r#"{"authenticated":true,"user":{"username":"alice","uid":"1","groups":["dev","system:authenticated"]},"audiences":["api"]}"#,
        ),
        (
            r#"{"token":"x"}"#,
            r#"{"user":{},"error":"invalid bearer token"}"#,
        ),
        (
            r#"{"token":"t","audiences":["other"]}"#,
            r#"{"user":{},"error":"invalid bearer token"}"#,
        ),
    ] {
        assert_eq!(
            status(&token(&authenticator, question(spec)).await.unwrap()),
            want
        );
    }
    let error = token(&authenticator, question("{}")).await.unwrap_err();
    assert_eq!(
        error.message,
        "token is required for TokenReview in authentication"
    );
}

#[test]
fn self_reviews_say_who_asks() {
    let mut user = User::new("x", &["a"]);
    user.extra.insert("k".to_string(), vec!["v".to_string()]);
    assert_eq!(
        self_subject(&user, "2026-01-01T00:00:00Z").to_string(),
        r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z"},"status":{"userInfo":{"username":"x","groups":["a"],"extra":{"k":["v"]}}}}"#
    );
}

fn headers(lines: &[(&'static str, &'static str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, http::HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn impersonation_headers() {
    let mut sent = headers(&[
        ("impersonate-user", "bob"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-acme.com%2fx", "1"),
        ("accept", "*/*"),
    ]);
    let wanted = impersonation::wanted(&mut sent).unwrap().unwrap();
    assert_eq!(
        (
            wanted.name.as_str(),
            wanted.uid.as_str(),
            wanted.groups.len()
        ),
        ("bob", "7", 2)
    );
    assert_eq!(wanted.extra["acme.com/x"], ["1"]);
    assert_eq!(sent.keys().collect::<Vec<_>>(), ["accept"]);
    assert_eq!(impersonation::wanted(&mut sent).unwrap(), None);
    let error = impersonation::wanted(&mut headers(&[("impersonate-group", "a")])).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            400,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"a\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        )
    );
}

/// Rules of the cluster for user `x`, whom `x` wants to be, and the user that it becomes or why not.
#[tokio::test]
async fn impersonation_needs_permission() {
    let requestor = User::new("x", &[]);
    let old = r#"{"verbs":["impersonate"],"apiGroups":["","authentication.k8s.io"],"resources":["users","groups","serviceaccounts","uids","userextras/scopes"]}"#;
    let as_bob = r#"{"verbs":["impersonate:user-info"],"apiGroups":["authentication.k8s.io"],"resources":["users"],"resourceNames":["bob"]}"#;
    let list =
        r#"{"verbs":["impersonate-on:user-info:list"],"apiGroups":[""],"resources":["pods"]}"#;
    let as_node = r#"{"verbs":["impersonate:arbitrary-node"],"apiGroups":["authentication.k8s.io"],"resources":["nodes"],"resourceNames":["n"]},{"verbs":["impersonate-on:arbitrary-node:list"],"apiGroups":[""],"resources":["pods"]}"#;
    let extra = |key: &str| {
        let mut user = User::new("bob", &[]);
        user.extra.insert(key.to_string(), vec!["v".to_string()]);
        user
    };
    for (rules, wanted, want) in [
        (
            "",
            User::new("bob", &[]),
            Err(
                r#"pods is forbidden: User "x" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "a""#,
            ),
        ),
        (
            list,
            User::new("bob", &[]),
            Err(
                r#"users.authentication.k8s.io "bob" is forbidden: User "x" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#,
            ),
        ),
        (
            old,
            User::new("bob", &[]),
            Ok((vec!["system:authenticated"], "")),
        ),
        (
            old,
            User::new("system:anonymous", &[]),
            Ok((vec!["system:unauthenticated"], "")),
        ),
        (
            old,
            User::new("system:serviceaccount:a:s", &[]),
            Ok((
                vec![
                    "system:serviceaccounts",
                    "system:serviceaccounts:a",
                    "system:authenticated",
                ],
                "",
            )),
        ),
        (
            old,
            User::new("bob", &["system:masters"]),
            Ok((vec!["system:masters", "system:authenticated"], "")),
        ),
        (old, extra("scopes"), Ok((vec!["system:authenticated"], ""))),
        (
            old,
            extra("other"),
            Err(
                r#"pods is forbidden: User "x" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "a""#,
            ),
        ),
        (
            &*format!("{as_bob},{list}"),
            User::new("bob", &[]),
            Ok((vec!["system:authenticated"], "impersonate:user-info")),
        ),
        (
            &*format!("{as_bob},{list}"),
            User::new("eve", &[]),
            Err(
                r#"users.authentication.k8s.io "eve" is forbidden: User "x" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#,
            ),
        ),
        (
            &*format!("{as_bob},{list}"),
            User::new("bob", &["system:masters"]),
            Err(
                r#"groups.authentication.k8s.io "system:masters" is forbidden: User "x" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed"#,
            ),
        ),
        (
            as_node,
            User::new("system:node:n", &[]),
            Ok((
                vec!["system:nodes", "system:authenticated"],
                "impersonate:arbitrary-node",
            )),
        ),
        (
            as_node,
            User::new("system:node:m", &[]),
            Err(
                r#"nodes.authentication.k8s.io "m" is forbidden: User "x" cannot impersonate:arbitrary-node resource "nodes" in API group "authentication.k8s.io" at the cluster scope"#,
            ),
        ),
    ] {
        let fake = Arc::new(Fake::default());
        fake.literal(
            GROUP,
            "clusterroles",
            &format!(r#"{{"metadata":{{"name":"r"}},"rules":[{rules}]}}"#),
        );
        fake.literal(GROUP, "clusterrolebindings", r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"x"}]}"#);
        let request = Attributes {
            namespace: "a",
            ..Attributes::resource(&requestor, "list", "", "pods")
        };
        let got = impersonation::impersonate(&chain(&fake), &wanted, &request).await;
        match want {
            Ok((groups, constraint)) => {
                let got = got.unwrap();
                assert_eq!(
                    (got.user.groups, got.constraint.as_str()),
                    (groups.iter().map(ToString::to_string).collect(), constraint)
                );
            }
            Err(message) => assert_eq!(got.unwrap_err().message, message),
        }
    }
}

#[tokio::test]
async fn an_account_acts_as_its_own_node() {
    let fake = Arc::new(Fake::default());
    fake.literal(GROUP, "clusterroles", r#"{"metadata":{"name":"r"},"rules":[{"verbs":["impersonate:associated-node"],"apiGroups":["authentication.k8s.io"],"resources":["nodes"]},{"verbs":["impersonate-on:associated-node:get"],"apiGroups":[""],"resources":["secrets"]}]}"#);
    fake.literal(GROUP, "clusterrolebindings", r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"ServiceAccount","namespace":"a","name":"agent"}]}"#);
    let mut agent = User::new("system:serviceaccount:a:agent", &[]);
    agent.extra.insert(
        "authentication.kubernetes.io/node-name".to_string(),
        vec!["n".to_string()],
    );
    let request = Attributes::resource(&agent, "get", "", "secrets");
    let act = async |name: &str| {
        let wanted = User::new(name, &[]);
        impersonation::impersonate(&chain(&fake), &wanted, &request).await
    };
    assert_eq!(
        act("system:node:n").await.unwrap().constraint,
        "impersonate:associated-node"
    );
    assert!(act("system:node:m").await.is_err());
}
