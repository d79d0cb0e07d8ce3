//! Service accounts: every namespace that lives has one named `default`.

use std::sync::Arc;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription, View, errors};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// What every namespace has.
const DEFAULT: &str = "default";

/// Makes service accounts.
pub(crate) struct ServiceAccounts {
    context: Context,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for ServiceAccounts {
    /// A namespace.
    type Key = Arc<str>;

    fn start(context: &Context, queue: &Queue<Arc<str>>) -> Self {
        let namespaces = context.informers.of::<Namespace>();
        let accounts = context.informers.of::<ServiceAccount>();
        let (of_namespaces, of_accounts) = (queue.clone(), queue.clone());
        let subscriptions = [
            namespaces.on_change(move |_, new| {
                if let Some(namespace) = new.filter(|namespace| is_active(namespace)) {
                    of_namespaces.add(Key::of(&**namespace).name);
                }
            }),
            accounts.on_change(move |old, new| {
                if let (Some(gone), None) = (old, new)
                    && gone.name() == DEFAULT
                {
                    of_accounts.add(gone.namespace().into());
                }
            }),
        ];
        Self {
            context: context.clone(),
            namespaces,
            accounts,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, name: &Arc<str>) -> Result<Again, Error> {
        let namespace = self.namespaces.get("", name);
        let is_needed = namespace.is_some_and(|namespace| is_active(&namespace));
        if !is_needed || self.accounts.get(name, DEFAULT).is_some() {
            return Ok(Again::Done);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_string()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let api = Api::<ServiceAccount>::namespaced(self.context.client.clone(), name);
        match api.create(&PostParams::default(), &account).await {
            Err(error) if errors::is_already_exists(&error) || is_going(&error) => Ok(Again::Done),
            result => result.map(|_| Again::Done).map_err(Into::into),
        }
    }
}

/// Whether a namespace lives.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Active")
}

/// Whether the namespace goes, or is gone: then it needs nothing.
pub(crate) fn is_going(error: &kube::Error) -> bool {
    errors::is_namespace_terminating(error) || errors::is_not_found(error)
}

#[cfg(test)]
mod tests {
    use kube::api::DeleteParams;
    use serde_json::json;

    use super::*;
    use crate::controller::Row;
    use crate::testing::{Cluster, eventually};

    const ROW: Row =
        Row::of::<ServiceAccounts>("serviceaccount-controller", "service-account-controller");

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_namespace_gets_its_account_again_and_again() {
        let cluster = Cluster::start().await;
        cluster.run(&[ROW]);
        let namespaces = Api::<Namespace>::all(cluster.admin.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(cluster.admin.clone(), "a");
        let first = eventually("there is an account", || async {
            accounts.get_opt(DEFAULT).await.unwrap()
        })
        .await;
        accounts
            .delete(DEFAULT, &DeleteParams::default())
            .await
            .unwrap();
        eventually("there is another", || async {
            let found = accounts.get_opt(DEFAULT).await.unwrap();
            found.filter(|found| found.metadata.uid != first.metadata.uid)
        })
        .await;
    }
}
