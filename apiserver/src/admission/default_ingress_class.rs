//! DefaultIngressClass: ingresses that do not say their class get the one for all.

use api::doc::Doc;
use async_trait::async_trait;

use super::default_storage_class::newest_marked;
use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::validation::At;

const GROUP: &str = "networking.k8s.io";
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// How ingresses named their class before there was a field.
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        let is_new = attempt.operation == Operation::Create;
        let Some(ingress) = new.filter(|_| is_new && attempt.is_of(GROUP, "ingresses")) else {
            return Ok(());
        };
        let at = At::root(ingress);
        let annotations = at.path(&["metadata", "annotations"]);
        if at.get("spec").has("ingressClassName") || annotations.entry(OLD_CLASS).is_some() {
            return Ok(());
        }
        let classes = attempt.objects().list(GROUP, "ingressclasses", "");
        if let Some(name) = newest_marked(&classes, &[MARK]) {
            ingress.set_path(&["spec", "ingressClassName"], &name);
        }
        Ok(())
    }
}
