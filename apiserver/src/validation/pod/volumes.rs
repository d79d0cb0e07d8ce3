//! Volumes of a pod: exactly one source each.

use std::collections::HashMap;

use api::field::FieldError;
use api::name;

use super::options::Options;
use super::{containers, env, projected, walk};
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::{At, Errors, claim};

type Check = fn(&mut Errors, At<'_>, &Options);

/// A source, how upstream calls it when there is another before it, and what it needs.
struct Source {
    field: &'static str,
    /// What is required of it, in this order.
    required: &'static [&'static str],
    check: Check,
}

const fn source(field: &'static str, required: &'static [&'static str], check: Check) -> Source {
    Source {
        field,
        required,
        check,
    }
}

const NOTHING: Check = |_, _, _| {};

/// In the order in which upstream looks at them.
const SOURCES: [Source; 30] = [
    source("emptyDir", &[], empty_dir),
    source("hostPath", &["path"], host_path),
    source("gitRepo", &["repository"], |errors, at, _| {
        errors.names(at.get("directory"), descending_path);
    }),
    source("gcePersistentDisk", &["pdName"], partition),
    source("awsElasticBlockStore", &["volumeID"], partition),
    source("secret", &["secretName"], keys),
    source("nfs", &["server", "path"], |errors, at, _| {
        if !at.get("path").str().starts_with('/') {
            errors.invalid(at.get("path"), "must be an absolute path");
        }
    }),
    source("iscsi", &["targetPortal", "iqn"], iscsi),
    source("glusterfs", &["endpoints", "path"], NOTHING),
    source("flocker", &[], flocker),
    source("persistentVolumeClaim", &["claimName"], NOTHING),
    source("rbd", &["monitors", "image"], NOTHING),
    source("cinder", &["volumeID"], secret_name),
    source("cephfs", &["monitors"], NOTHING),
    source("quobyte", &[], quobyte),
    source("downwardAPI", &[], projected::downward_api),
    source("fc", &[], fibre_channel),
    source("flexVolume", &["driver"], flex),
    source("configMap", &["name"], keys),
    source("azureFile", &["secretName", "shareName"], NOTHING),
    source("vsphereVolume", &["volumePath"], NOTHING),
    source("photonPersistentDisk", &["pdID"], NOTHING),
    source("portworxVolume", &["volumeID"], NOTHING),
    source("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("storageos", &["volumeName"], storage_os),
    source("projected", &[], projected::sources),
    source("scaleIO", &["gateway", "system", "volumeName"], NOTHING),
    source("csi", &[], csi),
    source("ephemeral", &["volumeClaimTemplate"], |errors, at, _| {
        if at.has("volumeClaimTemplate") {
            claim::template(errors, at.get("volumeClaimTemplate"));
        }
    }),
    source("image", &[], |errors, at, options| {
        if options.is_pod {
            errors.need(at.get("reference"), "");
        }
        containers::pull_policy(errors, at.get("pullPolicy"));
    }),
];

/// `spec.volumes`. Returns those that are right, by name: only they can be mounted.
pub(crate) fn validate<'d>(
    errors: &mut Errors,
    list: At<'d>,
    meta: Option<At<'d>>,
    options: &Options,
) -> HashMap<&'d str, At<'d>> {
    let pod = meta.map_or("", |meta| meta.get("name").str());
    let mut good = HashMap::new();
    for volume in list.items() {
        let before = errors.len();
        let name = volume.get("name");
        one_source(errors, volume, pod, options);
        if errors.need(name, "") {
            errors.names(name, |text| dns_label(text, false));
        }
        if good.contains_key(name.str()) {
            errors.duplicate(name);
        }
        if errors.len() == before {
            good.insert(name.str(), volume);
        }
        let claim = volume.path(&["persistentVolumeClaim", "claimName"]);
        if claim.is_set() && !pod.is_empty() && makes_claim(list, pod, claim.str()) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(claim, detail);
        }
    }
    good
}

/// Judges one source by the field that it stands in: other kinds have volumes, too.
pub(crate) fn source_of(errors: &mut Errors, field: &str, at: At<'_>) {
    let options = Options::default();
    for source in SOURCES.iter().filter(|source| source.field == field) {
        for field in source.required {
            errors.need(at.get(field), "");
        }
        (source.check)(errors, at, &options);
    }
}

/// Whether a pod of this name makes a claim of that name.
fn makes_claim(list: At<'_>, pod: &str, claim: &str) -> bool {
    let made = claim
        .strip_prefix(pod)
        .and_then(|rest| rest.strip_prefix('-'));
    made.is_some_and(|volume| {
        let mut volumes = list.items();
        volumes.any(|at| at.has("ephemeral") && at.get("name").str() == volume)
    })
}

