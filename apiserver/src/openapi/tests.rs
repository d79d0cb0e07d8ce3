//! That the documents say what kubectl looks for, and what upstream's say.
#![allow(
    clippy::disallowed_methods,
    reason = "reads copies of upstream's documents"
)]

use super::*;

use api::codec::json;
use api::doc::Doc;
use serde_json::Value;

fn builtin() -> OpenApi {
    OpenApi::new(Arc::new(Catalog::builtin()), Vec::new())
}

fn ask(path: &str) -> Ask<'_> {
    Ask {
        path,
        ..Ask::default()
    }
}

fn value(document: &Document) -> Value {
    serde_json::from_slice(&document.body).unwrap()
}

fn get(path: &str) -> Value {
    value(&builtin().respond(&ask(path)).unwrap())
}

/// What `kubectl explain pod.spec.containers` walks along.
#[test]
fn kubectl_explain_finds_its_way() {
    let index = get("/openapi/v3");
    let url = index["paths"]["api/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let (path, query) = url.split_once('?').unwrap();
    let asked = Ask {
        path,
        query,
        ..Ask::default()
    };
    let document = builtin().respond(&asked).unwrap();
    assert_eq!((document.status, document.cache), (200, Cache::Immutable));
    let core = value(&document);
    let schemas = &core["components"]["schemas"];
    let all = schemas.as_object().unwrap();
    let is_pod = |schema: &Value| schema["x-kubernetes-group-version-kind"][0]["kind"] == "Pod";
    let pod = all.values().find(|schema| is_pod(schema)).unwrap();
    let follow = |reference: &Value| {
        let name = reference["$ref"].as_str().unwrap();
        &schemas[name.strip_prefix("#/components/schemas/").unwrap()]
    };
    let spec = &pod["properties"]["spec"];
    assert!(
        spec["description"]
            .as_str()
            .unwrap()
            .starts_with("Specification of the desired")
    );
    let containers = &follow(&spec["allOf"][0])["properties"]["containers"];
    assert_eq!(containers["type"], "array");
    assert_eq!(containers["x-kubernetes-list-map-keys"][0], "name");
    let pull = &follow(&containers["items"])["properties"]["imagePullPolicy"];
    assert_eq!(pull["enum"][0], "Always");
    let said = pull["description"].as_str().unwrap();
    assert!(
        said.ends_with("values:\n - `\"Always\"`\n - `\"IfNotPresent\"`\n - `\"Never\"`"),
        "{said}"
    );
}

/// `kubectl apply` validates on the server if PATCH of the kind knows `fieldValidation`.
#[test]
fn kubectl_apply_sees_server_side_validation() {
    let apps = get("/openapi/v3/apis/apps/v1");
    let mut found = 0;
    for path in apps["paths"].as_object().unwrap().values() {
        let patch = &path["patch"];
        if patch["x-kubernetes-group-version-kind"]["kind"] == "Deployment" {
            let parameters = patch["parameters"].as_array().unwrap();
            assert!(
                parameters
                    .iter()
                    .any(|known| known["name"] == "fieldValidation")
            );
            assert!(parameters.iter().any(|known| known["name"] == "dryRun"));
            found += 1;
        }
    }
    assert_eq!(found, 2);
}

/// Generated clients are named after these.
#[test]
fn operations_are_called_as_upstream_calls_them() {
    let rows = [
        (
            "v1/namespaces/{namespace}/pods",
            "delete",
            "deleteCoreV1CollectionNamespacedPod",
        ),
        (
            "v1/namespaces/{namespace}/pods",
            "get",
            "listCoreV1NamespacedPod",
        ),
        ("v1/pods", "get", "listCoreV1PodForAllNamespaces"),
        (
            "v1/namespaces/{namespace}/endpoints",
            "post",
            "createCoreV1NamespacedEndpoints",
        ),
        ("v1/nodes/{name}", "put", "replaceCoreV1Node"),
        ("v1/nodes/{name}/status", "patch", "patchCoreV1NodeStatus"),
        (
            "v1/namespaces/{namespace}/pods/{name}/proxy/{path}",
            "head",
            "connectCoreV1HeadNamespacedPodProxyWithPath",
        ),
        (
            "v1/namespaces/{namespace}/pods/{name}/log",
            "get",
            "readCoreV1NamespacedPodLog",
        ),
        ("v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces"),
        ("v1/watch/nodes/{name}", "get", "watchCoreV1Node"),
        ("v1/", "get", "getCoreV1APIResources"),
    ];
    let core = get("/openapi/v3/api/v1");
    for (path, method, id) in rows {
        let operation = &core["paths"][format!("/api/{path}")][method];
        assert_eq!(operation["operationId"], id, "{path} {method}");
    }
    let post = |path: &str| core["paths"][format!("/api/v1/{path}")]["post"]["description"].clone();
    assert_eq!(post("namespaces/{namespace}/endpoints"), "create Endpoints");
    assert_eq!(post("namespaces/{namespace}/events"), "create an Event");
    let token = "namespaces/{namespace}/serviceaccounts/{name}/token";
    assert_eq!(post(token), "create token of a ServiceAccount");
    let answer = |path: &str| {
        let ok = &core["paths"][path]["delete"]["responses"]["200"];
        ok["content"]["application/json"]["schema"]["$ref"].to_string()
    };
    assert!(answer("/api/v1/namespaces/{namespace}/pods/{name}").ends_with("core.v1.Pod\""));
    assert!(answer("/api/v1/nodes/{name}").ends_with("meta.v1.Status\""));
}

#[test]
fn documents_are_kept_by_their_hash() {
    let open = builtin();
    let path = "/openapi/v3/apis/batch/v1";
    let first = open.respond(&ask(path)).unwrap();
    assert_eq!((first.status, first.cache), (200, Cache::Unsaid));
    assert_eq!(open.kept_bytes(), first.body.len());
    open.trim();
    assert_eq!(open.kept_bytes(), 0);
    let again = Ask {
        if_none_match: &first.etag,
        ..ask(path)
    };
    assert_eq!(open.respond(&again).unwrap().status, 304);
    let moved = open
        .respond(&Ask {
            query: "hash=0A",
            ..ask(path)
        })
        .unwrap();
    assert_eq!(moved.status, 301);
    let tag = first.etag.trim_matches('"');
    assert_eq!(moved.location, format!("{path}?hash={tag}"));
    let protobuf = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    assert_eq!(
        open.respond(&Ask {
            accept: protobuf,
            ..ask(path)
        })
        .unwrap()
        .status,
        406
    );
    for missing in [
        "/openapi/v3/apis/nope/v1",
        "/openapi/v3/api/v2",
        "/openapi",
        "/openapi/v4",
        "/openapi/v33",
    ] {
        assert_eq!(open.respond(&ask(missing)), None, "{missing}");
    }
}

#[test]
fn the_index_names_every_document() {
    let open = builtin();
    let index = open.respond(&ask("/openapi/v3")).unwrap();
    assert_eq!(open.kept_bytes(), 0);
    let index = value(&index);
    let paths = index["paths"].as_object().unwrap();
    for key in [
        "api",
        "api/v1",
        "apis",
        "apis/apps",
        "apis/apps/v1",
        "version",
    ] {
        assert!(paths.contains_key(key), "{key}");
    }
    for (key, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert!(
            url.starts_with(&format!("/openapi/v3/{key}?hash=")),
            "{url}"
        );
    }
}

#[test]
fn custom_kinds_are_described_in_their_own_words() {
    use crate::catalog::Row;
    let mut row = Row::from(api::resources::resource("apps", "v1", "deployments").unwrap());
    row.group = "stable.example.com".into();
    (row.resource.name, row.resource.singular) = ("crontabs".into(), "crontab".into());
    (row.resource.kind, row.resource.list_kind) = ("CronTab".into(), "CronTabList".into());
    row.resource.subresources.clear();
    let custom = |kind: &str| Custom {
        group: "stable.example.com".into(),
        version: "v1".into(),
        kind: kind.to_string().into(),
        definition: format!("com.example.stable.v1.{kind}"),
        v2: r#"{"type":"object"}"#.to_string(),
        v3: r#"{"type":"object","description":"ours"}"#.to_string(),
        refers: vec![api::schema::type_named("meta/v1.ObjectMeta").unwrap()],
    };
    let catalog = Arc::new(Catalog::new([row]));
    let open = OpenApi::new(catalog, vec![custom("CronTab"), custom("CronTabList")]);
    let document = value(
        &open
            .respond(&ask("/openapi/v3/apis/stable.example.com/v1"))
            .unwrap(),
    );
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let patch = &document["paths"][path]["patch"];
    assert_eq!(
        patch["operationId"],
        "patchStableExampleComV1NamespacedCronTab"
    );
    assert_eq!(patch["tags"][0], "stableExampleCom_v1");
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["com.example.stable.v1.CronTab"]["description"],
        "ours"
    );
    assert!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
}

