//! Deletes tokens as soon as they have ended.

use async_trait::async_trait;
use client::bootstrap_token::{Remaining, SECRET_NAMESPACE, TokenSecret};
use client::{Informer, Key, Queue, Subscription, errors};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Preconditions};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// The controller.
pub struct TokenCleaner {
    context: Context,
    tokens: Informer<TokenSecret>,
    _watch: Subscription,
}

#[async_trait]
impl Controller for TokenCleaner {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let tokens = super::tokens(context);
        let queue = queue.clone();
        let watch = tokens.on_change(move |_, new| {
            if let Some(secret) = new {
                queue.add(Key::of(&**secret));
            }
        });
        Self {
            context: context.clone(),
            tokens,
            _watch: watch,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(secret) = self.tokens.get(SECRET_NAMESPACE, &key.name) else {
            return Ok(Again::Done);
        };
        match secret.remaining(self.context.now()) {
            Remaining::Always => return Ok(Again::Done),
            Remaining::For(rest) => return Ok(Again::After(rest)),
            Remaining::Nothing => {}
        }
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), SECRET_NAMESPACE);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: secret.metadata.uid.clone(),
            resource_version: None,
        });
        match secrets.delete(&key.name, &params).await {
            Err(error) if !errors::is_not_found(&error) && !errors::is_conflict(&error) => {
                Err(error.into())
            }
            _ => Ok(Again::Done),
        }
    }
}
