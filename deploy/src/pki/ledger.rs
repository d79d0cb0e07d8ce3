//! The certificates that a machine made for itself, so that they can be renewed while it runs: a file
//! says which there are, by which authority, and for what.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Authority, Pair, PkiError, Request, Validity, content_error, file_error, read};
use crate::files;

/// The file's name in the directory of certificates.
const FILE: &str = "certificates.yaml";

/// The certificates of a directory.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    entries: Vec<Entry>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    name: String,
    /// The name of the authority that makes it.
    authority: String,
    request: Request,
}

/// A certificate and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The name of its authority.
    pub authority: String,
    /// When it is valid.
    pub validity: Validity,
}

impl Ledger {
    /// The ledger of a directory, empty if there is none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(dir: &Path) -> Result<Ledger, PkiError> {
        let path = dir.join(FILE);
        let entries = match path.exists() {
            false => Vec::new(),
            true => serde_yaml_ng::from_str(&read(&path)?)
                .map_err(|error| content_error(&path, error.to_string()))?,
        };
        Ok(Ledger {
            dir: dir.to_path_buf(),
            entries,
        })
    }

    /// Makes a certificate unless it is there, and remembers how.
    ///
    /// # Errors
    /// If it cannot be made, or the ledger cannot be written.
    pub fn ensure(
        &mut self,
        authority: &str,
        name: &str,
        request: &Request,
    ) -> Result<Pair, PkiError> {
        let entry = Entry {
            name: name.into(),
            authority: authority.into(),
            request: request.clone(),
        };
        let pair = self
            .authority(authority)?
            .ensure(&self.dir, name, request)?;
        match self.entries.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        let path = self.dir.join(FILE);
        let text = serde_yaml_ng::to_string(&self.entries)
            .map_err(|error| content_error(&path, error.to_string()))?;
        files::replace(&path, text.as_bytes(), files::PUBLIC)
            .map_err(|error| file_error("write", &path, error))?;
        Ok(pair)
    }

    /// Renews what is due, and yields the names of what was renewed. Servers that watch their files
    /// show the new certificates from then on.
    ///
    /// # Errors
    /// If one cannot be renewed; those before it are.
    pub fn renew(&self, now: SystemTime) -> Result<Vec<String>, PkiError> {
        let mut renewed = Vec::new();
        for entry in &self.entries {
            let pair = Pair::at(&self.dir, &entry.name);
            // The key of an authority is only needed when there is something to do.
            if !Validity::of(&pair.cert)?.is_due(now) {
                continue;
            }
            if self
                .authority(&entry.authority)?
                .renew(&pair, &entry.request, now)?
            {
                renewed.push(entry.name.clone());
            }
        }
        Ok(renewed)
    }

    /// All certificates, authorities included.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, PkiError> {
        let mut authorities: Vec<&str> =
            self.entries.iter().map(|e| e.authority.as_str()).collect();
        authorities.sort_unstable();
        authorities.dedup();
        let own = authorities.iter().map(|name| (*name, *name));
        let made = self
            .entries
            .iter()
            .map(|e| (e.name.as_str(), e.authority.as_str()));
        own.chain(made)
            .map(|(name, authority)| {
                Ok(Listed {
                    name: name.into(),
                    authority: authority.into(),
                    validity: Validity::of(&Pair::at(&self.dir, name).cert)?,
                })
            })
            .collect()
    }

    fn authority(&self, name: &str) -> Result<Authority, PkiError> {
        Authority::open(Pair::at(&self.dir, name))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::Usage;

    #[test]
    fn what_is_due_is_renewed_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path(), "ca", "test").unwrap();
        let request = |days: u64| Request {
            common_name: "x".into(),
            organizations: vec!["o".into()],
            names: vec!["localhost".into()],
            usage: Usage::Server,
            life: Duration::from_secs(days * 24 * 3600),
        };
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let short = ledger.ensure("ca", "short", &request(10)).unwrap();
        ledger.ensure("ca", "long", &request(1000)).unwrap();
        let before = (
            std::fs::read(&short.cert).unwrap(),
            std::fs::read(&short.key).unwrap(),
        );
        let now = SystemTime::now();
        let again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.renew(now).unwrap(), Vec::<String>::new());
        let later = now + Duration::from_secs(9 * 24 * 3600);
        assert_eq!(again.renew(later).unwrap(), ["short"]);
        assert_ne!(std::fs::read(&short.cert).unwrap(), before.0);
        assert_eq!(std::fs::read(&short.key).unwrap(), before.1);
        let names: Vec<String> = again
            .list()
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["ca", "short", "long"]);
    }
}