/// Makes two documents comparable: without descriptions, without what is off by default (CBOR), and
/// without enumerations, which upstream publishes while running and not in its repository.
fn comparable(node: &mut Value) {
    match node {
        Value::Object(members) => {
            if members.get("description").is_some_and(Value::is_string) {
                members.remove("description");
            }
            members.retain(|key, _| !key.contains("cbor"));
            if members.get("enum").is_some_and(Value::is_array) {
                members.remove("enum");
            }
            for member in members.values_mut() {
                comparable(member);
            }
        }
        Value::Array(items) => {
            items.retain(|item| item.as_str().is_none_or(|text| !text.contains("cbor")));
            items.iter_mut().for_each(comparable);
            if items.iter().all(|item| item.get("in").is_some()) {
                items.sort_by_key(|item| format!("{}{}", item["name"], item["in"]));
            }
        }
        _ => {}
    }
}

/// Paths at which two documents differ.
fn differences(ours: &Value, theirs: &Value, at: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().filter(|key| !b.contains_key(*key)) {
                found.push(format!("{at}/{key}: only ours"));
            }
            for (key, theirs) in b {
                let at = format!("{at}/{key}");
                match a.get(key) {
                    None => found.push(format!("{at}: only theirs")),
                    Some(ours) => differences(ours, theirs, &at, found),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (ours, theirs)) in a.iter().zip(b).enumerate() {
                differences(ours, theirs, &format!("{at}/{index}"), found);
            }
        }
        _ if ours != theirs => found.push(format!("{at}: {ours} {theirs}")),
        _ => {}
    }
}

