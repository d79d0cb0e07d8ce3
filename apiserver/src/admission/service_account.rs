//! ServiceAccount: every pod acts as a service account, and gets its token.

use std::sync::Arc;
use std::time::Duration;

use api::doc::{Doc, Id};
use api::status::{Qualified, Status};
use async_trait::async_trait;
use tokio::time::sleep;

use super::{Attempt, Operation, Plugin};
use crate::authorization::node::graph::{self, Kind};
use crate::registry::Outcome;
use crate::storage::{Along, Object};
use crate::validation::At;

const DEFAULT: &str = "default";
/// The volume with the token; a random suffix follows.
const VOLUME: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Marks pods that a node runs of its own and only shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Pods may use only the secrets that their service account names.
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
/// A controller makes the default account a moment after its namespace.
const DEFAULT_ATTEMPTS: u32 = 10;
const RETRY_MILLIS: u64 = 100;

pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_new = attempt.operation == Operation::Create && attempt.is_of("", "pods");
        let Some(pod) = new.filter(|_| is_new) else {
            return Ok(());
        };
        if is_mirror(At::root(pod)) {
            return Ok(());
        }
        if At::root(pod)
            .path(&["spec", "serviceAccountName"])
            .is_empty()
        {
            pod.set_path(&["spec", "serviceAccountName"], DEFAULT);
        }
        let account = account_of(attempt, At::root(pod)).await?.doc();
        let account = At::root(&account);
        if mounts_token(account, At::root(pod).get("spec")) {
            let volume = attempt.call.generate_name(VOLUME);
            mount_token(pod, volume);
        }
        let secrets = account.get("imagePullSecrets");
        if At::root(pod).path(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            let top = pod.top();
            let spec = pod.object(top, "spec");
            let list = pod.list(spec, "imagePullSecrets");
            for secret in secrets.items() {
                let reference = pod.push(list, api::doc::New::Object);
                pod.set(reference, "name", secret.get("name").str());
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let Some(pod) = new.filter(|_| attempt.resource() == ("", "pods")) else {
            return Ok(());
        };
        let at = At::root(pod);
        match (attempt.operation, attempt.subresource()) {
            (Operation::Create, "") if is_mirror(at) => judge_mirror(attempt, pod),
            (Operation::Create, "") => {
                let account = account_of(attempt, at).await?.doc();
                match enforces_secrets(At::root(&account)) {
                    true => limit_secrets(attempt, At::root(&account), at.get("spec")),
                    false => Ok(()),
                }
            }
            (Operation::Update, "ephemeralcontainers") => {
                let account = account_of(attempt, at).await?.doc();
                let account = At::root(&account);
                match enforces_secrets(account) {
                    true => {
                        let containers = at.path(&["spec", "ephemeralContainers"]);
                        limit_containers(attempt, account, containers, "ephemeral container")
                    }
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn is_mirror(pod: At<'_>) -> bool {
    pod.path(&["metadata", "annotations"])
        .entry(MIRROR)
        .is_some()
}

fn judge_mirror(attempt: &Attempt<'_>, pod: &Doc) -> Outcome<()> {
    let at = At::root(pod);
    if !at.path(&["spec", "serviceAccountName"]).is_empty() {
        return Err(attempt.forbidden("a mirror pod may not reference service accounts"));
    }
    if graph::names_any(pod.root(), Kind::Secret) {
        return Err(attempt.forbidden("a mirror pod may not reference secrets"));
    }
    let mut sources = at
        .path(&["spec", "volumes"])
        .items()
        .flat_map(|volume| volume.path(&["projected", "sources"]).items());
    if sources.any(|source| source.has("serviceAccountToken")) {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(attempt.forbidden(why));
    }
    Ok(())
}

/// The account that a pod names.
async fn account_of(attempt: &Attempt<'_>, pod: At<'_>) -> Outcome<Arc<Object>> {
    let namespace = attempt.namespace();
    let name = pod.path(&["spec", "serviceAccountName"]).str();
    if name.is_empty() {
        let pod = &attempt.name;
        let why = format!("no service account specified for pod {namespace}/{pod}");
        return Err(attempt.forbidden(why));
    }
    let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS } else { 1 };
    for at in 0..attempts {
        if at > 0 {
            let jitter = attempt.call.api.seams.rng.next_u64() % RETRY_MILLIS;
            sleep(Duration::from_millis(RETRY_MILLIS + jitter)).await;
        }
        if let Some(found) = attempt.get("", "serviceaccounts", namespace, name).await {
            return Ok(found);
        }
    }
    let of = Qualified {
        group: "",
        name: "serviceaccount",
    };
    let lost = Status::not_found(of, name).message;
    Err(attempt.forbidden(format!(
        "error looking up service account {namespace}/{name}: {lost}"
    )))
}

fn mounts_token(account: At<'_>, spec: At<'_>) -> bool {
    const KEY: &str = "automountServiceAccountToken";
    let told = spec
        .get(KEY)
        .opt_flag()
        .or_else(|| account.get(KEY).opt_flag());
    told.unwrap_or(true)
}

/// Gives every container the token where it looks for it, unless it has something there.
fn mount_token(pod: &mut Doc, mut volume: String) {
    let spec = At::root(pod).get("spec");
    let known = {
        let mut names = spec.get("volumes").items().map(|at| at.get("name").str());
        names
            .find(|name| name.starts_with(VOLUME))
            .map(str::to_string)
    };
    let has_volume = known.is_some();
    volume = known.unwrap_or(volume);
    let lists = ["initContainers", "containers"];
    let containers = lists.into_iter().flat_map(|list| spec.get(list).items());
    let without = containers.filter(|at| {
        at.get("volumeMounts")
            .find("mountPath", MOUNT_PATH)
            .is_none()
    });
    let without: Vec<Id> = without.filter_map(|at| Some(at.node()?.id())).collect();
    for container in &without {
        let mounts = pod.list(*container, "volumeMounts");
        let mount = pod.push(mounts, api::doc::New::Object);
        pod.set(mount, "name", &volume);
        pod.set(mount, "readOnly", true);
        pod.set(mount, "mountPath", MOUNT_PATH);
    }
    if has_volume || without.is_empty() {
        return;
    }
    let source = Doc::literal(
        r#"{"name":"","projected":{"sources":[
            {"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
            {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
            {"downwardAPI":{"items":[{"path":"namespace",
                "fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}
        ],"defaultMode":420}}"#,
    );
    let source = pod.absorb(source);
    pod.set(source, "name", &volume);
    let top = pod.top();
    let spec = pod.object(top, "spec");
    let volumes = pod.list(spec, "volumes");
    pod.push_id(volumes, source);
}

fn enforces_secrets(account: At<'_>) -> bool {
    let told = account
        .path(&["metadata", "annotations"])
        .entry(ENFORCE_SECRETS);
    // What Go's ParseBool takes for true.
    told.is_some_and(|at| matches!(at.str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn limit_secrets(attempt: &Attempt<'_>, account: At<'_>, spec: At<'_>) -> Outcome<()> {
    let of = account.path(&["metadata", "name"]).str();
    for volume in spec.get("volumes").items() {
        let secret = volume.get("secret");
        let name = secret.get("secretName").str();
        if secret.is_set() && !allows(account, name) {
            return Err(attempt.forbidden(format!(
                "volume with secret.secretName=\"{name}\" is not allowed because service account {of} \
                 does not reference that secret"
            )));
        }
    }
    limit_containers(
        attempt,
        account,
        spec.get("initContainers"),
        "init container",
    )?;
    limit_containers(attempt, account, spec.get("containers"), "container")?;
    for (at, secret) in spec.get("imagePullSecrets").items().enumerate() {
        let name = secret.get("name").str();
        if account.get("imagePullSecrets").find("name", name).is_none() {
            return Err(attempt.forbidden(format!(
                "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {of} \
                 does not reference that imagePullSecret"
            )));
        }
    }
    Ok(())
}

fn allows(account: At<'_>, secret: &str) -> bool {
    account.get("secrets").find("name", secret).is_some()
}

fn limit_containers(
    attempt: &Attempt<'_>,
    account: At<'_>,
    containers: At<'_>,
    kind: &str,
) -> Outcome<()> {
    let of = account.path(&["metadata", "name"]).str();
    for container in containers.items() {
        let env = container.get("env").items().map(|env| {
            let what = format!("envVar {}", env.get("name").str());
            (what, env.path(&["valueFrom", "secretKeyRef"]))
        });
        let from = container.get("envFrom").items();
        let from = from.map(|from| ("envFrom".to_string(), from.get("secretRef")));
        for (what, secret) in env.chain(from) {
            let name = secret.get("name").str();
            if secret.is_set() && !allows(account, name) {
                return Err(attempt.forbidden(format!(
                    "{kind} {} with {what} referencing secret.secretName=\"{name}\" is not allowed \
                     because service account {of} does not reference that secret",
                    container.get("name").str()
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    fn pod(more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i"}}]{more}}}}}"#
        )
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pods_get_an_account_and_its_token() {
        let server = Server::start().await;
        server.namespace("a").await;
        let path = "/api/v1/namespaces/a/serviceaccounts/default";
        let secrets = r#"{"imagePullSecrets":[{"name":"pull"}]}"#;
        server.ask("PATCH", path, secrets).await.ok();
        let pods = "/api/v1/namespaces/a/pods?dryRun=All";
        let made = server.create(pods, &pod("")).await.ok();
        let spec = At::root(&made).get("spec");
        assert_eq!(spec.get("serviceAccountName").str(), "default");
        assert_eq!(spec.get("serviceAccount").str(), "default");
        assert!(spec.get("imagePullSecrets").find("name", "pull").is_some());
        let volume = spec.get("volumes").items().next().unwrap();
        let name = volume.get("name").str();
        assert!(
            name.starts_with(VOLUME) && name.len() == VOLUME.len() + 5,
            "{name}"
        );
        assert_eq!(
            volume.get("projected").node().unwrap().to_string(),
            r#"{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}"#
        );
        let container = spec.get("containers").items().next().unwrap();
        let mount = container
            .get("volumeMounts")
            .find("mountPath", MOUNT_PATH)
            .unwrap();
        assert!(mount.get("name").str() == name && mount.get("readOnly").flag());

        let made = server
            .create(pods, &pod(r#","automountServiceAccountToken":false"#))
            .await
            .ok();
        assert!(At::root(&made).path(&["spec", "volumes"]).is_empty());
        let refused = server
            .create(pods, &pod(r#","serviceAccountName":"no""#))
            .await;
        let want = "pods \"p\" is forbidden: error looking up service account a/no: serviceaccount \
                    \"no\" not found";
        assert_eq!(refused.refusal(), (403, want));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn accounts_may_name_what_their_pods_use() {
        let server = Server::start().await;
        server.namespace("a").await;
        let strict = r#"{"metadata":{"name":"s","annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}},
            "secrets":[{"name":"mine"}]}"#;
        server
            .create("/api/v1/namespaces/a/serviceaccounts", strict)
            .await
            .ok();
        let pods = "/api/v1/namespaces/a/pods?dryRun=All";
        let with = |secret: &str| {
            pod(&format!(
                r#","serviceAccountName":"s","volumes":[{{"name":"v","secret":{{"secretName":"{secret}"}}}}]"#
            ))
        };
        server.create(pods, &with("mine")).await.ok();
        let refused = server.create(pods, &with("other")).await;
        let want = "pods \"p\" is forbidden: volume with secret.secretName=\"other\" is not allowed because \
                    service account s does not reference that secret";
        assert_eq!(refused.refusal(), (403, want));
        let mirror = r#"{"metadata":{"name":"m","annotations":{"kubernetes.io/config.mirror":"x"}},
            "spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","secret":{"secretName":"x"}}]}}"#;
        let refused = server.create(pods, mirror).await;
        let want = "pods \"m\" is forbidden: a mirror pod may not reference secrets";
        assert_eq!(refused.refusal(), (403, want));
    }
}
