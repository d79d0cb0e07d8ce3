//! FlowSchemas and PriorityLevelConfigurations as they are used: which requests belong to which
//! level, and what a level grants.

use api::doc::{Doc, Node};
use sha2::{Digest, Sha256};

use super::queues::Kind;
use crate::request::RequestInfo;
use crate::user::{SERVICE_ACCOUNT_PREFIX, User};

/// The level without limits.
pub const EXEMPT: &str = "exempt";
/// The schema and level of whatever no other schema fits.
pub const CATCH_ALL: &str = "catch-all";

/// What every server has, whether the objects are there or not.
const MANDATORY_LEVELS: [&str; 2] = [
    r#"{"metadata":{"name":"exempt"},"spec":{"type":"Exempt","exempt":{"nominalConcurrencyShares":0,"lendablePercent":0}}}"#,
    r#"{"metadata":{"name":"catch-all"},"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":5,"lendablePercent":0,"limitResponse":{"type":"Reject"}}}}"#,
];
const MANDATORY_SCHEMAS: [&str; 2] = [
    r#"{"metadata":{"name":"exempt"},"spec":{"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":1,"rules":[{"subjects":[{"kind":"Group","group":{"name":"system:masters"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}}"#,
    r#"{"metadata":{"name":"catch-all"},"spec":{"priorityLevelConfiguration":{"name":"catch-all"},"matchingPrecedence":10000,"distinguisherMethod":{"type":"ByUser"},"rules":[{"subjects":[{"kind":"Group","group":{"name":"system:unauthenticated"}},{"kind":"Group","group":{"name":"system:authenticated"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}}"#,
];

/// A priority level.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its UID; empty if there is no such object.
    pub uid: String,
    /// What becomes of requests without a seat.
    pub kind: Kind,
    /// Its part of the server's seats.
    pub shares: f64,
    /// How much of them others may use while it does not.
    pub lendable_percent: f64,
    /// How much of others' it may use; no limit if it does not say.
    pub borrowing_percent: Option<f64>,
}

impl Level {
    /// Reads an object; none if it makes no sense, which is as if it were not there.
    pub fn read(doc: &Doc) -> Option<Self> {
        let root = doc.root();
        let name = root.text(&["metadata", "name"]);
        let is_exempt = root.text(&["spec", "type"]) == "Exempt";
        if is_exempt != (name == EXEMPT) {
            return None;
        }
        let part = match is_exempt {
            true => root.path(&["spec", "exempt"])?,
            false => root.path(&["spec", "limited"])?,
        };
        let number = |node: Node<'_>, key: &str| node.get(key).and_then(Node::as_f64);
        let kind = match part.get("limitResponse") {
            _ if is_exempt => Kind::Exempt,
            Some(response) if response.text(&["type"]) == "Queue" => {
                let queuing = response.get("queuing")?;
                let count = |key| number(queuing, key).map(|count| count as usize);
                let (queues, hand) = (count("queues")?, count("handSize")?);
                if queues == 0 || hand == 0 || hand > queues {
                    return None;
                }
                Kind::Queue {
                    queues,
                    hand,
                    length: count("queueLengthLimit")?,
                }
            }
            _ => Kind::Reject,
        };
        let default = if is_exempt { 0.0 } else { 30.0 };
        Some(Self {
            name: name.to_string(),
            uid: root.text(&["metadata", "uid"]).to_string(),
            kind,
            shares: number(part, "nominalConcurrencyShares").unwrap_or(default),
            lendable_percent: number(part, "lendablePercent").unwrap_or_default(),
            borrowing_percent: number(part, "borrowingLimitPercent"),
        })
    }
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// A flow schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its UID; empty if there is no such object.
    pub uid: String,
    /// The level of its requests.
    pub level: String,
    precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, Clone, PartialEq)]
enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    ServiceAccount(String, String),
}

#[derive(Debug, Clone, PartialEq)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Schema {
    /// Reads an object.
    pub fn read(doc: &Doc) -> Self {
        let root = doc.root();
        let precedence = root.path(&["spec", "matchingPrecedence"]);
        Self {
            name: root.text(&["metadata", "name"]).to_string(),
            uid: root.text(&["metadata", "uid"]).to_string(),
            level: root
                .text(&["spec", "priorityLevelConfiguration", "name"])
                .to_string(),
            precedence: precedence.and_then(Node::as_i64).unwrap_or(1000),
            distinguisher: match root.text(&["spec", "distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::Nothing,
            },
            rules: list(root.get("spec"), "rules").map(Rule::read).collect(),
        }
    }

    /// Whether a request belongs to it.
    pub fn fits(&self, info: &RequestInfo, user: &User) -> bool {
        self.rules.iter().any(|rule| rule.fits(info, user))
    }

    /// The hash of the request's flow, upstream's.
    pub fn flow(&self, info: &RequestInfo, user: &User) -> u64 {
        let distinguisher = match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        };
        let mut hash = Sha256::new();
        hash.update(&self.name);
        hash.update([0]);
        hash.update(distinguisher);
        let sum = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&sum[..8]);
        u64::from_le_bytes(first)
    }
}

