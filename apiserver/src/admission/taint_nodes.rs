//! TaintNodesByCondition: a new node takes no pods until it was seen to be ready.

use api::doc::{Doc, New};
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::validation::At;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_new = attempt.operation == Operation::Create && attempt.is_of("", "nodes");
        let Some(node) = new.filter(|_| is_new) else {
            return Ok(());
        };
        let is_it = |taint: At<'_>| {
            taint.get("key").str() == NOT_READY && taint.get("effect").str() == NO_SCHEDULE
        };
        if At::root(node).path(&["spec", "taints"]).items().any(is_it) {
            return Ok(());
        }
        let top = node.top();
        let spec = node.object(top, "spec");
        let taints = node.list(spec, "taints");
        let taint = node.push(taints, New::Object);
        node.set(taint, "key", NOT_READY);
        node.set(taint, "effect", NO_SCHEDULE);
        Ok(())
    }
}
