//! The audit policy: the first rule that fits a request says how much of it is recorded.

use api::doc::{Doc, Node};

use crate::request::RequestInfo;
use crate::user::User;

/// How much is recorded of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when and with what success.
    Metadata,
    /// That, and what was sent.
    Request,
    /// That, and what was answered.
    RequestResponse,
}

/// The levels by their names.
const LEVELS: [(&str, Level); 4] = [
    ("None", Level::None),
    ("Metadata", Level::Metadata),
    ("Request", Level::Request),
    ("RequestResponse", Level::RequestResponse),
];

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        LEVELS[self as usize].0
    }
}

/// When something is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// Once the head of a response is sent whose end is far.
    ResponseStarted,
    /// At the end.
    ResponseComplete,
    /// When something went badly wrong.
    Panic,
}

/// The stages by their names.
const STAGES: [(&str, Stage); 4] = [
    ("RequestReceived", Stage::RequestReceived),
    ("ResponseStarted", Stage::ResponseStarted),
    ("ResponseComplete", Stage::ResponseComplete),
    ("Panic", Stage::Panic),
];

impl Stage {
    /// Its name.
    pub fn name(self) -> &'static str {
        STAGES[self as usize].0
    }
}

/// What is recorded of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How much.
    pub level: Level,
    /// When not.
    pub omit_stages: Vec<Stage>,
    /// Objects are recorded without the owners of their fields.
    pub omit_managed_fields: bool,
}

#[derive(Debug)]
struct Rule {
    verdict: Verdict,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
}

#[derive(Debug)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

/// What is to be recorded.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads a policy, in YAML or JSON.
    ///
    /// # Errors
    ///
    /// If it is none, or a rule makes no sense.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let (doc, _) = api::codec::yaml::parse(text).map_err(|error| error.to_string())?;
        let root = doc.root();
        let (version, kind) = (root.text(&["apiVersion"]), root.text(&["kind"]));
        if (version, kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!(
                "unknown group version field {version}, Kind={kind} in policy"
            ));
        }
        let stages = stages(root, "omitStages")?;
        let omits_fields = flag(root, "omitManagedFields").unwrap_or_default();
        let rules = root.get("rules").into_iter().flat_map(Node::children);
        let rules: Result<Vec<Rule>, String> = rules
            .enumerate()
            .map(|(at, node)| {
                let mut rule = Rule::read(node).map_err(|why| format!("rules[{at}].{why}"))?;
                let own = flag(node, "omitManagedFields");
                rule.verdict.omit_managed_fields = own.unwrap_or(omits_fields);
                rule.verdict.omit_stages.extend(&stages);
                Ok(rule)
            })
            .collect();
        let rules = rules?;
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_string());
        }
        Ok(Self { rules })
    }

    /// What is recorded of a request; nothing if no rule fits.
    pub fn judge(&self, info: &RequestInfo, user: Option<&User>) -> Option<&Verdict> {
        let rule = self.rules.iter().find(|rule| rule.fits(info, user))?;
        Some(&rule.verdict)
    }
}

impl Rule {
    fn read(node: Node<'_>) -> Result<Self, String> {
        let level = node.text(&["level"]);
        let known = LEVELS.iter().find(|known| known.0 == level);
        let level = known
            .ok_or_else(|| format!("level: Unsupported value: {level:?}"))?
            .1;
        let resources = node.get("resources").into_iter().flat_map(Node::children);
        let rule = Self {
            verdict: Verdict {
                level,
                omit_stages: stages(node, "omitStages")?,
                omit_managed_fields: false,
            },
            users: texts(node, "users"),
            groups: texts(node, "userGroups"),
            verbs: texts(node, "verbs"),
            resources: resources
                .map(|one| Resources {
                    group: one.text(&["group"]).to_string(),
                    resources: texts(one, "resources"),
                    names: texts(one, "resourceNames"),
                })
                .collect(),
            namespaces: texts(node, "namespaces"),
            paths: texts(node, "nonResourceURLs"),
        };
        let is_about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
        if is_about_resources && !rule.paths.is_empty() {
            return Err(
                "nonResourceURLs: Invalid value: rules cannot apply to both regular resources and \
                 non-resource URLs"
                    .to_string(),
            );
        }
        for path in &rule.paths {
            let star = path.find('*');
            if path != "*" && (!path.starts_with('/') || star.is_some_and(|at| at + 1 < path.len()))
            {
                return Err(format!("nonResourceURLs: Invalid value: {path:?}"));
            }
        }
        for one in &rule.resources {
            if one.resources.is_empty() && !one.names.is_empty() {
                return Err(
                    "resources.resourceNames: Invalid value: using resourceNames requires \
                            at least one resource"
                        .to_string(),
                );
            }
        }
        Ok(rule)
    }

    fn fits(&self, info: &RequestInfo, user: Option<&User>) -> bool {
        let is_in = |list: &[String], text: &str| list.iter().any(|known| known == text);
        if !self.users.is_empty() && !user.is_some_and(|user| is_in(&self.users, &user.name)) {
            return false;
        }
        let is_member = |user: &User| user.groups.iter().any(|group| is_in(&self.groups, group));
        if !self.groups.is_empty() && !user.is_some_and(is_member) {
            return false;
        }
        if !self.verbs.is_empty() && !is_in(&self.verbs, &info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && (self.namespaces.is_empty() || is_in(&self.namespaces, &info.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.fits(info)));
        }
        self.paths.is_empty()
            || (!info.is_resource && self.paths.iter().any(|spec| is_path(&info.path, spec)))
    }
}

