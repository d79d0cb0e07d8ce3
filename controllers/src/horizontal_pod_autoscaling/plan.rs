//! How many replicas a target shall have, given what was measured, and what to say about it.

pub mod limits;
pub mod replicas;

use std::sync::Arc;
use std::time::Duration;

use api::selector::LabelSelector;
use api::values::quantity::{Format, Quantity as Number};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::limits::{Behavior, Bounds, History, Limited};
use self::replicas::{PodMetrics, Proposal, Target, Tolerances};
use crate::go;
use crate::note::Note;
use crate::pod::Pod;

/// Times and tolerance of all autoscalers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How often each is looked at.
    pub period: Duration,
    /// By how much a metric may miss its target.
    pub tolerance: f64,
    /// How long lower recommendations wait.
    pub downscale_stabilization: Duration,
    /// How long the CPU that a new pod uses may be left out.
    pub cpu_initialization: Duration,
    /// How long a new pod may take for being unready to mean that it never was ready.
    pub initial_readiness_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            period: Duration::from_secs(15),
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

/// The scale of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scale {
    /// How many replicas are wanted.
    pub spec_replicas: i32,
    /// How many there are.
    pub status_replicas: i32,
    /// What selects its pods, as text.
    pub selector: String,
}

/// What came of asking for a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// Of pods.
    Pods(PodMetrics),
    /// Of one object.
    Object(i64),
    /// Of something outside, all series.
    External(Vec<i64>),
    /// It could not be got.
    Failed(String),
}

/// What is seen of an autoscaler whose target could be asked.
pub struct Observed<'a> {
    /// The autoscaler.
    pub autoscaler: &'a HorizontalPodAutoscaler,
    /// Its target.
    pub scale: &'a Scale,
    /// The pods of the target.
    pub pods: &'a [Arc<Pod>],
    /// The autoscalers that select any of these pods, as `{name namespace}`.
    pub rivals: &'a [String],
    /// What was measured for each of its metrics.
    pub measured: &'a [Measured],
    /// Times and tolerance.
    pub settings: &'a Settings,
    /// Now.
    pub now: Timestamp,
}

/// What to do about an autoscaler.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// How many replicas the target shall have, if that is a change, and why.
    pub rescale: Option<(i32, String)>,
    /// The status to write if there is nothing to change, or the change was made.
    pub status: HorizontalPodAutoscalerStatus,
    /// What to tell.
    pub notes: Vec<Note>,
    /// What went wrong.
    pub failure: Option<String>,
}

/// The bounds of an autoscaler.
fn bounds(autoscaler: &HorizontalPodAutoscaler, current: i32) -> Bounds {
    Bounds {
        min: autoscaler.spec.min_replicas.unwrap_or(1),
        max: autoscaler.spec.max_replicas,
        current,
    }
}

/// Whether metrics have to be asked for, or the target is off, or out of bounds.
pub fn needs_metrics(autoscaler: &HorizontalPodAutoscaler, current: i32) -> bool {
    let bounds = bounds(autoscaler, current);
    current != 0 && current >= bounds.min && current <= bounds.max
}

