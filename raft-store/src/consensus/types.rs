//! The types that openraft works with, and their translation to log records and messages.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::leader_id_std::CommittedLeaderId;
use prost::Message;

use super::runtime::Runtime;
use crate::LogPosition;
use crate::mvcc;
use crate::pb::{etcdserverpb, log, peer};
use crate::wal::{LogRecord, Vote as WalVote};

/// An encoded [`log::Command`].
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the membership says of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// The member's name; empty until it has started.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// A learner that becomes a voter by itself once it has caught up.
    pub promote: bool,
    /// The request that added it; 0 for founders.
    pub added_by: u64,
}

openraft::declare_raft_types!(
    /// The types that openraft is instantiated with.
    pub TypeConfig:
        D = Command,
        R = mvcc::Outcome,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = openraft::vote::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

// === positions and votes ===

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId {
        leader_id: CommittedLeaderId::new(position.term),
        index: position.index,
    }
}

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn vote_from_wal(vote: WalVote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    }
}

pub(crate) fn vote_to_wal(vote: &Vote) -> WalVote {
    WalVote {
        term: vote.leader_id().term,
        node: vote.leader_id().voted_for,
        committed: vote.is_committed(),
    }
}

pub(crate) fn log_id_to_pb(id: &LogId) -> peer::LogId {
    peer::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn log_id_from_pb(id: &peer::LogId) -> LogId {
    log_id(LogPosition {
        term: id.term,
        index: id.index,
    })
}

pub(crate) fn vote_to_pb(vote: &Vote) -> peer::Ballot {
    let vote = vote_to_wal(vote);
    peer::Ballot {
        term: vote.term,
        node: vote.node,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_pb(vote: Option<peer::Ballot>) -> Vote {
    let vote = vote.unwrap_or_default();
    vote_from_wal(WalVote {
        term: vote.term,
        node: vote.node,
        committed: vote.committed,
    })
}

// === memberships ===

pub(crate) fn membership_to_pb(membership: &Membership) -> log::Membership {
    log::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| log::Voters {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| log::Node {
                id: *id,
                name: node.name.clone(),
                peer_urls: node.peer_urls.clone(),
                client_urls: node.client_urls.clone(),
                promote: node.promote,
                added_by: node.added_by,
            })
            .collect(),
    }
}

pub(crate) fn membership_from_pb(membership: &log::Membership) -> io::Result<Membership> {
    let configs = membership
        .configs
        .iter()
        .map(|voters| voters.ids.iter().copied().collect::<BTreeSet<_>>())
        .collect();
    let nodes = membership.nodes.iter().map(|node| {
        let value = Node {
            name: node.name.clone(),
            peer_urls: node.peer_urls.clone(),
            client_urls: node.client_urls.clone(),
            promote: node.promote,
            added_by: node.added_by,
        };
        (node.id, value)
    });
    Membership::new(configs, nodes.collect::<std::collections::BTreeMap<_, _>>())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    membership_to_pb(membership).encode_to_vec().into()
}

pub(crate) fn decode_membership(bytes: &Bytes) -> io::Result<Membership> {
    let decoded = log::Membership::decode(bytes.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    membership_from_pb(&decoded)
}

/// The members as etcd's clients see them, ordered by ID.
pub(crate) fn members_of(membership: &Membership) -> Vec<etcdserverpb::Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership
        .nodes()
        .map(|(id, node)| etcdserverpb::Member {
            id: *id,
            name: node.name.clone(),
            peer_ur_ls: node.peer_urls.clone(),
            client_ur_ls: node.client_urls.clone(),
            is_learner: !voters.contains(id),
        })
        .collect()
}

// === entries ===

/// The kinds of log records, on disk and between members.
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn entry_to_record(entry: &Entry) -> LogRecord {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(command) => (COMMAND, command.0.clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode_membership(membership)),
    };
    LogRecord {
        position: position(&entry.log_id),
        kind,
        payload,
    }
}

pub(crate) fn entry_from_record(record: LogRecord) -> io::Result<Entry> {
    let payload = match record.kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Command(record.payload)),
        MEMBERSHIP => EntryPayload::Membership(decode_membership(&record.payload)?),
        kind => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("unknown kind of log entry {kind}: use a newer trireme"),
            ));
        }
    };
    Ok(Entry {
        log_id: log_id(record.position),
        payload,
    })
}

pub(crate) fn entry_to_pb(entry: Entry) -> peer::Entry {
    let id = log_id_to_pb(&entry.log_id);
    let record = entry_to_record(&entry);
    peer::Entry {
        id: Some(id),
        kind: u32::from(record.kind),
        payload: record.payload,
    }
}

pub(crate) fn entry_from_pb(entry: peer::Entry) -> io::Result<Entry> {
    let id = entry.id.unwrap_or_default();
    entry_from_record(LogRecord {
        position: LogPosition {
            term: id.term,
            index: id.index,
        },
        kind: u8::try_from(entry.kind).unwrap_or(u8::MAX),
        payload: entry.payload,
    })
}
