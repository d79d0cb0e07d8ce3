//! Links cut between members; clients reach everybody.

use anyhow::Result;

use crate::cluster::Cluster;

fn others(cluster: &Cluster, member: usize) -> Vec<usize> {
    (0..cluster.size())
        .filter(|other| *other != member)
        .collect()
}

/// One member alone on its side.
pub(super) fn isolate(cluster: &mut Cluster, member: usize) -> Result<()> {
    let others = others(cluster, member);
    cluster.network().cut(&[member], &others)
}

/// A minority around `leader` on one side.
pub(super) fn split(cluster: &mut Cluster, leader: usize) -> Result<()> {
    let size = cluster.size();
    let minority: Vec<usize> = (0..size.div_ceil(2) - 1)
        .map(|at| (leader + at) % size)
        .collect();
    let majority: Vec<usize> = (0..size)
        .filter(|member| !minority.contains(member))
        .collect();
    cluster.network().cut(&minority, &majority)
}

/// The others do not hear this member.
pub(super) fn silence(cluster: &mut Cluster, member: usize) -> Result<()> {
    for other in others(cluster, member) {
        cluster.network().deafen(other, member)?;
    }
    Ok(())
}