/// Upstream's published documents, where a copy of them is at hand (`UPSTREAM_API`).
#[test]
fn upstreams_published_documents_say_the_same() {
    let Some(folder) = crate::discovery::tests::published("openapi-spec/v3") else {
        return;
    };
    let open = builtin();
    let mut found = Vec::new();
    let mut compared = 0;
    for subject in open.subjects() {
        let file = folder.join(format!("{}_openapi.json", subject.key.replace('/', "__")));
        let mut theirs: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let path = format!("{INDEX}/{}", subject.key);
        let mut ours = value(&open.respond(&ask(&path)).unwrap());
        comparable(&mut ours);
        comparable(&mut theirs);
        differences(&ours, &theirs, &subject.key, &mut found);
        compared += 1;
    }
    for difference in found.iter().take(60) {
        eprintln!("{difference}");
    }
    assert!(
        found.is_empty(),
        "{} differences in {compared} documents",
        found.len()
    );
}

/// Puts shared parameters in their places, so that their names do not matter.
fn inline(node: &mut Value, shared: &Value) {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str)
        && let Some(name) = reference.strip_prefix("#/parameters/")
    {
        assert!(shared[name].is_object(), "{name}");
        *node = shared[name].clone();
        return;
    }
    match node {
        Value::Object(members) => members.values_mut().for_each(|one| inline(one, shared)),
        Value::Array(items) => items.iter_mut().for_each(|one| inline(one, shared)),
        _ => {}
    }
}

