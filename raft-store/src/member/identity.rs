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
    /// Why the member must not come back under this identity, if it must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
}

/// The end of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retired {
    /// The cluster removed the member. It may have decided much without it since.
    Removed,
    /// The log lacks what the member had acknowledged: with its vote, a leader could be elected
    /// who lacks it as well.
    LostLog {
        /// The first entry that is known to be missing.
        entry: u64,
    },
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
            retired: None,
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
            .map_err(|reason| StartError::Directory(format!("{}: {reason}", path.display())))
    }

    /// Writes the identity of a data directory.
    pub fn save(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), StartError> {
        let path = data_dir.join(IDENTITY_FILE);
        disk.write_atomic(&path, &self.encode())
            .map_err(|error| StartError::io("write", &path, error))
    }

    /// Why the data in `data_dir` may not be used, with what to do, once the identity has ended.
    pub fn ended(&self, data_dir: &Path) -> Option<String> {
        let (name, id, dir) = (&self.name, self.member_id, data_dir.display());
        let again = format!("empty {dir} and start it with --join");
        Some(match self.retired? {
            Retired::Removed => format!(
                "member {name} ({id:x}) was removed from its cluster and serves nothing more. To let \
                 this machine in again, {again}"
            ),
            Retired::LostLog { entry } => format!(
                "member {name} ({id:x}) lost its log from entry {entry} or before, which it had \
                 acknowledged: the disk lost data, or it is an old copy. It must not vote any more. \
                 Nothing is lost while a majority of the members runs. Remove it with `trireme member \
                 remove {id:x}`, {again}"
            ),
        })
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
        let ended = Identity {
            retired: Some(Retired::LostLog { entry: 7 }),
            ..identity.clone()
        };
        assert_eq!(Identity::decode(&ended.encode()).unwrap(), ended);
        let why = ended.ended(Path::new("/data")).unwrap();
        assert!(
            why.contains("entry 7") && why.contains("empty /data"),
            "{why}"
        );
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
