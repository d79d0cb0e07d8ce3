//! Tests of settings of a member.

use super::*;

fn plain() -> StoreConfig {
    let local = |port| {
        vec![Url {
            secure: false,
            host: "127.0.0.1".into(),
            port,
        }]
    };
    StoreConfig {
        insecure: true,
        listen_client_urls: local(2379),
        listen_peer_urls: local(2380),
        ..StoreConfig::default()
    }
}

fn problems(mut config: StoreConfig) -> Vec<String> {
    config.resolve();
    config
        .problems()
        .iter()
        .map(|p| format!("{}: {}", p.key, p.message))
        .collect()
}

#[track_caller]
fn assert_problem(config: StoreConfig, key: &str, part: &str) {
    let found = problems(config);
    let named = |p: &String| p.starts_with(&format!("{key}: ")) && p.contains(part);
    assert!(found.iter().any(named), "{key} {part}: {found:?}");
}

#[test]
fn defaults_are_usable_but_for_the_certificates() {
    assert_eq!(problems(plain()), Vec::<String>::new());
    let found = problems(StoreConfig::default());
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found
            .iter()
            .all(|p| p.contains("certificates are required"))
    );
}

#[test]
fn a_config_survives_being_written() {
    let mut config = plain();
    config.resolve();
    let text = serde_yaml_ng::to_string(&config).unwrap();
    assert_eq!(
        serde_yaml_ng::from_str::<StoreConfig>(&text).unwrap(),
        config
    );
}

#[test]
fn the_example_for_operators_is_right_but_for_its_certificates() {
    let text = include_str!("../../../systemd/store.yaml");
    let found = problems(serde_yaml_ng::from_str(text).unwrap());
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found
            .iter()
            .all(|problem| problem.ends_with("is not a file")),
        "{found:?}"
    );
}

#[test]
fn plain_text_needs_the_flag_and_loopback() {
    assert_problem(
        StoreConfig {
            insecure: false,
            ..plain()
        },
        "listen-client-urls",
        "use https://",
    );
    let everywhere = vec![Url {
        secure: false,
        host: "0.0.0.0".into(),
        port: 1,
    }];
    assert_problem(
        StoreConfig {
            listen_peer_urls: everywhere,
            ..plain()
        },
        "listen-peer-urls",
        "not a loopback address",
    );
    let open = vec!["http://10.0.0.1:9".parse().unwrap()];
    assert_problem(
        StoreConfig {
            listen_metrics_urls: open,
            ..plain()
        },
        "listen-metrics-urls",
        "loopback",
    );
    let tls = vec!["https://127.0.0.1:1".parse().unwrap()];
    assert_problem(
        StoreConfig {
            listen_client_urls: tls,
            ..plain()
        },
        "listen-client-urls",
        "use http:// on loopback",
    );
}

#[test]
fn a_wildcard_is_not_advertised() {
    let config = StoreConfig {
        listen_client_urls: vec!["https://0.0.0.0:2379".parse().unwrap()],
        ..StoreConfig::default()
    };
    assert_problem(config, "advertise-client-urls", "set advertise-client-urls");
}

#[test]
fn the_member_must_be_in_its_own_cluster() {
    let other = vec!["b=http://127.0.0.1:2380".parse().unwrap()];
    assert_problem(
        StoreConfig {
            initial_cluster: other,
            ..plain()
        },
        "initial-cluster",
        "`default`",
    );
    let elsewhere = vec!["default=http://127.0.0.1:9".parse().unwrap()];
    assert_problem(
        StoreConfig {
            initial_cluster: elsewhere,
            ..plain()
        },
        "initial-cluster",
        "make them equal",
    );
    let twice: Vec<InitialMember> = ["default", "b"]
        .map(|name| format!("{name}=http://127.0.0.1:2380").parse().unwrap())
        .to_vec();
    assert_problem(
        StoreConfig {
            initial_cluster: twice.clone(),
            ..plain()
        },
        "initial-cluster",
        "twice",
    );
    let join = vec!["http://127.0.0.1:2380".parse().unwrap()];
    // Who joins has no use for it, whatever it says.
    let joining = StoreConfig {
        initial_cluster: twice,
        join,
        ..plain()
    };
    assert_eq!(joining.problems(), []);
}

#[test]
fn timing_must_leave_room_for_a_late_heartbeat() {
    assert_problem(
        StoreConfig {
            heartbeat_interval: Span::from_millis(200),
            ..plain()
        },
        "election-timeout",
        "use 600ms or more",
    );
    assert_problem(
        StoreConfig {
            heartbeat_interval: Span::from_millis(1),
            ..plain()
        },
        "heartbeat-interval",
        "10ms",
    );
}

#[test]
fn retention_is_read_by_its_mode() {
    let read = |mode, retention: &str| {
        StoreConfig {
            auto_compaction_mode: mode,
            auto_compaction_retention: retention.into(),
            ..plain()
        }
        .auto_compaction()
    };
    use CompactionMode::{Periodic, Revision};
    let hours = |n: u64| Some(AutoCompaction::Periodic(Duration::from_secs(n * 3600)));
    assert_eq!(read(Periodic, "0"), Ok(None));
    assert_eq!(read(Periodic, "2"), Ok(hours(2)));
    assert_eq!(read(Periodic, "120m"), Ok(hours(2)));
    assert_eq!(
        read(Revision, "1000"),
        Ok(Some(AutoCompaction::Revision(1000)))
    );
    assert!(read(Revision, "-1").is_err());
    assert!(read(Revision, "2h").is_err());
    assert!(read(Periodic, "often").is_err());
}

#[test]
fn memory_is_divided_as_documented() {
    let shares = plain().memory_shares();
    assert_eq!(
        shares,
        MemoryShares {
            engine: 32 << 20,
            events: 16 << 20,
            log: 8 << 20
        }
    );
}
