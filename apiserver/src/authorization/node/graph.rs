//! What leads to which node: pods to theirs, and to pods whatever they use; volumes to the claims
//! that they are bound to, and secrets to volumes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use api::doc::{Doc, Node};

use crate::storage::{Change, Cursor, Object, Objects, Since};

/// The resources that edges come from, and their groups.
const SOURCES: [(&str, &str); 4] = [
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
];
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a vertex is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A secret.
    Secret,
    /// A config map.
    ConfigMap,
    /// A service account.
    ServiceAccount,
    /// A persistent volume claim.
    Claim,
    /// A persistent volume.
    Volume,
    /// A resource claim.
    ResourceClaim,
    /// An attachment of a volume.
    VolumeAttachment,
    /// A resource slice.
    ResourceSlice,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Vertex {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Vertex {
    fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_string(),
            name: name.to_string(),
        }
    }
}

/// Where an edge goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum End {
    Node(String),
    Vertex(Vertex),
}

/// Edges, from and to.
type Edges = Vec<(Vertex, End)>;

/// The graph. Pods' edges go straight to their nodes, so that a walk has three steps at most.
#[derive(Default)]
pub struct Graph {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    versions: Option<[u64; 4]>,
    /// Up to where the changes of each source were read.
    places: [Option<Cursor>; 4],
    /// The edges that an object makes.
    made: HashMap<Vertex, Edges>,
    /// Edges and how many objects make them.
    edges: HashMap<Vertex, HashMap<End, u32>>,
}

impl Graph {
    /// Whether a chain of references leads from an object to a node.
    pub fn leads_to(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = End::Node(node.to_string());
        let mut seen = HashSet::new();
        let mut todo = vec![Vertex::new(kind, namespace, name)];
        while let Some(vertex) = todo.pop() {
            let Some(ends) = state.edges.get(&vertex) else {
                continue;
            };
            if ends.contains_key(&wanted) {
                return true;
            }
            let further = ends.keys().filter_map(|end| match end {
                End::Vertex(vertex) => Some(vertex.clone()),
                End::Node(_) => None,
            });
            todo.extend(further.filter(|vertex| seen.insert(vertex.clone())));
        }
        false
    }

    /// Takes in an object that is new or changed. Resources without edges are ignored.
    pub fn put(&self, group: &str, resource: &str, object: &Doc) {
        let edges = edges_of(group, resource, object.root());
        if let Some((vertex, edges)) = edges {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.replace(vertex, edges);
        }
    }

    /// Forgets an object that is gone.
    pub fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) {
        if let Some(kind) = kind_of(group, resource) {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.replace(Vertex::new(kind, namespace, name), Vec::new());
        }
    }

    /// Reads what changed since the last time.
    pub fn refresh(&self, objects: &dyn Objects) {
        let versions = || SOURCES.map(|(group, resource)| objects.version(group, resource));
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.versions == Some(versions()) {
            return;
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let versions = versions();
        if state.versions == Some(versions) {
            return;
        }
        for (at, source) in SOURCES.into_iter().enumerate() {
            let mut place = state.places[at];
            match objects.since(source.0, source.1, &mut place) {
                Since::All(all) => state.restart(source, &all),
                Since::Changes(changes) => {
                    for change in changes {
                        state.follow(source, &change);
                    }
                }
            }
            state.places[at] = place;
        }
        state.versions = Some(versions);
    }
}

impl State {
    /// All objects of a resource, whatever was known of it.
    fn restart(&mut self, (group, resource): (&str, &str), all: &[Arc<Object>]) {
        let read = all
            .iter()
            .filter_map(|object| edges_of(group, resource, object.doc().root()));
        let mut made: HashMap<Vertex, Edges> = read.collect();
        let kind = kind_of(group, resource);
        let known = self.made.keys().filter(|vertex| Some(vertex.kind) == kind);
        let gone: Vec<Vertex> = known
            .filter(|vertex| !made.contains_key(vertex))
            .cloned()
            .collect();
        made.extend(gone.into_iter().map(|vertex| (vertex, Vec::new())));
        for (vertex, edges) in made {
            self.replace(vertex, edges);
        }
    }

    fn follow(&mut self, (group, resource): (&str, &str), change: &Change) {
        let found = match &change.now {
            Some(object) => edges_of(group, resource, object.doc().root()),
            None => kind_of(group, resource).map(|kind| {
                let (namespace, name) = change.key.split_once('/').unwrap_or(("", &change.key));
                (Vertex::new(kind, namespace, name), Vec::new())
            }),
        };
        if let Some((vertex, edges)) = found {
            // Most changes are of a status.
            let is_known = match self.made.get(&vertex) {
                Some(known) => *known == edges,
                None => edges.is_empty(),
            };
            if !is_known {
                self.replace(vertex, edges);
            }
        }
    }

