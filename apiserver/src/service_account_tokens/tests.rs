//! Tokens are issued and then shown.

use std::time::{Duration, SystemTime};

use api::doc::{Doc, New};
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use seams::{Clock, Seams};
use tokio::time::Instant;

use super::*;
use crate::authentication::{self, Authenticator, Identity};
use crate::storage::fake::Fake;
use crate::storage::{Lookup, Objects as _};

const RSA: &[u8] = include_bytes!("testdata/rsa.pem");
const P256: &[u8] = include_bytes!("testdata/p256.pem");
const NOW: u64 = 1_800_000_000;

/// Seconds after [`NOW`].
struct At(i64);

impl At {
    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(self.0))
    }
}

impl Clock for At {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        self.time()
    }
}

fn issuer(pem: &[u8]) -> Issuer {
    let config = Config {
        issuer: "https://k".to_string(),
        api_audiences: vec!["https://k".to_string(), "api".to_string()],
        max_expiration_seconds: None,
        extends_expiration: true,
        jwks_uri: None,
        external_address: "k:6443".to_string(),
    };
    Issuer::new(config, SigningKey::from_pem(pem).unwrap(), Vec::new())
}

fn cluster() -> Arc<Fake> {
    let fake = Fake::default();
    fake.literal(
        "",
        "serviceaccounts",
        r#"{"metadata":{"name":"s","namespace":"a","uid":"u1"}}"#,
    );
    fake.literal("", "pods", r#"{"metadata":{"name":"p","namespace":"a","uid":"u2"},"spec":{"serviceAccountName":"s","nodeName":"n"}}"#);
    fake.literal("", "nodes", r#"{"metadata":{"name":"n","uid":"u3"}}"#);
    Arc::new(fake)
}

fn lookup(fake: &Arc<Fake>) -> Lookup {
    Lookup {
        objects: fake.clone(),
        catch_up: None,
    }
}

async fn issue(issuer: &Issuer, fake: &Arc<Fake>, spec: &str) -> Result<Issued, Status> {
    let account = fake.get("", "serviceaccounts", "a", "s").unwrap().doc();
    let mut request = Doc::literal(&format!(
        r#"{{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","metadata":{{}},"spec":{spec},"status":{{"token":"","expirationTimestamp":null}}}}"#
    ));
    let now = At(0).time();
    issuer.prepare(&mut request, &account, now)?;
    let bound = issuer.bound(&request, &lookup(fake)).await?;
    issuer.issue(request, &bound, now, &seams::SeededRng::new(1))
}

fn token(issued: &Issued) -> String {
    issued.review.root().text(&["status", "token"]).to_string()
}

fn claims(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Shows a token some seconds after it was issued.
async fn show(
    issuer: &Issuer,
    fake: &Arc<Fake>,
    token: &str,
    later: i64,
    audiences: &[&str],
) -> Result<Identity, String> {
    let mut seams = Seams::real();
    seams.clock = Arc::new(At(later));
    let config = authentication::Config {
        api_audiences: issuer.config.api_audiences.clone(),
        service_account_issuers: vec![issuer.config.issuer.clone()],
        service_account_keys: Some(issuer.keys()),
        ..authentication::Config::default()
    };
    let authenticator = Authenticator::new(config, &lookup(fake), &seams);
    let audiences: Vec<String> = match audiences {
        [] => issuer.config.api_audiences.clone(),
        audiences => audiences.iter().map(ToString::to_string).collect(),
    };
    authenticator
        .review(token, &audiences)
        .await
        .map(Option::unwrap)
}

const TO_POD: &str = r#"{"audiences":null,"expirationSeconds":3607,"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p","uid":"u2"}}"#;

#[tokio::test]
async fn claims_are_laid_out_as_upstreams() {
    let (issuer, fake) = (issuer(P256), cluster());
    let issued = issue(&issuer, &fake, TO_POD).await.unwrap();
    let token = token(&issued);
    let id = issued.annotations[0]
        .1
        .strip_prefix("JTI=")
        .unwrap()
        .to_string();
    assert_eq!(
        claims(&token),
        format!(
            r#"{{"aud":["https://k","api"],"exp":1831536000,"iat":1800000000,"iss":"https://k","jti":"{id}","kubernetes.io":{{"namespace":"a","node":{{"name":"n","uid":"u3"}},"pod":{{"name":"p","uid":"u2"}},"serviceaccount":{{"name":"s","uid":"u1"}},"warnafter":1800003607}},"nbf":1800000000,"sub":"system:serviceaccount:a:s"}}"#
        )
    );
    assert_eq!(
        issued
            .review
            .root()
            .get("status")
            .unwrap()
            .get("expirationTimestamp")
            .and_then(|at| at.as_str()),
        Some("2027-01-15T09:00:07Z")
    );
    let identity = show(&issuer, &fake, &token, 5, &[]).await.unwrap();
    let extra: Vec<String> = identity
        .user
        .extra
        .iter()
        .map(|(key, value)| format!("{key}={}", value.join(",")))
        .collect();
    let credential = format!("authentication.kubernetes.io/credential-id=JTI={id}");
    assert_eq!(
        extra,
        [
            credential.as_str(),
            "authentication.kubernetes.io/node-name=n",
            "authentication.kubernetes.io/node-uid=u3",
            "authentication.kubernetes.io/pod-name=p",
            "authentication.kubernetes.io/pod-uid=u2",
        ]
    );
    assert_eq!(identity.user.name, "system:serviceaccount:a:s");
    assert_eq!(
        identity.user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    let late = show(&issuer, &fake, &token, 4_000, &[]).await.unwrap();
    assert_eq!(
        late.annotations,
        [(
            "authentication.k8s.io/stale-token",
            "subject: system:serviceaccount:a:s, seconds after warning threshold: 393".to_string()
        )]
    );
}

#[tokio::test]
async fn tokens_end_with_time_and_with_what_they_are_bound_to() {
    for pem in [RSA, P256] {
        let (issuer, fake) = (issuer(pem), cluster());
        let spec = r#"{"audiences":["vault"],"expirationSeconds":600,"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"}}"#;
        let token = token(&issue(&issuer, &fake, spec).await.unwrap());
        let error = async |later: i64| {
            show(&issuer, &fake, &token, later, &["vault"])
                .await
                .unwrap_err()
        };
        let good = show(&issuer, &fake, &token, 0, &["vault", "x"])
            .await
            .unwrap();
        assert_eq!(good.audiences, ["vault"]);
        assert_eq!(
            show(&issuer, &fake, &token, 0, &[]).await.unwrap_err(),
            r#"token audiences ["vault"] is invalid for the target audiences ["https://k" "api"]"#
        );
        show(&issuer, &fake, &token, 660, &["vault"]).await.unwrap();
        assert_eq!(error(661).await, "service account token has expired");
        assert_eq!(error(-61).await, "service account token is not valid yet");

        fake.literal(
            "",
            "pods",
            r#"{"metadata":{"name":"p","namespace":"a","uid":"u9"}}"#,
        );
        assert_eq!(
            error(0).await,
            "pod UID (u9) does not match service account pod ref claim (u2)"
        );
        let deleted = |at: &str| {
            format!(
                r#"{{"metadata":{{"name":"p","namespace":"a","uid":"u2","deletionTimestamp":"{at}"}}}}"#
            )
        };
        fake.literal("", "pods", &deleted("2027-01-15T07:59:00Z"));
        show(&issuer, &fake, &token, 0, &["vault"]).await.unwrap();
        fake.literal("", "pods", &deleted("2027-01-15T07:58:59Z"));
        assert_eq!(error(0).await, "service account token has been invalidated");
        fake.remove("", "pods", ("a", "p"));
        assert_eq!(error(0).await, "service account token has been invalidated");
        fake.literal(
            "",
            "serviceaccounts",
            r#"{"metadata":{"name":"s","namespace":"a","uid":"new"}}"#,
        );
        assert_eq!(
            error(0).await,
            "service account UID (new) does not match claim (u1)"
        );
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (issuer, fake) = (issuer(RSA), cluster());
    let token = token(
        &issue(&issuer, &fake, r#"{"expirationSeconds":600}"#)
            .await
            .unwrap(),
    );
    show(&issuer, &fake, &token, 0, &[]).await.unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let other = claims(&token).replace(r#""name":"s""#, r#""name":"t""#);
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    for forged in [
        format!("{}.{}.{}", parts[0], encode(&other), parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!(
            "{}.{}.{}",
            encode(&header.replace("RS256", "HS256")),
            parts[1],
            parts[2]
        ),
        format!(
            "{}.{}.{}",
            encode(&header.replace("RS256", "ES256")),
            parts[1],
            parts[2]
        ),
    ] {
        let error = show(&issuer, &fake, &forged, 0, &[]).await.unwrap_err();
        assert_eq!(error, "square/go-jose: error in cryptographic primitive");
    }
    let none = format!("{}.{}.", encode(&header.replace("RS256", "none")), parts[1]);
    assert_eq!(
        show(&issuer, &fake, &none, 0, &[]).await.unwrap_err(),
        "invalid bearer token"
    );
    let stranger = format!(
        "{}.{}.{}",
        encode(&header.replace(&issuer.signing.public.id, "x")),
        parts[1],
        parts[2]
    );
    assert_eq!(
        show(&issuer, &fake, &stranger, 0, &[]).await.unwrap_err(),
        "invalid signature, no keys found"
    );
    for other in ["", "x", "a.b.c", "{}", "abcdef.0123456789abcdef"] {
        assert_eq!(
            show(&issuer, &fake, other, 0, &[]).await.unwrap_err(),
            "invalid bearer token"
        );
    }
}

#[tokio::test]
async fn legacy_tokens_live_as_long_as_their_secret() {
    let (issuer, fake) = (issuer(P256), cluster());
    let account = fake.get("", "serviceaccounts", "a", "s").unwrap().doc();
    let token = issuer.legacy_token(&account, "sec").unwrap();
    let error = async || {
        show(&issuer, &fake, &token, 1 << 32, &[])
            .await
            .unwrap_err()
    };
    assert_eq!(error().await, "Token has been invalidated");
    let secret = |data: &str, labels: &str| {
        let data = STANDARD.encode(data);
        format!(
            r#"{{"metadata":{{"name":"sec","namespace":"a","labels":{labels}}},"data":{{"token":"{data}"}}}}"#
        )
    };
    fake.literal("", "secrets", &secret("other", "{}"));
    assert_eq!(error().await, "Token does not match server's copy");
    fake.literal("", "secrets", &secret(&token, "{}"));
    let identity = show(&issuer, &fake, &token, 1 << 32, &[]).await.unwrap();
    assert_eq!(identity.user.name, "system:serviceaccount:a:s");
    assert_eq!(
        identity.annotations[0],
        (
            "authentication.k8s.io/legacy-token-manual-secret",
            "sec".to_string()
        )
    );
    assert!(show(&issuer, &fake, &token, 0, &["vault"]).await.is_err());
    fake.literal(
        "",
        "secrets",
        &secret(
            &token,
            r#"{"kubernetes.io/legacy-token-invalid-since":"2024-01-01"}"#,
        ),
    );
    assert!(
        error().await.starts_with(
            "the token in secret a/sec for service account a/s has been marked invalid."
        )
    );
}

#[tokio::test]
async fn requests_that_cannot_be() {
    let (issuer, fake) = (issuer(P256), cluster());
    let reference = |kind: &str, name: &str, uid: &str| {
        format!(
            r#"{{"expirationSeconds":3600,"boundObjectRef":{{"kind":"{kind}","apiVersion":"v1","name":"{name}","uid":"{uid}"}}}}"#
        )
    };
    fake.literal(
        "",
        "pods",
        r#"{"metadata":{"name":"q","namespace":"a","uid":"u5"},"spec":{"serviceAccountName":"t"}}"#,
    );
    for (spec, code, message) in [
        (
            r#"{"expirationSeconds":599}"#.to_string(),
            422,
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"#,
        ),
        (
            r#"{"expirationSeconds":4294967297}"#.to_string(),
            422,
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"#,
        ),
        (
            reference("Pod", "none", ""),
            404,
            r#"pods "none" not found"#,
        ),
        (
            reference("Pod", "q", ""),
            400,
            r#"cannot bind token for serviceaccount "s" to pod running with different serviceaccount name."#,
        ),
        (
            reference("Pod", "p", "old"),
            409,
            r#"Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated"#,
        ),
        (
            reference("ConfigMap", "p", ""),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
    ] {
        let status = issue(&issuer, &fake, &spec).await.unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }
    let account = fake.get("", "serviceaccounts", "a", "s").unwrap().doc();
    let mut request = Doc::literal(r#"{"metadata":{"name":"x"},"spec":{}}"#);
    let status = issuer
        .prepare(&mut request, &account, At(0).time())
        .unwrap_err();
    assert_eq!(
        status.message,
        r#"TokenRequest.authentication.k8s.io "s" is invalid: metadata.name: Invalid value: "x": must match the service account name if specified"#
    );
}

/// The names were computed with another tool.
#[test]
fn documents_name_the_keys() {
    let issuer = issuer(RSA);
    let id = "SlMpkKdT5zVFXwMCZxX2P0Y2RIKSmwXLiJjo0u1Mr30";
    assert!(issuer.jwks().starts_with(&format!(
        r#"{{"keys":[{{"use":"sig","kty":"RSA","kid":"{id}","alg":"RS256","n":"vEaeZsFc9CelgmW6VI4V1bBjkzac2I"#
    )));
    assert!(issuer.jwks().ends_with(r#"","e":"AQAB"}]}"#));
    assert_eq!(
        issuer.openid_configuration().unwrap(),
        r#"{"issuer":"https://k","jwks_uri":"https://k:6443/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}"#
    );
    let key = SigningKey::from_pem(P256).unwrap();
    assert_eq!(
        key.public().id,
        "Ls7fCR6INpixV82VgksERp-XI5K5ZpXDSrmbmpegsm0"
    );
    assert_eq!(PublicKey::from_pem(P256).unwrap(), [key.public().clone()]);
    assert!(SigningKey::from_pem(b"x").is_err());
    // What is published can be read back.
    let mut doc = Doc::new();
    let list = doc.set(doc.top(), "keys", New::List);
    key.public().write_jwk(&mut doc, list);
    assert_eq!(KeySet::from_jwks(&doc).all(), [key.public().clone()]);
    assert_eq!(
        check_issuer("http://k").unwrap_err(),
        "issuer URL must use https scheme, got: http://k"
    );
}
