//! Processes killed and paused.

use anyhow::Result;

use crate::cluster::Cluster;

/// `kill -9`s these members.
pub(super) fn kill(cluster: &mut Cluster, members: &[usize]) -> Result<()> {
    members.iter().try_for_each(|member| cluster.kill(*member))
}

/// SIGSTOPs all members but one.
pub(super) fn pause_all_but(cluster: &mut Cluster, spared: usize) -> Result<()> {
    let members = cluster.members();
    let paused = members.into_iter().filter(|member| *member != spared);
    paused.into_iter().try_for_each(|m| cluster.pause(m))
}
