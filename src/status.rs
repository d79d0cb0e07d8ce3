//! `trireme status`: how the members are, each asked itself.

use anyhow::{Result, bail};
use futures::future::{select_ok, try_join_all};
use raft_store::pb::etcdserverpb::{Member, StatusResponse};
use raft_store::{Error, Store};
use serde_json::{Value, json};

use crate::cli::StatusArguments;
use crate::client::Client;
use crate::output::{Format, complain, say, size, table};

/// What one member says of itself.
struct Report {
    endpoint: String,
    answer: Result<StatusResponse, Error>,
}

/// Runs the command.
pub(crate) async fn run(arguments: StatusArguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?.impatient()?;
    let asked = endpoints(&client).await.into_iter().map(async |endpoint| {
        let answer = client.of_one(&endpoint)?.store.status().await;
        anyhow::Ok(Report { endpoint, answer })
    });
    let reports = try_join_all(asked).await?;
    match arguments.output {
        Format::Table => {
            say(&table(&HEAD, &reports.iter().map(row).collect::<Vec<_>>()));
            for report in &reports {
                for trouble in troubles(report) {
                    complain(&format!("{}: {trouble}", report.endpoint));
                }
            }
        }
        Format::Json => {
            say(&Value::from(reports.iter().map(document).collect::<Vec<_>>()).to_string())
        }
    }
    let unwell = reports
        .iter()
        .filter(|report| !troubles(report).is_empty())
        .count();
    if unwell > 0 {
        bail!("{unwell} of {} members are not well", reports.len());
    }
    Ok(())
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

const HEAD: [&str; 10] = [
    "ENDPOINT", "ID", "ROLE", "VERSION", "DISK", "LIVE", "QUOTA", "TERM", "INDEX", "APPLIED",
];

fn row(report: &Report) -> Vec<String> {
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
    ]
}

fn document(report: &Report) -> Value {
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
            "errors": status.errors,
        }),
    }
}

fn troubles(report: &Report) -> Vec<String> {
    match &report.answer {
        Err(error) => vec![error.to_string()],
        Ok(status) if status.leader == 0 && status.errors.is_empty() => {
            vec![Error::NoLeader.to_string()]
        }
        Ok(status) => status.errors.clone(),
    }
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
        assert_eq!(row(&down)[2], "unreachable");
    }

    #[test]
    fn the_leader_is_known_by_its_own_id() {
        assert_eq!(row(&report(7, &[]))[2], "leader");
        assert_eq!(row(&report(8, &[]))[2], "follower");
        assert_eq!(document(&report(8, &[]))["leader"], "0000000000000008");
    }
}
