//! Asks the metrics APIs: resource metrics of pods (`metrics.k8s.io`), custom metrics of pods and
//! objects (`custom.metrics.k8s.io`), and metrics of anything outside (`external.metrics.k8s.io`).

use std::collections::BTreeMap;
use std::time::Duration;

use api::values::duration;
use api::values::quantity::Quantity;
use client::errors;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricSpec,
};
use kube::Client;
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::plan::Measured;
use super::plan::replicas::{PodMetric, PodMetrics};
use crate::selector::Selector;

/// Over which time a custom metric is, if it does not say.
const WINDOW: Duration = Duration::from_secs(60);

/// Asks in someone's name.
pub struct Metrics {
    client: Client,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodUsage {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerUsage>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ContainerUsage {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectValue {
    described_object: Named,
    timestamp: Timestamp,
    window_seconds: Option<u64>,
    value: String,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: String,
}

fn millis(text: &str) -> i64 {
    Quantity::parse(text).map_or(0, |quantity| quantity.millis())
}

fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    given.for_each(|(name, value)| {
        query.append_pair(name, value);
    });
    query.finish()
}

/// A metric's own selector, as text.
fn selector(metric: &MetricIdentifier) -> String {
    let labels = metric.selector.as_ref();
    labels
        .map(|labels| Selector::new(Some(labels)).to_string())
        .unwrap_or_default()
}

impl Metrics {
    /// Asks in someone's name.
    pub fn new(client: Client) -> Metrics {
        Metrics { client }
    }

    /// Asks for what a metric is about. `pods` selects the pods of the target.
    pub async fn measure(&self, namespace: &str, pods: &str, spec: &MetricSpec) -> Measured {
        let missing = || Err("the metric's source is missing".to_owned());
        let measured = match spec.type_.as_str() {
            "Resource" => match &spec.resource {
                Some(source) => self.resource(namespace, pods, &source.name, None).await,
                None => missing(),
            },
            "ContainerResource" => match &spec.container_resource {
                Some(source) => {
                    let container = Some(source.container.as_str());
                    self.resource(namespace, pods, &source.name, container)
                        .await
                }
                None => missing(),
            },
            "Pods" => match &spec.pods {
                Some(source) => self.pods(namespace, pods, &source.metric).await,
                None => missing(),
            },
            "Object" => match &spec.object {
                Some(source) => {
                    self.object(namespace, &source.described_object, &source.metric)
                        .await
                }
                None => missing(),
            },
            "External" => match &spec.external {
                Some(source) => self.external(namespace, &source.metric).await,
                None => missing(),
            },
            other => Err(format!("unknown metric source type {other:?}")),
        };
        measured.unwrap_or_else(Measured::Failed)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, which: &str) -> Result<Vec<T>, String> {
        let failed = |error: kube::Error| {
            let error = errors::message(&error);
            format!("unable to fetch metrics from {which} metrics API: {error}")
        };
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        let list: List<T> = self.client.request(request).await.map_err(failed)?;
        if list.items.is_empty() {
            return Err(format!("no metrics returned from {which} metrics API"));
        }
        Ok(list.items)
    }

    async fn resource(
        &self,
        namespace: &str,
        pods: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Measured, String> {
        let query = query(&[("labelSelector", pods)]);
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?{query}");
        let usages: Vec<PodUsage> = self.get(&path, "resource").await?;
        Ok(Measured::Pods(
            usages
                .iter()
                .filter_map(|usage| pod_metric(usage, resource, container))
                .collect(),
        ))
    }

    async fn pods(
        &self,
        namespace: &str,
        pods: &str,
        metric: &MetricIdentifier,
    ) -> Result<Measured, String> {
        let query = query(&[
            ("labelSelector", pods),
            ("metricLabelSelector", &selector(metric)),
        ]);
        let name = &metric.name;
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/*/{name}?{query}"
        );
        let values: Vec<ObjectValue> = self.get(&path, "custom").await?;
        let metrics = values.into_iter().map(|value| {
            let metric = PodMetric {
                at: value.timestamp,
                window: value.window_seconds.map_or(WINDOW, Duration::from_secs),
                value: millis(&value.value),
            };
            (value.described_object.name, metric)
        });
        Ok(Measured::Pods(metrics.collect::<PodMetrics>()))
    }

    async fn object(
        &self,
        namespace: &str,
        object: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
    ) -> Result<Measured, String> {
        let root = "/apis/custom.metrics.k8s.io/v1beta2/namespaces";
        let (kind, name) = (object.kind.as_str(), &metric.name);
        let query = query(&[("metricLabelSelector", &selector(metric))]);
        let api_version = object.api_version.as_deref().unwrap_or("v1");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let path = if kind == "Namespace" && group.is_empty() {
            format!("{root}/{namespace}/metrics/{name}?{query}")
        } else {
            let known = GroupVersionKind::gvk(group, version, kind);
            let (resource, _) = pinned_kind(&self.client, &known).await.map_err(|error| {
                let error = errors::message(&error);
                format!(
                    "unable to fetch metrics from custom metrics API: unable to map kind \
                     {kind}.{group} to resource: {error}"
                )
            })?;
            let plural = match group {
                "" => resource.plural,
                group => format!("{}.{group}", resource.plural),
            };
            format!("{root}/{namespace}/{plural}/{}/{name}?{query}", object.name)
        };
        let values: Vec<ObjectValue> = self.get(&path, "custom").await?;
        match values.as_slice() {
            [value] => Ok(Measured::Object(millis(&value.value))),
            values => Err(format!(
                "unable to fetch metrics from custom metrics API: the custom metrics API server \
                 returned {} results when we asked for exactly one",
                values.len()
            )),
        }
    }

    async fn external(
        &self,
        namespace: &str,
        metric: &MetricIdentifier,
    ) -> Result<Measured, String> {
        let query = query(&[("labelSelector", &selector(metric))]);
        let name = &metric.name;
        let path =
            format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}?{query}");
        let values: Vec<ExternalValue> = self.get(&path, "external").await?;
        Ok(Measured::External(
            values.iter().map(|value| millis(&value.value)).collect(),
        ))
    }
}

/// What a pod, or one of its containers, uses; none if a part of that is not known.
fn pod_metric(
    usage: &PodUsage,
    resource: &str,
    container: Option<&str>,
) -> Option<(String, PodMetric)> {
    let used = |one: &ContainerUsage| one.usage.get(resource).map(|used| millis(used));
    let value = match container {
        Some(name) => used(usage.containers.iter().find(|one| one.name == name)?)?,
        None if usage.containers.is_empty() => return None,
        None => usage.containers.iter().map(used).sum::<Option<i64>>()?,
    };
    let nanos = duration::parse(&usage.window).unwrap_or_default();
    let window = Duration::from_nanos(nanos.try_into().unwrap_or_default());
    let metric = PodMetric {
        at: usage.timestamp,
        window,
        value,
    };
    Some((usage.metadata.name.clone(), metric))
}
