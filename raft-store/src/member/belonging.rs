//! Whether this member still belongs to its cluster.
//!
//! One that was removed hears no leader any more, and nothing in its own log may say why. One
//! whose cluster was recovered without it finds its peers in another cluster. Both would stand
//! for election for ever: a member that hears no leader asks the others.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::Member;
use super::config::Start;
use super::identity::Retired;
use crate::pb::peer::{DescribeReply, DescribeRequest};

/// A member that heard no leader for this long asks. Several elections.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks; jitter is added.
const PAUSE: Duration = Duration::from_secs(1);
/// Limit for one question.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the answers of the peers amount to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing speaks against it.
    Belongs,
    /// A member of it belongs to the cluster with this ID now. An address may have passed on.
    Doubtful(u64),
    /// The cluster goes on without this member.
    Removed,
    /// A majority of its members belongs to the cluster with this ID now.
    Foreign(u64),
}

/// Asks whenever no leader is heard, until the member stops.
pub(super) async fn watch(member: Member) {
    let mut told = false;
    loop {
        let pause = member.seams().rng.jitter(PAUSE);
        tokio::select! {
            () = member.tasks().cancelled() => return,
            () = sleep(pause) => {}
        }
        if member.is_leader() || member.consensus().silence() < SILENCE {
            told = false;
            continue;
        }
        let verdict = tokio::select! {
            () = member.tasks().cancelled() => return,
            verdict = ask(&member) => verdict,
        };
        match verdict {
            Verdict::Belongs => {}
            Verdict::Doubtful(cluster) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{}", member.foreign(cluster));
                }
            }
            Verdict::Removed => return member.retire(Retired::Removed),
            Verdict::Foreign(cluster) => return member.is_foreign(cluster),
        }
    }
}

async fn ask(member: &Member) -> Verdict {
    let others = others(member);
    let asked = others.iter().map(|urls| async {
        let mut client = member.consensus().peers.client_of_urls(None, urls);
        let request = DescribeRequest {
            confirmed_for: member.cluster_id(),
        };
        let answer = timeout(ASK_TIMEOUT, client.describe(request)).await;
        Some(answer.ok()?.ok()?.into_inner())
    });
    let answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    // With this member, the others are all that could form a majority.
    let members = others.len() + 1;
    let majority = members / 2 + 1;
    judge(member.cluster_id(), member.id(), majority, &answers)
}

/// The peer URLs of the other members, as far as this one knows them.
fn others(member: &Member) -> Vec<Vec<String>> {
    let known = member.members_now();
    let known = known.into_iter().filter(|peer| peer.id != member.id());
    let known: Vec<_> = known.map(|peer| peer.peer_ur_ls).collect();
    if !known.is_empty() {
        return known;
    }
    match &member.config().start {
        Start::Join { peers, .. } => peers.iter().map(|url| vec![url.clone()]).collect(),
        Start::New { members, .. } => members
            .iter()
            .filter(|(name, _)| name != member.name())
            .map(|(_, urls)| urls.clone())
            .collect(),
    }
}

fn judge(cluster: u64, id: u64, majority: usize, answers: &[DescribeReply]) -> Verdict {
    let removed = answers.iter().any(|answer| {
        answer.cluster_id == cluster
            && !answer.members.is_empty()
            && answer.members.iter().all(|member| member.id != id)
    });
    if removed {
        return Verdict::Removed;
    }
    let foreign = answers.iter().filter(|answer| answer.cluster_id != cluster);
    match foreign.clone().next() {
        Some(other) if foreign.count() >= majority => Verdict::Foreign(other.cluster_id),
        Some(other) => Verdict::Doubtful(other.cluster_id),
        None => Verdict::Belongs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::Member as PbMember;

    fn answer(cluster_id: u64, members: &[u64]) -> DescribeReply {
        let members = members.iter().map(|id| PbMember {
            id: *id,
            ..PbMember::default()
        });
        DescribeReply {
            cluster_id,
            members: members.collect(),
            ..DescribeReply::default()
        }
    }

    #[test]
    fn one_that_is_named_belongs() {
        let answers = [answer(1, &[7, 8, 9]), answer(1, &[7, 8, 9])];
        assert_eq!(judge(1, 7, 2, &answers), Verdict::Belongs);
        assert_eq!(judge(1, 7, 2, &[]), Verdict::Belongs);
        // A founder that has no log yet.
        assert_eq!(judge(1, 7, 2, &[answer(1, &[])]), Verdict::Belongs);
    }

    #[test]
    fn a_confirmed_membership_without_it_settles_it() {
        assert_eq!(judge(1, 7, 2, &[answer(1, &[8, 9])]), Verdict::Removed);
    }

    #[test]
    fn a_majority_in_another_cluster_settles_it() {
        let answers = [answer(2, &[8]), answer(2, &[8, 9])];
        assert_eq!(judge(1, 7, 2, &answers), Verdict::Foreign(2));
        assert_eq!(judge(1, 7, 2, &answers[..1]), Verdict::Doubtful(2));
    }
}
