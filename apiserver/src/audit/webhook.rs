//! Audit events sent to a server, many at once.

use std::sync::Arc;
use std::time::Duration;

use seams::Tasks;
use tokio::sync::mpsc;

use super::next_batch;
use crate::metrics::Metrics;
use crate::outbound::Client;

/// Events that are sent at once, and how long the first of them waits for the others.
const BATCH: usize = 400;
const WAIT: Duration = Duration::from_secs(30);

/// Which server.
pub struct Config {
    /// Reaches it.
    pub client: Client,
    /// Where.
    pub url: String,
}

/// Sends events until the tasks end.
pub(super) fn start(
    config: Config,
    mut events: mpsc::Receiver<Arc<str>>,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) {
    let (metrics, owner) = (metrics.clone(), tasks.clone());
    tasks.spawn("audit-webhook", async move {
        while let Some(batch) = next_batch(&mut events, BATCH, WAIT, &owner).await {
            let list = list(&batch);
            let Err(error) = config.client.deliver(&config.url, list).await else {
                continue;
            };
            tracing::error!(
                error,
                lost = batch.len(),
                "the audit webhook does not take events"
            );
            metrics
                .audit_errors
                .of(&["webhook"])
                .add(batch.len() as u64);
        }
    });
}

fn list(batch: &[Arc<str>]) -> String {
    let mut out =
        r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_string();
    out.push_str(&batch.join(","));
    out.push_str("]}");
    out
}
