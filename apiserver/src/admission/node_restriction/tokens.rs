//! A node gets tokens of its pods' service accounts, for audiences that the pods name.

use api::doc::Doc;

use super::{Write, runs_on};
use crate::admission::Operation;
use crate::authorization::Attributes;
use crate::registry::{Outcome, metadata};
use crate::validation::At;

pub(super) async fn judge(write: &Write<'_, '_>) -> Outcome<()> {
    let attempt = write.attempt;
    let Some(request) = write.new.filter(|_| attempt.operation == Operation::Create) else {
        return Ok(());
    };
    let spec = At::root(request).get("spec");
    let bound = spec.get("boundObjectRef");
    let is = |key, value: &str| bound.get(key).str() == value;
    if !is("apiVersion", "v1") || !is("kind", "Pod") || bound.get("name").is_empty() {
        return write.refuse("node requested token not bound to a pod");
    }
    let uid = bound.get("uid").str();
    if uid.is_empty() {
        return write.refuse("node requested token with a pod binding without a uid");
    }
    let pod = write.find_pod(bound.get("name").str()).await?;
    if uid != metadata::text(&pod, "uid") {
        return write.refuse(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object \
             might have been deleted and then recreated"
        ));
    }
    if runs_on(&pod) != write.node {
        return write.refuse("node requested token bound to a pod scheduled on a different node");
    }
    let mut audiences = spec.get("audiences").items();
    let (audience, None) = (audiences.next().map_or("", At::str), audiences.next()) else {
        return write.refuse("node may only request 0 or 1 audiences");
    };
    if names_audience(write, &pod, audience) || is_allowed(write, audience).await {
        return Ok(());
    }
    write.refuse(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens \
         for this audience",
        attempt.call.user.name
    ))
}

async fn is_allowed(write: &Write<'_, '_>, audience: &str) -> bool {
    let call = write.attempt.call;
    let wanted = Attributes {
        version: "v1",
        namespace: write.attempt.namespace(),
        name: &write.attempt.name,
        ..Attributes::resource(
            call.user,
            "request-serviceaccounts-token-audience",
            "",
            audience,
        )
    };
    call.api.authorizer.authorize(&wanted).await.is_allowed()
}

/// Whether a volume of a pod asks for tokens with an audience: itself, or by its driver.
fn names_audience(write: &Write<'_, '_>, pod: &Doc, audience: &str) -> bool {
    let volumes = At::root(pod).path(&["spec", "volumes"]);
    volumes.items().any(|volume| {
        let mut sources = volume.path(&["projected", "sources"]).items();
        sources.any(|source| {
            let token = source.get("serviceAccountToken");
            token.is_set() && token.get("audience").str() == audience
        }) || driver_of(write, pod, volume)
            .is_some_and(|driver| driver_names(write, &driver, audience))
    })
}

/// The driver of a volume, by way of its claim if it has one.
fn driver_of(write: &Write<'_, '_>, pod: &Doc, volume: At<'_>) -> Option<String> {
    let objects = write.attempt.objects();
    let claim = volume.path(&["persistentVolumeClaim", "claimName"]).str();
    let name = volume.get("name").str();
    let claim = match (
        volume.path(&["ephemeral", "volumeClaimTemplate"]).is_set(),
        claim,
    ) {
        (true, _) => format!("{}-{name}", metadata::text(pod, "name")),
        (_, "") => {
            let driver = volume.path(&["csi", "driver"]).str();
            return (!driver.is_empty()).then(|| driver.to_string());
        }
        (_, claim) => claim.to_string(),
    };
    let namespace = write.attempt.namespace();
    let claim = objects
        .get("", "persistentvolumeclaims", namespace, &claim)?
        .doc();
    let volume = claim.root().text(&["spec", "volumeName"]);
    let volume = objects.get("", "persistentvolumes", "", volume)?.doc();
    let driver = volume.root().text(&["spec", "csi", "driver"]);
    (!driver.is_empty()).then(|| driver.to_string())
}

fn driver_names(write: &Write<'_, '_>, driver: &str, audience: &str) -> bool {
    let objects = write.attempt.objects();
    let Some(driver) = objects.get("storage.k8s.io", "csidrivers", "", driver) else {
        return false;
    };
    let driver = driver.doc();
    let mut requests = At::root(&driver).path(&["spec", "tokenRequests"]).items();
    requests.any(|request| request.get("audience").str() == audience)
}
