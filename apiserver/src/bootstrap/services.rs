//! What makes the API reachable in the cluster: the block that services have their addresses from, and
//! the service `kubernetes`.

use api::doc::{Doc, New};

use super::{Wanted, object};
use crate::allocation::addresses;
use crate::instance::Api;

const GROUP: &str = "networking.k8s.io";
const HTTPS: i64 = 443;

/// The block of the settings; it is ready at once.
pub(super) fn block(api: &Api, now: &str) -> (Wanted, Doc) {
    let mut doc = object(&format!("{GROUP}/v1"), "ServiceCIDR", "", "kubernetes");
    let list = doc.set_path(&["spec", "cidrs"], New::List);
    for block in &api.allocator.settings().blocks {
        doc.push(list, &block.canonical());
    }
    let mut ready = Doc::literal(
        r#"{"type":"Ready","status":"True","reason":"","message":"Kubernetes default Service CIDR is ready"}"#,
    );
    ready.set_path(&["lastTransitionTime"], now);
    let wanted = Wanted {
        group: GROUP,
        resource: "servicecidrs",
        doc,
    };
    (wanted, ready)
}

/// The service of the API: it has the first address of the block.
pub(super) fn service(api: &Api, port: u16) -> Option<Wanted> {
    let block = api.allocator.settings().blocks.first()?;
    let mut doc = object("v1", "Service", "default", "kubernetes");
    doc.set_path(&["metadata", "labels", "component"], "apiserver");
    doc.set_path(&["metadata", "labels", "provider"], "kubernetes");
    let mut spec = Doc::literal(
        r#"{"type":"ClusterIP","ipFamilyPolicy":"SingleStack","sessionAffinity":"None"}"#,
    );
    spec.set_path(&["clusterIP"], &addresses::first(block));
    let list = spec.set_path(&["ports"], New::List);
    let one = spec.push(list, New::Object);
    spec.set(one, "name", "https");
    spec.set(one, "protocol", "TCP");
    spec.set(one, "port", HTTPS);
    spec.set(one, "targetPort", i64::from(port));
    let spec = doc.absorb(spec);
    let top = doc.top();
    doc.put(top, "spec", spec);
    Some(Wanted {
        group: "",
        resource: "services",
        doc,
    })
}
