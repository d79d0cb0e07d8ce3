//! What is recorded of one request: upstream's Event, written once per stage.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use api::codec::{Encoding, json, protobuf, yaml};
use api::conform::{Unknown, conform};
use api::doc::{Doc, New};
use api::schema;
use api::values::time::{Moment, Precision};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::policy::{Level, Stage, Verdict, without_managed_fields};
use crate::authorization::Decision;
use crate::body::Body;
use crate::endpoints::write::body_encoding;
use crate::instance::Api;
use crate::request::RequestInfo;
use crate::respond::Reply;
use crate::server::Peer;
use crate::user::User;

/// The header that names a request in the audit log, in requests and responses.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Agents with longer names are cut.
const AGENT_BYTES_MAX: usize = 1024;
/// Longer responses are left out.
pub const RESPONSE_BYTES_MAX: usize = 10 << 20;

/// What is known of a request.
pub struct Event {
    api: Arc<Api>,
    verdict: Verdict,
    id: String,
    received: Moment,
    verb: String,
    uri: String,
    user: Option<User>,
    acting: Option<(User, String)>,
    addresses: Vec<String>,
    agent: String,
    /// The keys of an object reference that are not empty.
    object: Vec<(&'static str, String)>,
    annotations: BTreeMap<String, String>,
    request: Option<Doc>,
    response: Option<Doc>,
    status: Option<Doc>,
}

impl Event {
    /// What is recorded of a request, if anything is; its first stage is.
    pub fn begin(
        api: &Arc<Api>,
        peer: &Peer,
        parts: &Parts,
        info: &RequestInfo,
        id: &str,
        user: Option<&User>,
    ) -> Option<Box<Self>> {
        let policy = api.auditor.as_ref()?.policy();
        let verdict = policy.judge(info, user);
        let level = verdict.map_or(Level::None, |verdict| verdict.level);
        api.metrics.audit_levels.of(&[level.name()]).inc();
        let verdict = verdict.filter(|_| level > Level::None)?.clone();
        let keys = [
            ("resource", &info.resource),
            ("namespace", &info.namespace),
            ("name", &info.name),
            ("apiGroup", &info.group),
            ("apiVersion", &info.version),
            ("subresource", &info.subresource),
        ];
        let keys = keys
            .into_iter()
            .filter(|(_, text)| info.is_resource && !text.is_empty());
        let uri = parts.uri.path_and_query();
        Some(Box::new(Self {
            api: api.clone(),
            verdict,
            id: id.to_string(),
            received: api.moment(),
            verb: info.verb.clone(),
            uri: uri.map_or_else(String::new, ToString::to_string),
            user: user.cloned(),
            acting: None,
            addresses: addresses(&parts.headers, peer.address.ip()),
            agent: agent(&parts.headers),
            object: keys.map(|(key, text)| (key, text.clone())).collect(),
            annotations: BTreeMap::new(),
            request: None,
            response: None,
            status: None,
        }))
    }

    /// Whether what is answered is recorded.
    pub fn wants_response(&self) -> bool {
        self.verdict.level == Level::RequestResponse
    }

    /// Adds an annotation.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.annotations.insert(key.to_string(), value.to_string());
    }

    /// Somebody decided whether the request may go on.
    pub fn decided(&mut self, decision: &Decision) {
        let word = match decision {
            Decision::Allow(_) => "allow",
            Decision::Deny(_) | Decision::NoOpinion(_) => "forbid",
        };
        self.annotate("authorization.k8s.io/decision", word);
        self.annotate("authorization.k8s.io/reason", decision.reason());
    }

    /// The request acts as another user.
    pub fn acts_as(&mut self, user: &User, constraint: &str) {
        self.acting = Some((user.clone(), constraint.to_string()));
    }

