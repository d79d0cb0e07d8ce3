//! How a member writes down who it is, for those that make or read its directory without running
//! it: backups and recovery.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use seams::Disk;

use super::identity::{FORMAT, Identity};
use crate::backup::boundary::{Identity as Described, MemberFormat, MemberInfo};
use crate::consensus::databases::Databases;
use crate::consensus::types::{decode_membership, members_of};
use crate::pb::log;

/// The formats of a member's own files.
pub struct Format {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
}

impl MemberFormat for Format {
    fn encode_identity(&self, identity: &Described) -> Vec<u8> {
        // The cluster exists already, in the applied state: it has no founders.
        Identity {
            format: FORMAT,
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            name: identity.name.clone(),
            has_log: false,
            founders: Vec::new(),
        }
        .encode()
    }

    fn decode_identity(&self, bytes: &[u8]) -> Result<Described, String> {
        let identity = Identity::decode(bytes)?;
        let founders = identity.founders.into_iter();
        Ok(Described {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            name: identity.name,
            members: founders
                .map(|founder| MemberInfo {
                    id: founder.id,
                    name: founder.name,
                    peer_urls: founder.peer_urls,
                })
                .collect(),
        })
    }

    fn encode_membership(&self, members: &[MemberInfo]) -> Bytes {
        let nodes = members.iter().map(|member| log::Node {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            ..log::Node::default()
        });
        let voters = log::Voters {
            ids: members.iter().map(|member| member.id).collect(),
        };
        let membership = log::Membership {
            configs: vec![voters],
            nodes: nodes.collect(),
        };
        membership.encode_to_vec().into()
    }

    fn live_database(&self, disk: &dyn Disk, data_dir: &Path) -> io::Result<PathBuf> {
        // The pointer is read through the disk that holds the directory.
        let _ = disk;
        Databases::new(data_dir, self.disk.clone()).live()
    }

    fn decode_membership(&self, bytes: &Bytes) -> Result<Vec<MemberInfo>, String> {
        let membership = decode_membership(bytes).map_err(|error| error.to_string())?;
        let members = members_of(&membership).into_iter();
        Ok(members
            .map(|member| MemberInfo {
                id: member.id,
                name: member.name,
                peer_urls: member.peer_ur_ls,
            })
            .collect())
    }
}
