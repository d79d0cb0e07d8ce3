//! Secrets with tokens of service accounts: who asks for one by its type and annotation gets it filled,
//! and it goes with its account.

mod plan;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Selection, Subscription, View, errors};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};

pub(crate) use self::plan::{TYPE, account, is_for};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// What fails so often waits for its next change.
const TRIES: u32 = 10;

/// What is woken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// A secret.
    Secret(Key),
    /// A secret that is gone, and the account that it was for.
    Gone {
        secret: Key,
        account: String,
        uid: String,
    },
    /// An account that is gone.
    Account { account: Key, uid: String },
}

/// Fills and removes secrets.
pub(crate) struct ServiceAccountTokens {
    context: Context,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    _subscriptions: [Subscription; 2],
}

/// The secrets that hold tokens.
pub(crate) fn token_secrets(context: &Context) -> Informer<Secret> {
    context.informers.selected::<Secret>(Selection {
        fields: Some(format!("type={TYPE}")),
        ..Selection::default()
    })
}

#[async_trait]
impl Controller for ServiceAccountTokens {
    type Key = Task;

    fn start(context: &Context, queue: &Queue<Task>) -> Self {
        let secrets = token_secrets(context);
        let accounts = context.informers.of::<ServiceAccount>();
        let (of_secrets, of_accounts) = (queue.clone(), queue.clone());
        let subscriptions = [
            secrets.on_change(move |old, new| match (old, new) {
                (_, Some(secret)) => of_secrets.add(Task::Secret(Key::of(&**secret))),
                (Some(secret), None) => {
                    let (account, uid) = account(secret);
                    of_secrets.add(Task::Gone {
                        secret: Key::of(&**secret),
                        account: account.to_string(),
                        uid: uid.to_string(),
                    });
                }
                (None, None) => {}
            }),
            accounts.on_change(move |old, new| {
                if let (Some(gone), None) = (old, new) {
                    of_accounts.add(Task::Account {
                        account: Key::of(&**gone),
                        uid: gone.uid().to_string(),
                    });
                }
            }),
        ];
        Self {
            context: context.clone(),
            secrets,
            accounts,
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(TRIES)
    }

    async fn sync(&self, task: &Task) -> Result<Again, Error> {
        match task {
            Task::Secret(key) => {
                if let Some(secret) = self.secrets.get(&key.namespace, &key.name) {
                    self.fill(&secret).await?;
                }
            }
            Task::Gone {
                secret,
                account,
                uid,
            } => self.forget(secret, account, uid).await?,
            Task::Account { account, uid } => {
                for secret in self.secrets.in_namespace(&account.namespace) {
                    if plan::account(&secret) == (&*account.name, uid.as_str()) {
                        self.delete(&secret).await?;
                    }
                }
            }
        }
        Ok(Again::Done)
    }
}

impl ServiceAccountTokens {
    async fn fill(&self, known: &Secret) -> Result<(), Error> {
        let (name, uid) = account(known);
        if name.is_empty() {
            return Ok(());
        }
        let accounts =
            Api::<ServiceAccount>::namespaced(self.context.client.clone(), known.namespace());
        let cached = self
            .accounts
            .get(known.namespace(), name)
            .filter(|found| is_for(uid, found));
        let account = match cached {
            Some(cached) => (*cached).clone(),
            // Perhaps it is newer than the cache.
            None => match accounts
                .get_opt(name)
                .await?
                .filter(|found| is_for(uid, found))
            {
                Some(live) => live,
                None => return self.delete(known).await,
            },
        };
        let settings = &self.context.settings;
        let Some(lack) = plan::lack(known, &settings.root_ca) else {
            return Ok(());
        };
        let token = match &settings.token_signer {
            Some(signer) if lack.token => {
                let claims = plan::claims(&account, known.name()).to_string();
                Some(signer.sign(&claims).map_err(Error::Other)?)
            }
            // Nobody here can sign: another controller manager may.
            None if lack.token => return Ok(()),
            _ => None,
        };
        let patch = Patch::Merge(plan::patch(known, &account, lack, &settings.root_ca, token));
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), known.namespace());
        match secrets
            .patch(known.name(), &PatchParams::default(), &patch)
            .await
        {
            // It is gone, or has changed, which wakes it.
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }

    /// Takes a secret that is gone from its account.
    async fn forget(&self, secret: &Key, account: &str, uid: &str) -> Result<(), Error> {
        let is_known = self
            .accounts
            .get(&secret.namespace, account)
            .is_some_and(|found| is_for(uid, &found));
        if !is_known {
            return Ok(());
        }
        let accounts =
            Api::<ServiceAccount>::namespaced(self.context.client.clone(), &secret.namespace);
        let Some(live) = accounts
            .get_opt(account)
            .await?
            .filter(|live| is_for(uid, live))
        else {
            return Ok(());
        };
        let Some(patch) = plan::without(&live, &secret.name) else {
            return Ok(());
        };
        match accounts
            .patch(account, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(error) if errors::is_not_found(&error) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), secret.namespace());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(secret.uid().to_string()),
            resource_version: None,
        });
        match secrets.delete(secret.name(), &params).await {
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::api::PostParams;
    use serde_json::json;

    use super::*;
    use crate::controller::Row;
    use crate::settings::{Settings, TokenSigner};
    use crate::testing::{Cluster, eventually, gone};

    const ROW: Row =
        Row::of::<ServiceAccountTokens>("serviceaccount-token-controller", "tokens-controller");

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_secret_is_filled_and_goes_with_its_account() {
        let cluster = Cluster::start().await;
        cluster.server.namespace("a").await;
        let settings = Settings {
            root_ca: "ca".to_string(),
            token_signer: Some(TokenSigner::new(|claims| Ok(format!("signed {claims}")))),
            ..Settings::default()
        };
        cluster.run_with(&[ROW], settings);
        let secrets = Api::<Secret>::namespaced(cluster.admin.clone(), "a");
        let secret = |name: &str, account: &str| {
            let secret = json!({"metadata": {"name": name, "annotations": {plan::ACCOUNT: account}}, "type": TYPE});
            serde_json::from_value::<Secret>(secret).unwrap()
        };
        secrets
            .create(&PostParams::default(), &secret("s", "default"))
            .await
            .unwrap();
        let filled = eventually("the secret is filled", || async {
            secrets
                .get("s")
                .await
                .unwrap()
                .data
                .filter(|data| data.contains_key("token"))
        })
        .await;
        let text = |key: &str| String::from_utf8(filled[key].0.clone()).unwrap();
        assert_eq!(
            (text("ca.crt"), text("namespace")),
            ("ca".to_string(), "a".to_string())
        );
        assert!(text("token").contains("system:serviceaccount:a:default"));
        let accounts = Api::<ServiceAccount>::namespaced(cluster.admin.clone(), "a");
        accounts
            .delete("default", &DeleteParams::default())
            .await
            .unwrap();
        gone(&secrets, "s").await;
        secrets
            .create(&PostParams::default(), &secret("t", "nobody"))
            .await
            .unwrap();
        gone(&secrets, "t").await;
    }
}
