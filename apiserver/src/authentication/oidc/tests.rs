//! A provider and a webhook that run here, over plain HTTP.

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;
use crate::authentication::webhook;
use crate::authorization::webhook as authorizer;
use crate::authorization::{Attributes, Decision};
use crate::outbound::Identity as Shown;
use crate::service_account_tokens::SigningKey;

const RSA: &[u8] = include_bytes!("../../service_account_tokens/testdata/rsa.pem");

/// Answers every request by its path and body.
async fn serve(
    seams: &Seams,
    tasks: &Tasks,
    answer: impl Fn(&str, &Doc) -> String + Send + Sync + 'static,
) -> String {
    let mut listener = seams.net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (answer, ended) = (Arc::new(answer), tasks.token());
    tasks.spawn("server", async move {
        while let Some(Ok((stream, _))) = ended.run_until_cancelled(listener.accept()).await {
            let answer = answer.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    let path = request.uri().path().to_string();
                    let body = request.into_body().collect().await?.to_bytes();
                    let body = api::codec::json::parse(body.to_vec()).unwrap_or_default();
                    let text = answer(&path, &body);
                    Ok::<_, hyper::Error>(http::Response::new(http_body_util::Full::new(
                        bytes::Bytes::from(text),
                    )))
                }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    format!("http://{address}")
}

fn client(seams: &Seams) -> Client {
    Client::new(&Shown::default(), Duration::from_secs(5), seams).unwrap()
}

fn config(issuer: &str) -> Config {
    Config {
        issuer: issuer.to_string(),
        discovery_url: None,
        ca: String::new(),
        audiences: vec!["k8s".to_string()],
        algorithms: vec!["RS256".to_string()],
        username: Claim {
            claim: "email".to_string(),
            prefix: "oidc:".to_string(),
        },
        groups: Some(Claim {
            claim: "roles".to_string(),
            prefix: "g:".to_string(),
        }),
        uid: None,
        required: vec![("hd".to_string(), "acme".to_string())],
    }
}

#[tokio::test]
async fn claims_become_users() {
    let seams = Seams::real();
    let tasks = seams.tasks();
    let key = SigningKey::from_pem(RSA).unwrap();
    let mut jwks = Doc::new();
    let list = jwks.set(jwks.top(), "keys", api::doc::New::List);
    key.public().write_jwk(&mut jwks, list);
    let jwks = jwks.to_string();
    let at = Arc::new(std::sync::Mutex::new(String::new()));
    let own = at.clone();
    let url = serve(&seams, &tasks, move |path, _| match path {
        "/keys" => jwks.clone(),
        _ => {
            let own = own.lock().unwrap();
            format!(r#"{{"issuer":"{own}","jwks_uri":"{own}/keys"}}"#)
        }
    })
    .await;
    url.clone_into(&mut at.lock().unwrap());
    let provider = Provider::new(config(&url), client(&seams), &seams);
    let providers = Providers(vec![provider.clone()]);
    let good = format!(
        r#"{{"iss":"{url}","aud":"k8s","exp":9999999999,"email":"a@b","email_verified":true,"roles":["x","y"],"hd":"acme","jti":"7"}}"#
    );
    let token = key.sign(&Doc::literal(&good)).unwrap();
    let check = async |token: &str| providers.check(token, &[]).await;
    assert_eq!(
        check(&token).await.unwrap_err(),
        "oidc: authenticator not initialized"
    );
    provider.refresh().await.unwrap();
    let user = check(&token).await.unwrap().unwrap().user;
    assert_eq!(
        (user.name.as_str(), user.groups),
        ("oidc:a@b", vec!["g:x".to_string(), "g:y".to_string()])
    );
    assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=7"]);
    for (from, to, want) in [
        (
            "9999999999",
            "1",
            "oidc: verify token: oidc: token is expired",
        ),
        (
            "k8s",
            "other",
            r#"oidc: verify token: oidc: expected audience in ["k8s"] got ["other"]"#,
        ),
        ("true", "false", "oidc: email not verified"),
        (
            "acme",
            "evil",
            "oidc: required claim hd value does not match. Got = evil, want = acme",
        ),
        (
            r#""hd":"acme","#,
            "",
            "oidc: required claim hd not present in ID token",
        ),
        (
            "\"email\":",
            "\"mail\":",
            r#"oidc: parse username claims "email": claim not present"#,
        ),
    ] {
        let token = key
            .sign(&Doc::literal(&good.replacen(from, to, 1)))
            .unwrap();
        assert_eq!(check(&token).await.unwrap_err(), want);
    }
    let stranger = SigningKey::from_pem(include_bytes!(
        "../../service_account_tokens/testdata/p256.pem"
    ))
    .unwrap();
    let token = stranger.sign(&Doc::literal(&good)).unwrap();
    assert!(
        check(&token)
            .await
            .unwrap_err()
            .contains("unsupported algorithm")
    );
    let token = key
        .sign(&Doc::literal(&good.replace(&url, "https://other")))
        .unwrap();
    assert_eq!(check(&token).await, Ok(None));
    tasks.shutdown().await;
}

#[tokio::test]
async fn webhooks_are_asked() {
    let seams = Seams::real();
    let tasks = seams.tasks();
    let url = serve(&seams, &tasks, |path, body| {
        let spec = body.root().get("spec").unwrap();
        match (path, spec.text(&["token"])) {
            ("/authn", "good") => r#"{"status":{"authenticated":true,"user":{"username":"eve","groups":["g"],"extra":{"k":["v"]}}}}"#.to_string(),
            ("/authn", "odd") => r#"{"status":{"error":"expired"}}"#.to_string(),
            ("/authn", _) => r#"{"status":{}}"#.to_string(),
            _ => match spec.text(&["resourceAttributes", "verb"]) {
                "get" => r#"{"status":{"allowed":true,"reason":"fine"}}"#.to_string(),
                "delete" => r#"{"status":{"allowed":false,"denied":true,"reason":"never"}}"#.to_string(),
                _ => format!(r#"{{"status":{{"reason":{:?}}}}}"#, spec.to_string()),
            },
        }
    })
    .await;
    let ours = ["api".to_string()];
    let tokens = webhook::webhook(
        client(&seams),
        &format!("{url}/authn"),
        &ours,
        webhook::TTL,
        &seams,
    );
    let found = tokens.check("good", &ours).await.unwrap().unwrap();
    assert_eq!(
        (found.user.name.as_str(), found.user.groups, found.audiences),
        ("eve", vec!["g".to_string()], ours.to_vec())
    );
    assert_eq!(tokens.check("odd", &ours).await.unwrap_err(), "expired");
    assert_eq!(tokens.check("bad", &ours).await, Ok(None));
    assert_eq!(tokens.check("good", &["other".to_string()]).await, Ok(None));

    let config = authorizer::Config {
        url: format!("{url}/authz"),
        authorized_ttl: Duration::from_secs(60),
        unauthorized_ttl: Duration::from_secs(60),
        denies_on_error: true,
    };
    let elsewhere = authorizer::Webhook::new(client(&seams), config, &seams);
    let user = User::new("x", &["g"]);
    let get = Attributes::resource(&user, "get", "", "pods");
    assert_eq!(
        elsewhere.authorize(&get).await,
        Decision::Allow("fine".into())
    );
    let delete = Attributes {
        verb: "delete",
        ..get.clone()
    };
    assert_eq!(
        elsewhere.authorize(&delete).await,
        Decision::Deny("never".into())
    );
    let list = Attributes {
        verb: "list",
        namespace: "a",
        ..get.clone()
    };
    assert_eq!(
        elsewhere.authorize(&list).await,
        Decision::NoOpinion(r#"{"resourceAttributes":{"namespace":"a","verb":"list","version":"*","resource":"pods"},"user":"x","groups":["g"]}"#.into())
    );
    tasks.shutdown().await;
    // What is known is known without it.
    assert_eq!(
        elsewhere.authorize(&get).await,
        Decision::Allow("fine".into())
    );
}

#[test]
fn configurations_are_read() {
    let doc = Doc::literal(
        r#"{"jwt":[{"issuer":{"url":"https://i","audiences":["a"],"certificateAuthority":"pem"},"claimMappings":{"username":{"claim":"sub","prefix":"p:"},"uid":{"claim":"u"}},"claimValidationRules":[{"claim":"hd","requiredValue":"x"}]}],"anonymous":{"enabled":true,"conditions":[{"path":"/livez"}]}}"#,
    );
    let (providers, anonymous) = parse(&doc).unwrap();
    assert_eq!(providers[0].username.prefix, "p:");
    assert_eq!(
        (providers[0].uid.as_deref(), &providers[0].groups),
        (Some("u"), &None)
    );
    assert_eq!(
        anonymous,
        Some(super::super::Anonymous::On(vec!["/livez".to_string()]))
    );
    for (from, to, want) in [
        ("https://i", "http://i", "URL scheme must be https"),
        (r#"["a"]"#, "[]", "audiences: Required"),
        (
            r#""claim":"u""#,
            r#""expression":"claims.u""#,
            "expressions are not supported",
        ),
        (r#""claim":"sub","#, "", "username: Required"),
    ] {
        let doc = Doc::literal(&doc.to_string().replacen(from, to, 1));
        let error = parse(&doc).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}
