//! Claims that want more than they have: says who is waited for. Drivers' sidecars do the rest.

mod plan;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Recorder, Subscription};
use kube::api::Api;

use self::plan::Decision;
use super::{Claim, Volume};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::note;

/// The controller.
pub struct Expand {
    client: kube::Client,
    recorder: Recorder,
    claims: Informer<Claim>,
    _watch: Subscription,
}

#[async_trait]
impl Controller for Expand {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let claims = context.informers.of::<Claim>();
        let queue = queue.clone();
        let watch = claims.on_change(move |old, new| {
            if let Some(claim) = new
                && plan::is_interesting(old.map(|old| &**old), claim)
            {
                queue.add(Key::of(&**claim));
            }
        });
        Self {
            client: context.client.clone(),
            recorder: context.recorder("volume_expand"),
            claims,
            _watch: watch,
        }
    }

    fn workers(&self) -> usize {
        10
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let volumes: Api<Volume> = Api::all(self.client.clone());
        let name = &claim.spec.volume_name;
        let volume = volumes.get(name).await;
        let volume =
            volume.map_err(|why| Error::other(format!("failed to get PV {name:?}: {why}")))?;
        match plan::decide(&claim, &volume) {
            Decision::Nothing => {}
            Decision::Wait(note) => note::tell(&self.recorder, &note::reference(&*claim), [&note]),
            Decision::Fail(why) => return Err(Error::other(why)),
        }
        Ok(Again::Done)
    }
}
