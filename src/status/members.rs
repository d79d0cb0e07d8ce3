//! The members of the store, each asked itself.

use anyhow::Result;
use futures::future::{select_ok, try_join_all};
use raft_store::pb::etcdserverpb::{Member, StatusResponse};
use raft_store::{Error, Store};
use serde_json::{Value, json};

use crate::client::Client;
use crate::output::size;

/// What one member says of itself.
pub(super) struct Report {
    pub(super) endpoint: String,
    answer: Result<StatusResponse, Error>,
}

/// Asks all members.
pub(super) async fn ask(client: &Client) -> Result<Vec<Report>> {
    let asked = endpoints(client).await.into_iter().map(async |endpoint| {
        let answer = client.of_one(&endpoint)?.store.status().await;
        anyhow::Ok(Report { endpoint, answer })
    });
    try_join_all(asked).await
}

/// All members that the cluster knows of; without a quorum those that were named.
async fn endpoints(client: &Client) -> Vec<String> {
    // Any member's view will do while there is no leader. Both are asked at once, so that a cluster that
    // answers nothing costs one wait.
    let (current, any) = tokio::join!(current_members(client), client.store.members(false));
    let members = current.or_else(|_| any.map(|list| list.members));
    let members = members.unwrap_or_default();
    let urls = members
        .iter()
        .filter_map(|member| member.client_ur_ls.first());
    let urls: Vec<String> = urls.cloned().collect();
    if urls.is_empty() {
        client.endpoints().to_vec()
    } else {
        urls
    }
}

/// The members as of now, by whoever is the first to know: one that was just removed may not know it.
async fn current_members(client: &Client) -> Result<Vec<Member>> {
    let asked = client.endpoints().iter().map(|endpoint| {
        Box::pin(async move {
            let one = client.of_one(endpoint)?;
            anyhow::Ok(one.store.members(true).await?.members)
        })
    });
    Ok(select_ok(asked).await?.0)
}

pub(super) const HEAD: [&str; 12] = [
    "ENDPOINT", "ID", "ROLE", "VERSION", "DISK", "LIVE", "QUOTA", "TERM", "INDEX", "APPLIED",
    "LAG", "BEHIND",
];

/// A row of the table; `leader` is what [`leader_index`] found.
pub(super) fn row(report: &Report, leader: Option<u64>) -> Vec<String> {
    let Ok(status) = &report.answer else {
        return vec![report.endpoint.clone(), String::new(), "unreachable".into()];
    };
    vec![
        report.endpoint.clone(),
        format!("{:016x}", id(status)),
        role(status).into(),
        status.version.clone(),
        size(status.db_size),
        size(status.db_size_in_use),
        size(status.db_size_quota),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        lag(status).to_string(),
        behind(status, leader).map_or(String::new(), |entries| entries.to_string()),
    ]
}

/// The same for scripts.
pub(super) fn document(report: &Report, leader: Option<u64>) -> Value {
    match &report.answer {
        Err(error) => json!({ "endpoint": report.endpoint, "errors": [error.to_string()] }),
        Ok(status) => json!({
            "endpoint": report.endpoint,
            "id": format!("{:016x}", id(status)),
            "role": role(status),
            "leader": format!("{:016x}", status.leader),
            "version": status.version,
            "revision": status.header.as_ref().map_or(0, |header| header.revision),
            "diskBytes": status.db_size,
            "liveBytes": status.db_size_in_use,
            "quotaBytes": status.db_size_quota,
            "term": status.raft_term,
            "index": status.raft_index,
            "appliedIndex": status.raft_applied_index,
            "lag": lag(status),
            "behindLeader": behind(status, leader),
            "errors": status.errors,
        }),
    }
}

/// What is wrong with a member.
pub(super) fn troubles(report: &Report) -> Vec<String> {
    match &report.answer {
        Err(error) => vec![error.to_string()],
        Ok(status) if status.leader == 0 && status.errors.is_empty() => {
            vec![Error::NoLeader.to_string()]
        }
        Ok(status) => status.errors.clone(),
    }
}

/// How far the log of the leader goes, as it says itself.
pub(super) fn leader_index(reports: &[Report]) -> Option<u64> {
    let answers = reports.iter().filter_map(|one| one.answer.as_ref().ok());
    let mut leaders = answers.filter(|status| role(status) == "leader");
    leaders.next().map(|status| status.raft_index)
}

/// Entries that a member has and has not applied.
fn lag(status: &StatusResponse) -> u64 {
    status.raft_index.saturating_sub(status.raft_applied_index)
}

/// Entries that the leader has and a member has not; members were asked one after the other, as it were.
fn behind(status: &StatusResponse, leader: Option<u64>) -> Option<u64> {
    leader.map(|index| index.saturating_sub(status.raft_index))
}

fn id(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

fn role(status: &StatusResponse) -> &'static str {
    match (
        status.leader == id(status) && status.leader != 0,
        status.is_learner,
    ) {
        (true, _) => "leader",
        (false, true) => "learner",
        (false, false) => "follower",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_store::pb::etcdserverpb::ResponseHeader;

    fn report(leader: u64, errors: &[&str]) -> Report {
        let header = Some(ResponseHeader {
            member_id: 7,
            ..ResponseHeader::default()
        });
        let errors = errors.iter().map(ToString::to_string).collect();
        let status = StatusResponse {
            header,
            leader,
            errors,
            ..StatusResponse::default()
        };
        Report {
            endpoint: "https://a:1".into(),
            answer: Ok(status),
        }
    }

    #[test]
    fn a_member_without_leader_or_with_an_alarm_is_not_well() {
        assert!(troubles(&report(7, &[])).is_empty());
        assert_eq!(troubles(&report(0, &[])), ["etcdserver: no leader"]);
        assert_eq!(troubles(&report(7, &["alarm:NOSPACE"])), ["alarm:NOSPACE"]);
        let down = Report {
            endpoint: "x".into(),
            answer: Err(Error::Timeout),
        };
        assert_eq!(troubles(&down).len(), 1);
        assert_eq!(row(&down, None)[2], "unreachable");
    }

    #[test]
    fn the_leader_is_known_by_its_own_id() {
        assert_eq!(row(&report(7, &[]), None)[2], "leader");
        assert_eq!(row(&report(8, &[]), None)[2], "follower");
        assert_eq!(
            document(&report(8, &[]), None)["leader"],
            "0000000000000008"
        );
    }

    #[test]
    fn lag_is_told_of_the_own_log_and_of_the_leader_s() {
        let at = |leader, index, applied| {
            let mut one = report(leader, &[]);
            let status = one.answer.as_mut().unwrap();
            (status.raft_index, status.raft_applied_index) = (index, applied);
            one
        };
        let all = [at(8, 90, 80), at(7, 100, 100)];
        let leader = leader_index(&all);
        assert_eq!(leader, Some(100));
        assert_eq!(row(&all[0], leader)[10..], ["10", "10"]);
        assert_eq!(document(&all[1], leader)["behindLeader"], 0);
        assert_eq!(row(&all[0], leader_index(&all[..1]))[11], "");
    }
}
