//! Kubeconfigs: written anew, merged into the file that somebody has already, and asked for servers.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

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
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KubeconfigError {
    let path = path.display().to_string();
    move |source| KubeconfigError::File {
        action,
        path,
        source,
    }
}

/// An API server that a kubeconfig names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The name of the cluster's entry.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// The servers of a context's cluster, or of the current one's: the server that it names, then those
/// of other entries that trust the same authority, which are masters of the same cluster.
///
/// # Errors
/// If the file cannot be read or has no such context.
pub fn servers(path: &Path, context: Option<&str>) -> Result<Vec<Server>, KubeconfigError> {
    let wrong = |message: String| KubeconfigError::Content {
        path: path.display().to_string(),
        message,
    };
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    let file: Value = serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let current = file.get("current-context").and_then(Value::as_str);
    let context = context.or(current).unwrap_or_default();
    let of_context = named(&file, "contexts", context).and_then(|one| one.get("context"));
    let cluster = of_context.and_then(|one| one.get("cluster")?.as_str());
    let own = cluster.and_then(|cluster| named(&file, "clusters", cluster));
    let own = own.ok_or_else(|| wrong(format!("the context {context:?} has no cluster")))?;
    let server = |entry: &Value| {
        Some(Server {
            name: entry.get("name")?.as_str()?.to_string(),
            url: entry.get("cluster")?.get("server")?.as_str()?.to_string(),
        })
    };
    let is_sibling = |entry: &&Value| {
        *entry != own && authority(entry).is_some() && authority(entry) == authority(own)
    };
    let others = file.get("clusters").and_then(Value::as_sequence);
    let others = others.into_iter().flatten().filter(is_sibling);
    let mut found: Vec<Server> = Vec::new();
    for server in std::iter::once(own).chain(others).filter_map(server) {
        if found.iter().all(|known| known.url != server.url) {
            found.push(server);
        }
    }
    Ok(found)
}

/// The namespace that a context names.
pub fn namespace(path: &Path, context: Option<&str>) -> Option<String> {
    let file: Value = serde_yaml_ng::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let context = context.or(file.get("current-context")?.as_str())?;
    let found = named(&file, "contexts", context)?
        .get("context")?
        .get("namespace")?;
    found.as_str().map(str::to_string)
}

fn named<'f>(file: &'f Value, list: &str, name: &str) -> Option<&'f Value> {
    let mut entries = file.get(list)?.as_sequence()?.iter();
    entries.find(|entry| is_named(entry, name))
}

fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

/// What a cluster's entry trusts, as it says so.
fn authority(entry: &Value) -> Option<&Value> {
    let cluster = entry.get("cluster")?;
    let keys = ["certificate-authority-data", "certificate-authority"];
    keys.iter().find_map(|key| cluster.get(*key))
}

/// Writes entries to a file, which keeps its others; the first one becomes the current context.
///
/// # Errors
/// If the file that is there is no kubeconfig, is being written by kubectl, or cannot be written.
pub fn merge(entries: &[Entry], path: &Path) -> Result<(), KubeconfigError> {
    edit(path, |file| {
        for entry in entries {
            entry.put_into(file);
        }
        if let Some(first) = entries.first() {
            file.insert("current-context".into(), first.name.as_str().into());
        }
    })
}

/// Takes clusters, users and contexts of these names out of a file, if it is there.
///
/// # Errors
/// As [`merge`].
pub fn remove(names: &[String], path: &Path) -> Result<(), KubeconfigError> {
    if !path.exists() {
        return Ok(());
    }
    let is_ours = |entry: &Value| names.iter().any(|name| is_named(entry, name));
    edit(path, |file| {
        for list in LISTS {
            if let Some(Value::Sequence(all)) = file.get_mut(list) {
                all.retain(|entry| !is_ours(entry));
            }
        }
        let current = file.get("current-context").and_then(Value::as_str);
        if current.is_some_and(|current| names.iter().any(|name| name == current)) {
            file.insert("current-context".into(), "".into());
        }
    })
}

/// The lists of named entries.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

/// Changes a file as a whole, under the lock that kubectl takes as well.
fn edit(path: &Path, change: impl FnOnce(&mut Mapping)) -> Result<(), KubeconfigError> {
    // The file may be a link, which stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        files::private_dir(parent).map_err(failed("create the directory of", &path))?;
    }
    let _lock = Lock::take(&path)?;
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let wrong = |message: String| KubeconfigError::Content {
        path: path.display().to_string(),
        message,
    };
    let mut file = match before.trim() {
        "" => Mapping::new(),
        text => match serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))? {
            Value::Mapping(file) => file,
            _ => return Err(wrong("it is not a mapping".into())),
        },
    };
    change(&mut file);
    let text = serde_yaml_ng::to_string(&file).map_err(|error| wrong(error.to_string()))?;
    files::replace(&path, text.as_bytes(), files::SECRET).map_err(failed("write", &path))
}

/// `FILE.lock`, which goes with this.
struct Lock(PathBuf);

impl Lock {
    fn take(file: &Path) -> Result<Lock, KubeconfigError> {
        let mut path = file.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        made.map_err(failed("lock (remove it if nobody writes)", &path))?;
        Ok(Lock(path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever comes next is told to remove it.
        let _ = fs::remove_file(&self.0);
    }
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
        merge(std::slice::from_ref(self), path)
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
            match all.iter_mut().find(|one| is_named(one, &self.name)) {
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
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "- no kubeconfig");
    }

    #[test]
    fn what_was_merged_is_taken_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real"), dir.path().join("config"));
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let of = |name: &str| entry(name, &format!("https://{name}:1"));
        of("other").merge_into(&link).unwrap();
        merge(&[of("dev"), of("dev-1")], &link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let urls = |context| {
            let servers = servers(&link, context).unwrap().into_iter();
            servers.map(|server| server.url).collect::<Vec<_>>()
        };
        // All have the same authority; the context's own comes first.
        assert_eq!(
            urls(None),
            ["https://dev:1", "https://other:1", "https://dev-1:1"]
        );
        assert_eq!(urls(Some("dev-1"))[0], "https://dev-1:1");
        assert!(servers(&link, Some("none")).is_err());
        remove(&["dev".into(), "dev-1".into()], &link).unwrap();
        assert_eq!(urls(Some("other")), ["https://other:1"]);
        assert!(servers(&link, None).is_err());
        std::fs::write(dir.path().join("real.lock"), "").unwrap();
        let refused = of("dev").merge_into(&link).unwrap_err().to_string();
        assert!(refused.contains("real.lock"), "{refused}");
    }
}
