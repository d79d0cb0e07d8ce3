//! `trireme store`: one member of the store, from its settings to its graceful end.

use anyhow::{Context, Result};
use deploy::config::values::Url;
use deploy::config::{self, AutoCompaction, Sources, StoreConfig};
use raft_store::consensus::raft::Timings;
use raft_store::member::Member;
use raft_store::member::config as member;
use raft_store::server::tls::{ClientFiles, ServerFiles};
use seams::Seams;
use tokio::time::timeout;

use crate::cli::StoreArguments;
use crate::exit::{Said, Stopped};
use crate::notify;
use crate::run::{self, Signals};
use crate::telemetry;

/// Runs a member until it is told to stop.
pub(crate) fn run(arguments: Box<StoreArguments>) -> Result<()> {
    let config: StoreConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    let settings = telemetry::Settings::for_store(&config);
    run::serving(run::runtime()?, &settings, async {
        serve(&config).await.map_err(|error| {
            // Why a member stopped by itself was logged when it did.
            match error.is::<Stopped>() {
                true => anyhow::Error::new(Said::new(&error)),
                false => error,
            }
        })
    })
}

async fn serve(config: &StoreConfig) -> Result<()> {
    let mut signals = Signals::new()?;
    if !config.join.is_empty() && !config.initial_cluster.is_empty() {
        tracing::info!("join is set: initial-cluster is passed over");
    }
    tracing::info!(
        version = env!("LONG_VERSION"),
        name = config.name,
        "starting"
    );
    let member = tokio::select! {
        started = Member::start(member_config(config), Seams::real()) => {
            started.context("the member did not start")?
        }
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the member had started");
            return Ok(());
        }
    };
    let ready = async {
        if member.wait_recovered().await {
            notify::ready();
        }
        std::future::pending::<()>().await;
    };
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = ready => return Ok(()),
        // Its own tasks end only when something broke, such as the disk under the log.
        () = ended(&member) => {
            return Err(stopped(&member).into());
        }
    };
    tracing::info!(signal, "stopping: handing leadership over, then draining");
    notify::stopping();
    let bound = config.shutdown_timeout.0;
    tokio::select! {
        drained = timeout(bound, member.shutdown()) => {
            if drained.is_err() {
                tracing::warn!(?bound, "not everything under way was answered in time");
            }
        }
        signal = signals.insisted() => tracing::warn!(signal, "stopping at once"),
    }
    Ok(())
}

pub(crate) fn stopped(member: &Member) -> Stopped {
    Stopped {
        kind: member.failure_kind(),
        reason: member.failure().unwrap_or_default().to_owned(),
    }
}

pub(crate) async fn ended(member: &Member) {
    member.tasks().cancelled().await;
}

/// The member's own configuration.
pub(crate) fn member_config(config: &StoreConfig) -> member::Config {
    let shares = config.memory_shares();
    member::Config {
        listen_peer: config.listen_peer_urls.iter().map(Url::authority).collect(),
        listen_client: config
            .listen_client_urls
            .iter()
            .map(Url::authority)
            .collect(),
        listen_metrics: config
            .listen_metrics_urls
            .iter()
            .map(Url::authority)
            .collect(),
        advertise_peer: texts(&config.initial_advertise_peer_urls),
        advertise_client: texts(&config.advertise_client_urls),
        timings: Timings {
            heartbeat: config.heartbeat_interval.0,
            election_min: config.election_timeout_min(),
            election_max: config.election_timeout.0,
            ..Timings::default()
        },
        client_tls: client_tls(config),
        peer_tls: peer_tls(config),
        limits: member::Limits {
            quota_bytes: config.quota_backend_bytes.0,
            engine_bytes: as_usize(shares.engine),
            ring_bytes: as_usize(shares.events),
            log_cache_bytes: as_usize(shares.log),
            request_bytes: as_usize(config.max_request_bytes.0),
            reserve_bytes: config.reserve_bytes.0,
            ..member::Limits::default()
        },
        auto_compaction: match config.auto_compaction() {
            Ok(Some(AutoCompaction::Periodic(span))) => member::AutoCompaction::Periodic(span),
            Ok(Some(AutoCompaction::Revision(n))) => member::AutoCompaction::Revisions(n),
            // A retention that cannot be read was refused when the settings were loaded.
            Ok(None) | Err(_) => member::AutoCompaction::Off,
        },
        watch_progress_interval: config.watch_progress_notify_interval.0,
        hash_check_interval: config.corrupt_check_time.0,
        ..member::Config::new(&config.name, &config.data_dir, start(config))
    }
}

