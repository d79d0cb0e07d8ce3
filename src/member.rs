//! `trireme member`: the members of a cluster, listed and changed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use raft_store::pb::etcdserverpb::{Member, MemberAddResponse};
use raft_store::{Error, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::{MemberArguments, MemberCommand};
use crate::client::{Client, describe, find};
use crate::output::{Format, say, table};

/// Between two looks at a member that is to catch up.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) async fn run(arguments: MemberArguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    match arguments.change {
        MemberCommand::List { output } => list(&client, output).await,
        MemberCommand::Add { peer_urls, learner } => {
            add(&client, peer_urls, learner).await.map(drop)
        }
        MemberCommand::Remove { member } => {
            let members = client.members().await?;
            remove(&client, find(&members, &member)?).await
        }
        MemberCommand::Promote { member } => {
            let members = client.members().await?;
            let member = find(&members, &member)?;
            client
                .store
                .member_promote(member.id)
                .await
                .with_context(|| format!("cannot give {} a vote", describe(member)))?;
            say(&format!("{} has a vote now", describe(member)));
            Ok(())
        }
        MemberCommand::Replace {
            member,
            peer_urls,
            wait,
        } => replace(&client, &member, peer_urls, Duration::from_secs(wait)).await,
        MemberCommand::MoveLeader { member } => {
            let members = client.members().await?;
            let target = find(&members, &member)?;
            let all = client.of_all(&members)?;
            all.store
                .move_leader(target.id)
                .await
                .with_context(|| format!("cannot hand leadership to {}", describe(target)))?;
            say(&format!("{} leads now", describe(target)));
            Ok(())
        }
    }
}

async fn list(client: &Client, output: Format) -> Result<()> {
    let members = client.members().await?;
    // Who leads is one member's view, good enough for a list.
    let leader = client
        .store
        .status()
        .await
        .map(|status| status.leader)
        .unwrap_or_default();
    match output {
        Format::Table => say(&table(
            &["ID", "NAME", "ROLE", "STARTED", "PEER URLS", "CLIENT URLS"],
            &rows(&members, leader),
        )),
        Format::Json => {
            let members: Vec<_> = members
                .iter()
                .map(|member| {
                    json!({
                        "id": format!("{:016x}", member.id),
                        "name": member.name,
                        "peerURLs": member.peer_ur_ls,
                        "clientURLs": member.client_ur_ls,
                        "isLearner": member.is_learner,
                        "isLeader": member.id == leader,
                    })
                })
                .collect();
            say(&json!({ "members": members }).to_string());
        }
    }
    Ok(())
}

fn rows(members: &[Member], leader: u64) -> Vec<Vec<String>> {
    let role = |member: &Member| match (member.id == leader, member.is_learner) {
        (true, _) => "leader",
        (false, true) => "learner",
        (false, false) => "follower",
    };
    members
        .iter()
        .map(|member| {
            vec![
                format!("{:016x}", member.id),
                member.name.clone(),
                role(member).into(),
                if started(member) { "yes" } else { "no" }.into(),
                member.peer_ur_ls.join(","),
                member.client_ur_ls.join(","),
            ]
        })
        .collect()
}

/// A member says its name when it starts for the first time.
fn started(member: &Member) -> bool {
    !member.name.is_empty()
}

async fn add(client: &Client, peer_urls: Vec<String>, learner: bool) -> Result<Member> {
    let place = peer_urls.join(",");
    let answer = client.store.member_add(peer_urls, learner).await;
    announce(answer.with_context(|| format!("cannot add the member at {place}"))?)
}

/// Says how the added member is started.
fn announce(answer: MemberAddResponse) -> Result<Member> {
    let added = answer
        .member
        .context("the cluster did not say which member it added")?;
    let others = answer.members.iter().filter(|member| member.id != added.id);
    let join: Vec<String> = others
        .flat_map(|member| member.peer_ur_ls.clone())
        .collect();
    say(&format!(
        "member {:016x} was added; start it with its own settings and\n  \
         trireme store --initial-advertise-peer-urls {} --join {}",
        added.id,
        added.peer_ur_ls.join(","),
        join.join(",")
    ));
    Ok(added)
}

async fn remove(client: &Client, member: &Member) -> Result<()> {
    let left = client
        .store
        .member_remove(member.id)
        .await
        .with_context(|| format!("cannot remove {}", describe(member)))?;
    say(&format!(
        "{} was removed; {} members are left",
        describe(member),
        left.len()
    ));
    Ok(())
}

/// Adds the new member first: at no time is there one voter less than before.
async fn replace(client: &Client, old: &str, peer_urls: Vec<String>, wait: Duration) -> Result<()> {
    let members = client.members().await?;
    let old = find(&members, old)?.clone();
    if old.peer_ur_ls == peer_urls {
        bail!(
            "{} is at {} itself: to replace a member at its own address, remove it, empty its \
             data directory and start it with --join",
            describe(&old),
            peer_urls.join(",")
        );
    }
    let at = |members: &[Member]| members.iter().find(|m| m.peer_ur_ls == peer_urls).cloned();
    let new = match at(&members) {
        // Added before an interruption.
        Some(new) => new,
        None => match client.store.member_add(peer_urls.clone(), false).await {
            Ok(answer) => announce(answer)?,
            // It joined by itself a moment ago.
            Err(Error::PeerUrlExists) => at(&client.members().await?)
                .with_context(|| format!("another member uses one of {}", peer_urls.join(",")))?,
            Err(error) => {
                let place = peer_urls.join(",");
                return Err(error).with_context(|| format!("cannot add the member at {place}"));
            }
        },
    };
    say(&format!(
        "waiting up to {} s until it has caught up and has a vote",
        wait.as_secs()
    ));
    let started_at = Instant::now();
    loop {
        let members = client.members().await?;
        let Some(now) = members.iter().find(|member| member.id == new.id) else {
            bail!("{} was removed meanwhile", describe(&new));
        };
        if started(now) && !now.is_learner {
            break;
        }
        if started_at.elapsed() > wait {
            let state = if started(now) {
                "has not caught up"
            } else {
                "was not started"
            };
            bail!(
                "{} {state} in time; {} is still there: run this again",
                describe(now),
                describe(&old)
            );
        }
        sleep(PAUSE).await;
    }
    remove(client, &old).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_role_and_state() {
        let member = |id, name: &str, is_learner| Member {
            id,
            name: name.into(),
            is_learner,
            peer_ur_ls: vec![format!("https://p{id}:1")],
            ..Member::default()
        };
        let all = [
            member(1, "a", false),
            member(2, "b", false),
            member(3, "", true),
        ];
        let rows = rows(&all, 2);
        assert_eq!(rows[0][1..4], ["a", "follower", "yes"]);
        assert_eq!(rows[1][1..4], ["b", "leader", "yes"]);
        assert_eq!(rows[2][1..4], ["", "learner", "no"]);
        assert_eq!(rows[2][4], "https://p3:1");
    }
}
