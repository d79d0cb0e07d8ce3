//! The cleaner of legacy tokens: secrets that were made for service accounts by themselves, long ago,
//! and that nobody uses, are marked, and go a period later.

mod plan;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use client::{Informer, Queue, View, errors};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::sleep;

use self::plan::{INVALID_SINCE, TRACKING, Verdict};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::service_account_token::{account, is_for, token_secrets};

/// How often tokens are looked at.
const PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Pods of a page.
const PAGE: u32 = 500;

/// Removes tokens.
pub(crate) struct LegacyTokenCleaner {
    context: Context,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

#[async_trait]
impl Controller for LegacyTokenCleaner {
    /// There is one thing to do.
    type Key = ();

    fn start(context: &Context, _: &Queue<()>) -> Self {
        Self {
            context: context.clone(),
            secrets: token_secrets(context),
            accounts: context.informers.of::<ServiceAccount>(),
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn background(&self, queue: &Queue<()>) {
        loop {
            queue.add(());
            sleep(PERIOD).await;
        }
    }

    async fn sync(&self, (): &()) -> Result<Again, Error> {
        let now = self.context.now();
        let period = SignedDuration::try_from(self.context.settings.legacy_token_period)
            .unwrap_or(SignedDuration::MAX);
        let (namespace, name, key) = TRACKING;
        let maps = Api::<ConfigMap>::namespaced(self.context.client.clone(), namespace);
        let tracking = maps
            .get_opt(name)
            .await?
            .and_then(|map| map.data?.remove(key));
        if !tracking.is_some_and(|since| plan::is_tracked(&since, period, now)) {
            return Ok(Again::Done);
        }
        let mut mounted = HashMap::<String, BTreeSet<String>>::new();
        for secret in self.secrets.list() {
            let (name, uid) = account(&secret);
            let account = self
                .accounts
                .get(secret.namespace(), name)
                .filter(|found| is_for(uid, found));
            if !plan::is_idle(&secret, account.as_deref(), period, now) {
                continue;
            }
            if !mounted.contains_key(secret.namespace()) {
                mounted.insert(
                    secret.namespace().to_string(),
                    self.mounted(secret.namespace()).await?,
                );
            }
            if mounted
                .get(secret.namespace())
                .is_some_and(|names| names.contains(secret.name()))
            {
                continue;
            }
            self.carry_out(&secret, plan::judge(&secret, period, now))
                .await?;
        }
        Ok(Again::Done)
    }
}

impl LegacyTokenCleaner {
    /// The secrets that pods of a namespace use.
    async fn mounted(&self, namespace: &str) -> Result<BTreeSet<String>, Error> {
        let pods = Api::<Pod>::namespaced(self.context.client.clone(), namespace);
        let mut names = BTreeSet::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = pods.list(&params).await?;
            for pod in &page.items {
                plan::mounted(&json!(pod.spec), &mut names);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                None => return Ok(names),
                Some(token) => params = params.continue_token(&token),
            }
        }
    }

    async fn carry_out(&self, secret: &Secret, verdict: Verdict) -> Result<(), Error> {
        let (namespace, name) = (secret.namespace(), secret.name());
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), namespace);
        let result = match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Mark(date) => {
                tracing::info!(
                    namespace,
                    name,
                    date,
                    "a token that nobody uses is accepted no more"
                );
                let metadata = json!({"uid": secret.uid(), "labels": {INVALID_SINCE: date}});
                let patch = Patch::Merge(json!({"metadata": metadata}));
                secrets
                    .patch(name, &PatchParams::default(), &patch)
                    .await
                    .map(drop)
            }
            Verdict::Delete => {
                tracing::info!(namespace, name, "a token that nobody uses is removed");
                let params = DeleteParams::default().preconditions(Preconditions {
                    uid: None,
                    resource_version: secret.metadata.resource_version.clone(),
                });
                secrets.delete(name, &params).await.map(drop)
            }
        };
        match result {
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            result => result.map_err(Into::into),
        }
    }
}