impl Resources {
    fn fits(&self, info: &RequestInfo) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let is_named = self.names.is_empty() || self.names.contains(&info.name);
        let full = info.full_resource();
        let fits = |known: &String| {
            *known == full
                || known == "*"
                || (!info.subresource.is_empty()
                    && known.strip_prefix("*/") == Some(&info.subresource))
                || known.strip_suffix("/*") == Some(&info.resource)
        };
        is_named && self.resources.iter().any(fits)
    }
}

fn is_path(path: &str, spec: &str) -> bool {
    let prefix = spec.strip_suffix('*');
    spec == path || prefix.is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

fn texts(node: Node<'_>, key: &str) -> Vec<String> {
    let items = node.get(key).into_iter().flat_map(Node::children);
    items.filter_map(Node::as_str).map(str::to_string).collect()
}

fn flag(node: Node<'_>, key: &str) -> Option<bool> {
    node.get(key).and_then(Node::as_bool)
}

fn stages(node: Node<'_>, key: &str) -> Result<Vec<Stage>, String> {
    let names = texts(node, key);
    let stage = |name: &String| {
        let found = STAGES.iter().find(|known| known.0 == name);
        let found = found.map(|known| known.1);
        found.ok_or_else(|| format!("{key}: Unsupported value: {name:?}"))
    };
    names.iter().map(stage).collect()
}

/// Takes the owners of fields out of an object, or out of all of a list or table.
pub fn without_managed_fields(doc: &mut Doc) {
    let root = doc.root();
    let mut found: Vec<_> = root.get("metadata").into_iter().map(Node::id).collect();
    for (list, inner) in [("items", None), ("rows", Some("object"))] {
        for item in root.get(list).into_iter().flat_map(Node::children) {
            let object = inner.map_or(Some(item), |inner| item.get(inner));
            found.extend(
                object
                    .and_then(|object| object.get("metadata"))
                    .map(Node::id),
            );
        }
    }
    for metadata in found {
        doc.remove(metadata, "managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services]}]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: RequestResponse
  omitManagedFields: false
  omitStages: [ResponseStarted]
  resources:
  - group: ""
    resources: ["pods", "*/scale", "services/*"]
- level: Request
  resources: [{group: "", resources: [configmaps], resourceNames: [leader]}]
  namespaces: [kube-system]
- level: Metadata
  userGroups: [auditors]
  resources: [{group: "*"}]
"#;

    fn level(method: http::Method, uri: &str, user: &User) -> Option<Level> {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::new(&method, path, &Query::parse(query));
        policy.judge(&info, Some(user)).map(|verdict| verdict.level)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let proxy = User::new("system:kube-proxy", &[]);
        let anna = User::new("anna", &["auditors"]);
        let get = http::Method::GET;
        let cases = [
            ("/api/v1/services?watch=1", &proxy, Some(Level::None)),
            ("/api/v1/endpoints?watch=1", &anna, Some(Level::Metadata)),
            ("/api/v1/services", &proxy, Some(Level::RequestResponse)),
            ("/healthz/etcd", &anna, Some(Level::None)),
            ("/versions", &anna, None),
            (
                "/api/v1/namespaces/a/pods/p",
                &proxy,
                Some(Level::RequestResponse),
            ),
            ("/api/v1/namespaces/a/pods/p/log", &proxy, None),
            (
                "/api/v1/namespaces/a/services/s/status",
                &proxy,
                Some(Level::RequestResponse),
            ),
            (
                "/api/v1/namespaces/a/replicationcontrollers/r/scale",
                &proxy,
                Some(Level::RequestResponse),
            ),
            (
                "/api/v1/namespaces/kube-system/configmaps/leader",
                &proxy,
                Some(Level::Request),
            ),
            ("/api/v1/namespaces/kube-system/configmaps/x", &proxy, None),
            ("/api/v1/namespaces/a/configmaps/leader", &proxy, None),
            ("/apis/apps/v1/deployments", &anna, Some(Level::Metadata)),
        ];
        for (uri, user, want) in cases {
            assert_eq!(level(get.clone(), uri, user), want, "{uri}");
        }
    }

    #[test]
    fn rules_add_to_what_the_policy_omits() {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        let verdict = &policy.rules[2].verdict;
        assert_eq!(
            verdict.omit_stages,
            [Stage::ResponseStarted, Stage::RequestReceived]
        );
        assert!(!verdict.omit_managed_fields && policy.rules[3].verdict.omit_managed_fields);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let start = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n";
        for (rules, want) in [
            ("", "loaded illegal policy with 0 rules"),
            ("- level: All", "rules[0].level: Unsupported value: \"All\""),
            (
                "- {level: None, nonResourceURLs: [\"/a*b\"]}",
                "rules[0].nonResourceURLs: Invalid value: \"/a*b\"",
            ),
        ] {
            let error = Policy::parse(format!("{start}{rules}").as_bytes()).unwrap_err();
            assert_eq!(error, want);
        }
        assert!(Policy::parse(b"kind: Pod").is_err());
    }
}