impl Rule {
    fn read(node: Node<'_>) -> Self {
        let subject = |one: Node<'_>| {
            let text = |part: &str, key: &str| one.text(&[part, key]).to_string();
            match one.text(&["kind"]) {
                "User" => Some(Subject::User(text("user", "name"))),
                "Group" => Some(Subject::Group(text("group", "name"))),
                "ServiceAccount" => Some(Subject::ServiceAccount(
                    text("serviceAccount", "namespace"),
                    text("serviceAccount", "name"),
                )),
                _ => None,
            }
        };
        let resource = |one: Node<'_>| ResourceRule {
            verbs: texts(one, "verbs"),
            groups: texts(one, "apiGroups"),
            resources: texts(one, "resources"),
            namespaces: texts(one, "namespaces"),
            cluster_scope: one.get("clusterScope").and_then(Node::as_bool) == Some(true),
        };
        let path = |one: Node<'_>| PathRule {
            verbs: texts(one, "verbs"),
            paths: texts(one, "nonResourceURLs"),
        };
        Self {
            subjects: list(Some(node), "subjects").filter_map(subject).collect(),
            resources: list(Some(node), "resourceRules").map(resource).collect(),
            paths: list(Some(node), "nonResourceRules").map(path).collect(),
        }
    }

    fn fits(&self, info: &RequestInfo, user: &User) -> bool {
        self.subjects.iter().any(|subject| subject.fits(user))
            && match info.is_resource {
                true => self.resources.iter().any(|rule| rule.fits(info)),
                false => self.paths.iter().any(|rule| rule.fits(info)),
            }
    }
}

impl Subject {
    fn fits(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.is_in(name),
            Self::ServiceAccount(namespace, name) => {
                let rest = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX);
                let found = rest.and_then(|rest| rest.split_once(':'));
                found.is_some_and(|found| found.0 == namespace && (name == "*" || found.1 == name))
            }
        }
    }
}

impl ResourceRule {
    fn fits(&self, info: &RequestInfo) -> bool {
        is_in(&self.verbs, &info.verb)
            && is_in(&self.resources, &info.full_resource())
            && is_in(&self.groups, &info.group)
            && match &*info.namespace {
                "" => self.cluster_scope,
                namespace => is_in(&self.namespaces, namespace),
            }
    }
}

impl PathRule {
    fn fits(&self, info: &RequestInfo) -> bool {
        let is_meant = |spec: &String| {
            let prefix = spec.strip_suffix('*').unwrap_or(spec);
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let below = info.path.strip_prefix(prefix);
            spec == "*" || *spec == info.path || below.is_some_and(|below| below.starts_with('/'))
        };
        is_in(&self.verbs, &info.verb) && self.paths.iter().any(is_meant)
    }
}

/// Whether a list names a text, or is the wildcard and nothing else.
fn is_in(known: &[String], text: &str) -> bool {
    matches!(known, [one] if one == "*") || known.iter().any(|one| one == text)
}

fn list<'d>(node: Option<Node<'d>>, key: &str) -> impl Iterator<Item = Node<'d>> {
    let found = node.and_then(|node| node.get(key));
    found.into_iter().flat_map(Node::children)
}

fn texts(node: Node<'_>, key: &str) -> Vec<String> {
    let items = list(Some(node), key).filter_map(Node::as_str);
    items.map(str::to_string).collect()
}

