//! Projected volumes: several sources in one directory.

use std::collections::HashSet;

use api::name;

use super::options::Options;
use super::volumes::{downward_file, file_mode, key_to_path, local_path};
use crate::validation::{At, Errors, labels};

const TOKEN_SECONDS_MIN: i64 = 10 * 60;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// A downward API volume.
pub(crate) fn downward_api(errors: &mut Errors, at: At<'_>, _options: &Options) {
    file_mode(errors, at.get("defaultMode"));
    for file in at.get("items").items() {
        downward_file(errors, at, file);
    }
}

/// Whether an old volume has a token somewhere else than below itself.
pub(crate) fn has_foreign_token_path(spec: At<'_>) -> bool {
    let volumes = spec.get("volumes").items();
    let sources = volumes.flat_map(|volume| volume.path(&["projected", "sources"]).items());
    let mut tokens = sources.map(|source| source.get("serviceAccountToken"));
    tokens.any(|token| token.is_set() && !local_path(token.get("path").str()).is_empty())
}

/// A projected volume.
pub(crate) fn sources(errors: &mut Errors, at: At<'_>, options: &Options) {
    file_mode(errors, at.get("defaultMode"));
    let mut paths = Paths {
        volume: at,
        seen: HashSet::new(),
    };
    for source in at.get("sources").items() {
        let mut count = 0;
        for (field, check) in [
            ("secret", keys as Check),
            ("configMap", keys),
            ("downwardAPI", files),
            ("serviceAccountToken", token),
            ("clusterTrustBundle", trust_bundle),
            ("podCertificate", pod_certificate),
        ] {
            if source.has(field) {
                count += 1;
                check(errors, source.get(field), &mut paths, options);
            }
        }
        if count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.forbidden(source, detail);
        }
    }
}

type Check = for<'d> fn(&mut Errors, At<'d>, &mut Paths<'d>, &Options);

/// The files of a volume, each of which comes from one source.
struct Paths<'d> {
    volume: At<'d>,
    seen: HashSet<&'d str>,
}

impl<'d> Paths<'d> {
    /// Upstream shows now the path, now what it comes from.
    fn add(&mut self, errors: &mut Errors, path: &'d str, shown: &str) {
        if !self.seen.insert(path) {
            errors.invalid_value(self.volume, shown, "conflicting duplicate paths");
        }
    }
}

fn keys<'d>(errors: &mut Errors, at: At<'d>, paths: &mut Paths<'d>, _options: &Options) {
    errors.need(at.get("name"), "");
    for item in at.get("items").items() {
        key_to_path(errors, item);
        if !item.get("path").is_empty() {
            paths.add(errors, item.get("path").str(), at.get("name").str());
        }
    }
}

fn files<'d>(errors: &mut Errors, at: At<'d>, paths: &mut Paths<'d>, _options: &Options) {
    for file in at.get("items").items() {
        downward_file(errors, at, file);
        let path = file.get("path").str();
        if !path.is_empty() {
            paths.add(errors, path, path);
        }
    }
}

/// Upstream tells of the path as if it were the volume's.
fn token<'d>(errors: &mut Errors, at: At<'d>, paths: &mut Paths<'d>, options: &Options) {
    let (seconds, path) = (at.get("expirationSeconds"), at.get("path").str());
    if seconds.int() < TOKEN_SECONDS_MIN {
        errors.invalid(seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds.int() > TOKEN_SECONDS_MAX {
        errors.invalid(
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if path.is_empty() {
        errors.required(paths.volume.get("path"), "");
    } else if !options.any_token_path {
        for complaint in local_path(path) {
            errors.invalid_below(paths.volume, ".path", path, complaint);
        }
    }
}

fn trust_bundle<'d>(errors: &mut Errors, at: At<'d>, paths: &mut Paths<'d>, _options: &Options) {
    let (bundle, signer) = (at.get("name"), at.get("signerName"));
    match (bundle.is_set(), signer.is_set()) {
        (true, true) => errors.invalid(at, "only one of name and signerName may be used"),
        (true, false) => {
            errors.need(bundle, "must be a valid object name");
            for complaint in bundle_name(bundle.str()) {
                let detail = format!("not a valid clustertrustbundlename: {complaint}");
                errors.invalid(bundle, detail);
            }
            if at.has("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                errors.invalid(at.get("labelSelector"), detail);
            }
        }
        (false, true) => {
            errors.need(signer, "must be a valid signer name");
            signer_name(errors, signer);
            labels::selector(errors, at.get("labelSelector"), false);
        }
        (false, false) => errors.required(at, "either name or signerName must be specified"),
    }
    errors.need(at.get("path"), "");
    errors.names(at.get("path"), local_path);
    paths.add(errors, at.get("path").str(), at.get("path").str());
}

/// `signer:domain:name`, or a plain name.
fn bundle_name(text: &str) -> Vec<String> {
    name::dns_1123_subdomain(text.rsplit(':').next().unwrap_or_default())
}

/// `example.com/signer`.
pub(crate) fn signer_name(errors: &mut Errors, at: At<'_>) {
    const NAME_BYTES_MAX: usize = 571;
    if !errors.need(at, "") {
        return;
    }
    let parts: Vec<&str> = at.str().split('/').collect();
    let [domain, path] = parts[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, detail);
    };
    if domain.len() > 253 {
        errors.too_long(at, 253);
    }
    signer_part(errors, at, domain, name::dns_1123_label);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid_value(at, domain, detail);
    }
    signer_part(errors, at, path, name::dns_1123_subdomain);
    if at.str().len() > NAME_BYTES_MAX {
        errors.too_long(at, NAME_BYTES_MAX);
    }
}

/// The first label that is wrong.
fn signer_part(errors: &mut Errors, at: At<'_>, part: &str, check: fn(&str) -> Vec<String>) {
    let wrong = part.split('.').find(|label| !check(label).is_empty());
    if let Some(label) = wrong {
        for complaint in check(label) {
            let detail = format!("validating label {label:?}: {complaint}");
            errors.invalid_value(at, part, detail);
        }
    }
}

fn pod_certificate<'d>(errors: &mut Errors, at: At<'d>, paths: &mut Paths<'d>, _options: &Options) {
    const KEY_TYPES: [&str; 6] = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    const DAY_SECONDS: i64 = 24 * 60 * 60;
    let signer = at.get("signerName");
    signer_name(errors, signer);
    for annotation in at.get("userAnnotations").items() {
        for complaint in name::label_key(annotation.key()) {
            errors.invalid_value(at.get("userAnnotations"), annotation.key(), complaint);
        }
    }
    errors.one_of(at.get("keyType"), &KEY_TYPES);
    let most = at.get("maxExpirationSeconds");
    if let Some(seconds) = most.opt_int() {
        let host = signer.str().split('/').next().unwrap_or_default();
        let is_ours = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
        let limit = if is_ours {
            DAY_SECONDS
        } else {
            91 * DAY_SECONDS
        };
        if seconds < 3600 {
            errors.invalid(most, "if provided, maxExpirationSeconds must be >= 3600");
        }
        if seconds > limit {
            let detail = format!("if provided, maxExpirationSeconds must be <= {limit}");
            errors.invalid(most, detail);
        }
    }
    let mut count = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = at.get(field);
        if !path.is_empty() {
            count += 1;
            errors.names(path, local_path);
            paths.add(errors, path.str(), path.str());
        }
    }
    if count == 0 {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, detail);
    }
}
