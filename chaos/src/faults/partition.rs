//! Links cut between members; clients reach everybody.

use anyhow::Result;

use crate::cluster::Cluster;

fn others(cluster: &Cluster, member: usize) -> Vec<usize> {
    let members = cluster.members();
    members.into_iter().filter(|at| *at != member).collect()
}

/// One member alone on its side.
pub(super) fn isolate(cluster: &mut Cluster, member: usize) -> Result<()> {
    let others = others(cluster, member);
    cluster.network().cut(&[member], &others)
}

/// A minority around `leader` on one side.
pub(super) fn split(cluster: &mut Cluster, leader: usize) -> Result<()> {
    let mut majority = others(cluster, leader);
    let mut minority = vec![leader];
    while minority.len() + 2 < majority.len() {
        minority.extend(majority.pop());
    }
    cluster.network().cut(&minority, &majority)
}

/// The others do not hear this member; it hears them.
pub(super) fn mute(cluster: &mut Cluster, member: usize) -> Result<()> {
    let others = others(cluster, member);
    let network = cluster.network();
    others
        .iter()
        .try_for_each(|other| network.deafen(*other, member))
}

/// This member does not hear the others; they hear it.
pub(super) fn deafen(cluster: &mut Cluster, member: usize) -> Result<()> {
    let others = others(cluster, member);
    let network = cluster.network();
    others
        .iter()
        .try_for_each(|other| network.deafen(member, *other))
}
