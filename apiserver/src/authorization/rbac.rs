//! Roles and bindings, compiled: for every user and group what is granted to it, everywhere and in
//! each namespace. A request looks up its user and its groups and compares a few rules.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use api::doc::{Doc, Node};
use arc_swap::ArcSwap;

use super::rules::Rule;
use super::{Attributes, Decision, Rules};
use crate::authentication::aggregate;
use crate::storage::{Object, Objects};
use crate::user::{SERVICE_ACCOUNT_PREFIX, User};

/// The group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = [
    "roles",
    "clusterroles",
    "rolebindings",
    "clusterrolebindings",
];

/// Authorizes by roles and bindings.
pub struct Rbac {
    objects: Arc<dyn Objects>,
    index: ArcSwap<Index>,
    /// What was parsed; locked by whoever compiles.
    parsed: Mutex<Parsed>,
}

/// Versions of [`RESOURCES`].
type Versions = [u64; 4];

/// What a role says: its rules, or that there is no such role.
type Grant = Result<Arc<[Rule]>, String>;

/// A binding as one of its subjects sees it.
struct Granted {
    /// Which binding: one that names both a user and a group of theirs grants once.
    binding: usize,
    grant: Grant,
    /// Why a request is allowed.
    reason: String,
}

/// What is granted to users and groups.
#[derive(Default)]
struct Subjects {
    users: HashMap<String, Vec<Arc<Granted>>>,
    groups: HashMap<String, Vec<Arc<Granted>>>,
}

#[derive(Default)]
struct Index {
    versions: Option<Versions>,
    everywhere: Subjects,
    namespaces: HashMap<String, Subjects>,
    /// Rules by namespace (empty for cluster roles) and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
}

impl Rbac {
    /// Compiles on the first request, and whenever roles or bindings changed.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self {
            objects,
            index: ArcSwap::default(),
            parsed: Mutex::default(),
        }
    }

    /// Whether a binding allows it.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.index();
        let mut errors = Vec::new();
        for granted in index.granted(attributes.user, attributes.namespace) {
            match &granted.grant {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::Allow(Cow::Owned(granted.reason.clone()));
                }
                Ok(_) => {}
                Err(error) => errors.push(error.clone()),
            }
        }
        match errors.is_empty() {
            true => Decision::NONE,
            false => Decision::NoOpinion(Cow::Owned(format!("RBAC: {}", aggregate(&errors)))),
        }
    }

    /// All rules that apply to a user, everywhere and in a namespace.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let index = self.index();
        let mut all = Rules::default();
        let mut seen = HashSet::new();
        for granted in index.granted(user, namespace) {
            if !seen.insert(granted.binding) {
                continue;
            }
            match &granted.grant {
                Ok(rules) => all.rules.extend(rules.iter().cloned()),
                Err(error) => all.errors.push(error.clone()),
            }
        }
        all
    }

    /// The rules of a role that a binding in a namespace (empty for the cluster) refers to.
    ///
    /// # Errors
    ///
    /// If there is no such role.
    pub fn role_rules(
        &self,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> Result<Arc<[Rule]>, String> {
        self.index().grant(kind, name, namespace)
    }

    fn versions(&self) -> Versions {
        RESOURCES.map(|resource| self.objects.version(GROUP, resource))
    }

    fn index(&self) -> Arc<Index> {
        let index = self.index.load();
        if index.versions == Some(self.versions()) {
            return Arc::clone(&index);
        }
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the objects: what changes while they are read is read again.
        let versions = self.versions();
        let index = self.index.load_full();
        if index.versions == Some(versions) {
            return index;
        }
        let index = Arc::new(parsed.compile(&*self.objects, versions));
        self.index.store(index.clone());
        index
    }
}

impl Subjects {
    fn granted<'s>(&'s self, user: &'s User) -> impl Iterator<Item = &'s Arc<Granted>> {
        let groups = user.groups.iter();
        let of_groups = groups.filter_map(|group| self.groups.get(group));
        let all = self.users.get(&user.name).into_iter().chain(of_groups);
        all.flatten()
    }

    fn add(&mut self, number: usize, binding: &Binding, grant: &Grant) {
        for subject in &binding.subjects {
            let (subjects, name) = match &subject.whom {
                Whom::User(name) => (&mut self.users, name),
                Whom::Group(name) => (&mut self.groups, name),
            };
            let granted = Granted {
                binding: number,
                grant: grant.clone(),
                reason: format!(
                    "RBAC: allowed by {} of {} {:?} to {}",
                    binding.shown, binding.role_kind, binding.role, subject.shown
                ),
            };
            subjects
                .entry(name.clone())
                .or_default()
                .push(Arc::new(granted));
        }
    }
}