fn one_source(errors: &mut Errors, volume: At<'_>, pod: &str, options: &Options) {
    let mut count = 0;
    for source in &SOURCES {
        let at = volume.get(source.field);
        if !at.is_set() {
            continue;
        }
        count += 1;
        if count > 1 {
            let told = match source.field {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            let path = format!("{}.{told}", errors.path(volume));
            let detail = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(path, detail));
            continue;
        }
        errors.renamed(".gcePersistentDisk.", ".persistentDisk.", |errors| {
            for field in source.required {
                errors.need(at.get(field), "");
            }
            (source.check)(errors, at, options);
        });
    }
    if count == 0 {
        errors.required(volume, "must specify a volume type");
    }
    names_with_volume(errors, volume, pod);
}

/// What depends on the volume's own name.
fn names_with_volume(errors: &mut Errors, volume: At<'_>, pod: &str) {
    const PORTAL_BYTES_MAX: usize = 64;
    let (name, iscsi) = (volume.get("name"), volume.get("iscsi"));
    let portal = iscsi.get("targetPortal").str().len() + name.str().len() + 1;
    if iscsi.has("initiatorName") && portal > PORTAL_BYTES_MAX {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters \
                      if iscsi.initiatorName is specified.";
        errors.invalid(name, detail);
    }
    if volume.has("ephemeral") && !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{}", name.str());
        for complaint in dns_subdomain(&claim, false) {
            errors.invalid(name, format!("PVC name {claim:?}: {complaint}"));
        }
    }
}

/// A path that does not climb.
pub(crate) fn no_backsteps(path: &str) -> Vec<String> {
    let climbs = path.split('/').any(|part| part == "..");
    climbs
        .then(|| "must not contain '..'".to_string())
        .into_iter()
        .collect()
}

/// A path below something.
pub(crate) fn descending_path(path: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if path.starts_with('/') {
        complaints.push("must be a relative path".to_string());
    }
    complaints.extend(no_backsteps(path));
    complaints
}

/// A path below something that does not look like what the node writes there itself.
pub(crate) fn local_path(path: &str) -> Vec<String> {
    let mut complaints = descending_path(path);
    if path.starts_with("..") && !path.starts_with("../") {
        complaints.push("must not start with '..'".to_string());
    }
    complaints
}