/// The status of an autoscaler, to be changed.
pub struct Status {
    status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Status {
    /// The status as it is.
    pub fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Status {
        let status = autoscaler.status.clone().unwrap_or_default();
        Status { status, now }
    }

    /// Sets a condition.
    pub fn set(&mut self, kind: &str, is_true: bool, reason: &str, message: impl Into<String>) {
        let conditions = self.status.conditions.get_or_insert_default();
        let status = if is_true { "True" } else { "False" };
        let index = conditions
            .iter()
            .position(|c| c.type_ == kind)
            .unwrap_or_else(|| {
                conditions.push(HorizontalPodAutoscalerCondition {
                    type_: kind.to_owned(),
                    ..HorizontalPodAutoscalerCondition::default()
                });
                conditions.len() - 1
            });
        let condition = &mut conditions[index];
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
            condition.status = status.to_owned();
        }
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    fn limited(&mut self, kind: &str, is_true: bool, limited: &Limited) {
        self.set(kind, is_true, limited.reason, limited.message);
    }

    fn finish(
        mut self,
        current: i32,
        desired: i32,
        metrics: Vec<MetricStatus>,
    ) -> HorizontalPodAutoscalerStatus {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = (!metrics.is_empty()).then_some(metrics);
        self.status.observed_generation = None;
        self.status
    }

    /// The status after all, without more.
    pub fn done(self) -> HorizontalPodAutoscalerStatus {
        self.status
    }
}

/// The status, and the event, of an autoscaler whose target could not be asked.
pub fn without_scale(
    autoscaler: &HorizontalPodAutoscaler,
    error: &str,
    now: Timestamp,
) -> (HorizontalPodAutoscalerStatus, Note) {
    let mut status = Status::of(autoscaler, now);
    let message =
        format!("the HPA controller was unable to get the target's current scale: {error}");
    status.set("AbleToScale", false, "FailedGetScale", message);
    (status.done(), Note::warning("FailedGetScale", error))
}

/// Decides how many replicas a target shall have.
pub fn decide(seen: &Observed<'_>, history: &mut History) -> Decision {
    let Observed {
        autoscaler,
        scale,
        now,
        ..
    } = *seen;
    let current = scale.spec_replicas;
    let bounds = bounds(autoscaler, current);
    let mut status = Status::of(autoscaler, now);
    let mut notes = Vec::new();
    let got_scale = "the HPA controller was able to get the target's current scale";
    status.set("AbleToScale", true, "SucceededGetScale", got_scale);
    history.begin(current, now);

    let mut statuses = Vec::new();
    let mut failure = None;
    let (desired, reason) = if current == 0 {
        let off = "scaling is disabled since the replica count of the target is zero";
        status.set("ScalingActive", false, "ScalingDisabled", off);
        (0, String::new())
    } else if current > bounds.max {
        (
            bounds.max,
            "Current number of replicas above Spec.MaxReplicas".to_owned(),
        )
    } else if current < bounds.min {
        (
            bounds.min,
            "Current number of replicas below Spec.MinReplicas".to_owned(),
        )
    } else {
        let proposed = propose(seen, &mut status, &mut notes, &mut statuses);
        let (wanted, metric) = match proposed {
            Ok((wanted, metric, problem)) => {
                failure = problem;
                (wanted, metric)
            }
            Err(error) => {
                notes.push(Note::warning("FailedComputeMetricsReplicas", &error));
                let before = status.status.desired_replicas;
                return Decision {
                    rescale: None,
                    status: status.finish(current, before, statuses),
                    notes,
                    failure: Some(error),
                };
            }
        };
        let wanted = wanted.max(0);
        let reason = match wanted.cmp(&current) {
            std::cmp::Ordering::Greater if wanted > 0 => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            _ => String::new(),
        };
        (
            normalize(seen, history, &mut status, wanted, bounds),
            reason,
        )
    };
    let conditions = status.status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "ScaledToZero");
    let rescale = (desired != current).then_some((desired, reason));
    Decision {
        rescale,
        status: status.finish(current, desired, statuses),
        notes,
        failure,
    }
}

/// Brings a wanted number within windows, speeds and bounds.
fn normalize(
    seen: &Observed<'_>,
    history: &mut History,
    status: &mut Status,
    wanted: i32,
    bounds: Bounds,
) -> i32 {
    let window = seen.settings.downscale_stabilization;
    let (stable, limited) = match &seen.autoscaler.spec.behavior {
        None => {
            let stable = history.stabilize(wanted, window, seen.now);
            (stable, limits::limit(stable.replicas, bounds))
        }
        Some(behavior) => {
            let behavior = Behavior::of(behavior, window);
            let stable = history.stabilize_with(&behavior, wanted, bounds.current, seen.now);
            (
                stable,
                history.limit_with(&behavior, stable.replicas, bounds, seen.now),
            )
        }
    };
    status.limited("AbleToScale", true, &stable);
    status.limited(
        "ScalingLimited",
        limited.replicas != stable.replicas,
        &limited,
    );
    limited.replicas
}

