//! The priority levels and flow schemas that every cluster has: upstream's, as a table.
//!
//! Mandatory ones are kept as they are. Suggested ones are changed only as long as their annotation
//! says that they are kept up to date.

use api::doc::{Doc, New};

use super::Wanted;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// How many queues, and how many of them one flow may use.
type Queues = Option<(i32, i32)>;

/// A priority level: name, shares, the percentage that others may borrow, and queues with the size of
/// hands; without queues what is too much is rejected. All but two are suggested.
const LEVELS: [(&str, i32, i32, Queues); 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];
const QUEUE_LENGTH: i32 = 50;
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Who sends it.
enum Who {
    Groups(&'static [&'static str]),
    Users(&'static [&'static str]),
    /// Users, and all service accounts of kube-system.
    WithSystem(&'static [&'static str]),
}

/// Verbs, group, resources, and whether those of the cluster are meant too.
type Asked = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    bool,
);

/// What is asked for.
enum What {
    Everything,
    Paths(&'static [&'static str]),
    Resources(&'static [Asked]),
}

const ALL: &[&str] = &["*"];
const EVERYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];
const LEASES: Asked = (ALL, "coordination.k8s.io", &["leases"], false);

/// A flow schema: name, level, precedence, what tells flows apart, who and what.
const SCHEMAS: [(&str, &str, i32, &str, Who, What); 11] = [
    (
        "exempt",
        "exempt",
        1,
        "",
        Who::Groups(&["system:masters"]),
        What::Everything,
    ),
    (
        "probes",
        "exempt",
        2,
        "",
        Who::Groups(EVERYBODY),
        What::Paths(&["/healthz", "/readyz", "/livez"]),
    ),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        Who::WithSystem(&["system:kube-controller-manager", "system:kube-scheduler"]),
        What::Resources(&[(
            &["get", "create", "update"],
            "coordination.k8s.io",
            &["leases"],
            false,
        )]),
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        Who::Groups(&["system:nodes"]),
        What::Resources(&[(ALL, "", &["nodes", "nodes/status"], true), LEASES]),
    ),
    (
        "system-nodes",
        "system",
        500,
        "ByUser",
        Who::Groups(&["system:nodes"]),
        What::Everything,
    ),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        Who::Users(&["system:kube-controller-manager"]),
        What::Everything,
    ),
    (
        "kube-scheduler",
        "workload-high",
        800,
        "ByNamespace",
        Who::Users(&["system:kube-scheduler"]),
        What::Everything,
    ),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        Who::WithSystem(&[]),
        What::Everything,
    ),
    (
        "service-accounts",
        "workload-low",
        9000,
        "ByUser",
        Who::Groups(&["system:serviceaccounts"]),
        What::Everything,
    ),
    (
        "global-default",
        "global-default",
        9900,
        "ByUser",
        Who::Groups(EVERYBODY),
        What::Everything,
    ),
    (
        "catch-all",
        "catch-all",
        10_000,
        "ByUser",
        Who::Groups(EVERYBODY),
        What::Everything,
    ),
];

/// Whether the spec of an object is kept as it is here. How much those get who need not wait is for
/// everybody to say.
pub(super) fn is_kept(resource: &str, name: &str, live: &Doc) -> bool {
    if (resource, name) == ("prioritylevelconfigurations", "exempt") {
        return false;
    }
    MANDATORY.contains(&name)
        || live.root().text(&["metadata", "annotations", AUTO_UPDATE]) == "true"
}

/// All of them, levels first.
pub(super) fn wanted() -> Vec<Wanted> {
    let exempt = Doc::literal(
        r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":0,"lendablePercent":0}}"#,
    );
    let mut all = vec![object("PriorityLevelConfiguration", "exempt", exempt)];
    for (name, shares, lendable, queues) in LEVELS {
        let spec = level(shares, lendable, queues);
        all.push(object("PriorityLevelConfiguration", name, spec));
    }
    for (name, level, precedence, distinguisher, who, what) in &SCHEMAS {
        let mut spec = Doc::new();
        spec.set_path(&["priorityLevelConfiguration", "name"], *level);
        spec.set_path(&["matchingPrecedence"], *precedence);
        if !distinguisher.is_empty() {
            spec.set_path(&["distinguisherMethod", "type"], *distinguisher);
        }
        let top = spec.top();
        let rules = spec.list(top, "rules");
        let rule = spec.absorb(rule(who, what));
        spec.push_id(rules, rule);
        all.push(object("FlowSchema", name, spec));
    }
    all
}

