//! Who a member is: the identity file, and how IDs come about.

use std::path::Path;

use seams::Disk;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::StartError;

/// The file in a member's data directory. Written before anything else; without it, nothing in
/// the directory is trusted.
pub const IDENTITY_FILE: &str = "identity.json";
/// The format of data directories that this program writes.
pub const FORMAT: u32 = 1;

/// Whose a data directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The format of the data directory.
    pub format: u32,
    /// The cluster's ID: members of different clusters do not talk to each other.
    pub cluster_id: u64,
    /// This member's ID. Never 0, never used twice.
    pub member_id: u64,
    /// This member's name.
    pub name: String,
    /// Whether the member has had a log: one that is missing later was lost.
    #[serde(default)]
    pub has_log: bool,
    /// The founding members of the cluster, empty for one that joined later.
    #[serde(default)]
    pub founders: Vec<Founder>,
}

/// A founding member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its ID.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
}

impl Identity {
    /// The identity of founding member `name`.
    pub fn founding(
        name: &str,
        members: &[(String, Vec<String>)],
        token: &str,
    ) -> Result<Self, StartError> {
        let mut sorted = members.to_vec();
        sorted.sort();
        let mut cluster = Xxh3::new();
        cluster.update(token.as_bytes());
        let founders: Vec<Founder> = sorted
            .iter()
            .map(|(name, peer_urls)| {
                let mut member = Xxh3::new();
                for part in [token, name]
                    .into_iter()
                    .chain(peer_urls.iter().map(String::as_str))
                {
                    member.update(part.as_bytes());
                    member.update(&[0]);
                }
                let id = member.digest().max(1);
                cluster.update(&id.to_be_bytes());
                Founder {
                    id,
                    name: name.clone(),
                    peer_urls: peer_urls.clone(),
                }
            })
            .collect();
        let own = founders.iter().find(|founder| founder.name == name);
        let own = own.ok_or_else(|| {
            StartError::Config(format!(
                "the initial cluster does not name this member, {name}"
            ))
        })?;
        Ok(Self {
            format: FORMAT,
            cluster_id: cluster.digest().max(1),
            member_id: own.id,
            name: name.to_owned(),
            has_log: false,
            founders,
        })
    }

    /// Reads the identity of a data directory; `None` when it has none yet.
    pub fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, StartError> {
        let path = data_dir.join(IDENTITY_FILE);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let bytes = disk
            .read(&path)
            .map_err(|error| StartError::io("read", &path, error))?;
        Self::decode(&bytes)
            .map(Some)
            .map_err(|reason| StartError::Config(format!("{}: {reason}", path.display())))
    }

    /// Writes the identity of a data directory.
    pub fn save(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), StartError> {
        let path = data_dir.join(IDENTITY_FILE);
        disk.write_atomic(&path, &self.encode())
            .map_err(|error| StartError::io("write", &path, error))
    }

    /// The contents of the identity file.
    pub fn encode(&self) -> Vec<u8> {
        // Plain fields always serialise.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads the contents of the identity file; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let identity: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if identity.format > FORMAT {
            return Err(format!(
                "the data directory has format {}, this program reads up to {FORMAT}: use a newer trireme",
                identity.format
            ));
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<(String, Vec<String>)> {
        ["a", "b", "c"]
            .map(|name| (name.to_owned(), vec![format!("http://{name}:1")]))
            .to_vec()
    }

    #[test]
    fn founders_agree_on_ids_whatever_the_order() {
        let mut reversed = members();
        reversed.reverse();
        let a = Identity::founding("a", &members(), "t").unwrap();
        let b = Identity::founding("b", &reversed, "t").unwrap();
        assert_eq!(a.cluster_id, b.cluster_id);
        assert_eq!(a.founders, b.founders);
        assert_ne!(a.member_id, b.member_id);
        let other = Identity::founding("a", &members(), "other").unwrap();
        assert_ne!(a.cluster_id, other.cluster_id);
        assert_ne!(a.member_id, other.member_id);
    }

    #[test]
    fn a_member_outside_the_initial_cluster_is_refused() {
        assert!(Identity::founding("d", &members(), "t").is_err());
    }

    #[test]
    fn an_identity_survives_its_file() {
        let identity = Identity::founding("a", &members(), "t").unwrap();
        assert_eq!(Identity::decode(&identity.encode()).unwrap(), identity);
        let newer = Identity {
            format: FORMAT + 1,
            ..identity
        };
        assert!(
            Identity::decode(&newer.encode())
                .unwrap_err()
                .contains("newer")
        );
    }
}
