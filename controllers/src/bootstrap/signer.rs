//! Signs the ConfigMap `cluster-info` with every token that may sign.

mod plan;

use async_trait::async_trait;
use client::bootstrap_token::{CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, TokenSecret};
use client::{Informer, Queue, Selection, Subscription};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};

/// The controller. There is one thing to sync.
pub struct Signer {
    context: Context,
    tokens: Informer<TokenSecret>,
    maps: Informer<ConfigMap>,
    _watches: [Subscription; 2],
}

#[async_trait]
impl Controller for Signer {
    type Key = ();

    fn start(context: &Context, queue: &Queue<()>) -> Self {
        let tokens = super::tokens(context);
        let maps = context.informers.selected::<ConfigMap>(Selection {
            namespace: Some(CLUSTER_INFO_NAMESPACE.into()),
            fields: Some(format!("metadata.name={CLUSTER_INFO}")),
            ..Selection::default()
        });
        let (of_tokens, of_maps) = (queue.clone(), queue.clone());
        Self {
            context: context.clone(),
            _watches: [
                tokens.on_change(move |_, _| of_tokens.add(())),
                maps.on_change(move |_, _| of_maps.add(())),
            ],
            tokens,
            maps,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, (): &()) -> Result<Again, Error> {
        let Some(map) = self.maps.get(CLUSTER_INFO_NAMESPACE, CLUSTER_INFO) else {
            return Ok(Again::Done);
        };
        let Some(data) = plan::signed(&map, &self.tokens.list(), self.context.now()) else {
            return Ok(Again::Done);
        };
        let mut map = ConfigMap::clone(&map);
        map.data = Some(data);
        let maps: Api<ConfigMap> =
            Api::namespaced(self.context.client.clone(), CLUSTER_INFO_NAMESPACE);
        maps.replace(CLUSTER_INFO, &PostParams::default(), &map)
            .await?;
        Ok(Again::Done)
    }
}
