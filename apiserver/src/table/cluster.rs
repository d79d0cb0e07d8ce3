//! Nodes, namespaces and what else a cluster is run with.

use std::collections::BTreeSet;

use api::doc::Node;

use super::Printer;
use super::view::{
    Cell, Col, View, at, condition, human_duration, int, items, joined, moment, text,
};

pub(super) const PRINTERS: &[Printer] = &[
    (
        "",
        "Namespace",
        &[Col::Name, Col::Text("status.phase"), Col::Age],
    ),
    (
        "",
        "ConfigMap",
        &[
            Col::Name,
            Col::Of(|view| Cell::Int(view.count("data") + view.count("binaryData"))),
            Col::Age,
        ],
    ),
    (
        "",
        "Secret",
        &[Col::Name, Col::Text("type"), Col::Count("data"), Col::Age],
    ),
    ("", "ServiceAccount", &[Col::Name, Col::Age]),
    (
        "",
        "ResourceQuota",
        &[
            Col::Name,
            Col::Of(|view| quota(view, false)),
            Col::Of(|view| quota(view, true)),
            Col::Age,
        ],
    ),
    (
        "",
        "ComponentStatus",
        &[Col::Name, Col::Many(component_status)],
    ),
    (
        "",
        "Node",
        &[
            Col::Name,
            Col::Of(node_status),
            Col::Of(node_roles),
            Col::Age,
            Col::Text("status.nodeInfo.kubeletVersion"),
            Col::Of(|view| address(view, "InternalIP")),
            Col::Of(|view| address(view, "ExternalIP")),
            Col::Of(|view| node_info(view, "osImage").into()),
            Col::Of(|view| {
                let kernel = node_info(view, "kernelVersion");
                match view.text("status.nodeInfo.architecture") {
                    "" => kernel.into(),
                    architecture => format!("{kernel} ({architecture})").into(),
                }
            }),
            Col::Of(|view| node_info(view, "containerRuntimeVersion").into()),
        ],
    ),
    ("", "Event", &[Col::Many(event)]),
    ("events.k8s.io", "Event", &[Col::Many(event)]),
    ("rbac.authorization.k8s.io", "RoleBinding", BINDING),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", BINDING),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &[
            Col::Name,
            Col::Age,
            Col::Of(|view| match view.text("spec.signerName") {
                "" => "<none>".into(),
                name => name.into(),
            }),
            Col::Text("spec.username"),
            Col::Of(
                |view| match view.at("spec.expirationSeconds").and_then(Node::as_i64) {
                    Some(seconds) => human_duration(seconds).into(),
                    None => "<none>".into(),
                },
            ),
            Col::Of(request_status),
        ],
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        &[
            Col::Name,
            Col::Of(|view| match view.at("spec.service") {
                Some(service) => {
                    format!("{}/{}", text(service, "namespace"), text(service, "name")).into()
                }
                None => "Local".into(),
            }),
            Col::Of(available),
            Col::Age,
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        &[Col::Name, Col::Count("webhooks"), Col::Age],
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        &[Col::Name, Col::Count("webhooks"), Col::Age],
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicy",
        &[
            Col::Name,
            Col::Count("spec.validations"),
            Col::Of(param_kind),
            Col::Age,
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicy",
        &[
            Col::Name,
            Col::Count("spec.mutations"),
            Col::Of(param_kind),
            Col::Age,
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicyBinding",
        POLICY_BINDING,
    ),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicyBinding",
        POLICY_BINDING,
    ),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        &[
            Col::Name,
            Col::Int("value"),
            Col::Bool("globalDefault", false),
            Col::Age,
            Col::Text("preemptionPolicy"),
        ],
    ),
    (
        "coordination.k8s.io",
        "Lease",
        &[Col::Name, Col::Text("spec.holderIdentity"), Col::Age],
    ),
    (
        "node.k8s.io",
        "RuntimeClass",
        &[Col::Name, Col::Text("handler"), Col::Age],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "FlowSchema",
        &[
            Col::Name,
            Col::Text("spec.priorityLevelConfiguration.name"),
            Col::Int("spec.matchingPrecedence"),
            Col::Or("spec.distinguisherMethod.type", "<none>"),
            Col::Age,
            Col::Of(
                |view| match condition(view.object, "status.conditions", "Dangling") {
                    Some(dangling) => text(dangling, "status").into(),
                    None => "?".into(),
                },
            ),
        ],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        &[
            Col::Name,
            Col::Text("spec.type"),
            Col::Many(limits),
            Col::Age,
        ],
    ),
];

const BINDING: &[Col] = &[
    Col::Name,
    Col::Of(|view| {
        format!(
            "{}/{}",
            view.text("roleRef.kind"),
            view.text("roleRef.name")
        )
        .into()
    }),
    Col::Age,
    Col::Of(|view| subjects(view, "User")),
    Col::Of(|view| subjects(view, "Group")),
    Col::Of(|view| subjects(view, "ServiceAccount")),
];

const POLICY_BINDING: &[Col] = &[
    Col::Name,
    Col::Text("spec.policyName"),
    Col::Of(param_ref),
    Col::Age,
];

fn quota(view: &View<'_>, is_limit: bool) -> Cell {
    let used = |name: &str| {
        let used = view.at("status.used").and_then(|used| used.get(name));
        used.and_then(Node::as_str).unwrap_or("0").to_string()
    };
    let mut hard: Vec<Node<'_>> = view.items("status.hard").collect();
    hard.sort_by_key(|node| node.key());
    let shown = hard
        .iter()
        .filter(|node| node.key().starts_with("limits.") == is_limit)
        .map(|node| {
            let (name, limit) = (node.key(), node.as_str().unwrap_or("0"));
            format!("{name}: {}/{limit}", used(name))
        });
    shown.collect::<Vec<_>>().join(", ").into()
}

