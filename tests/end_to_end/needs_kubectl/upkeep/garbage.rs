//! What is owned goes with its owner: after it, before it, or not at all.

use crate::support::{Kubectl, until};

fn deployment(kubectl: &Kubectl) {
    kubectl.create_web("nginx", 3, &[]);
    kubectl.rolled_out("deployment/web");
}

pub(super) fn goes_after_its_owner(kubectl: &Kubectl) {
    deployment(kubectl);
    let set = kubectl.must(&["get", "rs", "-o", "name"]);
    kubectl.must(&["delete", "deploy", "web"]);
    kubectl.is_gone(set.trim());
    kubectl.shows(&["pods"], "{.items}", "[]");
    // An owner that never was is as good as one that is gone.
    kubectl.apply(
        "
apiVersion: v1
kind: ConfigMap
metadata:
  name: stray
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: nobody, uid: 0f3b5a1e-0000-4000-8000-000000000000}]
",
    );
    kubectl.is_gone("cm/stray");
    // Many levels, and a circle.
    kubectl.must(&["create", "cm", "root"]);
    let mut owner = "root".to_owned();
    for level in 0..4 {
        let name = format!("level-{level}");
        let uid = kubectl.path(&["cm", &owner], "{.metadata.uid}");
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: {owner}, uid: {uid}}}]
"
        ));
        owner = name;
    }
    kubectl.must(&["delete", "cm", "root"]);
    for level in 0..4 {
        kubectl.is_gone(&format!("cm/level-{level}"));
    }
}

pub(super) fn goes_before_its_owner(kubectl: &Kubectl) {
    deployment(kubectl);
    let pod = kubectl.path(&["pods"], "{.items[0].metadata.name}");
    let finalizers = |list: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
        kubectl.must(&["patch", "pod", &pod, "--type=merge", "-p", &patch]);
    };
    finalizers(r#"["example.com/wait"]"#);
    kubectl.must(&[
        "delete",
        "deploy",
        "web",
        "--cascade=foreground",
        "--wait=false",
    ]);
    // One pod stays, so its owners do.
    kubectl.shows(&["pods"], "{.items[*].metadata.name}", &pod);
    for owner in ["deploy", "rs"] {
        let waits = kubectl.path(&[owner], "{.items[0].metadata.finalizers}");
        assert_eq!(waits, r#"["foregroundDeletion"]"#, "{owner}");
        let deleted = kubectl.path(&[owner], "{.items[0].metadata.deletionTimestamp}");
        assert!(!deleted.is_empty(), "{owner}");
    }
    finalizers("null");
    kubectl.is_gone("deploy/web");
    assert_eq!(kubectl.must(&["get", "rs,pods", "-o", "name"]), "");
}

pub(super) fn is_left_behind_if_asked(kubectl: &Kubectl) {
    deployment(kubectl);
    let uids = kubectl.path(&["pods"], "{.items[*].metadata.uid}");
    kubectl.must(&["delete", "deploy", "web", "--cascade=orphan"]);
    kubectl.is_gone("deploy/web");
    let owners = "{.items[*].metadata.ownerReferences}";
    assert_eq!(kubectl.path(&["rs"], owners), "", "nobody owns it");
    let set = kubectl.path(&["rs"], "{.items[0].metadata.name}");
    // A Deployment that looks for such takes it over.
    deployment(kubectl);
    assert_eq!(kubectl.path(&["rs"], "{.items[*].metadata.name}"), set);
    kubectl.shows(
        &["rs"],
        "{.items[0].metadata.ownerReferences[0].name}",
        "web",
    );
    assert_eq!(
        kubectl.path(&["pods"], "{.items[*].metadata.uid}"),
        uids,
        "the same pods run on"
    );
    // A pod whose labels change is let go, and replaced.
    let pod = kubectl.path(&["pods"], "{.items[0].metadata.name}");
    kubectl.must(&["label", "pod", &pod, "--overwrite", "app=other"]);
    until("it is let go and replaced", || {
        kubectl.count("pods", "app=web") == 3
            && kubectl
                .path(&["pod", &pod], "{.metadata.ownerReferences}")
                .is_empty()
    });
}
