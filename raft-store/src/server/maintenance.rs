//! The Maintenance service.

use futures::stream::{Stream, StreamExt};
use seams::Tasks;
use tonic::{Code, Status};

use super::{CLUSTER_VERSION, ETCD_VERSION, Inner, status};
use crate::backup::live::LiveSource;
use crate::backup::{Header, archive};
use crate::error::{Error, Result};
use crate::member::Member;
use crate::pb::etcdserverpb::downgrade_request::DowngradeAction;
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotResponse, StatusRequest,
    StatusResponse,
};

/// The member's own view of itself and its cluster.
pub fn status(member: &Member) -> StatusResponse {
    let sizes = member.mvcc().sizes();
    let leader = member.leader();
    let no_leader = leader.is_none().then(|| Error::NoLeader.to_string());
    let alarms = member.mvcc().alarms();
    StatusResponse {
        header: Some(member.header()),
        version: ETCD_VERSION.to_owned(),
        db_size: sizes.disk_bytes as i64,
        leader: leader.unwrap_or(0),
        raft_index: member.committed_index(),
        raft_term: member.term(),
        raft_applied_index: member.applied_index(),
        errors: no_leader
            .into_iter()
            .chain(alarms.iter().map(alarm_text))
            .collect(),
        db_size_in_use: sizes.live_bytes as i64,
        is_learner: member.is_learner(),
        storage_version: CLUSTER_VERSION.to_owned(),
        db_size_quota: sizes.quota_bytes as i64,
        downgrade_info: Some(DowngradeInfo::default()),
    }
}

pub(super) async fn status_call(server: &Inner, _: StatusRequest) -> Result<StatusResponse> {
    Ok(status(&server.member))
}

/// An alarm as Go's protobuf library prints it, which is how etcd reports it.
fn alarm_text(alarm: &AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm_name(alarm))
}

/// Such as `NOSPACE`.
pub(super) fn alarm_name(alarm: &AlarmMember) -> &'static str {
    AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name())
}

pub(super) async fn alarm(server: &Inner, request: AlarmRequest) -> Result<AlarmResponse> {
    let mut response = server.member.alarm(request).await?;
    response
        .header
        .get_or_insert_with(|| server.member.header());
    Ok(response)
}

/// Succeeds at once: the engine reclaims space by itself.
pub(super) async fn defragment(server: &Inner, _: DefragmentRequest) -> Result<DefragmentResponse> {
    Ok(DefragmentResponse {
        header: Some(server.member.header()),
    })
}

pub(super) async fn hash(server: &Inner, _: HashRequest) -> Result<HashResponse> {
    let response = server.member.hash_kv(0)?;
    Ok(HashResponse {
        header: response.header,
        hash: response.hash,
    })
}

pub(super) async fn hash_kv(server: &Inner, request: HashKvRequest) -> Result<HashKvResponse> {
    server.member.hash_kv(request.revision)
}

pub(super) async fn move_leader(
    server: &Inner,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse> {
    if server.member.leader() != Some(server.member.id()) {
        return Err(Error::NotLeader);
    }
    server.member.move_leader(request.target_id).await?;
    Ok(MoveLeaderResponse {
        header: Some(server.member.header()),
    })
}

/// Nothing older exists to go back to, so that no target is ever valid; there is never a
/// downgrade under way that could be cancelled, which etcd answers with success.
pub(super) async fn downgrade(
    server: &Inner,
    request: DowngradeRequest,
) -> Result<DowngradeResponse> {
    let cluster = CLUSTER_VERSION.trim_end_matches(".0").to_owned();
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate | DowngradeAction::Enable) => Err(Error::InvalidArgument(
            downgrade_refusal(&request.version).to_owned(),
        )),
        Ok(DowngradeAction::Cancel) => Ok(DowngradeResponse {
            header: Some(server.member.header()),
            version: cluster,
        }),
        Err(_) => Err(Error::Remote {
            code: Code::Unknown as i32,
            message: "etcdserver: unknown method".to_owned(),
        }),
    }
}

fn downgrade_refusal(version: &str) -> &'static str {
    let parts: Vec<_> = version
        .strip_prefix('v')
        .unwrap_or(version)
        .split('.')
        .collect();
    let numbers = parts.iter().all(|part| part.parse::<u64>().is_ok());
    if numbers && (2..=3).contains(&parts.len()) {
        "invalid downgrade target version"
    } else {
        "wrong downgrade target version format"
    }
}

/// A backup archive of this member's state, in pieces.
pub(super) fn snapshot(
    member: &Member,
    tasks: &Tasks,
) -> impl Stream<Item = Result<SnapshotResponse, Status>> + use<> {
    let tasks = tasks.clone();
    let header = member.header();
    let wall = member.seams().clock.wall();
    let since = wall
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let facts = Header {
        cluster_id: member.cluster_id(),
        member_id: member.id(),
        taken_at_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        store_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Header::default()
    };
    let source = LiveSource::open(member.mvcc(), facts);
    let (source, unreadable) = match source {
        Ok(source) => (Some(source), None),
        Err(error) => (None, Some(Err(Error::Internal(error.to_string())))),
    };
    let archive = futures::stream::iter(source)
        .flat_map(move |source| archive::stream(source, tasks.clone()).boxed())
        .map(|piece| piece.map_err(|error| Error::Internal(error.to_string())));
    futures::stream::iter(unreadable)
        .chain(archive)
        .map(move |piece| match piece {
            Ok(blob) => Ok(SnapshotResponse {
                header: Some(header),
                // The archive is made while it is sent: its end is not known before.
                remaining_bytes: 0,
                blob,
                version: CLUSTER_VERSION.to_owned(),
            }),
            Err(error) => Err(status::status(&error)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downgrades_are_refused_as_etcd_refuses_them() {
        for version in ["3.5", "3.5.0", "v3.5.1", "9.9"] {
            assert_eq!(
                downgrade_refusal(version),
                "invalid downgrade target version"
            );
        }
        for version in ["", "abc", "3.x", "3.5.0.1"] {
            assert_eq!(
                downgrade_refusal(version),
                "wrong downgrade target version format"
            );
        }
    }

    #[test]
    fn alarms_read_as_etcd_prints_them() {
        let alarm = AlarmMember {
            member_id: 42,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(alarm_text(&alarm), "memberID:42 alarm:NOSPACE ");
    }
}
