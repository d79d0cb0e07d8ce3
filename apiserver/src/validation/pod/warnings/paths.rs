//! Files of one volume that overwrite each other.

use crate::validation::At;

/// A file and what it comes from.
#[derive(Clone, PartialEq, Eq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn told(&self) -> String {
        match self.source.as_str() {
            "" => format!("{:?}", self.path),
            source => format!("{:?} ({source})", self.path),
        }
    }
}

/// Warnings about a pod's volumes.
pub(super) fn overlaps(volumes: At<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for volume in volumes.items() {
        let name = volume.get("name").str();
        for (source, field, what) in [
            ("configMap", "name", "ConfigMap"),
            ("secret", "secretName", "Secret"),
            ("downwardAPI", "", "DownwardAPI"),
        ] {
            let at = volume.get(source);
            let told = match field {
                "" => what.to_string(),
                field => format!("{what} {:?}", at.get(field).str()),
            };
            tell(name, &told, items(at, ""), &mut warnings);
        }
        let mut files = Vec::new();
        for source in volume.path(&["projected", "sources"]).items() {
            if source.is_empty() {
                warnings.push(format!(
                    "volume {name:?} (Projected) has no sources provided"
                ));
            }
            files.extend(projected(source));
        }
        tell(name, "Projected", files, &mut warnings);
    }
    warnings
}

fn items(at: At<'_>, source: &str) -> Vec<File> {
    let items = at.get("items").items();
    items
        .map(|item| file(item.get("path").str(), source))
        .collect()
}

fn file(path: &str, source: &str) -> File {
    File {
        path: path.trim_end_matches('/').to_string(),
        source: source.to_string(),
    }
}

fn projected(source: At<'_>) -> Vec<File> {
    for (field, what) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let at = source.get(field);
        if !at.get("items").is_empty() {
            return items(at, &format!("{what} {:?}", at.get("name").str()));
        }
    }
    if source.has("downwardAPI") {
        return items(source.get("downwardAPI"), "DownwardAPI");
    }
    let token = source.get("serviceAccountToken");
    if token.is_set() {
        return vec![file(token.get("path").str(), "ServiceAccountToken")];
    }
    let bundle = source.get("clusterTrustBundle");
    if bundle.is_set() {
        let named = if bundle.has("name") {
            "name"
        } else {
            "signerName"
        };
        let what = format!("ClusterTrustBundle {:?}", bundle.get(named).str());
        return vec![file(bundle.get("path").str(), &what)];
    }
    let certificate = source.get("podCertificate");
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .filter(|(field, _)| !certificate.get(field).is_empty())
    .map(|(field, what)| file(certificate.get(field).str(), what))
    .collect()
}

fn tell(volume: &str, what: &str, files: Vec<File>, warnings: &mut Vec<String>) {
    for (index, file) in files.iter().enumerate() {
        for other in files[..index].iter().filter(|other| overlap(file, other)) {
            warnings.push(format!(
                "volume {volume:?} ({what}): overlapping paths: {} with {}",
                file.told(),
                other.told()
            ));
        }
    }
}

fn overlap(one: &File, other: &File) -> bool {
    let below = |path: &str| format!("{path}/");
    let (path, known) = (&one.path, &other.path);
    !path.is_empty()
        && !known.is_empty()
        && (below(known).starts_with(&below(path)) || below(path).starts_with(&below(known)))
}