/// Levels and schemas in the order of matching, with the mandatory ones, and without schemas whose
/// level is missing.
pub fn digest(mut levels: Vec<Level>, mut schemas: Vec<Schema>) -> (Vec<Level>, Vec<Schema>) {
    let is_level = |levels: &[Level], name: &str| levels.iter().any(|level| level.name == name);
    schemas.retain(|schema| is_level(&levels, &schema.level));
    schemas.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
    for (at, literal) in MANDATORY_SCHEMAS.into_iter().enumerate() {
        let mandatory = Schema::read(&Doc::literal(literal));
        if !schemas.iter().any(|known| known.name == mandatory.name) {
            let place = if at == 0 { 0 } else { schemas.len() };
            schemas.insert(place, mandatory);
        }
    }
    for literal in MANDATORY_LEVELS {
        let mandatory = Level::read(&Doc::literal(literal));
        levels.extend(mandatory.filter(|mandatory| !is_level(&levels, &mandatory.name)));
    }
    (levels, schemas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;
    use crate::user::{AUTHENTICATED, MASTERS};

    fn info(uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::new(&http::Method::GET, path, &Query::parse(query))
    }

    fn matched(schemas: &[Schema], uri: &str, user: &User) -> String {
        let info = info(uri);
        let found = schemas.iter().find(|schema| schema.fits(&info, user));
        found.map(|schema| schema.name.clone()).unwrap_or_default()
    }

    #[test]
    fn without_objects_the_mandatory_ones_count() {
        let (levels, schemas) = digest(Vec::new(), Vec::new());
        let kinds: Vec<_> = levels
            .iter()
            .map(|one| (&*one.name, one.kind, one.shares))
            .collect();
        let want = [(EXEMPT, Kind::Exempt, 0.0), (CATCH_ALL, Kind::Reject, 5.0)];
        assert_eq!(kinds, want);
        let root = User::new("root", &[MASTERS, AUTHENTICATED]);
        let anna = User::new("anna", &[AUTHENTICATED]);
        for uri in [
            "/api/v1/pods",
            "/healthz",
            "/api/v1/namespaces/a/pods/p/log",
        ] {
            assert_eq!(matched(&schemas, uri, &root), "exempt");
            assert_eq!(matched(&schemas, uri, &anna), "catch-all");
        }
    }

    #[test]
    fn schemas_match_by_precedence_and_dangling_ones_do_not() {
        let level = r#"{"metadata":{"name":"l"},"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Queue","queuing":{"queues":8,"handSize":2,"queueLengthLimit":5}}}}}"#;
        let level = Level::read(&Doc::literal(level)).unwrap();
        assert_eq!(level.shares, 30.0);
        let schema = |name: &str, level: &str, precedence: u32, rules: &str| {
            Schema::read(&Doc::literal(&format!(
                r#"{{"metadata":{{"name":"{name}"}},"spec":{{"matchingPrecedence":{precedence},"priorityLevelConfiguration":{{"name":"{level}"}},"distinguisherMethod":{{"type":"ByNamespace"}},"rules":[{rules}]}}}}"#
            )))
        };
        let pods = r#"{"subjects":[{"kind":"ServiceAccount","serviceAccount":{"namespace":"a","name":"*"}}],"resourceRules":[{"verbs":["list"],"apiGroups":[""],"resources":["pods"],"namespaces":["a"]}]}"#;
        let health = r#"{"subjects":[{"kind":"User","user":{"name":"*"}}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["/healthz/*"]}]}"#;
        let all = r#"{"subjects":[{"kind":"Group","group":{"name":"*"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"namespaces":["*"],"clusterScope":true}]}"#;
        let (_, schemas) = digest(
            vec![level],
            vec![
                schema("z", "l", 20, pods),
                schema("dangling", "nowhere", 5, all),
                schema("b", "l", 20, health),
                schema("rest", "l", 30, all),
            ],
        );
        let names: Vec<&str> = schemas.iter().map(|schema| &*schema.name).collect();
        assert_eq!(names, ["exempt", "b", "z", "rest", "catch-all"]);
        let account = User::new("system:serviceaccount:a:x", &[]);
        let other = User::new("system:serviceaccount:ab:x", &[AUTHENTICATED]);
        for (uri, user, want) in [
            ("/api/v1/namespaces/a/pods", &account, "z"),
            ("/api/v1/namespaces/a/pods", &other, "rest"),
            ("/api/v1/namespaces/b/pods", &account, "rest"),
            ("/api/v1/pods", &account, "rest"),
            ("/api/v1/namespaces/a/pods/p", &account, "rest"),
            ("/healthz/etcd", &account, "b"),
            ("/healthz", &other, "catch-all"),
            ("/healthzz", &other, "catch-all"),
        ] {
            assert_eq!(matched(&schemas, uri, user), want, "{uri}");
        }
        let flow = |uri| schemas[2].flow(&info(uri), &account);
        let (one, other) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods");
        assert!(flow(one) != flow(other));
        // sha256("z\0a"), its first eight bytes from the least significant one on.
        let sum = Sha256::digest(b"z\0a");
        assert_eq!(flow(one).to_le_bytes(), sum[..8]);
    }
}