    fn replace(&mut self, maker: Vertex, edges: Vec<(Vertex, End)>) {
        for (from, to) in self.made.remove(&maker).into_iter().flatten() {
            let Some(ends) = self.edges.get_mut(&from) else {
                continue;
            };
            if let Some(count) = ends.get_mut(&to) {
                *count -= 1;
                if *count == 0 {
                    ends.remove(&to);
                }
            }
            if ends.is_empty() {
                self.edges.remove(&from);
            }
        }
        for (from, to) in &edges {
            let ends = self.edges.entry(from.clone()).or_default();
            *ends.entry(to.clone()).or_default() += 1;
        }
        if !edges.is_empty() {
            self.made.insert(maker, edges);
        }
    }
}

fn kind_of(group: &str, resource: &str) -> Option<Kind> {
    let at = SOURCES
        .iter()
        .position(|source| *source == (group, resource))?;
    let kinds = [
        Kind::Pod,
        Kind::Volume,
        Kind::VolumeAttachment,
        Kind::ResourceSlice,
    ];
    Some(kinds[at])
}

/// An object's vertex and the edges that it makes.
fn edges_of(group: &str, resource: &str, object: Node<'_>) -> Option<(Vertex, Edges)> {
    let kind = kind_of(group, resource)?;
    let metadata = |key: &str| object.text(&["metadata", key]);
    let vertex = Vertex::new(kind, metadata("namespace"), metadata("name"));
    let node = object.text(&["spec", "nodeName"]);
    let edges = match kind {
        Kind::Volume => of_volume(&vertex, object),
        _ if node.is_empty() => Vec::new(),
        Kind::Pod => of_pod(&vertex, node, object),
        _ => vec![(vertex.clone(), End::Node(node.to_string()))],
    };
    Some((vertex, edges))
}

fn of_pod(pod: &Vertex, node: &str, object: Node<'_>) -> Vec<(Vertex, End)> {
    let mut used = vec![pod.clone()];
    // A node must not get at other objects by making up a pod.
    if object.path(&["metadata", "annotations", MIRROR]).is_none() {
        let mut add = |kind: Kind, name: &str| {
            if !name.is_empty() {
                used.push(Vertex::new(kind, &pod.namespace, name));
            }
        };
        add(
            Kind::ServiceAccount,
            object.text(&["spec", "serviceAccountName"]),
        );
        for (path, kind) in USES {
            each(object, path, &mut |node| {
                add(*kind, node.as_str().unwrap_or_default())
            });
        }
        each(object, "spec.volumes", &mut |volume| {
            if volume.get("ephemeral").is_some() {
                add(
                    Kind::Claim,
                    &format!("{}-{}", pod.name, volume.text(&["name"])),
                );
            }
        });
        for claim in resource_claims(object) {
            add(Kind::ResourceClaim, &claim);
        }
    }
    let to = End::Node(node.to_string());
    used.into_iter().map(|from| (from, to.clone())).collect()
}

/// Where pods name what they use.
const USES: &[(&str, Kind)] = &[
    ("spec.imagePullSecrets.name", Kind::Secret),
    ("spec.volumes.azureFile.secretName", Kind::Secret),
    ("spec.volumes.cephfs.secretRef.name", Kind::Secret),
    ("spec.volumes.cinder.secretRef.name", Kind::Secret),
    ("spec.volumes.flexVolume.secretRef.name", Kind::Secret),
    ("spec.volumes.projected.sources.secret.name", Kind::Secret),
    ("spec.volumes.rbd.secretRef.name", Kind::Secret),
    ("spec.volumes.secret.secretName", Kind::Secret),
    ("spec.volumes.scaleIO.secretRef.name", Kind::Secret),
    ("spec.volumes.iscsi.secretRef.name", Kind::Secret),
    ("spec.volumes.storageos.secretRef.name", Kind::Secret),
    ("spec.volumes.csi.nodePublishSecretRef.name", Kind::Secret),
    (
        "spec.volumes.projected.sources.configMap.name",
        Kind::ConfigMap,
    ),
    ("spec.volumes.configMap.name", Kind::ConfigMap),
    ("spec.volumes.persistentVolumeClaim.claimName", Kind::Claim),
    ("spec.containers.envFrom.secretRef.name", Kind::Secret),
    (
        "spec.containers.env.valueFrom.secretKeyRef.name",
        Kind::Secret,
    ),
    ("spec.containers.envFrom.configMapRef.name", Kind::ConfigMap),
    (
        "spec.containers.env.valueFrom.configMapKeyRef.name",
        Kind::ConfigMap,
    ),
    ("spec.initContainers.envFrom.secretRef.name", Kind::Secret),
    (
        "spec.initContainers.env.valueFrom.secretKeyRef.name",
        Kind::Secret,
    ),
    (
        "spec.initContainers.envFrom.configMapRef.name",
        Kind::ConfigMap,
    ),
    (
        "spec.initContainers.env.valueFrom.configMapKeyRef.name",
        Kind::ConfigMap,
    ),
    (
        "spec.ephemeralContainers.envFrom.secretRef.name",
        Kind::Secret,
    ),
    (
        "spec.ephemeralContainers.env.valueFrom.secretKeyRef.name",
        Kind::Secret,
    ),
    (
        "spec.ephemeralContainers.envFrom.configMapRef.name",
        Kind::ConfigMap,
    ),
    (
        "spec.ephemeralContainers.env.valueFrom.configMapKeyRef.name",
        Kind::ConfigMap,
    ),
    (
        "status.extendedResourceClaimStatus.resourceClaimName",
        Kind::ResourceClaim,
    ),
];

