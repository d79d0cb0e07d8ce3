//! Tests of loading settings.

use super::values::{ByteSize, Span};
use super::*;

/// A single member on loopback without TLS.
fn plain() -> Vec<(String, Vec<String>)> {
    let flag = |key: &str, value: &str| (key.to_string(), vec![value.to_string()]);
    vec![
        flag("insecure", "true"),
        flag("listen-client-urls", "http://127.0.0.1:2379"),
        flag("listen-peer-urls", "http://127.0.0.1:2380"),
    ]
}

fn with(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<StoreConfig, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.yaml");
    fs::write(&path, file).unwrap();
    let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect()
    };
    let mut all = plain();
    all.extend(
        own(flags)
            .into_iter()
            .map(|(key, value)| (key, vec![value])),
    );
    load(&Sources {
        file: Some(path),
        environment: own(environment),
        flags: all,
    })
}

#[test]
fn each_source_wins_over_the_one_before() {
    let file = "name: from-file\nquota-backend-bytes: 1GiB\nelection-timeout: 2000\n";
    let variables = [
        ("TRIREME_NAME", "from-variable"),
        ("TRIREME_QUOTA_BACKEND_BYTES", "2GiB"),
    ];
    let config = with(file, &variables, &[("name", "from-flag")]).unwrap();
    assert_eq!(config.name, "from-flag");
    assert_eq!(config.quota_backend_bytes, ByteSize(2 << 30));
    assert_eq!(config.election_timeout, Span::from_millis(2000));
    assert_eq!(config.heartbeat_interval, Span::from_millis(150));
}

#[test]
fn lists_are_read_from_sequences_and_from_commas() {
    let file = "advertise-client-urls: [http://a:1, http://b:2]";
    let variables = [(
        "TRIREME_INITIAL_ADVERTISE_PEER_URLS",
        "http://a:3,http://b:4",
    )];
    let config = with(file, &variables, &[]).unwrap();
    let written: Vec<String> = config
        .advertise_client_urls
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(written, ["http://a:1", "http://b:2"]);
    assert_eq!(config.initial_advertise_peer_urls.len(), 2);
}

#[test]
fn misspelt_names_are_errors_with_a_suggestion() {
    let error = with("hartbeat-interval: 100ms", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`hartbeat-interval` in ")
            && error.ends_with("did you mean `heartbeat-interval`?"),
        "{error}"
    );
    let error = with("", &[("TRIREME_DATADIR", "/x")], &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("TRIREME_DATADIR") && error.ends_with("did you mean TRIREME_DATA_DIR?"),
        "{error}"
    );
    let error = with("", &[("TRIREME_UNRELATED_THING", "1")], &[])
        .unwrap_err()
        .to_string();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn other_and_empty_variables_are_passed_over() {
    with(
        "",
        &[
            ("TRIREME_ENDPOINTS", "x"),
            ("TRIREME_NAME", ""),
            ("PATH", "/bin"),
        ],
        &[],
    )
    .unwrap();
}

#[test]
fn a_wrong_value_names_setting_origin_and_fix() {
    let error = with("", &[("TRIREME_HEARTBEAT_INTERVAL", "soon")], &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "heartbeat-interval (from TRIREME_HEARTBEAT_INTERVAL): `soon` is not a time span such as 100ms, 5s or 1h30m"
    );
    let error = with("listen-client-urls: {a: b}", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("listen-client-urls (in "), "{error}");
}

#[test]
fn a_file_that_is_no_mapping_is_refused() {
    assert!(matches!(
        with("just words", &[], &[]),
        Err(ConfigError::Syntax { .. })
    ));
    assert!(matches!(
        with("a: [", &[], &[]),
        Err(ConfigError::Syntax { .. })
    ));
    assert!(with("# nothing but a comment", &[], &[]).is_ok());
    let missing = Sources {
        file: Some("/nonexistent/x.yaml".into()),
        ..Sources::default()
    };
    assert!(matches!(
        load::<StoreConfig>(&missing),
        Err(ConfigError::Read { .. })
    ));
}

#[test]
fn aliases_mean_their_setting() {
    let config = with(
        "client-ca-file: /x/ca.crt",
        &[("TRIREME_PEER_CLIENT_CA_FILE", "/y/ca.crt")],
        &[],
    )
    .unwrap();
    assert_eq!(
        config.trusted_ca_file.as_deref(),
        Some(Path::new("/x/ca.crt"))
    );
    assert_eq!(
        config.peer_trusted_ca_file.as_deref(),
        Some(Path::new("/y/ca.crt"))
    );
}

#[test]
fn edit_distance() {
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "abc"), 3);
}
