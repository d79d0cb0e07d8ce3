//! What discovery says, and that it is what upstream says.
#![allow(
    clippy::disallowed_methods,
    reason = "reads copies of upstream's documents"
)]

use super::*;

use api::codec::json;

fn ask<'a>(path: &'a str, accept: &'a str) -> Ask<'a> {
    Ask {
        path,
        accept,
        ..Ask::default()
    }
}

fn addresses() -> Addresses {
    Addresses {
        default: "10.10.10.10:8050".to_string(),
        rules: vec![Rule {
            network: IpAddr::from([10, 96, 0, 0]),
            bits: 12,
            address: "10.96.0.1:443".to_string(),
        }],
    }
}

fn get(asked: &Ask<'_>) -> Option<Document> {
    respond(&Catalog::builtin(), &addresses(), asked)
}

fn text(asked: &Ask<'_>) -> String {
    let document = get(asked).unwrap();
    assert_eq!(document.status, 200);
    String::from_utf8(document.body.to_vec()).unwrap()
}

fn doc(asked: &Ask<'_>) -> Doc {
    json::parse(get(asked).unwrap().body.to_vec()).unwrap()
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[test]
fn the_core_group_has_a_root_of_its_own() {
    let mut asked = ask("/api", "application/json, */*");
    let everybody = r#"{"clientCIDR":"0.0.0.0/0","serverAddress":"10.10.10.10:8050"}"#;
    let want = format!(
        "{{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],\
         \"serverAddressByClientCIDRs\":[{everybody}]}}\n"
    );
    assert_eq!(text(&asked), want);
    asked.client = Some(IpAddr::from([10, 111, 3, 4]));
    let pods = r#",{"clientCIDR":"10.96.0.0/12","serverAddress":"10.96.0.1:443"}"#;
    assert!(text(&asked).contains(pods));
    asked.client = Some(IpAddr::from([10, 112, 3, 4]));
    assert_eq!(text(&asked), want);
}

#[test]
fn a_group_says_which_version_it_prefers() {
    let v1 = r#"{"groupVersion":"autoscaling/v1","version":"v1"}"#;
    let v2 = r#"{"groupVersion":"autoscaling/v2","version":"v2"}"#;
    let want = format!(
        "{{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",\"name\":\"autoscaling\",\
         \"versions\":[{v2},{v1}],\"preferredVersion\":{v2}}}\n"
    );
    assert_eq!(text(&ask("/apis/autoscaling/", "")), want);
    assert!(text(&ask("/apis", "*/*")).contains(r#""groups":[{"name":"apiregistration.k8s.io""#));
}

#[test]
fn resources_come_with_their_subresources() {
    let list = text(&ask("/api/v1", "application/json"));
    let eviction = r#"{"name":"pods/eviction","singularName":"","namespaced":true,"group":"policy","version":"v1","kind":"Eviction","verbs":["create"]}"#;
    assert!(list.contains(eviction), "{list}");
    let secrets = r#"{"name":"secrets","singularName":"secret","namespaced":true,"kind":"Secret","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"storageVersionHash":"S6u1pOWzb84="}"#;
    assert!(list.contains(secrets), "{list}");
    assert!(list.starts_with(r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"#));
    let apps = text(&ask("/apis/apps/v1", "application/json"));
    let start = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","#;
    assert!(apps.starts_with(start), "{apps}");
}

#[test]
fn what_is_not_served_is_not_discovered() {
    for path in [
        "/",
        "/api/v2",
        "/apis/nope",
        "/apis/apps/v2",
        "/apis/apps/v1/deployments",
        "/apis//v1",
        "/api/v1/pods",
        "/apix",
        "/apis//",
    ] {
        assert_eq!(get(&ask(path, "")), None, "{path}");
    }
}

#[test]
fn the_aggregated_form_says_everything_at_once() {
    let all = doc(&ask("/apis", AGGREGATED));
    assert_eq!(all.root().text(&["apiVersion"]), "apidiscovery.k8s.io/v2");
    let items = all.root().get("items").unwrap();
    let names: Vec<&str> = items
        .children()
        .map(|item| item.text(&["metadata", "name"]))
        .collect();
    assert_eq!(
        names[..3],
        ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    );
    assert!(!names.contains(&""));
    let core = doc(&ask("/api", AGGREGATED));
    assert_eq!(core.root().get("items").unwrap().len(), 1);
    let document = get(&ask("/api", AGGREGATED)).unwrap();
    assert_eq!(document.content_type, AGGREGATED);
    assert_eq!((document.cache, document.varies), (Cache::Public, true));
}

#[test]
fn aggregated_discovery_is_sent_once() {
    let accept = format!(
        "{AGGREGATED},application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io,application/json"
    );
    let mut asked = ask("/apis", &accept);
    let etag = get(&asked).unwrap().etag;
    asked.if_none_match = &etag;
    let again = get(&asked).unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    let protobuf = AGGREGATED.replace("json", "vnd.kubernetes.protobuf");
    let binary = get(&ask("/apis", &protobuf)).unwrap();
    assert_eq!(binary.etag, etag);
    assert_eq!(binary.content_type, protobuf);
    assert!(binary.body.starts_with(b"k8s\0"));
}

#[test]
fn other_forms_are_passed_over_or_refused() {
    // The beta of the aggregated form is gone: clients fall back to what they name next.
    let beta = AGGREGATED.replace("v=v2", "v=v2beta1");
    let refused = get(&ask("/apis", &beta)).unwrap();
    assert_eq!(refused.status, 406);
    let said = String::from_utf8(refused.body.to_vec()).unwrap();
    let want = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert!(said.contains(want), "{said}");
    let both = format!("{beta},application/json");
    assert!(text(&ask("/apis", &both)).starts_with(r#"{"kind":"APIGroupList","#));
    let nopeer = format!("{AGGREGATED};profile=nopeer");
    assert!(text(&ask("/apis", &nopeer)).starts_with(r#"{"kind":"APIGroupDiscoveryList","#));
}

#[test]
fn every_encoding_says_the_same() {
    let yaml = text(&ask("/apis/apps", "application/yaml"));
    assert!(
        yaml.starts_with("apiVersion: v1\nkind: APIGroup\nname: apps\n"),
        "{yaml}"
    );
    let binary = get(&ask("/apis/apps/v1", "application/vnd.kubernetes.protobuf")).unwrap();
    let envelope = api::codec::protobuf::Envelope::open(&binary.body).unwrap();
    assert_eq!(
        (envelope.api_version, envelope.kind),
        ("v1", "APIResourceList")
    );
    let schema = api::schema::kind("", "v1", "APIResourceList").unwrap();
    let decoded = api::codec::protobuf::decode(envelope.raw, schema).unwrap();
    let plain = doc(&ask("/apis/apps/v1", ""));
    let names = |doc: &Doc| -> Vec<String> {
        let list = doc.root().get("resources").unwrap();
        list.children()
            .map(|item| item.text(&["name"]).to_string())
            .collect()
    };
    assert_eq!(names(&decoded), names(&plain));
}

/// Upstream's published discovery, where a copy of it is at hand: ours lacks only what is off by
/// default.
#[test]
fn upstreams_published_discovery_says_the_same() {
    let Some(folder) = published("discovery") else {
        return;
    };
    let read = |name: &str| json::parse(std::fs::read(folder.join(name)).unwrap()).unwrap();
    let mut compared = 0;
    let catalog = Catalog::builtin();
    for group in catalog.groups() {
        for version in &group.versions {
            let (path, file) = match &*group.name {
                "" => (
                    format!("/api/{}", version.name),
                    format!("api__{}.json", version.name),
                ),
                name => (
                    format!("/apis/{name}/{}", version.name),
                    format!("apis__{name}__{}.json", version.name),
                ),
            };
            let ours = doc(&ask(&path, ""));
            let theirs = read(&file);
            let listed = |doc: &Doc| -> Vec<String> {
                let list = doc.root().get("resources").unwrap();
                list.children().map(|item| sorted(item)).collect()
            };
            assert_eq!(listed(&ours), listed(&theirs), "{path}");
            compared += listed(&ours).len();
        }
    }
    assert!(compared > 100, "{compared}");
    let groups = |doc: &Doc| -> std::collections::BTreeMap<String, String> {
        let items = doc.root().get("items").unwrap();
        let named = |item: api::doc::Node<'_>| item.text(&["metadata", "name"]).to_string();
        let versions =
            |item: api::doc::Node<'_>| sorted(item.get("versions").unwrap().item(0).unwrap());
        items
            .children()
            .map(|item| (named(item), versions(item)))
            .collect()
    };
    let theirs = groups(&read("aggregated_v2.json"));
    for (name, version) in groups(&doc(&ask("/apis", AGGREGATED))) {
        assert_eq!(version, theirs[&name], "{name}");
    }
}

/// Compact JSON with sorted keys.
pub(crate) fn sorted(node: api::doc::Node<'_>) -> String {
    let value: serde_json::Value = serde_json::from_str(&node.to_string()).unwrap();
    value.to_string()
}

/// A folder of upstream's `api` folder, if `UPSTREAM_API` names one.
pub(crate) fn published(name: &str) -> Option<std::path::PathBuf> {
    let folder = std::path::PathBuf::from(std::env::var_os("UPSTREAM_API")?).join(name);
    folder.is_dir().then_some(folder)
}