/// Whether a pod's spec names an object of a kind.
pub(crate) fn names_any(pod: Node<'_>, kind: Kind) -> bool {
    let mut found = false;
    for (path, _) in USES.iter().filter(|(_, known)| *known == kind) {
        each(pod, path, &mut |name| {
            found |= name.as_str().is_some_and(|name| !name.is_empty())
        });
    }
    found
}

/// Calls with every value at a path of keys; lists on the way are entered.
fn each<'d>(node: Node<'d>, path: &str, call: &mut dyn FnMut(Node<'d>)) {
    if node.kind() == api::doc::Kind::List {
        node.children().for_each(|item| each(item, path, call));
    } else if path.is_empty() {
        call(node);
    } else {
        let (key, rest) = path.split_once('.').unwrap_or((path, ""));
        if let Some(child) = node.get(key) {
            each(child, rest, call);
        }
    }
}

/// The resource claims of a pod: named by it, or made for it from a template.
fn resource_claims(pod: Node<'_>) -> Vec<String> {
    let list = |path: &[&str]| pod.path(path).into_iter().flat_map(Node::children);
    let made = |name: &str| {
        let mut statuses = list(&["status", "resourceClaimStatuses"]);
        let status = statuses.find(|status| status.text(&["name"]) == name)?;
        Some(status.text(&["resourceClaimName"]).to_string())
    };
    let claims = list(&["spec", "resourceClaims"]);
    claims
        .filter_map(|claim| match claim.text(&["resourceClaimName"]) {
            "" => made(claim.text(&["name"])),
            name => Some(name.to_string()),
        })
        .collect()
}

/// Where volumes name secrets that nodes need, and whether such a secret is in the claim's namespace
/// if none is named.
const VOLUME_SECRETS: &[(&str, &str, bool)] = &[
    ("cephfs", "secretRef", true),
    ("cinder", "secretRef", false),
    ("flexVolume", "secretRef", true),
    ("rbd", "secretRef", true),
    ("scaleIO", "secretRef", true),
    ("iscsi", "secretRef", true),
    ("storageos", "secretRef", false),
    ("csi", "nodePublishSecretRef", false),
    ("csi", "nodeStageSecretRef", false),
    ("csi", "nodeExpandSecretRef", false),
];

fn of_volume(volume: &Vertex, object: Node<'_>) -> Vec<(Vertex, End)> {
    let Some(claim) = object
        .path(&["spec", "claimRef"])
        .filter(|claim| !claim.is_null())
    else {
        return Vec::new();
    };
    let claims = claim.text(&["namespace"]);
    let claim = Vertex::new(Kind::Claim, claims, claim.text(&["name"]));
    let mut edges = vec![(volume.clone(), End::Vertex(claim))];
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            let secret = Vertex::new(Kind::Secret, namespace, name);
            edges.push((secret, End::Vertex(volume.clone())));
        }
    };
    let or_claims = |namespace: &'_ str| match namespace {
        "" => claims.to_string(),
        namespace => namespace.to_string(),
    };
    let azure = |key: &str| object.text(&["spec", "azureFile", key]);
    add(&or_claims(azure("secretNamespace")), azure("secretName"));
    for (source, key, falls_back) in VOLUME_SECRETS {
        let of = |what: &str| object.text(&["spec", source, key, what]);
        let namespace = match falls_back {
            true => or_claims(of("namespace")),
            false => of("namespace").to_string(),
        };
        add(&namespace, of("name"));
    }
    edges
}