/// The same for version 2: all that is served by default is in upstream's document, which has more.
#[test]
fn upstreams_published_version_2_says_the_same() {
    let Some(folder) = crate::discovery::tests::published("openapi-spec") else {
        return;
    };
    let file = std::fs::read(folder.join("swagger.json")).unwrap();
    let mut theirs: Value = serde_json::from_slice(&file).unwrap();
    let mut ours = get("/openapi/v2");
    for document in [&mut ours, &mut theirs] {
        let shared = document["parameters"].take();
        inline(document, &shared);
        comparable(document);
    }
    let mut found = Vec::new();
    for part in ["paths", "definitions"] {
        let ours = ours[part].as_object().unwrap();
        theirs[part]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ours.contains_key(key));
    }
    differences(&ours, &theirs, "", &mut found);
    for difference in found.iter().take(40) {
        eprintln!("{difference}");
    }
    assert!(ours["definitions"].as_object().unwrap().len() > 500);
    assert!(found.is_empty(), "{} differences", found.len());
}

#[test]
fn version_2_comes_in_two_encodings() {
    let open = builtin();
    let json = open.respond(&ask("/openapi/v2")).unwrap();
    assert_eq!((json.status, json.content_type), (200, "application/json"));
    let accept = format!("{PROTOBUF_AT},{PROTOBUF}");
    let binary = open
        .respond(&Ask {
            accept: &accept,
            ..ask("/openapi/v2")
        })
        .unwrap();
    assert_eq!((binary.status, binary.content_type), (200, PROTOBUF));
    assert_eq!(binary.etag, json.etag);
    assert!(binary.body.starts_with(b"\x0a\x032.0\x12"));
    let again = Ask {
        if_none_match: &json.etag,
        ..ask("/openapi/v2")
    };
    assert_eq!(open.respond(&again).unwrap().status, 304);
    let other = Ask {
        accept: "text/html",
        ..ask("/openapi/v2")
    };
    assert_eq!(open.respond(&other).unwrap().status, 406);
    assert_eq!(open.kept_bytes(), json.body.len() + binary.body.len());
    open.trim();
    assert_eq!(open.kept_bytes(), 0);
}

/// Documents are JSON that our own parser takes as well.
#[test]
fn every_document_is_json() {
    let open = builtin();
    for subject in open.subjects() {
        let document = open
            .respond(&ask(&format!("{INDEX}/{}", subject.key)))
            .unwrap();
        let doc: Doc = json::parse(document.body.to_vec()).unwrap();
        assert_eq!(doc.root().text(&["openapi"]), "3.0.0");
        assert!(
            !doc.root().get("paths").unwrap().is_empty(),
            "{}",
            subject.key
        );
    }
}

/// Sizes and times of building; `OPENAPI_DUMP` names a folder that documents are written to.
#[test]
#[ignore = "a measurement"]
fn sizes_and_times() {
    let open = builtin();
    let timed = |path: &str, accept: &str| {
        let start = std::time::Instant::now();
        let document = open
            .respond(&Ask {
                accept,
                ..ask(path)
            })
            .unwrap();
        let took = start.elapsed();
        println!("{path} {accept}: {} bytes in {took:?}", document.body.len());
        if let Some(folder) = std::env::var_os("OPENAPI_DUMP") {
            let name = format!("{path}{accept}").replace('/', "__");
            std::fs::write(std::path::Path::new(&folder).join(name), &document.body).unwrap();
        }
    };
    timed(INDEX, "");
    println!("kept {}", open.kept_bytes());
    for subject in open.subjects() {
        timed(&format!("{INDEX}/{}", subject.key), "");
    }
    timed(VERSION_2, JSON);
    timed(VERSION_2, PROTOBUF);
    println!("kept {}", open.kept_bytes());
    open.trim();
    println!("kept {}", open.kept_bytes());
}
