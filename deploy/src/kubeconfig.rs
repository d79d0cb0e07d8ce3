//! Kubeconfigs: written anew, or merged into the file that somebody has already.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml_ng::{Mapping, Value};
use thiserror::Error;

use crate::files;

/// Why a kubeconfig could not be written.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    /// What is there is no kubeconfig.
    #[error("{path} is no kubeconfig: {message}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The file could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// One way into a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of cluster, user and context.
    pub name: String,
    /// Where the API is.
    pub server: String,
    /// The authorities of its certificate, as PEM.
    pub authority: Vec<u8>,
    /// Who one is there.
    pub user: Credentials,
}

/// Who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The holder of a certificate: certificate and key as PEM.
    Certificate(Vec<u8>, Vec<u8>),
    /// Nobody in particular.
    Nobody,
}

impl Entry {
    /// A file with this entry alone.
    pub fn text(&self) -> String {
        let mut file = Mapping::new();
        self.put_into(&mut file);
        serde_yaml_ng::to_string(&file).unwrap_or_default()
    }

    /// Writes the entry to a file; one that is there keeps its other entries, and this one becomes
    /// the current one.
    ///
    /// # Errors
    /// If the file that is there is no kubeconfig, or cannot be written.
    pub fn merge_into(&self, path: &Path) -> Result<(), KubeconfigError> {
        let shown = || path.display().to_string();
        let failed = |action| {
            move |source| KubeconfigError::File {
                action,
                path: shown(),
                source,
            }
        };
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        let merged = self
            .merged(&before)
            .map_err(|message| KubeconfigError::Content {
                path: shown(),
                message,
            })?;
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            files::private_dir(parent).map_err(failed("create the directory of"))?;
        }
        files::replace(path, merged.as_bytes(), files::SECRET).map_err(failed("write"))
    }

    /// A file's text with this entry.
    fn merged(&self, before: &str) -> Result<String, String> {
        let mut file = match before.trim() {
            "" => Mapping::new(),
            text => match serde_yaml_ng::from_str(text).map_err(|error| error.to_string())? {
                Value::Mapping(file) => file,
                _ => return Err("it is not a mapping".into()),
            },
        };
        self.put_into(&mut file);
        serde_yaml_ng::to_string(&file).map_err(|error| error.to_string())
    }

    fn put_into(&self, file: &mut Mapping) {
        file.entry("apiVersion".into()).or_insert("v1".into());
        file.entry("kind".into()).or_insert("Config".into());
        let cluster = mapping([
            ("server", self.server.as_str().into()),
            (
                "certificate-authority-data",
                STANDARD.encode(&self.authority).into(),
            ),
        ]);
        let user = match &self.user {
            Credentials::Certificate(certificate, key) => mapping([
                (
                    "client-certificate-data",
                    STANDARD.encode(certificate).into(),
                ),
                ("client-key-data", STANDARD.encode(key).into()),
            ]),
            Credentials::Nobody => Mapping::new(),
        };
        let context = mapping([
            ("cluster", self.name.as_str().into()),
            ("user", self.name.as_str().into()),
        ]);
        for (list, what, value) in [
            ("clusters", "cluster", cluster),
            ("users", "user", user),
            ("contexts", "context", context),
        ] {
            self.put(file, list, what, value);
        }
        file.insert("current-context".into(), self.name.as_str().into());
    }

    /// Puts one value into a list of named values, in the place of the one of its name.
    fn put(&self, file: &mut Mapping, list: &str, what: &str, value: Mapping) {
        let entry = mapping([("name", self.name.as_str().into()), (what, value.into())]);
        let all = file.entry(list.into()).or_insert(Value::Null);
        if !all.is_sequence() {
            *all = Value::Sequence(Vec::new());
        }
        if let Value::Sequence(all) = all {
            let is_it = |one: &Value| one.get("name").and_then(Value::as_str) == Some(&self.name);
            match all.iter_mut().find(|one| is_it(one)) {
                Some(place) => *place = entry.into(),
                None => all.push(entry.into()),
            }
        }
    }
}

fn mapping<const N: usize>(pairs: [(&str, Value); N]) -> Mapping {
    let pairs = pairs.into_iter();
    pairs.map(|(key, value)| (key.into(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, server: &str) -> Entry {
        Entry {
            name: name.into(),
            server: server.into(),
            authority: b"ca".to_vec(),
            user: Credentials::Certificate(b"cert".to_vec(), b"key".to_vec()),
        }
    }

    #[test]
    fn others_entries_stay_and_ours_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config");
        entry("other", "https://o:1").merge_into(&path).unwrap();
        entry("ours", "https://a:1").merge_into(&path).unwrap();
        entry("ours", "https://b:1").merge_into(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_yaml_ng::from_str(&text).unwrap();
        let clusters = file["clusters"].as_sequence().unwrap();
        let servers: Vec<_> = clusters
            .iter()
            .map(|one| one["cluster"]["server"].as_str().unwrap())
            .collect();
        assert_eq!(servers, ["https://o:1", "https://b:1"]);
        assert_eq!(file["current-context"].as_str(), Some("ours"));
        assert_eq!(file["users"][1]["user"]["client-key-data"], "a2V5");
        std::fs::write(&path, "- no kubeconfig").unwrap();
        assert!(entry("x", "y").merge_into(&path).is_err());
    }
}
