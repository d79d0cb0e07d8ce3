//! Who is who, from a request's credentials.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::static_tokens::StaticTokens;
use super::*;
use crate::storage::fake::Fake;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with a name, and with the attributes of an object identifier each.
struct Client {
    params: CertificateParams,
}

impl Client {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, name);
        } else {
            params.distinguished_name.remove(DnType::CommonName);
        }
        Self { params }
    }

    fn with(mut self, kind: DnType, value: &str) -> Self {
        self.params.distinguished_name.push(kind, value);
        self
    }

    fn of(self, authority: &Authority) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate().unwrap();
        vec![
            self.params
                .signed_by(&key, authority)
                .unwrap()
                .der()
                .clone(),
        ]
    }
}

fn trust(authority: &Authority) -> Arc<Trust> {
    Arc::new(Trust::new(authority.pem().as_bytes()).unwrap())
}

fn authenticator(config: Config, fake: &Arc<Fake>) -> Authenticator {
    let lookup = Lookup {
        objects: fake.clone(),
        catch_up: None,
    };
    Authenticator::new(config, &lookup, &Seams::real())
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

async fn ask(
    authenticator: &Authenticator,
    peer: &[CertificateDer<'static>],
    lines: &[(&'static str, &str)],
) -> Found {
    let headers = headers(lines);
    let credentials = Credentials {
        headers: &headers,
        peer,
    };
    authenticator.authenticate(&credentials, "/api").await
}

async fn user(
    authenticator: &Authenticator,
    peer: &[CertificateDer<'static>],
    lines: &[(&'static str, &str)],
) -> User {
    ask(authenticator, peer, lines).await.unwrap().unwrap().user
}

#[tokio::test]
async fn certificates_say_name_groups_and_uid() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let config = Config {
        client_ca: Some(trust(&ours)),
        ..Config::default()
    };
    let authenticator = authenticator(config, &Arc::default());
    let uid = || DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57_683, 2]);
    let alice = || {
        let one = Client::named("alice").with(DnType::OrganizationName, "dev");
        // Another key for the same attribute: the library keeps one value of each key.
        one.with(DnType::CustomDnType(vec![2, 5, 4, 10]), "ops")
    };
    let found = user(&authenticator, &alice().with(uid(), "u-1").of(&ours), &[]).await;
    assert_eq!((found.name.as_str(), found.uid.as_str()), ("alice", "u-1"));
    assert_eq!(found.groups, ["dev", "ops", AUTHENTICATED]);
    assert!(found.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    assert_eq!(
        found.extra[CREDENTIAL_ID][0].len(),
        "X509SHA256=".len() + 64
    );

    let mut expired = alice();
    expired.params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut serving = alice();
    serving.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (bad, why) in [
        (expired.of(&ours), "xpired"),
        (serving.of(&ours), ""),
        (alice().of(&theirs), "UnknownIssuer"),
        (
            alice().with(uid(), "").of(&ours),
            "UID cannot be an empty string",
        ),
    ] {
        let error = ask(&authenticator, &bad, &[]).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    // Nobody's certificate says nothing.
    assert_eq!(
        user(&authenticator, &Client::named("").of(&ours), &[]).await,
        User::anonymous()
    );
    assert_eq!(user(&authenticator, &[], &[]).await, User::anonymous());
}

#[tokio::test]
async fn authorities_may_be_replaced() {
    let (old, new) = (authority("old"), authority("new"));
    let trust = trust(&old);
    let chain = Client::named("x").of(&new);
    assert!(trust.verify(&chain, Seams::real().clock.wall()).is_err());
    trust.replace(new.pem().as_bytes()).unwrap();
    trust.verify(&chain, Seams::real().clock.wall()).unwrap();
    assert!(trust.replace(b"nothing").is_err());
    trust.verify(&chain, Seams::real().clock.wall()).unwrap();
}

#[tokio::test]
async fn the_front_proxy_speaks_for_others() {
    let (proxies, clients) = (authority("proxies"), authority("clients"));
    let config = Config {
        front_proxy: Some(FrontProxy::new(
            trust(&proxies),
            vec!["aggregator".to_string()],
        )),
        client_ca: Some(trust(&clients)),
        ..Config::default()
    };
    let authenticator = authenticator(config, &Arc::default());
    let lines = [
        ("x-remote-user", "bob"),
        ("x-remote-uid", "7"),
        ("x-remote-group", "a"),
        ("x-remote-group", "b"),
        ("x-remote-extra-acme.com%2fscope", "read"),
        ("x-remote-extra-acme.com%2Fscope", "write"),
    ];
    let proxy = Client::named("aggregator").of(&proxies);
    let bob = user(&authenticator, &proxy, &lines).await;
    assert_eq!((bob.name.as_str(), bob.uid.as_str()), ("bob", "7"));
    assert_eq!(bob.groups, ["a", "b", AUTHENTICATED]);
    assert_eq!(bob.extra["acme.com/scope"], ["read", "write"]);

    let error = ask(&authenticator, &Client::named("other").of(&proxies), &lines)
        .await
        .unwrap_err();
    assert!(
        error.contains("x509: subject with cn=other is not in the allowed list"),
        "{error}"
    );
    // Whoever is no proxy is who it is, whatever it says.
    let alice = user(&authenticator, &Client::named("alice").of(&clients), &lines).await;
    assert_eq!(alice.name, "alice");
    assert_eq!(user(&authenticator, &[], &lines).await, User::anonymous());

    let mut sent = headers(&lines);
    sent.insert("authorization", HeaderValue::from_static("Bearer x"));
    sent.insert("accept", HeaderValue::from_static("*/*"));
    authenticator.clear(&mut sent);
    assert_eq!(sent.keys().collect::<Vec<_>>(), ["accept"]);
}

fn with_tokens() -> Config {
    let file = "t1,alice,1,\"dev,ops\"\nt2,bob,2\n,nobody,3\n\"quo\"\"ted\",\"eve, jr\",4\r\n";
    Config {
        static_tokens: Some(StaticTokens::parse(file, "f").unwrap()),
        ..Config::default()
    }
}

#[tokio::test]
async fn bearer_tokens_from_a_file() {
    let authenticator = authenticator(with_tokens(), &Arc::default());
    let alice = user(&authenticator, &[], &[("authorization", "Bearer t1")]).await;
    assert_eq!((alice.name.as_str(), alice.uid.as_str()), ("alice", "1"));
    assert_eq!(alice.groups, ["dev", "ops", AUTHENTICATED]);
    let eve = user(
        &authenticator,
        &[],
        &[("authorization", "bearer quo\"ted rest")],
    )
    .await;
    assert_eq!(eve.name, "eve, jr");
    for wrong in ["Bearer t3", "Bearer t1x"] {
        let error = ask(&authenticator, &[], &[("authorization", wrong)])
            .await
            .unwrap_err();
        assert_eq!(error, "invalid bearer token");
    }
    for nothing in ["Bearer", "Bearer ", "Basic t1", "", "Bearer  t1"] {
        let found = user(&authenticator, &[], &[("authorization", nothing)]).await;
        assert_eq!(found, User::anonymous(), "{nothing:?}");
    }
    let error = StaticTokens::parse("a,b", "f").err().unwrap();
    assert_eq!(
        error,
        "token file 'f' must have at least 3 columns (token, user name, user uid), found 2"
    );
}

#[tokio::test]
async fn websockets_carry_tokens_in_a_subprotocol() {
    let authenticator = authenticator(with_tokens(), &Arc::default());
    let token = |token: &str| {
        format!(
            "base64url.bearer.authorization.k8s.io.{}",
            URL_SAFE_NO_PAD.encode(token)
        )
    };
    let upgrade = |protocols: String| {
        [
            ("connection", "Upgrade".to_string()),
            ("upgrade", "websocket".to_string()),
            ("sec-websocket-protocol", protocols),
        ]
    };
    let ask = async |protocols: String| {
        let lines = upgrade(protocols);
        let lines: Vec<(&'static str, &str)> = lines
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        ask(&authenticator, &[], &lines).await
    };
    let bob = ask(format!("{}, v5.channel.k8s.io", token("t2")))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bob.user.name, "bob");
    for (protocols, error) in [
        (format!("{}, v5", token("t9")), "invalid bearer token"),
        (token("t2"), "missing additional subprotocol"),
        (
            format!("{},{},v5", token("t2"), token("t1")),
            "multiple base64.bearer.authorization tokens specified",
        ),
        (
            "base64url.bearer.authorization.k8s.io.!,v5".to_string(),
            "invalid base64.bearer.authorization token encoding",
        ),
    ] {
        assert_eq!(ask(protocols).await.unwrap_err(), error);
    }
    let lines = upgrade(format!("a, {}, b", token("t2")));
    let lines: Vec<(&'static str, &str)> = lines
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut sent = headers(&lines);
    authenticator.clear(&mut sent);
    assert_eq!(sent["sec-websocket-protocol"], "a,b");
}

#[tokio::test]
async fn bootstrap_tokens_come_from_secrets() {
    let fake: Arc<Fake> = Arc::default();
    let config = Config {
        bootstrap_tokens: true,
        ..Config::default()
    };
    let authenticator = authenticator(config, &fake);
    let line = [("authorization", "Bearer abcdef.0123456789abcdef")];
    assert!(ask(&authenticator, &[], &line).await.is_err());
    let good = [
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("expiration", "2999-01-01T00:00:00Z"),
        (
            "auth-extra-groups",
            "system:bootstrappers:kubeadm:default-node-token",
        ),
    ];
    let put = |changed: Option<(&str, &str)>, kind: &str| {
        let data = good.iter().map(|(key, value)| match changed {
            Some((other, value)) if other == *key => (key, value),
            _ => (key, *value),
        });
        let data: Vec<String> = data
            .map(|(key, value)| format!("{key:?}:{:?}", STANDARD.encode(value)))
            .collect();
        fake.literal("", "secrets", &format!(
            r#"{{"metadata":{{"name":"bootstrap-token-abcdef","namespace":"kube-system"}},"type":"{kind}","data":{{{}}}}}"#,
            data.join(",")
        ));
    };
    put(None, "bootstrap.kubernetes.io/token");
    let node = user(&authenticator, &[], &line).await;
    assert_eq!(node.name, "system:bootstrap:abcdef");
    assert_eq!(
        node.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:kubeadm:default-node-token",
            AUTHENTICATED
        ]
    );
    for (key, value) in [
        ("token-secret", "0123456789abcdeg"),
        ("token-id", "abcdeg"),
        ("usage-bootstrap-authentication", "false"),
        ("expiration", "2001-01-01T00:00:00Z"),
        ("expiration", "soon"),
        ("auth-extra-groups", "system:masters"),
        (
            "auth-extra-groups",
            "system:bootstrappers:x,system:bootstrappers:Y",
        ),
    ] {
        put(Some((key, value)), "bootstrap.kubernetes.io/token");
        let fresh = super::tests::authenticator(
            Config {
                bootstrap_tokens: true,
                ..Config::default()
            },
            &fake,
        );
        assert!(ask(&fresh, &[], &line).await.is_err(), "{key}={value}");
    }
    put(None, "Opaque");
    let fresh = super::tests::authenticator(
        Config {
            bootstrap_tokens: true,
            ..Config::default()
        },
        &fake,
    );
    assert!(ask(&fresh, &[], &line).await.is_err());
}

#[tokio::test]
async fn anonymity_where_it_is_allowed() {
    for (anonymous, path, want) in [
        (Anonymous::Everywhere, "/api", true),
        (Anonymous::Nowhere, "/api", false),
        (Anonymous::On(vec!["/livez".to_string()]), "/livez", true),
        (
            Anonymous::On(vec!["/livez".to_string()]),
            "/livez/etcd",
            false,
        ),
    ] {
        let config = Config {
            anonymous,
            ..with_tokens()
        };
        let authenticator = authenticator(config, &Arc::default());
        let headers = HeaderMap::new();
        let credentials = Credentials {
            headers: &headers,
            peer: &[],
        };
        let found = authenticator
            .authenticate(&credentials, path)
            .await
            .unwrap();
        assert_eq!(found.map(|found| found.user), want.then(User::anonymous));
    }
}

/// Counts how often it is asked.
#[derive(Default)]
struct Counting(std::sync::atomic::AtomicU32);

#[async_trait]
impl TokenCheck for Counting {
    async fn check(&self, token: &str, _audiences: &[String]) -> Found {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        match token {
            "good" => Ok(Some(Identity::of(User::new("x", &[])))),
            "bad" => Ok(None),
            _ => Err("broken".to_string()),
        }
    }
}

/// Time that stands still until it is told to go on.
struct Manual(std::sync::Mutex<tokio::time::Instant>);

impl seams::Clock for Manual {
    fn now(&self) -> tokio::time::Instant {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

#[tokio::test]
async fn the_cache_asks_once_in_a_while() {
    let kind = Arc::new(Counting::default());
    let ttl = Duration::from_secs(10);
    let clock = Arc::new(Manual(std::sync::Mutex::new(tokio::time::Instant::now())));
    let mut seams = Seams::real();
    seams.clock = clock.clone();
    let cache = bearer::Cache::new(kind.clone(), false, ttl, ttl, &seams);
    let asked = || kind.0.load(std::sync::atomic::Ordering::SeqCst);
    let both = futures::future::join(cache.check("good", &[]), cache.check("good", &[])).await;
    assert!(both.0.unwrap().is_some() && both.1.unwrap().is_some());
    assert_eq!(asked(), 1);
    let other = ["a".to_string()];
    let _ = (
        cache.check("good", &other).await,
        cache.check("bad", &[]).await,
        cache.check("bad", &[]).await,
    );
    assert_eq!(asked(), 3);
    let _ = (cache.check("x", &[]).await, cache.check("x", &[]).await);
    assert_eq!(asked(), 5, "errors are not kept");
    *clock.0.lock().unwrap() += Duration::from_secs(11);
    let _ = cache.check("good", &[]).await;
    assert_eq!(asked(), 6);
}
