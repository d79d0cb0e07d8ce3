//! Members that come and go, and leaders that hand over, while clients write.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::cluster::Cluster;

/// A change must be done within this time: nothing else is wrong meanwhile.
const CHANGE_TIME: Duration = Duration::from_secs(30);
/// One request for it.
const ASK_TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What becomes of the member that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It works until it is let go.
    Alive,
    /// It is dead, as when its machine is lost.
    Dead,
}

/// Puts a new member in the place of `leaving`, which is gone for good afterwards. The newcomer
/// is a learner until it has caught up.
pub(super) async fn replace(cluster: &mut Cluster, leaving: usize, how: Leaving) -> Result<()> {
    let place = cluster.spare().context("no place for another member")?;
    let leaving_id = cluster.id(leaving).await?;
    let others: Vec<usize> = cluster.members();
    let others: Vec<usize> = others.into_iter().filter(|at| *at != leaving).collect();
    if how == Leaving::Dead {
        cluster.kill(leaving)?;
        remove(cluster, &others, leaving_id).await?;
        cluster.leave(leaving)?;
    }
    join(cluster, place, &others, CHANGE_TIME).await?;
    if how == Leaving::Alive {
        remove(cluster, &others, leaving_id).await?;
        cluster.leave(leaving)?;
    }
    Ok(())
}

/// The same, but the leader is killed while the newcomer catches up, and is back only when that
/// has its vote.
pub(super) async fn replace_amid_crash(cluster: &mut Cluster, leaving: usize) -> Result<()> {
    let place = cluster.spare().context("no place for another member")?;
    let leaving_id = cluster.id(leaving).await?;
    let leader = cluster.leader().await.context("nobody leads")?;
    let end = Instant::now() + CHANGE_TIME;
    let url = format!("https://{}", cluster.network().peer_address(place));
    let mut others = cluster.members();
    others.retain(|at| *at != leader);
    add(cluster, &others, &url, end).await?;
    cluster.join(place)?;
    cluster.kill(leader)?;
    promote(cluster, &others, &url, end).await?;
    cluster.start_member(leader)?;
    let mut others = cluster.members();
    others.retain(|at| *at != leaving);
    remove(cluster, &others, leaving_id).await?;
    cluster.leave(leaving)
}

/// Adds a member at a free place, as a learner, and gives it its vote `within` this time. Only
/// `others` are asked for it.
///
/// # Errors
///
/// When that is not done in time, with the last complaint.
pub async fn join(
    cluster: &mut Cluster,
    place: usize,
    others: &[usize],
    within: Duration,
) -> Result<()> {
    let end = Instant::now() + within;
    let url = format!("https://{}", cluster.network().peer_address(place));
    add(cluster, others, &url, end).await?;
    cluster.join(place)?;
    promote(cluster, others, &url, end).await
}

/// Makes `target` the leader.
pub(super) async fn hand_over(cluster: &mut Cluster, target: usize) -> Result<()> {
    let id = cluster.id(target).await?;
    let end = Instant::now() + CHANGE_TIME;
    loop {
        let leader = cluster.leader().await;
        if leader == Some(target) {
            return Ok(());
        }
        let answer = match leader {
            Some(leader) => client(cluster, leader).move_leader(id).await,
            None => Err("nobody leads".into()),
        };
        retry(end, "move the leadership", answer.err()).await?;
    }
}

/// Each change is asked of the others in turn until it can be seen: an answer may get lost.
async fn add(cluster: &Cluster, others: &[usize], url: &str, end: Instant) -> Result<()> {
    for at in others.iter().cycle() {
        let mut client = client(cluster, *at);
        let complaint = client.member_add(url).await.err();
        let known = client.member_list().await.unwrap_or_default();
        if known.iter().any(|m| m.peer_ur_ls.iter().any(|u| u == url)) {
            return Ok(());
        }
        retry(end, "add a member", complaint).await?;
    }
    bail!("there is nobody to ask")
}

async fn promote(cluster: &Cluster, others: &[usize], url: &str, end: Instant) -> Result<()> {
    for at in others.iter().cycle() {
        let mut client = client(cluster, *at);
        let known = client.member_list().await.unwrap_or_default();
        let newcomer = known.iter().find(|m| m.peer_ur_ls.iter().any(|u| u == url));
        let complaint = match newcomer {
            Some(newcomer) if !newcomer.is_learner => return Ok(()),
            Some(newcomer) => client.member_promote(newcomer.id).await.err(),
            None => Some("it is not known".into()),
        };
        retry(end, "give a learner its vote", complaint).await?;
    }
    bail!("there is nobody to ask")
}

async fn remove(cluster: &Cluster, others: &[usize], id: u64) -> Result<()> {
    let end = Instant::now() + CHANGE_TIME;
    for at in others.iter().cycle() {
        let mut client = client(cluster, *at);
        let complaint = client.member_remove(id).await.err();
        let gone = client
            .member_list()
            .await
            .is_ok_and(|known| known.iter().all(|member| member.id != id));
        if gone {
            return Ok(());
        }
        retry(end, "remove a member", complaint).await?;
    }
    bail!("there is nobody to ask")
}

fn client(cluster: &Cluster, member: usize) -> Client {
    Client::new(cluster.target(member), ASK_TIME)
}

/// Waits a little before the next try, or gives up.
async fn retry(end: Instant, what: &str, complaint: Option<String>) -> Result<()> {
    if Instant::now() > end {
        let complaint = complaint.unwrap_or_else(|| "it is not seen to have happened".into());
        return Err(anyhow!(complaint)).with_context(|| format!("{what} in time"));
    }
    sleep(PAUSE).await;
    Ok(())
}