/// The status and what to tell after a change was tried.
pub fn conclude(
    autoscaler: &HorizontalPodAutoscaler,
    decision: &mut Decision,
    outcome: Result<(), String>,
    history: &mut History,
    settings: &Settings,
    now: Timestamp,
) {
    let Some((desired, reason)) = decision.rescale.clone() else {
        return;
    };
    let mut status = Status {
        status: decision.status.clone(),
        now,
    };
    match outcome {
        Ok(()) => {
            let message =
                format!("the HPA controller was able to update the target scale to {desired}");
            status.set("AbleToScale", true, "SucceededRescale", message);
            status.status.last_scale_time = Some(Time(now));
            let message = format!("New size: {desired}; reason: {reason}");
            decision
                .notes
                .push(Note::normal("SuccessfulRescale", message));
            if let Some(behavior) = &autoscaler.spec.behavior {
                let behavior = Behavior::of(behavior, settings.downscale_stabilization);
                let current = decision.status.current_replicas.unwrap_or_default();
                history.changed(&behavior, current, desired, now);
            }
        }
        Err(error) => {
            let message = format!("New size: {desired}; reason: {reason}; error: {error}");
            decision.notes.push(Note::warning("FailedRescale", message));
            let message =
                format!("the HPA controller was unable to update the target scale: {error}");
            status.set("AbleToScale", false, "FailedUpdateScale", message);
            let before = autoscaler
                .status
                .as_ref()
                .map_or(0, |status| status.desired_replicas);
            status.status.desired_replicas = before;
            decision.failure = Some(format!("failed to rescale: {error}"));
        }
    }
    decision.status = status.done();
}

/// What the metrics ask for: the most of it, the metric that asked, and what went wrong with others.
type Proposed = (i32, String, Option<String>);