fn component_status(view: &View<'_>, cells: &mut Vec<Cell>) {
    let healthy = condition(view.object, "conditions", "Healthy");
    let status = match healthy.map(|healthy| text(healthy, "status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    cells.push(status.into());
    for field in ["message", "error"] {
        cells.push(healthy.map_or("", |healthy| text(healthy, field)).into());
    }
}

fn node_status(view: &View<'_>) -> Cell {
    let ready = view
        .items("status.conditions")
        .filter(|condition| text(*condition, "type") == "Ready")
        .last();
    let status = match ready.map(|ready| text(ready, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if view.bool("spec.unschedulable") == Some(true) {
        return format!("{status},SchedulingDisabled").into();
    }
    status.into()
}

fn node_roles(view: &View<'_>) -> Cell {
    let role = |label: Node<'_>| match label.key().strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_string()),
        None if label.key() == "kubernetes.io/role" => label.as_str().map(str::to_string),
        None => None,
    };
    let roles: BTreeSet<String> = view
        .items("metadata.labels")
        .filter_map(role)
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return "<none>".into();
    }
    roles.into_iter().collect::<Vec<_>>().join(",").into()
}

fn address(view: &View<'_>, kind: &str) -> Cell {
    let found = view
        .items("status.addresses")
        .find(|address| text(*address, "type") == kind);
    found
        .map_or("<none>", |found| text(found, "address"))
        .into()
}

fn node_info(view: &View<'_>, field: &str) -> String {
    match view.text(&format!("status.nodeInfo.{field}")) {
        "" => "<unknown>".to_string(),
        info => info.to_string(),
    }
}

fn event(view: &View<'_>, cells: &mut Vec<Cell>) {
    let first = match moment(view.at("firstTimestamp")) {
        None => view.since("eventTime"),
        time => view.ago(time),
    };
    let (last, count) = match (view.at("series"), moment(view.at("lastTimestamp"))) {
        (Some(series), _) => (
            view.ago(moment(at(series, "lastObservedTime"))),
            int(series, "count"),
        ),
        // Single events have no count in the newer form.
        (None, time) => (
            time.map_or(first.clone(), |time| view.ago(Some(time))),
            match view.int("count") {
                0 => 1,
                count => count,
            },
        ),
    };
    let kind = view.text("involvedObject.kind").to_lowercase();
    let target = match view.text("involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |one, other| match view.text(one) {
        "" => view.text(other),
        text => text,
    };
    let component = either("source.component", "reportingComponent");
    let source = match either("source.host", "reportingInstance") {
        "" => component.to_string(),
        host => format!("{component}, {host}"),
    };
    cells.push(last.into());
    cells.push(view.text("type").into());
    cells.push(view.text("reason").into());
    cells.push(target.into());
    cells.push(view.text("involvedObject.fieldPath").into());
    cells.push(source.into());
    cells.push(view.text("message").trim().into());
    cells.push(first.into());
    cells.push(Cell::Int(count));
    cells.push(view.name().into());
}

fn subjects(view: &View<'_>, kind: &str) -> Cell {
    let named = view
        .items("subjects")
        .filter(|subject| text(*subject, "kind") == kind)
        .map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name").to_string(),
        });
    named.collect::<Vec<_>>().join(", ").into()
}

fn request_status(view: &View<'_>) -> Cell {
    let has = |kind: &str| condition(view.object, "status.conditions", kind).is_some();
    let mut status = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_string();
    if has("Failed") {
        status += ",Failed";
    }
    if !view.text("status.certificate").is_empty() {
        status += ",Issued";
    }
    status.into()
}

fn available(view: &View<'_>) -> Cell {
    let Some(found) = condition(view.object, "status.conditions", "Available") else {
        return "Unknown".into();
    };
    match (text(found, "status"), text(found, "reason")) {
        (status @ "True", _) | (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

fn param_kind(view: &View<'_>) -> Cell {
    match view.at("spec.paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
        None => "<unset>".into(),
    }
}

fn param_ref(view: &View<'_>) -> Cell {
    let Some(param) = view.at("spec.paramRef") else {
        return "<unset>".into();
    };
    match (text(param, "namespace"), text(param, "name")) {
        (_, "") => at(param, "selector").map_or("<unset>".into(), |one| go_selector(one).into()),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

/// A label selector as Go's generated code prints it.
fn go_selector(selector: Node<'_>) -> String {
    let labels = items(selector, "matchLabels")
        .map(|label| format!("{}: {},", label.key(), label.as_str().unwrap_or_default()));
    let expressions = items(selector, "matchExpressions").map(|one| {
        let values = joined(items(one, "values").filter_map(Node::as_str), " ");
        let (key, operator) = (text(one, "key"), text(one, "operator"));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>(),
    )
}

fn limits(view: &View<'_>, cells: &mut Vec<Cell>) {
    let number = |parent: Option<Node<'_>>, field: &str| match parent {
        Some(parent) => Cell::Int(int(parent, field)),
        None => "<none>".into(),
    };
    let limited = view.at("spec.limited");
    let queuing = view.at("spec.limited.limitResponse.queuing");
    cells.push(number(limited, "nominalConcurrencyShares"));
    for field in ["queues", "handSize", "queueLengthLimit"] {
        cells.push(number(queuing, field));
    }
}
