//! What operators ask of a cluster: alarms cleared, members that come and go.

use std::future::Future;

use raft_store::pb::etcdserverpb as pb;
use raft_store::pb::etcdserverpb::cluster_client::ClusterClient;
use raft_store::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::Client;

impl Client {
    /// Clears every alarm, as an operator does when there is room on the disk again.
    ///
    /// # Errors
    ///
    /// In words, when the member does not do it.
    pub async fn clear_alarms(&mut self) -> Result<(), String> {
        let request = |action, member_id, alarm| pb::AlarmRequest {
            action,
            member_id,
            alarm,
        };
        let ask = |channel| async move {
            let mut client = MaintenanceClient::new(channel);
            client.alarm(request(0, 0, 0)).await
        };
        let raised = self.administer(ask).await?;
        for alarm in raised.alarms {
            let clear = |channel| async move {
                let mut client = MaintenanceClient::new(channel);
                client.alarm(request(2, alarm.member_id, alarm.alarm)).await
            };
            self.administer(clear).await?;
        }
        Ok(())
    }

    /// The members of the cluster.
    ///
    /// # Errors
    ///
    /// In words, as for all calls here: there is nothing that a caller could tell apart.
    pub async fn member_list(&mut self) -> Result<Vec<pb::Member>, String> {
        let request = pb::MemberListRequest::default();
        let ask = |channel| async move { ClusterClient::new(channel).member_list(request).await };
        Ok(self.administer(ask).await?.members)
    }

    /// Makes room for a learner that will be reached at this URL.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn member_add(&mut self, peer_url: &str) -> Result<(), String> {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let ask = |channel| async move { ClusterClient::new(channel).member_add(request).await };
        self.administer(ask).await.map(drop)
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn member_promote(&mut self, id: u64) -> Result<(), String> {
        let request = pb::MemberPromoteRequest { id };
        let ask =
            |channel| async move { ClusterClient::new(channel).member_promote(request).await };
        self.administer(ask).await.map(drop)
    }

    /// Lets a member go for good.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn member_remove(&mut self, id: u64) -> Result<(), String> {
        let request = pb::MemberRemoveRequest { id };
        let ask = |channel| async move { ClusterClient::new(channel).member_remove(request).await };
        self.administer(ask).await.map(drop)
    }

    /// Asks the leader to hand over to another member.
    ///
    /// # Errors
    ///
    /// In words; also when this member does not lead.
    pub async fn move_leader(&mut self, target_id: u64) -> Result<(), String> {
        let request = pb::MoveLeaderRequest { target_id };
        let ask =
            |channel| async move { MaintenanceClient::new(channel).move_leader(request).await };
        self.administer(ask).await.map(drop)
    }

    /// Asks within the deadline; the connection is not used again after a failure.
    pub(super) async fn administer<T, F>(
        &mut self,
        ask: impl FnOnce(Channel) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = self.deadline;
        let asked = timeout(deadline, async {
            let channel = self.connected().await?;
            let answer = ask(channel).await;
            answer
                .map(Response::into_inner)
                .map_err(|status| status.to_string())
        });
        let answer = asked.await.unwrap_or_else(|_| Err("deadline".into()));
        if answer.is_err() {
            self.channel = None;
        }
        answer
    }
}