fn propose(
    seen: &Observed<'_>,
    status: &mut Status,
    notes: &mut Vec<Note>,
    statuses: &mut Vec<MetricStatus>,
) -> Result<Proposed, String> {
    check_selector(seen, status, notes)?;
    let specs = seen.autoscaler.spec.metrics.as_deref().unwrap_or_default();
    let missing = Measured::Failed("no metrics".to_owned());
    let (mut best, mut first, mut invalid) = (None::<(i32, String)>, None, 0);
    for (index, spec) in specs.iter().enumerate() {
        match metric(seen, spec, seen.measured.get(index).unwrap_or(&missing)) {
            Ok((proposal, name, value)) => {
                statuses.push(value);
                if best
                    .as_ref()
                    .is_none_or(|(most, _)| *most == 0 || proposal.replicas > *most)
                {
                    best = Some((proposal.replicas, name));
                }
            }
            Err(wrong) => {
                statuses.push(MetricStatus::default());
                notes.push(Note::warning(wrong.reason, &wrong.message));
                invalid += 1;
                first.get_or_insert(wrong);
            }
        }
    }
    let problem = first.as_ref().map(|wrong| {
        let (count, first) = (specs.len(), &wrong.told);
        format!("invalid metrics ({invalid} invalid out of {count}), first error is: {first}")
    });
    let (replicas, name) = best.unwrap_or_default();
    if let (Some(wrong), Some(problem)) = (&first, &problem)
        && (invalid >= specs.len() || replicas < seen.scale.spec_replicas)
    {
        let message = format!(
            "the HPA was unable to compute the replica count: {}",
            wrong.message
        );
        status.set("ScalingActive", false, wrong.reason, message);
        return Err(problem.clone());
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    status.set("ScalingActive", true, "ValidMetricFound", message);
    Ok((replicas, name, problem))
}

/// Refuses a target whose pods are not known, or are others' too.
fn check_selector(
    seen: &Observed<'_>,
    status: &mut Status,
    notes: &mut Vec<Note>,
) -> Result<(), String> {
    let text = &seen.scale.selector;
    let (event, reason, told, message) = if text.is_empty() {
        let told = "selector is required".to_owned();
        let message = "the HPA target's scale is missing a selector".to_owned();
        ("SelectorRequired", "InvalidSelector", told, message)
    } else if let Err(error) = LabelSelector::parse(text) {
        let told = format!(
            "couldn't convert selector into a corresponding internal selector object: {error}"
        );
        ("InvalidSelector", "InvalidSelector", told.clone(), told)
    } else if seen.rivals.len() > 1 {
        let rivals = seen.rivals.join(" ");
        let told = format!("pods by selector {text} are controlled by multiple HPAs: [{rivals}]");
        ("AmbiguousSelector", "AmbiguousSelector", told.clone(), told)
    } else {
        return Ok(());
    };
    notes.push(Note::warning(event, &told));
    status.set("ScalingActive", false, reason, message);
    Err(told)
}

/// What is wrong with a metric.
struct Wrong {
    reason: &'static str,
    /// For the event and the condition.
    message: String,
    /// For the error about all metrics.
    told: String,
}

type Asked = (Proposal, String, MetricStatus);

fn millis(quantity: &Quantity) -> i64 {
    Number::parse(&quantity.0).map_or(0, |number| number.millis())
}

fn decimal(millis: i64) -> Option<Quantity> {
    Some(Quantity(Number::from_millis(millis).to_string()))
}

/// What one metric asks for.
fn metric(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, Wrong> {
    let wrong = |reason, what: String| {
        move |message: String| Wrong {
            reason,
            told: format!("{what}: {message}"),
            message,
        }
    };
    match spec.type_.as_str() {
        "Object" => object(seen, spec, measured).map_err(wrong(
            "FailedGetObjectMetric",
            "failed to get object metric value".to_owned(),
        )),
        "Pods" => pods(seen, spec, measured).map_err(wrong(
            "FailedGetPodsMetric",
            "failed to get pods metric value".to_owned(),
        )),
        "Resource" => {
            let name = spec.resource.as_ref().map_or("", |source| &source.name);
            let what = format!("failed to get {name} resource metric value");
            resource(seen, spec, measured).map_err(wrong("FailedGetResourceMetric", what))
        }
        "ContainerResource" => {
            let source = spec.container_resource.as_ref();
            let name = source.map_or("", |source| &source.container);
            let what = format!("failed to get {name} container metric value");
            container(seen, spec, measured).map_err(wrong("FailedGetContainerResourceMetric", what))
        }
        "External" => {
            let name = spec
                .external
                .as_ref()
                .map_or("", |source| &source.metric.name);
            let what = format!("failed to get {name} external metric value");
            external(seen, spec, measured).map_err(wrong("FailedGetExternalMetric", what))
        }
        other => {
            let message = format!("unknown metric source type {other:?}");
            let told = message.clone();
            Err(Wrong {
                reason: "InvalidMetricSourceType",
                message,
                told,
            })
        }
    }
}

fn target<'a>(seen: &Observed<'a>) -> Target<'a> {
    let behavior = seen.autoscaler.spec.behavior.as_ref();
    let tolerance = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let quantity = rules.and_then(|rules| rules.tolerance.as_ref());
        quantity.map_or(seen.settings.tolerance, |quantity| {
            millis(quantity) as f64 / 1000.0
        })
    };
    Target {
        replicas: seen.scale.spec_replicas,
        pods: seen.pods,
        tolerances: Tolerances {
            down: tolerance(behavior.and_then(|b| b.scale_down.as_ref())),
            up: tolerance(behavior.and_then(|b| b.scale_up.as_ref())),
        },
        settings: seen.settings,
        now: seen.now,
    }
}

fn missing_source() -> String {
    "the metric's source is missing".to_owned()
}

