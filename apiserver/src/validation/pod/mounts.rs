//! Where a container finds the pod's volumes: as directories and as devices.

use std::collections::HashSet;

use super::containers::Place;
use super::volumes;
use crate::validation::{At, Errors};

/// `volumeMounts` and `volumeDevices` of a container.
pub(crate) fn of_container(errors: &mut Errors, container: At<'_>, place: &Place<'_, '_>) {
    let (mounts, devices) = (
        container.get("volumeMounts"),
        container.get("volumeDevices"),
    );
    let mut points = HashSet::new();
    for mount in mounts.items() {
        let (name, point) = (mount.get("name"), mount.get("mountPath"));
        errors.need(name, "");
        if !place.volumes.contains_key(name.str()) {
            errors.not_found(name);
        }
        errors.need(point, "");
        if !points.insert(point.str()) {
            errors.invalid(point, "must be unique");
        }
        if devices.find("name", name.str()).is_some() {
            errors.invalid(name, "must not already exist in volumeDevices");
        }
        if devices.find("devicePath", point.str()).is_some() {
            errors.invalid(point, "must not already exist as a path in volumeDevices");
        }
        sub_paths(errors, mounts, mount);
        propagation(errors, mounts, mount, container);
        recursive_read_only(errors, mounts, mount);
    }
    volume_devices(errors, devices, mounts, place);
}

/// Upstream forgets which mount it was, here and below.
fn sub_paths(errors: &mut Errors, mounts: At<'_>, mount: At<'_>) {
    let (plain, expression) = (mount.get("subPath").str(), mount.get("subPathExpr"));
    for complaint in volumes::descending_path(plain) {
        errors.invalid_below(mounts, ".subPath", plain, complaint);
    }
    if expression.is_empty() {
        return;
    }
    if !plain.is_empty() {
        errors.invalid(expression, "subPathExpr and subPath are mutually exclusive");
    }
    for complaint in volumes::descending_path(expression.str()) {
        errors.invalid_below(mounts, ".subPathExpr", expression.str(), complaint);
    }
}

fn propagation(errors: &mut Errors, mounts: At<'_>, mount: At<'_>, container: At<'_>) {
    const KNOWN: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    let mode = mount.get("mountPropagation");
    if !mode.is_set() {
        return;
    }
    let path = format!("{}.mountPropagation", errors.path(mounts));
    if !KNOWN.contains(&mode.str()) {
        errors.push(api::field::FieldError::not_supported(
            path.clone(),
            mode.str(),
            &KNOWN,
        ));
    }
    let is_privileged = container.path(&["securityContext", "privileged"]).flag();
    if mode.str() == "Bidirectional" && !is_privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(api::field::FieldError::forbidden(path, detail));
    }
}

fn recursive_read_only(errors: &mut Errors, mounts: At<'_>, mount: At<'_>) {
    const KNOWN: [&str; 3] = ["Disabled", "Enabled", "IfPossible"];
    let mode = mount.get("recursiveReadOnly");
    if !mode.is_set() || mode.str() == "Disabled" {
        return;
    }
    let path = format!("{}.recursiveReadOnly", errors.path(mounts));
    if !KNOWN.contains(&mode.str()) {
        errors.push(api::field::FieldError::not_supported(
            path,
            mode.str(),
            &KNOWN,
        ));
        return;
    }
    let propagation = mount.get("mountPropagation");
    for (is_bad, detail) in [
        (
            !mount.get("readOnly").flag(),
            "may only be specified when readOnly is true",
        ),
        (
            propagation.is_set() && propagation.str() != "None",
            "may only be specified when mountPropagation is None or not specified",
        ),
    ] {
        if is_bad {
            errors.push(api::field::FieldError::forbidden(path.clone(), detail));
        }
    }
}

fn volume_devices(errors: &mut Errors, devices: At<'_>, mounts: At<'_>, place: &Place<'_, '_>) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        errors.need(name, "");
        if !name.is_empty() && !names.insert(name.str()) {
            errors.invalid(name, "must be unique");
        }
        match place.volumes.get(name.str()) {
            None => errors.not_found(name),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral \
                              for block mode";
                errors.invalid(name, detail);
            }
            Some(_) => {}
        }
        errors.need(path, "");
        if paths.contains(path.str()) {
            errors.invalid(path, "must be unique");
        }
        if volumes::no_backsteps(path.str()).is_empty() {
            paths.insert(path.str());
        } else {
            errors.invalid(path, "can not contain backsteps ('..')");
        }
        if mounts.find("name", name.str()).is_some() {
            errors.invalid(name, "must not already exist in volumeMounts");
        }
        if mounts.find("mountPath", path.str()).is_some() {
            errors.invalid(path, "must not already exist as a path in volumeMounts");
        }
    }
}
