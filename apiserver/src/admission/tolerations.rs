//! DefaultTolerationSeconds: pods stay for five minutes on a node that nobody hears of.

use api::doc::{Doc, New};
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::validation::At;

const TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_write = matches!(attempt.operation, Operation::Create | Operation::Update);
        if let Some(pod) = new.filter(|_| is_write && attempt.is_of("", "pods")) {
            TAINTS.iter().for_each(|taint| tolerate(pod, taint));
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Doc, taint: &str) {
    let tolerates = |toleration: At<'_>| {
        let is = |key, value: &str| {
            let found = toleration.get(key).str();
            found.is_empty() || found == value
        };
        is("key", taint) && is("effect", "NoExecute")
    };
    let known = At::root(pod).path(&["spec", "tolerations"]);
    if known.items().any(tolerates) {
        return;
    }
    let top = pod.top();
    let spec = pod.object(top, "spec");
    let list = pod.list(spec, "tolerations");
    let toleration = pod.push(list, New::Object);
    pod.set(toleration, "key", taint);
    pod.set(toleration, "operator", "Exists");
    pod.set(toleration, "effect", "NoExecute");
    pod.set(toleration, "tolerationSeconds", SECONDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says_counts() {
        for (tolerations, want) in [
            ("[]", 2),
            (
                r#"[{"key":"node.kubernetes.io/not-ready","operator":"Exists"}]"#,
                2,
            ),
            (r#"[{"operator":"Exists"}]"#, 1),
            (r#"[{"operator":"Exists","effect":"NoSchedule"}]"#, 3),
        ] {
            let mut pod = Doc::literal(&format!(r#"{{"spec":{{"tolerations":{tolerations}}}}}"#));
            TAINTS.iter().for_each(|taint| tolerate(&mut pod, taint));
            let found = At::root(&pod).path(&["spec", "tolerations"]).len();
            assert_eq!(found, want, "{pod}");
        }
    }
}
