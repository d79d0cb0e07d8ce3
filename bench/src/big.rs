//! A big database: memory with a million keys, restart with a gigabyte.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::Options;
use crate::cluster::Cluster;
use crate::report::{Better, Results};

/// Background work after loading gets this long before memory is read.
const SETTLE: Duration = Duration::from_secs(5);
/// A restart that takes longer has failed.
const RESTART_MAX: Duration = Duration::from_secs(120);

/// Loads it, reads memory, and restarts a follower after SIGTERM and after kill -9.
pub(crate) fn measure(
    cluster: &mut Cluster,
    options: &Options,
    results: &mut Results,
) -> Result<()> {
    let system = cluster.system.name();
    let (began, cpu) = (Instant::now(), cluster.cpu());
    crate::throughput::load(cluster, b'b', options.big_keys, options.big_value)?;
    let rate = options.big_keys as f64 / began.elapsed().as_secs_f64();
    let cpu = cluster.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / options.big_keys as f64;
    results.add(system, "big", "load", "key/s", Better::Higher, rate);
    results.add(system, "big", "server CPU", "us/key", Better::Lower, cpu);
    eprintln!("  big: loaded {} keys at {rate:.0}/s", options.big_keys);
    std::thread::sleep(SETTLE);
    results.memory(cluster, "big")?;
    for (signal, name) in [
        (Signal::SIGTERM, "restart"),
        (Signal::SIGKILL, "restart kill -9"),
    ] {
        let seconds = restart(cluster, signal)?.as_secs_f64();
        results.add(system, "big", name, "s", Better::Lower, seconds);
        eprintln!("  big: {name} {seconds:.2} s");
    }
    Ok(())
}

/// Time from starting a follower until it answers a read from its own data.
fn restart(cluster: &mut Cluster, signal: Signal) -> Result<Duration> {
    let leader = crate::failover::leader(cluster)?;
    let follower = (leader + 1) % cluster.endpoints.len();
    cluster.signal(follower, signal)?;
    cluster.reap(follower)?;
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    cluster.bring_up(follower)?;
    while crate::load::probe(&cluster.endpoints[follower], true).is_err() {
        if began.elapsed() > RESTART_MAX {
            bail!("member {follower} does not serve {RESTART_MAX:?} after its start");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let served = began.elapsed();
    cluster.wait_serving(&[0, 1, 2])?;
    Ok(served)
}