    /// What the request sends.
    pub fn sends(&mut self, headers: &HeaderMap, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let encoding = match body_encoding(headers) {
            Ok(encoding) => encoding,
            // Patches are JSON, or YAML, which JSON is too.
            Err(_) => Encoding::Yaml,
        };
        let Some(mut doc) = decode(encoding, body) else {
            return;
        };
        if self.verb == "create" || self.verb == "update" {
            for (key, path) in [
                ("name", "name"),
                ("uid", "uid"),
                ("resourceVersion", "resourceVersion"),
            ] {
                let text = doc.root().text(&["metadata", path]);
                let is_known = self.object.iter().any(|known| known.0 == key);
                if !text.is_empty() && !is_known && !self.object.is_empty() {
                    self.object.push((key, text.to_string()));
                }
            }
        }
        if self.verdict.level < Level::Request {
            return;
        }
        if self.verdict.omit_managed_fields {
            without_managed_fields(&mut doc);
        }
        self.request = Some(doc);
    }

    /// What is answered, as far as it is known when the response begins.
    pub fn answers(&mut self, reply: &Reply) {
        let code = reply.status().as_u16();
        let mut status = Doc::new();
        let top = status.top();
        status.object(top, "metadata");
        if let Body::Whole(Some(bytes)) = reply.body()
            && (code >= 400 || self.wants_response())
            && let Some(doc) = decode(media(reply.headers()), bytes)
        {
            if code >= 400 && doc.root().text(&["kind"]) == "Status" {
                for key in ["status", "message", "reason", "details"] {
                    if let Some(node) = doc.root().get(key) {
                        let copy = status.graft(node);
                        status.put(top, key, copy);
                    }
                }
            }
            self.responds(doc);
        }
        status.set(top, "code", New::Int(i64::from(code)));
        self.status = Some(status);
    }

    /// The bytes of a response that came in pieces.
    pub fn answered_in_pieces(&mut self, media: Encoding, bytes: Option<&[u8]>) {
        match bytes.map(|bytes| decode(media, bytes)) {
            Some(Some(doc)) => self.responds(doc),
            Some(None) => {}
            None => self.annotate("audit.k8s.io/truncated", "true"),
        }
    }

    fn responds(&mut self, mut doc: Doc) {
        if !self.wants_response() {
            return;
        }
        if self.verdict.omit_managed_fields {
            without_managed_fields(&mut doc);
        }
        self.response = Some(doc);
    }

    /// The request failed because nobody knows who sent it.
    pub fn is_unauthenticated(&mut self, message: &str) {
        let mut status = Doc::new();
        let top = status.top();
        status.object(top, "metadata");
        status.set(top, "message", message);
        status.set(top, "code", New::Int(401));
        self.status = Some(status);
    }

    /// The server failed.
    pub fn panicked(&mut self) {
        self.status = Some(Doc::literal(
            r#"{"metadata":{},"status":"Failure","message":"APIServer panic'd","reason":"InternalError","code":500}"#,
        ));
    }

    /// Records a stage, unless the policy leaves it out.
    pub fn record(&self, stage: Stage) {
        if self.verdict.omit_stages.contains(&stage) {
            return;
        }
        if let Some(auditor) = &self.api.auditor {
            auditor.record(self.write(stage), &self.api.metrics);
        }
    }

