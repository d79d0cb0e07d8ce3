//! A member's own files, as backups read and write them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use seams::Disk;

use super::identity::{FORMAT, Founder, Identity};
use crate::backup::boundary::{self, MemberFormat, MemberInfo};
use crate::consensus::databases;
use crate::pb::log;

/// The identity file, the membership and the place of the database, in the formats that this
/// version writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemberFiles;

impl MemberFormat for MemberFiles {
    fn encode_identity(&self, identity: &boundary::Identity) -> Vec<u8> {
        let founder = |member: &MemberInfo| Founder {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
        };
        Identity {
            format: FORMAT,
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            name: identity.name.clone(),
            // Its log begins when it starts.
            has_log: false,
            retired: None,
            founders: identity.members.iter().map(founder).collect(),
        }
        .encode()
    }

    fn decode_identity(&self, bytes: &[u8]) -> Result<boundary::Identity, String> {
        let identity = Identity::decode(bytes)?;
        let member = |founder: Founder| MemberInfo {
            id: founder.id,
            name: founder.name,
            peer_urls: founder.peer_urls,
        };
        Ok(boundary::Identity {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            name: identity.name,
            members: identity.founders.into_iter().map(member).collect(),
        })
    }

    fn encode_membership(&self, members: &[MemberInfo]) -> Bytes {
        let node = |member: &MemberInfo| log::Node {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: Vec::new(),
            promote: false,
            added_by: 0,
        };
        let voters = log::Voters {
            ids: members.iter().map(|member| member.id).collect(),
        };
        let membership = log::Membership {
            configs: vec![voters],
            nodes: members.iter().map(node).collect(),
        };
        membership.encode_to_vec().into()
    }

    fn live_database(&self, disk: &dyn Disk, data_dir: &Path) -> io::Result<PathBuf> {
        databases::live(disk, &databases::root(data_dir))
    }

    fn decode_membership(&self, bytes: &Bytes) -> Result<Vec<MemberInfo>, String> {
        let membership = log::Membership::decode(bytes.clone()).map_err(|e| e.to_string())?;
        let member = |node: log::Node| MemberInfo {
            id: node.id,
            name: node.name,
            peer_urls: node.peer_urls,
        };
        Ok(membership.nodes.into_iter().map(member).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types;

    fn members() -> Vec<MemberInfo> {
        [(7, "a"), (9, "b")]
            .map(|(id, name)| MemberInfo {
                id,
                name: name.into(),
                peer_urls: vec![format!("https://{name}:2380")],
            })
            .to_vec()
    }

    #[test]
    fn what_backups_write_is_what_members_read() {
        let identity = boundary::Identity {
            cluster_id: 5,
            member_id: 9,
            name: "b".into(),
            members: members(),
        };
        let bytes = MemberFiles.encode_identity(&identity);
        let read = Identity::decode(&bytes).unwrap();
        assert_eq!((read.member_id, read.founders.len()), (9, 2));
        assert_eq!(MemberFiles.decode_identity(&bytes).unwrap(), identity);
        assert!(MemberFiles.decode_identity(b"{}").is_err());
    }

    #[test]
    fn the_membership_is_that_of_consensus() {
        let bytes = MemberFiles.encode_membership(&members());
        let membership = types::decode_membership(&bytes).unwrap();
        let ids: Vec<u64> = membership.voter_ids().collect();
        assert_eq!(ids, [7, 9]);
        let encoded = types::encode_membership(&membership);
        assert_eq!(MemberFiles.decode_membership(&encoded).unwrap(), members());
        assert!(
            MemberFiles
                .decode_membership(&Bytes::from_static(b"\xff"))
                .is_err()
        );
    }
}
