//! What a cluster is asked by the harness: who leads, and whether all serve.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::Cluster;
use crate::client::Client;
use crate::ops::Call;

/// How long a member may take to serve once it can.
const SERVE_TIME: Duration = Duration::from_secs(60);
/// How long one question to a member may take.
const ASK_TIME: Duration = Duration::from_secs(1);

impl Cluster {
    /// The member that says of itself that it leads, in the highest term.
    pub async fn leader(&self) -> Option<usize> {
        let asked = self.members().into_iter().map(|member| async move {
            let status = Client::new(self.target(member), ASK_TIME)
                .status()
                .await
                .ok()?;
            (status.id == status.leader).then_some((status.term, member))
        });
        let answers = futures::future::join_all(asked).await;
        answers
            .into_iter()
            .flatten()
            .max()
            .map(|(_, member)| member)
    }

    /// The id by which the cluster knows a member.
    ///
    /// # Errors
    ///
    /// When the member does not say it.
    pub async fn id(&self, member: usize) -> Result<u64> {
        let mut client = Client::new(self.target(member), ASK_TIME);
        let status = client.status().await.map_err(anyhow::Error::msg);
        Ok(status.with_context(|| format!("id of member {member}"))?.id)
    }

    /// Waits until every member answers a linearizable read.
    ///
    /// # Errors
    ///
    /// Names the member that does not.
    pub async fn wait_serving(&mut self) -> Result<()> {
        let end = Instant::now() + SERVE_TIME;
        let probe = Call::Get {
            key: "probe".into(),
            serializable: false,
            revision: 0,
        };
        for member in self.members() {
            loop {
                let mut client = Client::new(self.target(member), ASK_TIME);
                let Err(failure) = client.call(&probe).await else {
                    break;
                };
                if !self.is_up(member) {
                    anyhow::bail!(
                        "member {member} is not up; its last words: {}",
                        self.last_words(member)
                    );
                }
                if Instant::now() > end {
                    anyhow::bail!(
                        "member {member} does not serve within {SERVE_TIME:?}: {failure:?}"
                    );
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}