/// The permissions of files.
pub(crate) fn file_mode(errors: &mut Errors, at: At<'_>) {
    if at
        .opt_int()
        .is_some_and(|mode| !(0..=0o777).contains(&mode))
    {
        errors.invalid(
            at,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// Keys that become files.
pub(crate) fn key_to_path(errors: &mut Errors, at: At<'_>) {
    errors.need(at.get("key"), "");
    errors.need(at.get("path"), "");
    errors.names(at.get("path"), local_path);
    file_mode(errors, at.get("mode"));
}

fn keys(errors: &mut Errors, at: At<'_>, _options: &Options) {
    file_mode(errors, at.get("defaultMode"));
    for item in at.get("items").items() {
        key_to_path(errors, item);
    }
}

fn empty_dir(errors: &mut Errors, at: At<'_>, _options: &Options) {
    let limit = at.get("sizeLimit");
    if limit.is_set() && walk::quantity(limit).signum() < 0 {
        errors.forbidden(limit, "SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(errors: &mut Errors, at: At<'_>, _options: &Options) {
    const TYPES: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if at.get("path").is_empty() {
        return;
    }
    errors.names(at.get("path"), no_backsteps);
    if at.has("type") {
        errors.one_of(at.get("type"), &TYPES);
    }
}

fn partition(errors: &mut Errors, at: At<'_>, _options: &Options) {
    let partition = at.get("partition");
    if !(0..=255).contains(&partition.int()) {
        errors.invalid(partition, "must be between 1 and 255, inclusive");
    }
}

fn iscsi(errors: &mut Errors, at: At<'_>, _options: &Options) {
    if !at.get("iqn").is_empty()
        && let Some(complaint) = iscsi_name(at.get("iqn").str())
    {
        errors.invalid(at.get("iqn"), complaint);
    }
    errors.in_range(at.get("lun"), 0, 255);
    if at.get("chapAuthDiscovery").flag() || at.get("chapAuthSession").flag() {
        errors.need(at.get("secretRef"), "");
    }
    if at.has("initiatorName") {
        let name = at.get("initiatorName").str();
        if let Some(complaint) = iscsi_name(name) {
            errors.invalid_below(at, ".initiatorname", name, complaint);
        }
    }
}

fn iscsi_name(text: &str) -> Option<&'static str> {
    let is_alphanumeric = |rest: &str, length: usize| {
        rest.len() == length + 1 && rest[1..].bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_good = match text.get(..3) {
        Some("iqn") => is_iqn(text),
        Some("eui") => text.is_ascii() && is_alphanumeric(&text[3..], 16),
        Some("naa") => text.is_ascii() && is_alphanumeric(&text[3..], 32),
        _ => return Some("must be valid format starting with iqn, eui, or naa"),
    };
    (!is_good).then_some("must be valid format")
}

/// `iqn.2024-01.com.example:whatever`.
fn is_iqn(text: &str) -> bool {
    let Some((authority, name)) = text.split_once(':') else {
        return false;
    };
    let bytes = authority.as_bytes();
    let is_date = bytes.len() > 12
        && bytes[..4] == *b"iqn."
        && bytes[4..8].iter().all(u8::is_ascii_digit)
        && bytes[8] == b'-'
        && bytes[9..11].iter().all(u8::is_ascii_digit)
        && bytes[11] == b'.';
    let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.".contains(byte);
    is_date
        && bytes[12..].iter().all(is_domain)
        && !name.is_empty()
        && !name.contains(|letter: char| ",;*&$|".contains(letter) || letter.is_ascii_whitespace())
}

fn flocker(errors: &mut Errors, at: At<'_>, _options: &Options) {
    let (name, uuid) = (at.get("datasetName"), at.get("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(at, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid_value(at, "resource", detail);
    }
    if name.str().contains('/') {
        errors.invalid(name, "must not contain '/'");
    }
}

fn secret_name(errors: &mut Errors, at: At<'_>, _options: &Options) {
    if at.has("secretRef") {
        errors.need(at.get("secretRef").get("name"), "");
    }
}

fn quobyte(errors: &mut Errors, at: At<'_>, _options: &Options) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.get("registry");
    if registry.is_empty() {
        errors.required(registry, PAIRS);
    } else if at.get("tenant").str().len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(at.get("tenant"), detail);
    } else {
        for pair in registry.str().split(',') {
            if pair
                .rsplit_once(':')
                .is_none_or(|(host, _)| host.contains(':'))
            {
                errors.invalid(registry, PAIRS);
            }
        }
    }
    errors.need(at.get("volume"), "");
}

fn fibre_channel(errors: &mut Errors, at: At<'_>, _options: &Options) {
    let (names, ids, lun) = (at.get("targetWWNs"), at.get("wwids"), at.get("lun"));
    if names.is_empty() && ids.is_empty() {
        errors.required(
            names,
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if !names.is_empty() && !ids.is_empty() {
        errors.invalid(
            names,
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if names.is_empty() {
        return;
    }
    if lun.is_set() {
        errors.in_range(lun, 0, 255);
    } else {
        errors.required(lun, "lun is required if targetWWNs is specified");
    }
}

fn flex(errors: &mut Errors, at: At<'_>, _options: &Options) {
    for option in at.get("options").items() {
        let domain = option.key().split('/').next().unwrap_or_default();
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid_value(option, option.key(), detail);
        }
    }
}

fn azure_disk(errors: &mut Errors, at: At<'_>, _options: &Options) {
    const MANAGED: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/\
                           microsoft.compute/disks/{disk-id}";
    const BLOB: &str =
        "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (kind, uri) = (at.get("kind"), at.get("diskURI"));
    if at.has("cachingMode") {
        errors.one_of(at.get("cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
    }
    if !kind.is_set() {
        return;
    }
    errors.one_of(kind, &["Dedicated", "Managed", "Shared"]);
    let (start, form) = match kind.str() {
        "Managed" => ("/subscriptions/", MANAGED),
        _ => ("https://", BLOB),
    };
    if !uri.str().starts_with(start) {
        errors.not_supported(uri, &[form]);
    }
}

fn storage_os(errors: &mut Errors, at: At<'_>, options: &Options) {
    for field in ["volumeName", "volumeNamespace"] {
        if !at.get(field).is_empty() {
            errors.names(at.get(field), |text| dns_label(text, false));
        }
    }
    secret_name(errors, at, options);
}

/// The name of a CSI driver; case does not matter.
pub(crate) fn csi_driver(errors: &mut Errors, at: At<'_>) {
    const DRIVER_BYTES_MAX: usize = 63;
    if !errors.need(at, "") {
        return;
    }
    if at.str().len() > DRIVER_BYTES_MAX {
        errors.too_long(at, DRIVER_BYTES_MAX);
    }
    errors.names(at, |text| name::dns_1123_subdomain(&text.to_lowercase()));
}

fn csi(errors: &mut Errors, at: At<'_>, _options: &Options) {
    csi_driver(errors, at.get("driver"));
    let secret = at.get("nodePublishSecretRef");
    if secret.is_set() && errors.need(secret.get("name"), "") {
        let name = secret.get("name").str();
        for complaint in dns_subdomain(name, false) {
            errors.invalid_below(at, ".name", name, complaint);
        }
    }
}

/// A file of the downward API. Upstream forgets which one it was.
pub(crate) fn downward_file(errors: &mut Errors, owner: At<'_>, at: At<'_>) {
    const FIELDS: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
    ];
    errors.told_of(at, owner, |errors| {
        errors.need(at.get("path"), "");
        errors.names(at.get("path"), local_path);
        let (field, resource) = (at.get("fieldRef"), at.get("resourceFieldRef"));
        if field.is_set() {
            env::field(errors, field, &FIELDS);
            if resource.is_set() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid_value(at, "resource", detail);
            }
        } else if resource.is_set() {
            env::resource_field(errors, resource, true);
        } else {
            errors.required(at, "one of fieldRef and resourceFieldRef is required");
        }
        file_mode(errors, at.get("mode"));
    });
}