/// A resource of whole pods or of one container.
fn generic_resource(
    seen: &Observed<'_>,
    name: &str,
    container: Option<&str>,
    wanted: &MetricTarget,
    measured: &Measured,
) -> Result<(Proposal, String, MetricValueStatus), String> {
    let metrics = match measured {
        Measured::Pods(metrics) => Ok(metrics.clone()),
        Measured::Failed(why) => Err(format!("unable to get metrics for resource {name}: {why}")),
        Measured::Object(_) | Measured::External(_) => Err(missing_source()),
    };
    let quantity = |raw: i64| {
        let format = if name == "memory" {
            Format::BinarySi
        } else {
            Format::DecimalSi
        };
        Some(Quantity(
            Number::from_millis(raw).in_format(format).to_string(),
        ))
    };
    if let Some(value) = &wanted.average_value {
        let proposal = metrics.and_then(|m| target(seen).average(m, millis(value), Some(name)));
        let proposal = proposal.map_err(|e| format!("failed to get {name} usage: {e}"))?;
        let average_value = quantity(proposal.usage);
        let value = MetricValueStatus {
            average_value,
            ..MetricValueStatus::default()
        };
        return Ok((proposal, format!("{name} resource"), value));
    }
    let percent = wanted.average_utilization.ok_or(
        "invalid resource metric source: neither an average utilization target nor an average \
         value (usage) target was set",
    )?;
    let proposal = metrics.and_then(|m| target(seen).utilization(m, percent, name, container));
    let proposal = proposal.map_err(|e| format!("failed to get {name} utilization: {e}"))?;
    let what = if container.is_some() {
        "container resource"
    } else {
        "resource"
    };
    let value = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: quantity(proposal.usage),
        value: None,
    };
    Ok((
        proposal,
        format!("{name} {what} utilization (percentage of request)"),
        value,
    ))
}

