//! Tests of the layout of a local cluster.

use super::*;

fn options(dir: &Path) -> Options {
    Options {
        data: dir.join("c"),
        port_base: Some(20000),
        ..Options::default()
    }
}

#[test]
fn a_cluster_has_the_files_and_ports_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(&options(dir.path())).unwrap();
    layout.prepare().unwrap();
    let root = layout.dir().display();
    assert_eq!(
        fs::read_to_string(layout.env_file()).unwrap(),
        format!(
            "ETCDCTL_ENDPOINTS=https://127.0.0.1:20010,https://127.0.0.1:20020,https://127.0.0.1:20030\n\
             ETCDCTL_CACERT={root}/pki/ca.crt\nETCDCTL_CERT={root}/pki/admin.crt\nETCDCTL_KEY={root}/pki/admin.key\n"
        )
    );
    let sources = Sources {
        file: Some(layout.config_file(Unit::Master(2))),
        ..Sources::default()
    };
    let config: ServerConfig = config::load(&sources).unwrap();
    let config = config.store;
    assert_eq!(config.name, "master-2");
    assert_eq!(
        config.listen_peer_urls[0].to_string(),
        "https://127.0.0.1:20021"
    );
    assert_eq!(config.initial_cluster.len(), 3);
    assert_eq!(layout.unit("master-3"), Some(Unit::Master(3)));
    assert_eq!(layout.unit("master-4"), None);
}

#[test]
fn the_same_options_resume_and_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Layout::open(&options(dir.path()))
        .unwrap()
        .prepare()
        .unwrap();
    let authority = fs::read(dir.path().join("c/pki/ca.crt")).unwrap();
    let unspecific = Options {
        data: dir.path().join("c"),
        ..Options::default()
    };
    for again in [options(dir.path()), unspecific] {
        let layout = Layout::open(&again).unwrap();
        layout.prepare().unwrap();
        assert_eq!(layout.client_url(1).port, 20010);
    }
    assert_eq!(
        fs::read(dir.path().join("c/pki/ca.crt")).unwrap(),
        authority
    );
    for other in [
        Options {
            masters: Some(5),
            ..options(dir.path())
        },
        Options {
            port_base: Some(1),
            ..options(dir.path())
        },
        Options {
            insecure: Some(true),
            ..options(dir.path())
        },
    ] {
        let error = Layout::open(&other).unwrap_err().to_string();
        assert!(
            error.contains("holds a cluster of 3 masters with port base 20000 and mTLS"),
            "{error}"
        );
    }
}

#[test]
fn settings_reach_the_members_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = options(dir.path());
    first.insecure = Some(true);
    first
        .settings
        .insert("quota-backend-bytes".into(), "64MiB".into());
    Layout::open(&first).unwrap().prepare().unwrap();
    first.settings.clear();
    let layout = Layout::open(&first).unwrap();
    layout.prepare().unwrap();
    let text = fs::read_to_string(layout.config_file(Unit::Master(1))).unwrap();
    assert!(
        text.contains("quota-backend-bytes: 64MiB") && text.contains("insecure"),
        "{text}"
    );
    let env = fs::read_to_string(layout.env_file()).unwrap();
    assert!(
        env.contains("ETCDCTL_ENDPOINTS=127.0.0.1:20010,") && env.contains("ETCDCTL_CERT=\n"),
        "{env}"
    );

    first.settings.insert("no-such-setting".into(), "1".into());
    let error = Layout::open(&first).unwrap().prepare().unwrap_err();
    assert!(
        matches!(
            error,
            LocalError::Config {
                unit: Unit::Master(1),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn impossible_clusters_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [
        Options {
            masters: Some(0),
            ..options(dir.path())
        },
        Options {
            masters: Some(10),
            ..options(dir.path())
        },
        Options {
            port_base: Some(65530),
            ..options(dir.path())
        },
    ] {
        assert!(matches!(Layout::open(&wrong), Err(LocalError::Options(_))));
    }
    let highest = Options {
        port_base: Some(65496),
        ..options(dir.path())
    };
    assert_eq!(Layout::open(&highest).unwrap().client_url(3).port, 65526);
}

#[test]
fn an_advertised_address_is_in_settings_and_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Layout::open(&options(dir.path())).unwrap();
    plain.prepare().unwrap();
    assert_eq!(plain.advertised(), None);
    let certificate = || fs::read(plain.dir().join("pki/master-1-api.crt")).unwrap();
    let before = certificate();
    let at = |address: &str| Options {
        advertise_address: Some(address.parse().unwrap()),
        ..options(dir.path())
    };
    for wrong in ["127.0.0.1", "::", "169.254.0.1", "fe80::1"] {
        let error = Layout::open(&at(wrong)).unwrap_err().to_string();
        assert!(error.contains("reaches no other machine"), "{error}");
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        Layout::open(&at(address)).unwrap().prepare().unwrap();
        // It stays until there is another one.
        let layout = Layout::open(&options(dir.path())).unwrap();
        layout.prepare().unwrap();
        let text = fs::read_to_string(layout.config_file(Unit::Master(2))).unwrap();
        let url = layout.advertised().unwrap();
        assert_eq!((url.host.as_str(), url.port), (address, 20000));
        assert!(
            text.contains(&format!("advertise-api-urls:\n- {url}")),
            "{text}"
        );
        assert_ne!(certificate(), before);
    }
}

#[test]
fn odd_paths_are_quoted() {
    assert_eq!(quoted("/tmp/a-b/c.crt"), "/tmp/a-b/c.crt");
    assert_eq!(quoted("/tmp/it's here"), r"'/tmp/it'\''s here'");
}
