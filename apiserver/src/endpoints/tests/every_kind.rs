//! Every kind is created, read in JSON and protobuf, listed, changed, applied, watched and deleted.

use api::codec::{Encoding, Incoming};
use api::conform::Unknown;
use api::doc::Doc;
use api::resources::{Resource, resources};
use api::schema;

use crate::bootstrap::myself;
use crate::testing::Server;

const TEMPLATE: &str =
    r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

/// What makes a smallest object of a kind, besides its metadata.
fn body(resource: &Resource) -> String {
    let selector = r#""selector":{"matchLabels":{"a":"b"}}"#;
    match (resource.group, resource.name) {
        ("", "endpoints") => r#""subsets":[]"#.into(),
        ("", "events") => r#""involvedObject":{"namespace":"n","name":"x"},"reason":"r""#.into(),
        ("events.k8s.io", "events") => r#""regarding":{"namespace":"n","name":"x"},"reason":"r","action":"a","type":"Normal","reportingController":"c.io/c","reportingInstance":"i","eventTime":"2026-01-01T00:00:00.000000Z""#.into(),
        ("", "limitranges") => r#""spec":{"limits":[{"type":"Pod","max":{"cpu":"1"}}]}"#.into(),
        ("", "persistentvolumeclaims") => r#""spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}"#.into(),
        ("", "persistentvolumes") => r#""spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"hostPath":{"path":"/a"}}"#.into(),
        ("", "pods") => r#""spec":{"containers":[{"name":"c","image":"i"}]}"#.into(),
        ("", "podtemplates") => format!(r#""template":{TEMPLATE}"#),
        ("", "replicationcontrollers") => format!(r#""spec":{{"selector":{{"a":"b"}},"template":{TEMPLATE}}}"#),
        ("", "resourcequotas") => r#""spec":{"hard":{"services":"9"}}"#.into(),
        ("", "services") => r#""spec":{"ports":[{"port":80}]}"#.into(),
        ("apps", "controllerrevisions") => r#""data":{"a":1},"revision":1"#.into(),
        ("apps", "statefulsets") => format!(r#""spec":{{"serviceName":"s",{selector},"template":{TEMPLATE}}}"#),
        ("apps", _) => format!(r#""spec":{{{selector},"template":{TEMPLATE}}}"#),
        ("batch", "jobs") => r#""spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}"#.into(),
        ("batch", "cronjobs") => r#""spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}"#.into(),
        ("autoscaling", _) => r#""spec":{"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}}"#.into(),
        ("policy", _) => format!(r#""spec":{{"minAvailable":1,{selector}}}"#),
        ("networking.k8s.io", "ingresses") => r#""spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}}}"#.into(),
        ("networking.k8s.io", "ingressclasses") => r#""spec":{"controller":"a.io/b"}"#.into(),
        ("networking.k8s.io", "ipaddresses") => r#""spec":{"parentRef":{"resource":"services","namespace":"n","name":"s"}}"#.into(),
        ("networking.k8s.io", "networkpolicies") => r#""spec":{"podSelector":{}}"#.into(),
        ("networking.k8s.io", "servicecidrs") => r#""spec":{"cidrs":["10.10.0.0/24"]}"#.into(),
        ("discovery.k8s.io", _) => r#""addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}]"#.into(),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => r#""rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]"#.into(),
        ("rbac.authorization.k8s.io", _) => r#""roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"}"#.into(),
        ("coordination.k8s.io", _) => r#""spec":{"holderIdentity":"a","leaseDurationSeconds":10}"#.into(),
        ("scheduling.k8s.io", _) => r#""value":5"#.into(),
        ("node.k8s.io", _) => r#""handler":"h""#.into(),
        ("storage.k8s.io", "csidrivers") => r#""spec":{}"#.into(),
        ("storage.k8s.io", "csinodes") => r#""spec":{"drivers":[{"name":"d.io","nodeID":"n"}]}"#.into(),
        ("storage.k8s.io", "csistoragecapacities") => r#""storageClassName":"s""#.into(),
        ("storage.k8s.io", "storageclasses") => r#""provisioner":"a.io/b""#.into(),
        ("storage.k8s.io", "volumeattachments") => r#""spec":{"attacher":"a","nodeName":"n","source":{"persistentVolumeName":"p"}}"#.into(),
        ("storage.k8s.io", "volumeattributesclasses") => r#""driverName":"d.io","parameters":{"a":"b"}"#.into(),
        ("resource.k8s.io", "deviceclasses") => r#""spec":{"selectors":[{"cel":{"expression":"true"}}]}"#.into(),
        ("resource.k8s.io", "resourceclaims") => r#""spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c.io"}}]}}"#.into(),
        ("resource.k8s.io", "resourceclaimtemplates") => r#""spec":{"spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c.io"}}]}}}"#.into(),
        ("resource.k8s.io", "resourceslices") => r#""spec":{"driver":"d.io","nodeName":"n","pool":{"name":"p","generation":1,"resourceSliceCount":1},"devices":[]}"#.into(),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => r#""webhooks":[{"name":"a.b.io","sideEffects":"None","admissionReviewVersions":["v1"],"clientConfig":{"url":"https://a.b/c"}}]"#.into(),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => r#""spec":{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]},"validations":[{"expression":"true"}]}"#.into(),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => r#""spec":{"reinvocationPolicy":"Never","matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]},"mutations":[{"patchType":"JSONPatch","jsonPatch":{"expression":"[]"}}]}"#.into(),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => r#""spec":{"policyName":"p","validationActions":["Deny"]}"#.into(),
        ("admissionregistration.k8s.io", _) => r#""spec":{"policyName":"p"}"#.into(),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => r#""spec":{"priorityLevelConfiguration":{"name":"p"},"rules":[{"subjects":[{"kind":"User","user":{"name":"u"}}],"nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["/a"]}]}]}"#.into(),
        ("flowcontrol.apiserver.k8s.io", _) => r#""spec":{"type":"Limited","limited":{"nominalConcurrencyShares":1,"limitResponse":{"type":"Reject"}}}"#.into(),
        ("apiregistration.k8s.io", _) => r#""spec":{"group":"things.io","version":"v1","groupPriorityMinimum":100,"versionPriority":10,"insecureSkipTLSVerify":true,"service":{"namespace":"n","name":"s"}}"#.into(),
        ("apiextensions.k8s.io", _) => r#""spec":{"group":"things.io","scope":"Namespaced","names":{"plural":"things","singular":"thing","kind":"Thing","listKind":"ThingList"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}"#.into(),
        ("certificates.k8s.io", _) => format!(r#""spec":{{"signerName":"a.io/b","usages":["client auth"],"request":"{REQUEST}"}}"#),
        _ => String::new(),
    }
}

/// A certificate signing request in PEM, in base64.
const REQUEST: &str = include_str!("request.b64");

/// Names that some kinds insist on.
fn name(resource: &Resource) -> &'static str {
    match resource.name {
        "ipaddresses" => "10.96.7.7",
        "apiservices" => "v1.things.io",
        "customresourcedefinitions" => "things.things.io",
        _ => "x",
    }
}

struct Life<'s> {
    server: &'s Server,
    resource: &'static Resource,
    collection: String,
    one: String,
}

impl Life<'_> {
    async fn ask(&self, method: &str, path: &str, body: &str) -> Doc {
        let answer = self.server.ask(method, path, body).await;
        let (resource, code) = (self.resource, answer.code);
        assert!(
            code < 300,
            "{method} {path} of {} {}: {code}: {}",
            resource.group,
            resource.name,
            answer.doc
        );
        answer.doc
    }

    async fn read_as_protobuf(&self) -> Doc {
        let headers = [("accept", "application/vnd.kubernetes.protobuf")];
        let (parts, bytes) = self
            .server
            .send(&myself(), "GET", &self.one, &headers, b"")
            .await;
        assert_eq!(parts.status, 200);
        let resource = self.resource;
        let schema = schema::kind(resource.group, resource.version, resource.kind).unwrap();
        let read = Incoming::read(bytes.to_vec(), Encoding::Protobuf).unwrap();
        read.decode(schema, Unknown::Drop).unwrap().0
    }

    /// The same object as protobuf is the same object.
    async fn rewrite_as_protobuf(&self, doc: &Doc) -> Doc {
        let resource = self.resource;
        let schema = schema::kind(resource.group, resource.version, resource.kind).unwrap();
        let mut bytes = Vec::new();
        api::codec::protobuf::encode_enveloped(doc, schema, &mut bytes);
        let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
        let (parts, body) = self
            .server
            .send(&myself(), "PUT", &self.one, &headers, &bytes)
            .await;
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(
            parts.status, 200,
            "{} {}: {body}",
            resource.group, resource.name
        );
        api::codec::json::parse(body.into_bytes()).unwrap()
    }

    async fn apply(&self) {
        let resource = self.resource;
        let version = crate::registry::row::api_version(resource.group, resource.version);
        let config = format!(
            r#"{{"apiVersion":"{version}","kind":"{}","metadata":{{"name":"{}","labels":{{"applied":"yes"}}}}}}"#,
            resource.kind,
            name(resource)
        );
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{}?fieldManager=tester&force=true", self.one);
        let (parts, body) = self
            .server
            .send(&myself(), "PATCH", &path, &headers, config.as_bytes())
            .await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(parts.status, 200, "apply {}: {body}", resource.name);
        assert!(
            body.contains(r#""applied":"yes""#) && body.contains("tester"),
            "{body}"
        );
    }

    /// What a watch from a version on sees, by type.
    async fn watched(&self, version: &str) -> Vec<String> {
        let path = format!("{}?watch=1&resourceVersion={version}", self.collection);
        let text = self.server.watch_until(&path, r#""type":"DELETED""#).await;
        let kind = |line: &str| line.split('"').nth(3).unwrap_or_default().to_string();
        text.lines().map(kind).collect()
    }

    async fn live(&self) {
        let resource = self.resource;
        let (name, body) = (name(resource), body(resource));
        let comma = if body.is_empty() { "" } else { "," };
        let text = format!(r#"{{"metadata":{{"name":"{name}"}}{comma}{body}}}"#);
        let made = self.ask("POST", &self.collection, &text).await;
        let text_of = |doc: &Doc, key| doc.root().text(&["metadata", key]).to_string();
        let version = text_of(&made, "resourceVersion");
        assert!(!text_of(&made, "uid").is_empty() && !version.is_empty());
        let read = self.ask("GET", &self.one, "").await;
        assert_eq!(read, made, "{}", resource.name);
        assert_eq!(self.read_as_protobuf().await, made, "{}", resource.name);
        // Writing back what was read changes nothing, in either encoding.
        let same = self.rewrite_as_protobuf(&made).await;
        assert_eq!(
            text_of(&same, "resourceVersion"),
            version,
            "{}: {same}\n{made}",
            resource.name
        );
        let same = self.ask("PUT", &self.one, &made.to_string()).await;
        assert_eq!(
            text_of(&same, "resourceVersion"),
            version,
            "{}: {same}\n{made}",
            resource.name
        );
        let list = self.ask("GET", &self.collection, "").await;
        let items = list.root().get("items").unwrap();
        let is_listed = items
            .children()
            .any(|item| item.text(&["metadata", "name"]) == name);
        assert!(is_listed, "{}", resource.name);
        let changed = self
            .ask("PATCH", &self.one, r#"{"metadata":{"labels":{"l":"v"}}}"#)
            .await;
        assert_eq!(changed.root().text(&["metadata", "labels", "l"]), "v");
        self.apply().await;
        self.ask("DELETE", &self.one, r#"{"gracePeriodSeconds":0}"#)
            .await;
        // What finalizers hold goes once they are gone.
        if self.server.ask("GET", &self.one, "").await.code == 200 {
            self.ask("PATCH", &self.one, r#"{"metadata":{"finalizers":null}}"#)
                .await;
        }
        assert_eq!(
            self.server.ask("GET", &self.one, "").await.code,
            404,
            "{}",
            resource.name
        );
        let seen = self.watched(&version).await;
        assert_eq!(
            seen.first().map(String::as_str),
            Some("MODIFIED"),
            "{}",
            resource.name
        );
        assert_eq!(
            seen.last().map(String::as_str),
            Some("DELETED"),
            "{}",
            resource.name
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_lives_and_dies() {
    let server = Server::start().await;
    server.namespace("n").await;
    let stored = resources()
        .iter()
        .filter(|resource| !resource.storage_version.is_empty() && resource.name != "namespaces");
    let mut count = 0;
    for resource in stored {
        let root = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let namespace = if resource.namespaced {
            "/namespaces/n"
        } else {
            ""
        };
        let collection = format!("{root}{namespace}/{}", resource.name);
        let life = Life {
            server: &server,
            resource,
            one: format!("{collection}/{}", name(resource)),
            collection,
        };
        life.live().await;
        count += 1;
    }
    assert!(count > 55, "{count}");
}
