//! Keeps ServiceCIDRs from going while addresses need them, and says when they are ready.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use client::{EventType, Informer, Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use self::plan::{FINALIZER, Ready, Step};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::note;

const NAME: &str = "service-cidr-controller";
/// After so many failures a block waits for its next change.
const FAILURES_MAX: u32 = 15;

/// The controller. Keys are names of ServiceCIDRs.
pub struct ServiceCidrs {
    context: Context,
    recorder: Recorder,
    cidrs: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for ServiceCidrs {
    type Key = String;

    fn start(context: &Context, queue: &Queue<String>) -> Self {
        let cidrs = context.informers.of::<ServiceCIDR>();
        let addresses = context.informers.of::<IPAddress>();
        let subscriptions = [
            cidrs.on_change({
                let (queue, cidrs) = (queue.clone(), cidrs.clone());
                move |old, new| {
                    let Some(cidr) = new.or(old) else { return };
                    queue.add(View::name(&**cidr).to_owned());
                    // A new or lost block may let others go, or hold them.
                    if old.is_none() || new.is_none() {
                        let others = cidrs.list();
                        let others = others.iter().filter(|other| plan::overlap(other, cidr));
                        others.for_each(|other| queue.add(View::name(&**other).to_owned()));
                    }
                }
            }),
            addresses.on_change({
                let (queue, cidrs) = (queue.clone(), cidrs.clone());
                move |old, new| {
                    let Some(address) = new.or(old).filter(|_| old.is_none() || new.is_none())
                    else {
                        return;
                    };
                    let holders = cidrs.list();
                    let holders = holders.iter().filter(|cidr| plan::holds(cidr, address));
                    holders.for_each(|cidr| queue.add(View::name(&**cidr).to_owned()));
                }
            }),
        ];
        Self {
            recorder: context.recorder(NAME),
            context: context.clone(),
            cidrs,
            addresses,
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(FAILURES_MAX)
    }

    async fn sync(&self, name: &String) -> Result<Again, Error> {
        let Some(cidr) = self.cidrs.get("", name) else {
            return Ok(Again::Done);
        };
        let all = self.cidrs.list();
        let addresses = match cidr.is_deleted() {
            true => self.addresses.list(),
            false => Vec::new(),
        };
        let addresses = addresses.iter().map(|address| &**address);
        let mut again = Again::Done;
        for step in plan::plan(&cidr, &all, addresses, self.context.now()) {
            match step {
                Step::Wait(wait) => again = Again::After(wait),
                step => self.apply(&cidr, step).await?,
            }
        }
        Ok(again)
    }
}

impl ServiceCidrs {
    async fn apply(&self, cidr: &Arc<ServiceCIDR>, step: Step) -> Result<(), Error> {
        let api: Api<ServiceCIDR> = Api::all(self.context.client.clone());
        let name = View::name(&**cidr);
        let finalizers = |finalizers| Patch::Strategic(json!({"metadata": finalizers}));
        let params = PatchParams::default();
        let patched = match step {
            Step::Protect => {
                let patch = finalizers(json!({"finalizers": [FINALIZER]}));
                api.patch(name, &params, &patch).await
            }
            Step::Release => {
                let patch = finalizers(json!({"$deleteFromPrimitiveList/finalizers": [FINALIZER]}));
                api.patch(name, &params, &patch).await
            }
            Step::Tell(ready) => {
                let told = api
                    .patch_status(name, &forced(), &self.condition(name, ready))
                    .await;
                if told.is_err() && ready.status == "True" {
                    self.recorder.event(
                        &note::reference(&**cidr),
                        EventType::Warning,
                        "KubernetesServiceCIDRError",
                        "The ServiceCIDR Status can not be set to Ready=True",
                    );
                }
                told
            }
            Step::Wait(_) => return Ok(()),
        };
        match patched {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn condition(&self, name: &str, ready: Ready) -> Patch<serde_json::Value> {
        Patch::Apply(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": name},
            "status": {"conditions": [{
                "type": "Ready",
                "status": ready.status,
                "reason": ready.reason,
                "message": ready.message,
                "lastTransitionTime": self.context.now().to_string(),
            }]},
        }))
    }
}

fn forced() -> PatchParams {
    PatchParams::apply(NAME).force()
}
