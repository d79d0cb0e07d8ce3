//! Autoscalers and scales.

use api::doc::Node;

use super::Printer;
use super::view::{Cell, Col, View, at, text};

pub(super) const PRINTERS: &[Printer] = &[
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &[
            Col::Name,
            Col::Of(|view| {
                let target = |field| view.text(field);
                let kind = target("spec.scaleTargetRef.kind");
                format!("{kind}/{}", target("spec.scaleTargetRef.name")).into()
            }),
            Col::Of(metrics),
            Col::Of(|view| match view.at("spec.minReplicas") {
                Some(count) => count.to_string().into(),
                None => "<unset>".into(),
            }),
            Col::Int("spec.maxReplicas"),
            Col::Int("status.currentReplicas"),
            Col::Age,
        ],
    ),
    (
        "autoscaling",
        "Scale",
        &[
            Col::Name,
            Col::Int("spec.replicas"),
            Col::Int("status.replicas"),
            Col::Age,
        ],
    ),
];

/// How many metrics are shown.
const SHOWN: usize = 2;

fn metrics(view: &View<'_>) -> Cell {
    let statuses: Vec<Node<'_>> = view.items("status.currentMetrics").collect();
    let shown: Vec<String> = view
        .items("spec.metrics")
        .enumerate()
        .map(|(at, spec)| metric(spec, statuses.get(at).copied()))
        .collect();
    if shown.is_empty() {
        return "<none>".into();
    }
    let first = shown[..shown.len().min(SHOWN)].join(", ");
    match shown.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{first} + {more} more...").into(),
        _ => first.into(),
    }
}

/// A metric: what is and what is wanted. A status counts where it is about the same source.
fn metric(spec: Node<'_>, status: Option<Node<'_>>) -> String {
    let (source, is_resource) = match text(spec, "type") {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_string(),
    };
    let target = |field: &str| at(spec, &format!("{source}.target.{field}"));
    let status = status.and_then(|status| at(status, source));
    let current = |field: &str| status.and_then(|status| at(status, &format!("current.{field}")));
    // What Go prints for a quantity that is not there.
    let quantity =
        |value: Option<Node<'_>>| value.and_then(Node::as_str).unwrap_or("<nil>").to_string();
    let known = |field: &str| match status {
        Some(_) => quantity(current(field)),
        None => "<unknown>".to_string(),
    };
    let percent = |value: Option<Node<'_>>, absent: &str| {
        value.map_or(absent.to_string(), |value| format!("{value}%"))
    };
    let name = || text(spec, &format!("{source}.name"));
    let average = target("averageValue");
    match (is_resource, average) {
        (true, Some(_)) => format!(
            "{}: {}/{}",
            name(),
            known("averageValue"),
            quantity(average)
        ),
        (true, None) => format!(
            "{}: {}/{}",
            name(),
            percent(current("averageUtilization"), "<unknown>"),
            percent(target("averageUtilization"), "<auto>"),
        ),
        (false, _) if source == "pods" => {
            format!("{}/{}", known("averageValue"), quantity(average))
        }
        (false, Some(_)) => {
            let current = current("averageValue").and_then(Node::as_str);
            format!(
                "{}/{} (avg)",
                current.unwrap_or("<unknown>"),
                quantity(average)
            )
        }
        (false, None) => format!("{}/{}", known("value"), quantity(target("value"))),
    }
}
