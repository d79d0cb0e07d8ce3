//! TTL after finished: jobs that have ended go after a while, if they say so.

mod plan;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription, View, errors};
use kube::Api;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::job::Job;

/// Removes jobs whose time is over.
pub(crate) struct TtlAfterFinished {
    context: Context,
    jobs: Informer<Job>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for TtlAfterFinished {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let jobs = context.informers.of::<Job>();
        let queue = queue.clone();
        let subscription = jobs.on_change(move |_, new| {
            let ended = new.filter(|job| job.finished().is_some());
            if let Some(job) = ended.filter(|job| job.spec.ttl_seconds_after_finished.is_some()) {
                queue.add(Key::of(&**job));
            }
        });
        Self {
            context: context.clone(),
            jobs,
            _subscription: subscription,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        match plan::rest(&job, self.context.now()) {
            None => return Ok(Again::Done),
            Some(rest) if !rest.is_zero() => return Ok(Again::After(rest)),
            Some(_) => {}
        }
        // The time may have been set anew meanwhile: only what the server says counts.
        let api = Api::<Job>::namespaced(self.context.client.clone(), &key.namespace);
        let Some(live) = api.get_opt(&key.name).await? else {
            return Ok(Again::Done);
        };
        match plan::rest(&live, self.context.now()) {
            None => return Ok(Again::Done),
            Some(rest) if !rest.is_zero() => return Ok(Again::After(rest)),
            Some(_) => {}
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(Preconditions {
                uid: Some(live.uid().to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &params).await {
            Err(error) if errors::is_not_found(&error) => Ok(Again::Done),
            result => result.map(|_| Again::Done).map_err(Into::into),
        }
    }
}