fn resource(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, String> {
    let source = spec.resource.as_ref().ok_or_else(missing_source)?;
    let (proposal, name, current) =
        generic_resource(seen, &source.name, None, &source.target, measured)?;
    let status = MetricStatus {
        type_: spec.type_.clone(),
        resource: Some(ResourceMetricStatus {
            name: source.name.clone(),
            current,
        }),
        ..MetricStatus::default()
    };
    Ok((proposal, name, status))
}

fn container(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, String> {
    let source = spec
        .container_resource
        .as_ref()
        .ok_or_else(missing_source)?;
    let container = Some(source.container.as_str());
    let (proposal, name, current) =
        generic_resource(seen, &source.name, container, &source.target, measured)?;
    let status = MetricStatus {
        type_: spec.type_.clone(),
        container_resource: Some(ContainerResourceMetricStatus {
            name: source.name.clone(),
            container: source.container.clone(),
            current,
        }),
        ..MetricStatus::default()
    };
    Ok((proposal, name, status))
}

fn pods(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, String> {
    let source = spec.pods.as_ref().ok_or_else(missing_source)?;
    let name = &source.metric.name;
    let metrics = match measured {
        Measured::Pods(metrics) => metrics.clone(),
        Measured::Failed(why) => return Err(format!("unable to get metric {name}: {why}")),
        Measured::Object(_) | Measured::External(_) => return Err(missing_source()),
    };
    let wanted = source.target.average_value.as_ref().map_or(0, millis);
    let proposal = target(seen).average(metrics, wanted, None)?;
    let status = MetricStatus {
        type_: spec.type_.clone(),
        pods: Some(PodsMetricStatus {
            metric: source.metric.clone(),
            current: MetricValueStatus {
                average_value: decimal(proposal.usage),
                ..MetricValueStatus::default()
            },
        }),
        ..MetricStatus::default()
    };
    Ok((proposal, format!("pods metric {name}"), status))
}

/// A metric that is not of pods, as messages name it.
fn external_name(metric: &MetricIdentifier) -> String {
    format!(
        "external metric {}({})",
        metric.name,
        go::label_selector(metric.selector.as_ref())
    )
}

fn object(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, String> {
    let source = spec.object.as_ref().ok_or_else(missing_source)?;
    let (name, of) = (&source.metric.name, &source.described_object);
    let usage = || match measured {
        Measured::Object(usage) => Ok(*usage),
        Measured::Failed(why) => {
            let namespace = seen
                .autoscaler
                .metadata
                .namespace
                .as_deref()
                .unwrap_or_default();
            Err(format!(
                "unable to get metric {name}: {why} on {} {namespace}/{}",
                of.kind, of.name
            ))
        }
        Measured::Pods(_) | Measured::External(_) => Err(missing_source()),
    };
    let goal = &source.target;
    let (proposal, told, current) = match (goal.type_.as_str(), &goal.value, &goal.average_value) {
        ("Value", Some(value), _) => {
            let proposal = target(seen).total(usage()?, millis(value))?;
            let value = decimal(proposal.usage);
            let current = MetricValueStatus {
                value,
                ..MetricValueStatus::default()
            };
            (proposal, format!("{} metric {name}", of.kind), current)
        }
        ("AverageValue", _, Some(value)) => {
            let usage = usage().map_err(|e| format!("failed to get {name} object metric: {e}"))?;
            let current = seen.scale.status_replicas;
            let proposal = target(seen).total_per_pod(usage, millis(value), current);
            let average_value = decimal(proposal.usage);
            let current = MetricValueStatus {
                average_value,
                ..MetricValueStatus::default()
            };
            (proposal, external_name(&source.metric), current)
        }
        _ => {
            return Err(
                "invalid object metric source: neither a value target nor an average \
                        value target was set"
                    .to_owned(),
            );
        }
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        object: Some(ObjectMetricStatus {
            described_object: of.clone(),
            metric: source.metric.clone(),
            current,
        }),
        ..MetricStatus::default()
    };
    Ok((proposal, told, status))
}

fn external(seen: &Observed<'_>, spec: &MetricSpec, measured: &Measured) -> Result<Asked, String> {
    let source = spec.external.as_ref().ok_or_else(missing_source)?;
    let name = &source.metric.name;
    let usage = match measured {
        Measured::External(values) => Ok(values
            .iter()
            .fold(0_i64, |sum, value| sum.saturating_add(*value))),
        Measured::Failed(why) => {
            let namespace = seen
                .autoscaler
                .metadata
                .namespace
                .as_deref()
                .unwrap_or_default();
            let selector = go::label_selector(source.metric.selector.as_ref());
            Err(format!(
                "unable to get external metric {namespace}/{name}/{selector}: {why}"
            ))
        }
        Measured::Pods(_) | Measured::Object(_) => Err(missing_source()),
    };
    let (proposal, current) = if let Some(value) = &source.target.average_value {
        let usage = usage.map_err(|e| format!("failed to get {name} external metric: {e}"))?;
        let current = seen.scale.status_replicas;
        let proposal = target(seen).total_per_pod(usage, millis(value), current);
        let average_value = decimal(proposal.usage);
        (
            proposal,
            MetricValueStatus {
                average_value,
                ..MetricValueStatus::default()
            },
        )
    } else if let Some(value) = &source.target.value {
        let proposal = usage.and_then(|usage| target(seen).total(usage, millis(value)));
        let proposal =
            proposal.map_err(|e| format!("failed to get external metric {name}: {e}"))?;
        let value = decimal(proposal.usage);
        (
            proposal,
            MetricValueStatus {
                value,
                ..MetricValueStatus::default()
            },
        )
    } else {
        return Err(
            "invalid external metric source: neither a value target nor an average value \
                    target was set"
                .to_owned(),
        );
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        external: Some(ExternalMetricStatus {
            metric: source.metric.clone(),
            current,
        }),
        ..MetricStatus::default()
    };
    Ok((proposal, external_name(&source.metric), status))
}