    fn write(&self, stage: Stage) -> String {
        let mut doc = Doc::new();
        let top = doc.top();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                doc.set(top, key, value);
            }
        };
        set("kind", "Event");
        set("apiVersion", "audit.k8s.io/v1");
        set("level", self.verdict.level.name());
        set("auditID", &self.id);
        set("stage", stage.name());
        set("requestURI", &self.uri);
        set("verb", &self.verb);
        write_user(
            &mut doc,
            "user",
            self.user.as_ref().unwrap_or(&User::default()),
        );
        if let Some((user, constraint)) = &self.acting {
            write_user(&mut doc, "impersonatedUser", user);
            if !constraint.is_empty() {
                let path = ["authenticationMetadata", "impersonationConstraint"];
                doc.set_path(&path, constraint);
            }
        }
        if !self.addresses.is_empty() {
            let list = doc.list(top, "sourceIPs");
            for address in &self.addresses {
                doc.push(list, address);
            }
        }
        if !self.agent.is_empty() {
            doc.set(top, "userAgent", &self.agent);
        }
        for (key, text) in &self.object {
            doc.set_path(&["objectRef", key], text);
        }
        let parts = [
            ("responseStatus", &self.status),
            ("requestObject", &self.request),
            ("responseObject", &self.response),
        ];
        for (key, part) in parts {
            if let Some(part) = part {
                let copy = doc.graft(part.root());
                doc.put(top, key, copy);
            }
        }
        let now = match stage {
            Stage::RequestReceived => self.received,
            _ => self.api.moment(),
        };
        doc.set(
            top,
            "requestReceivedTimestamp",
            &self.received.text(Precision::Micros),
        );
        doc.set(top, "stageTimestamp", &now.text(Precision::Micros));
        if !self.annotations.is_empty() {
            let annotations = doc.object(top, "annotations");
            for (key, value) in &self.annotations {
                doc.set(annotations, key, value);
            }
        }
        doc.to_string()
    }
}

fn write_user(doc: &mut Doc, key: &str, user: &User) {
    let top = doc.top();
    let of = doc.object(top, key);
    for (key, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            doc.set(of, key, text);
        }
    }
    if !user.groups.is_empty() {
        let groups = doc.list(of, "groups");
        for group in &user.groups {
            doc.push(groups, group);
        }
    }
    for (key, values) in &user.extra {
        let extra = doc.object(of, "extra");
        let list = doc.list(extra, key);
        for value in values {
            doc.push(list, value);
        }
    }
}

/// The encoding of a response.
pub fn media(headers: &HeaderMap) -> Encoding {
    let value = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    match value {
        Some(value) if value.starts_with(b"application/vnd.kubernetes.protobuf") => {
            Encoding::Protobuf
        }
        Some(value) if value.starts_with(b"application/yaml") => Encoding::Yaml,
        _ => Encoding::Json,
    }
}

/// A document from bytes, if they are one.
fn decode(encoding: Encoding, bytes: &[u8]) -> Option<Doc> {
    match encoding {
        Encoding::Json => json::parse(bytes.to_vec()).ok(),
        Encoding::Yaml => yaml::parse(bytes).ok().map(|parsed| parsed.0),
        Encoding::Protobuf => {
            let envelope = protobuf::Envelope::open(bytes).ok()?;
            let version = envelope.api_version;
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let schema = schema::kind(group, version, envelope.kind)?;
            let inner = protobuf::decode(envelope.raw, schema).ok()?;
            let mut doc = Doc::new();
            let top = doc.top();
            doc.set(top, "kind", envelope.kind);
            doc.set(top, "apiVersion", envelope.api_version);
            for child in inner.root().children() {
                let copy = doc.graft(child);
                doc.put(top, child.key(), copy);
            }
            // Drops what protobuf writes of fields that are not there.
            conform(&mut doc, schema, Unknown::Keep).ok()?;
            Some(doc)
        }
    }
}

/// Where a request comes from: what proxies say, and who connected.
fn addresses(headers: &HeaderMap, peer: IpAddr) -> Vec<String> {
    let mut found: Vec<IpAddr> = Vec::new();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    for part in text("x-forwarded-for").unwrap_or_default().split(',') {
        found.extend(part.trim().parse::<IpAddr>().ok());
    }
    let real = text("x-real-ip").and_then(|text| text.trim().parse().ok());
    for one in real.into_iter().chain([peer]) {
        if found.last() != Some(&one) {
            found.push(one);
        }
    }
    found.iter().map(ToString::to_string).collect()
}

fn agent(headers: &HeaderMap) -> String {
    let value = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default();
    if value.len() <= AGENT_BYTES_MAX {
        return value.to_string();
    }
    let mut cut = String::new();
    // A header that is a text is ASCII.
    let _ = write!(cut, "{}...TRUNCATED", &value[..AGENT_BYTES_MAX]);
    cut
}
