//! The first moment of a cluster: its founding members agree that it begins, and one whose disk was
//! lost does not begin again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::identity::IDENTITY_FILE;
use super::{Member, StartError};
use crate::consensus::types::Node;
use crate::pb::peer::DescribeRequest;

/// How long a founding member looks for its peers before it founds the cluster without hearing
/// from all of them.
const FOUNDING_PATIENCE: Duration = Duration::from_secs(10);
/// One question to a peer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two rounds of questions.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// Founds the cluster, unless it exists. Every founding member does this with the same
/// membership, so that it does not matter who is first.
pub(super) async fn found(member: &Member, admitted: &AtomicBool) -> Result<(), StartError> {
    let identity = &member.0.identity;
    let raft = &member.consensus().raft;
    let stopped = |error: &dyn std::fmt::Display| StartError::Cluster(error.to_string());
    let initialized = raft
        .is_initialized()
        .await
        .map_err(|error| stopped(&error))?;
    if initialized || identity.founders.is_empty() {
        admitted.store(true, Ordering::Release);
        return Ok(());
    }
    refuse_wiped(member).await?;
    admitted.store(true, Ordering::Release);
    let nodes: BTreeMap<u64, Node> = identity
        .founders
        .iter()
        .map(|founder| {
            let node = Node {
                name: founder.name.clone(),
                peer_urls: founder.peer_urls.clone(),
                ..Node::default()
            };
            (founder.id, node)
        })
        .collect();
    match raft.initialize(nodes).await {
        Ok(()) => Ok(()),
        // A peer was faster: its log reached this member in between.
        Err(_) if raft.is_initialized().await.unwrap_or(false) => Ok(()),
        Err(error) => Err(stopped(&error)),
    }
}

/// A founding member with an empty log asks the others whether it has been here before: if its
/// disk was lost, it must not come back under its old identity, because it would vote as if it
/// had never acknowledged anything.
async fn refuse_wiped(member: &Member) -> Result<(), StartError> {
    #[cfg(feature = "mutants")]
    if member.config().mutants.wiped_member_keeps_identity {
        return Ok(());
    }
    let identity = &member.0.identity;
    let others = identity.founders.iter();
    let mut silent: Vec<_> = others.filter(|founder| founder.id != member.id()).collect();
    let asking = timeout(FOUNDING_PATIENCE, async {
        loop {
            let mut still_silent = Vec::new();
            for founder in silent {
                match was_here_before(member, &founder.peer_urls).await {
                    Some(true) => return Err(wiped(member)?),
                    Some(false) => {}
                    None => still_silent.push(founder),
                }
            }
            if still_silent.is_empty() {
                return Ok(());
            }
            silent = still_silent;
            sleep(ASK_PAUSE).await;
        }
    });
    match asking.await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::warn!("not all founding members answered: going on without them");
            Ok(())
        }
    }
}

/// Whether a peer knows that this member has served; `None` when the peer does not answer.
async fn was_here_before(member: &Member, peer_urls: &[String]) -> Option<bool> {
    let mut client = member.consensus().peers.client_of_urls(None, peer_urls);
    let answer = timeout(ASK_TIMEOUT, client.describe(DescribeRequest::default())).await;
    let described = answer.ok()?.ok()?.into_inner();
    // Only a member that has started publishes its client URLs.
    let own = described
        .members
        .iter()
        .find(|known| known.id == member.id());
    Some(own.is_some_and(|own| !own.client_ur_ls.is_empty()))
}

fn wiped(member: &Member) -> Result<StartError, StartError> {
    // The directory holds nothing of value: without an identity it can join anew.
    let path = member.config().data_dir.join(IDENTITY_FILE);
    let removed = member.seams().disk.remove_file(&path);
    removed.map_err(|error| StartError::io("remove", &path, error))?;
    Ok(StartError::Directory(format!(
        "member {} has been part of this cluster before, but {} holds no log: its disk was lost. \
         Remove it with `trireme member remove {:x}` and start it again with --join",
        member.name(),
        member.config().data_dir.display(),
        member.id()
    )))
}