fn start(config: &StoreConfig) -> member::Start {
    if !config.join.is_empty() {
        return member::Start::Join {
            peers: texts(&config.join),
            learner: config.learner,
        };
    }
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    for founder in &config.initial_cluster {
        let url = founder.url.to_string();
        match members.iter_mut().find(|(name, _)| *name == founder.name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((founder.name.clone(), vec![url])),
        }
    }
    member::Start::New {
        members,
        token: config.initial_cluster_token.clone(),
    }
}

fn client_tls(config: &StoreConfig) -> Option<ServerFiles> {
    Some(ServerFiles {
        cert: config.cert_file.clone()?,
        key: config.key_file.clone()?,
        client_ca: config.trusted_ca_file.clone(),
        client_cert_optional: false,
    })
    .filter(|_| !config.insecure)
}

fn peer_tls(config: &StoreConfig) -> Option<member::PeerTls> {
    if config.insecure {
        return None;
    }
    let (cert, key) = (
        config.peer_cert_file.clone()?,
        config.peer_key_file.clone()?,
    );
    let ca = config.peer_trusted_ca_file.clone()?;
    Some(member::PeerTls {
        client: ClientFiles {
            ca: ca.clone(),
            identity: Some((cert.clone(), key.clone())),
            server_name: None,
        },
        server: ServerFiles {
            cert,
            key,
            client_ca: Some(ca),
            client_cert_optional: false,
        },
    })
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploy::config::Settings;

    fn founding() -> StoreConfig {
        let mut config = StoreConfig {
            name: "a".into(),
            initial_cluster: [
                "a=https://10.0.0.1:2380",
                "a=https://[::1]:2380",
                "b=https://10.0.0.2:2380",
            ]
            .map(|text| text.parse().unwrap())
            .to_vec(),
            cert_file: Some("c".into()),
            key_file: Some("k".into()),
            trusted_ca_file: Some("ca".into()),
            peer_cert_file: Some("pc".into()),
            peer_key_file: Some("pk".into()),
            peer_trusted_ca_file: Some("pca".into()),
            ..StoreConfig::default()
        };
        config.resolve();
        config
    }

    #[test]
    fn settings_reach_the_member() {
        let member = member_config(&founding());
        assert_eq!(member.listen_client, ["127.0.0.1:2379"]);
        assert_eq!(member.advertise_peer, ["https://127.0.0.1:2380"]);
        let member::Start::New { members, token } = &member.start else {
            panic!("{:?}", member.start);
        };
        assert_eq!(members.len(), 2);
        assert_eq!(
            members[0].1,
            ["https://10.0.0.1:2380", "https://[::1]:2380"]
        );
        assert_eq!(token, "trireme");
        assert_eq!(member.client_tls.unwrap().client_ca, Some("ca".into()));
        let peer = member.peer_tls.unwrap();
        assert_eq!(peer.client.identity, Some(("pc".into(), "pk".into())));
        assert_eq!(peer.server.client_ca, Some("pca".into()));
    }

    #[test]
    fn the_defaults_are_those_of_the_member() {
        let ours = member_config(&founding());
        let start = member::Start::Join {
            peers: Vec::new(),
            learner: false,
        };
        let theirs = member::Config::new("a", "x", start);
        // A member by itself is livelier and keeps more: what the simulation needs, and etcd's clients.
        let mut timings = theirs.timings.clone();
        timings.heartbeat *= 3;
        timings.election_min = timings.election_min * 3 / 2;
        timings.election_max = timings.election_max * 3 / 2;
        assert_eq!(format!("{:?}", ours.timings), format!("{timings:?}"));
        let mut limits = theirs.limits.clone();
        for bytes in [
            &mut limits.engine_bytes,
            &mut limits.ring_bytes,
            &mut limits.log_cache_bytes,
        ] {
            *bytes /= 2;
        }
        assert_eq!(format!("{:?}", ours.limits), format!("{limits:?}"));
        assert_eq!(ours.auto_compaction, theirs.auto_compaction);
        assert_eq!(ours.watch_progress_interval, theirs.watch_progress_interval);
        assert_eq!(ours.hash_check_interval, theirs.hash_check_interval);
    }

    #[test]
    fn joining_and_plain_text() {
        let config = StoreConfig {
            join: vec!["http://127.0.0.1:1".parse().unwrap()],
            learner: true,
            insecure: true,
            ..founding()
        };
        let member = member_config(&config);
        assert!(member.client_tls.is_none() && member.peer_tls.is_none());
        let member::Start::Join { peers, learner } = member.start else {
            panic!("{:?}", member.start);
        };
        assert!(learner && peers == ["http://127.0.0.1:1"]);
    }
}