impl Index {
    fn granted<'i>(
        &'i self,
        user: &'i User,
        namespace: &str,
    ) -> impl Iterator<Item = &'i Arc<Granted>> {
        let local = self.namespaces.get(namespace);
        let local = local
            .into_iter()
            .flat_map(|subjects| subjects.granted(user));
        self.everywhere.granted(user).chain(local)
    }

    fn grant(&self, kind: &str, name: &str, namespace: &str) -> Grant {
        let namespace = match kind {
            "ClusterRole" => "",
            "Role" => namespace,
            _ => return Err(format!("unsupported role reference kind: {kind:?}")),
        };
        let rules = self.roles.get(&(namespace.to_string(), name.to_string()));
        let kind = kind.to_ascii_lowercase();
        rules
            .cloned()
            .ok_or_else(|| format!("{kind}.{GROUP} {name:?} not found"))
    }
}

/// A role or binding that was parsed, and the object, so that nothing else gets its address.
type Known<T> = HashMap<usize, (Arc<Object>, Arc<T>)>;

/// What was parsed stays so until the object changes: most objects do not.
#[derive(Default)]
struct Parsed {
    roles: Known<Role>,
    bindings: Known<Binding>,
}

struct Role {
    key: (String, String),
    rules: Arc<[Rule]>,
}

struct Binding {
    namespace: String,
    shown: String,
    role_kind: String,
    role: String,
    subjects: Vec<Subject>,
}

struct Subject {
    whom: Whom,
    shown: String,
}

enum Whom {
    User(String),
    Group(String),
}

impl Parsed {
    fn compile(&mut self, objects: &dyn Objects, versions: Versions) -> Index {
        let list = |resources: [&str; 2]| {
            let lists = resources.map(|resource| objects.list(GROUP, resource, ""));
            lists.into_iter().flatten().collect::<Vec<_>>()
        };
        let roles = refresh(
            &mut self.roles,
            list(["roles", "clusterroles"]),
            Role::parse,
        );
        let mut index = Index {
            versions: Some(versions),
            ..Index::default()
        };
        for role in roles {
            index.roles.insert(role.key.clone(), role.rules.clone());
        }
        let bindings = list(["rolebindings", "clusterrolebindings"]);
        let bindings = refresh(&mut self.bindings, bindings, Binding::parse);
        for (number, binding) in bindings.into_iter().enumerate() {
            let grant = index.grant(&binding.role_kind, &binding.role, &binding.namespace);
            let subjects = match &*binding.namespace {
                "" => &mut index.everywhere,
                namespace => index.namespaces.entry(namespace.to_string()).or_default(),
            };
            subjects.add(number, &binding, &grant);
        }
        index
    }
}

/// Parses what is new and forgets what is gone.
fn refresh<T>(
    known: &mut Known<T>,
    objects: Vec<Arc<Object>>,
    parse: impl Fn(&Doc) -> T,
) -> Vec<Arc<T>> {
    let mut old = std::mem::take(known);
    let mut all = Vec::with_capacity(objects.len());
    for object in objects {
        let address = Arc::as_ptr(&object) as usize;
        let entry = old.remove(&address).unwrap_or_else(|| {
            let parsed = Arc::new(parse(&object.doc()));
            (object, parsed)
        });
        all.push(entry.1.clone());
        known.insert(address, entry);
    }
    all
}

impl Role {
    fn parse(doc: &Doc) -> Self {
        let metadata = |key: &str| doc.root().text(&["metadata", key]).to_string();
        Self {
            key: (metadata("namespace"), metadata("name")),
            rules: Rule::all_of(doc.root()).into(),
        }
    }
}

impl Binding {
    fn parse(doc: &Doc) -> Self {
        let root = doc.root();
        let namespace = root.text(&["metadata", "namespace"]);
        let name = root.text(&["metadata", "name"]);
        let subjects = root.get("subjects").into_iter().flat_map(Node::children);
        Self {
            namespace: namespace.to_string(),
            shown: match namespace {
                "" => format!("ClusterRoleBinding {name:?}"),
                namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
            },
            role_kind: root.text(&["roleRef", "kind"]).to_string(),
            role: root.text(&["roleRef", "name"]).to_string(),
            subjects: subjects
                .filter_map(|subject| Subject::parse(subject, namespace))
                .collect(),
        }
    }
}

impl Subject {
    fn parse(subject: Node<'_>, binding_namespace: &str) -> Option<Self> {
        let (kind, name) = (subject.text(&["kind"]), subject.text(&["name"]));
        let shown = format!("{kind} {name:?}");
        let whom = match kind {
            "User" => Whom::User(name.to_string()),
            "Group" => Whom::Group(name.to_string()),
            "ServiceAccount" => {
                // In a namespace the binding's own needs no mention.
                let namespace = match subject.text(&["namespace"]) {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                if namespace.is_empty() {
                    return None;
                }
                let shown = format!("{kind} {:?}", format!("{name}/{namespace}"));
                let whom = Whom::User(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"));
                return Some(Self { whom, shown });
            }
            _ => return None,
        };
        Some(Self { whom, shown })
    }
}
