//! Fields that old clients and nodes call something else: both names say the same.

use api::doc::{Doc, New};

use crate::kinds::facts::remove_path;
use crate::validation::At;

const INIT_CONTAINER_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Of whatever has the `metadata` and `spec` of a pod, at a path.
pub(crate) fn unify(doc: &mut Doc, path: &[&'static str]) {
    let at = |below: &[&'static str]| -> Vec<&'static str> { [path, below].concat() };
    for key in INIT_CONTAINER_ANNOTATIONS {
        remove_path(doc, &at(&["metadata", "annotations", key]));
    }
    let spec = At::root(doc).path(&at(&["spec"]));
    let name = match spec.get("serviceAccountName").str() {
        "" => spec.get("serviceAccount").str(),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_string();
        for field in ["serviceAccountName", "serviceAccount"] {
            doc.set_path(&at(&["spec", field]), &name);
        }
    }
}

/// A pod's addresses: the first of them stands alone too.
pub(super) fn unify_addresses(pod: &mut Doc) {
    let status = At::root(pod).get("status");
    let (alone, list) = (status.get("podIP").str(), status.get("podIPs"));
    let first = list.items().next().map_or("", |at| at.get("ip").str());
    if alone == first {
        return;
    }
    let address = if alone.is_empty() { first } else { alone }.to_string();
    if !alone.is_empty() {
        let list = pod.set_path(&["status", "podIPs"], New::List);
        let entry = pod.push(list, New::Object);
        pod.set(entry, "ip", &address);
    }
    pod.set_path(&["status", "podIP"], &address);
}