fn level(shares: i32, lendable: i32, queues: Queues) -> Doc {
    let mut spec = Doc::literal(r#"{"type":"Limited"}"#);
    spec.set_path(&["limited", "nominalConcurrencyShares"], shares);
    spec.set_path(&["limited", "lendablePercent"], lendable);
    let response = ["limited", "limitResponse"];
    let kind = if queues.is_some() { "Queue" } else { "Reject" };
    spec.set_path(&[response[0], response[1], "type"], kind);
    if let Some((queues, hand)) = queues {
        for (key, value) in [
            ("queues", queues),
            ("handSize", hand),
            ("queueLengthLimit", QUEUE_LENGTH),
        ] {
            spec.set_path(&[response[0], response[1], "queuing", key], value);
        }
    }
    spec
}

fn rule(who: &Who, what: &What) -> Doc {
    let mut rule = Doc::new();
    let top = rule.top();
    let subjects = rule.list(top, "subjects");
    let (kind, key, names) = match who {
        Who::Groups(names) => ("Group", "group", *names),
        Who::Users(names) | Who::WithSystem(names) => ("User", "user", *names),
    };
    let mut subject = |kind: &str, key: &str, fields: &[(&str, &str)]| {
        let subject = rule.push(subjects, New::Object);
        rule.set(subject, "kind", kind);
        let inner = rule.object(subject, key);
        for (field, value) in fields {
            rule.set(inner, field, *value);
        }
    };
    for name in names {
        subject(kind, key, &[("name", name)]);
    }
    if matches!(who, Who::WithSystem(_)) {
        let fields = [("namespace", "kube-system"), ("name", "*")];
        subject("ServiceAccount", "serviceAccount", &fields);
    }
    match what {
        What::Everything => {
            resources(&mut rule, (ALL, "*", ALL, true));
            paths(&mut rule, ALL, ALL);
        }
        What::Paths(urls) => paths(&mut rule, &["get"], urls),
        What::Resources(all) => all.iter().for_each(|one| resources(&mut rule, *one)),
    }
    rule
}

fn resources(rule: &mut Doc, (verbs, group, names, of_cluster): (&[&str], &str, &[&str], bool)) {
    let top = rule.top();
    let list = rule.list(top, "resourceRules");
    let one = rule.push(list, New::Object);
    for (key, values) in [
        ("verbs", verbs),
        ("apiGroups", &[group]),
        ("resources", names),
    ] {
        texts(rule, one, key, values);
    }
    if of_cluster {
        rule.set(one, "clusterScope", true);
    }
    texts(rule, one, "namespaces", ALL);
}

fn paths(rule: &mut Doc, verbs: &[&str], urls: &[&str]) {
    let top = rule.top();
    let list = rule.list(top, "nonResourceRules");
    let one = rule.push(list, New::Object);
    texts(rule, one, "verbs", verbs);
    texts(rule, one, "nonResourceURLs", urls);
}

fn texts(doc: &mut Doc, object: api::doc::Id, key: &str, values: &[&str]) {
    let list = doc.list(object, key);
    for value in values {
        doc.push(list, *value);
    }
}

fn object(kind: &str, name: &str, spec: Doc) -> Wanted {
    let resource = match kind {
        "FlowSchema" => "flowschemas",
        _ => "prioritylevelconfigurations",
    };
    let mut doc = super::object(&format!("{GROUP}/v1"), kind, "", name);
    doc.set_path(&["metadata", "annotations", AUTO_UPDATE], "true");
    let spec = doc.absorb(spec);
    let top = doc.top();
    doc.put(top, "spec", spec);
    Wanted {
        group: GROUP,
        resource,
        doc,
    }
}
