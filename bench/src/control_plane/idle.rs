//! Masters that have nothing to do.

use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::drive::{Masters, Setting};
use crate::report::{Results, Wanted};
use crate::scheduling::memory;

/// A new cluster makes its first objects for a while.
const SETTLE: Duration = Duration::from_secs(15);

/// Memory, and the processor time of the master that uses the most of it.
pub(crate) async fn measure(options: &Options, name: &str, results: &mut Results) -> Result<()> {
    let masters = Masters::start(options, &Setting::default()).await?;
    let cluster = &masters.cluster;
    tokio::time::sleep(SETTLE).await;
    let before: Vec<_> = cluster.masters().map(|n| cluster.cpu_of(n)).collect();
    let window = Duration::from_secs_f64(options.seconds);
    tokio::time::sleep(window).await;
    let used = cluster.masters().zip(before).filter_map(|(n, before)| {
        let used = cluster.cpu_of(n)?.saturating_sub(before?);
        Some(100.0 * used.as_secs_f64() / window.as_secs_f64())
    });
    let busiest = used.fold(0.0, f64::max);
    results.add(
        name,
        "busiest master's CPU",
        busiest,
        "% core",
        Wanted::AtMost(1.0),
    );
    memory(name, 80.0, cluster, results);
    Ok(())
}
