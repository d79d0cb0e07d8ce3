//! How a member with an empty directory comes by its identity: it founds a cluster with others, or
//! asks a running one to be added.

use std::time::Duration;

use seams::Rng;
use tokio::time::{sleep, timeout};

use super::StartError;
use super::config::{Config, Start};
use super::identity::Identity;
use crate::consensus::peers::{Dial, Peers};
use crate::error::Error;
use crate::pb::etcdserverpb::MemberAddRequest;
use crate::pb::peer::{DescribeReply, DescribeRequest, MemberChange, member_change::Change};

/// How long a joining member keeps asking to be added.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);

/// The identity of a member that has none yet.
pub(super) async fn new_identity(
    config: &Config,
    rng: &dyn Rng,
    dial: &Dial,
) -> Result<Identity, StartError> {
    match &config.start {
        Start::New { members, token } => Identity::founding(&config.name, members, token),
        Start::Join { peers, learner } => {
            let add = MemberChange {
                change: Some(Change::Add(MemberAddRequest {
                    peer_ur_ls: config.advertise_peer.clone(),
                    is_learner: *learner,
                })),
                request: rng.next_u64().max(1),
            };
            join(config, peers, add, dial).await
        }
    }
}

/// Asks a running cluster to add this member, and learns its identity from the answer.
async fn join(
    config: &Config,
    peers: &[String],
    add: MemberChange,
    dial: &Dial,
) -> Result<Identity, StartError> {
    let mut last = "no peer URL was given".to_owned();
    let asking = timeout(JOIN_PATIENCE, async {
        loop {
            for url in peers {
                match ask_to_join(config, url, &add, dial).await {
                    Ok(identity) => return Ok(identity),
                    Err(Refusal::Final(reason)) => return Err(StartError::Cluster(reason)),
                    Err(Refusal::Passing(reason)) => last = format!("{url}: {reason}"),
                }
            }
            sleep(PAUSE).await;
        }
    });
    match asking.await {
        Ok(answer) => answer,
        Err(_) => Err(StartError::Cluster(format!(
            "could not join the cluster within {JOIN_PATIENCE:?}; last answer: {last}"
        ))),
    }
}

enum Refusal {
    Passing(String),
    Final(String),
}

/// Asks the cluster at one URL. The change is the same in every attempt, so that one that was
/// carried out although its answer was lost is found again.
async fn ask_to_join(
    config: &Config,
    url: &str,
    add: &MemberChange,
    dial: &Dial,
) -> Result<Identity, Refusal> {
    let passing = |error: tonic::Status| Refusal::Passing(error.message().to_owned());
    let anyone = Peers::new(0, dial.clone());
    let mut client = anyone.client_of_urls(None, &[url.to_owned()]);
    let described = client.describe(DescribeRequest::default()).await;
    let described = described.map_err(passing)?.into_inner();
    let joined = |member_id| Identity {
        format: super::identity::FORMAT,
        cluster_id: described.cluster_id,
        member_id,
        name: config.name.clone(),
        has_log: false,
        founders: Vec::new(),
        retired: None,
    };
    if let Some(id) = own(config, &described) {
        return Ok(joined(id));
    }
    let leader = described
        .members
        .iter()
        .find(|member| member.id == described.leader)
        .ok_or_else(|| Refusal::Passing(Error::NoLeader.to_string()))?;
    let mut leader = anyone.client_of_urls(None, &leader.peer_ur_ls);
    let refused = match leader.change_members(add.clone()).await {
        Ok(reply) => return Ok(joined(reply.into_inner().id)),
        Err(status) => crate::server::status::error(&status),
    };
    match refused {
        Error::PeerUrlExists => {
            // The member that was asked first may not have known yet what the leader knows: an
            // earlier process here may have been added.
            let again = leader.describe(DescribeRequest::default()).await;
            let again = again.map_err(passing)?.into_inner();
            match own(config, &again).filter(|_| again.cluster_id == described.cluster_id) {
                Some(id) => Ok(joined(id)),
                None => Err(Refusal::Final(format!(
                    "another member has the peer URLs {:?}: remove it first if it is a former \
                     self of this one",
                    config.advertise_peer
                ))),
            }
        }
        Error::MemberBadUrls => Err(Refusal::Final(refused.to_string())),
        refused => Err(Refusal::Passing(refused.to_string())),
    }
}

/// The ID of this member, if an earlier attempt to join was carried out: a member with its URLs
/// that never started.
fn own(config: &Config, described: &DescribeReply) -> Option<u64> {
    let mut members = described.members.iter();
    let own =
        members.find(|member| member.peer_ur_ls == config.advertise_peer && member.name.is_empty());
    own.map(|member| member.id)
}
