//! PodSecurity: what pods of a namespace may do to their node, as the namespace's labels say.
//!
//! - [`policy`]: the labels
//! - [`checks`]: what each level forbids

mod checks;
mod policy;

use std::collections::{BTreeMap, HashSet};

use api::doc::Doc;
use api::status::{Qualified, Status};
use async_trait::async_trait;

use self::checks::{Subject, Violations};
use self::policy::{Policy, Rule};
use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::Along;
use crate::validation::At;

/// Parts of pods that say nothing of what they may do.
const IGNORED: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];
/// Where those who make pods say what they look like.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    (
        "batch",
        "cronjobs",
        &["spec", "jobTemplate", "spec", "template"],
    ),
];
/// Pods that are looked at when their namespace becomes stricter.
const PODS_MAX: usize = 3000;

pub(super) struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_write = matches!(attempt.operation, Operation::Create | Operation::Update);
        let Some(new) = new.filter(|_| is_write) else {
            return Ok(());
        };
        match attempt.resource() {
            ("", "namespaces") if attempt.subresource().is_empty() => namespace(attempt, new, old),
            ("", "pods") if !IGNORED.contains(&attempt.subresource()) => pod(attempt, new, old),
            _ if attempt.subresource().is_empty() => {
                template(attempt, new);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn namespace(attempt: &Attempt<'_>, new: &Doc, old: Option<&Doc>) -> Outcome<()> {
    let (policy, errors) = Policy::of(At::root(new));
    let (before, had) = match old {
        Some(old) => {
            let (before, had) = Policy::of(At::root(old));
            (Some(before), had)
        }
        None => (None, Vec::new()),
    };
    if !errors.is_empty() && errors != had {
        let of = Qualified {
            group: "",
            name: "Namespace",
        };
        return Err(Status::invalid(of, &attempt.name, &errors).into());
    }
    let (Some(before), now) = (before, policy.enforce) else {
        return Ok(());
    };
    let is_no_stricter = now.version == before.enforce.version && now.level <= before.enforce.level;
    if !is_no_stricter && now.level != policy::Level::Privileged {
        for warning in those_there(attempt, now) {
            attempt.call.warn(warning);
        }
    }
    Ok(())
}

/// What pods that are there already would violate.
fn those_there(attempt: &Attempt<'_>, rule: Rule) -> Vec<String> {
    let mut owners = HashSet::new();
    // Of each owner's pods one comes first, the others after all of them.
    let mut pods: Vec<(bool, Doc)> = Vec::new();
    for object in attempt.objects().list("", "pods", &attempt.name) {
        let doc = object.doc();
        let references = At::root(&doc).path(&["metadata", "ownerReferences"]);
        let owner = references.items().find(|at| at.get("controller").flag());
        let owner = owner.map(|at| at.get("uid").str().to_string());
        let is_another = owner.is_some_and(|owner| !owners.insert(owner));
        pods.push((is_another, doc));
    }
    pods.sort_by_key(|(is_another, _)| *is_another);
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (_, doc) in pods.iter().take(PODS_MAX) {
        let at = At::root(doc);
        let violations = checks::evaluate(rule, Subject::of(at));
        if violations.is_empty() {
            continue;
        }
        let name = at.path(&["metadata", "name"]).str();
        let (first, count) = found.entry(violations.reasons()).or_default();
        if *count == 0 || name < &**first {
            *first = name.to_string();
        }
        *count += 1;
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if found.is_empty() {
        return warnings;
    }
    warnings.push(format!(
        "existing pods in namespace {:?} violate the new PodSecurity enforce level \"{rule}\"",
        attempt.name
    ));
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (first, count))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            count => format!("{first} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

fn pod(attempt: &Attempt<'_>, new: &Doc, old: Option<&Doc>) -> Outcome<()> {
    let policy = policy_of(attempt)?;
    if policy.is_privileged() {
        return Ok(());
    }
    let at = At::root(new);
    if let Some(old) = old
        && attempt.operation == Operation::Update
        && !changes_images(at.get("spec"), At::root(old).get("spec"))
    {
        return Ok(());
    }
    let found = checks::evaluate(policy.enforce, Subject::of(at));
    if !found.is_empty() {
        return Err(attempt.forbidden(format!(
            "violates PodSecurity \"{}\": {}",
            policy.enforce,
            found.details()
        )));
    }
    warn(
        attempt,
        policy.warn,
        &checks::evaluate(policy.warn, Subject::of(at)),
    );
    Ok(())
}

/// Those who make pods are only told.
fn template(attempt: &Attempt<'_>, new: &Doc) {
    let mut known = TEMPLATES.iter();
    let Some((.., path)) = known.find(|known| (known.0, known.1) == attempt.resource()) else {
        return;
    };
    let template = At::root(new).path(path);
    if let (true, Ok(policy)) = (template.is_set(), policy_of(attempt)) {
        warn(
            attempt,
            policy.warn,
            &checks::evaluate(policy.warn, Subject::of(template)),
        );
    }
}

fn warn(attempt: &Attempt<'_>, rule: Rule, found: &Violations) {
    if !found.is_empty() {
        attempt.call.warn(format!(
            "would violate PodSecurity \"{rule}\": {}",
            found.details()
        ));
    }
}

fn policy_of(attempt: &Attempt<'_>) -> Outcome<Policy> {
    let name = attempt.namespace();
    let found = attempt.objects().get("", "namespaces", "", name);
    let found =
        found.ok_or_else(|| Status::internal(format!("failed to lookup namespace {name:?}")))?;
    Ok(Policy::of(At::root(&found.doc())).0)
}

/// Only other images or other containers make a pod another one.
fn changes_images(new: At<'_>, old: At<'_>) -> bool {
    let images = |spec: At<'_>, list| -> Vec<String> {
        let containers = spec.get(list).items();
        containers
            .map(|at| at.get("image").str().to_string())
            .collect()
    };
    let differ = |list| images(new, list) != images(old, list);
    let is_another = |container: At<'_>| {
        let name = container.get("name").str();
        let before = old.get("ephemeralContainers").find("name", name);
        before.is_none_or(|before| before.get("image").str() != container.get("image").str())
    };
    differ("containers")
        || differ("initContainers")
        || new.get("ephemeralContainers").items().any(is_another)
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;

    const RESTRICTED: &str = r#"{"metadata":{"name":"r","labels":{
        "pod-security.kubernetes.io/enforce":"restricted",
        "pod-security.kubernetes.io/enforce-version":"v1.24"}}}"#;
    const POD: &str = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i",
        "securityContext":{"privileged":true}}]}}"#;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_namespace_says_what_its_pods_may_do() {
        let server = Server::start().await;
        server.create("/api/v1/namespaces", RESTRICTED).await.ok();
        server.namespace("r").await;
        let refused = server.create("/api/v1/namespaces/r/pods", POD).await;
        let details = "privileged (container \"c\" must not set securityContext.privileged=true), \
            allowPrivilegeEscalation != false (container \"c\" must set \
            securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
            securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
            securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
            securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
        let want = format!(
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:v1.24\": {details}"
        );
        assert_eq!(refused.refusal(), (403, &*want));
        let deployment = format!(
            r#"{{"metadata":{{"name":"d"}},"spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},"template":{{
                "metadata":{{"labels":{{"a":"b"}}}},"spec":{}}}}}}}"#,
            &POD[POD.find("\"spec\":").unwrap() + 7..POD.len() - 1]
        );
        let made = server
            .create("/apis/apps/v1/namespaces/r/deployments", &deployment)
            .await;
        let want = format!("would violate PodSecurity \"restricted:v1.24\": {details}");
        assert_eq!(made.warnings, [want]);
        made.ok();

        server.namespace("p").await;
        server.create("/api/v1/namespaces/p/pods", POD).await.ok();
        // Admission sees what the watch cache has: whoever read the pod saw that it is there.
        server
            .ask("GET", "/api/v1/namespaces/p/pods", "")
            .await
            .ok();
        let label = |level: &str| {
            format!(
                r#"{{"metadata":{{"labels":{{"pod-security.kubernetes.io/enforce":"{level}"}}}}}}"#
            )
        };
        let made = server
            .ask("PATCH", "/api/v1/namespaces/p", &label("baseline"))
            .await;
        let want = [
            "existing pods in namespace \"p\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "p: privileged",
        ];
        assert_eq!(made.warnings, want);
        let wrong = server
            .ask("PATCH", "/api/v1/namespaces/p", &label("odd"))
            .await;
        let want = "Namespace \"p\" is invalid: \
            metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"odd\": must be one of privileged, \
            baseline, restricted";
        assert_eq!(wrong.refusal(), (422, want));
    }
}
