//! Which fields there are: what is not listed is refused, so that a typing error is not a setting
//! silently left out.

use serde_json::Value;

use crate::framework::Plugin;

/// What a value may hold.
enum Shape {
    /// Anything: a scalar, or an object of an API type that has its own rules.
    Any,
    List(&'static Shape),
    Object(&'static [(&'static str, &'static Shape)]),
}

use Shape::{Any, List, Object};

const SET: Shape = Object(&[("enabled", &List(&NAMED)), ("disabled", &List(&NAMED))]);
const NAMED: Shape = Object(&[("name", &Any), ("weight", &Any)]);

const CONFIGURATION: Shape = Object(&[
    ("apiVersion", &Any),
    ("kind", &Any),
    ("parallelism", &Any),
    ("leaderElection", &LEADER_ELECTION),
    ("clientConnection", &CLIENT_CONNECTION),
    ("enableProfiling", &Any),
    ("enableContentionProfiling", &Any),
    ("percentageOfNodesToScore", &Any),
    ("podInitialBackoffSeconds", &Any),
    ("podMaxBackoffSeconds", &Any),
    ("profiles", &List(&PROFILE)),
    ("extenders", &List(&EXTENDER)),
    ("delayCacheUntilActive", &Any),
]);

const LEADER_ELECTION: Shape = Object(&[
    ("leaderElect", &Any),
    ("leaseDuration", &Any),
    ("renewDeadline", &Any),
    ("retryPeriod", &Any),
    ("resourceLock", &Any),
    ("resourceName", &Any),
    ("resourceNamespace", &Any),
]);

const CLIENT_CONNECTION: Shape = Object(&[
    ("kubeconfig", &Any),
    ("acceptContentTypes", &Any),
    ("contentType", &Any),
    ("qps", &Any),
    ("burst", &Any),
]);

const PROFILE: Shape = Object(&[
    ("schedulerName", &Any),
    ("percentageOfNodesToScore", &Any),
    ("plugins", &PLUGINS),
    ("pluginConfig", &List(&PLUGIN_CONFIG)),
]);

const PLUGINS: Shape = Object(&[
    ("preEnqueue", &SET),
    ("queueSort", &SET),
    ("preFilter", &SET),
    ("filter", &SET),
    ("postFilter", &SET),
    ("preScore", &SET),
    ("score", &SET),
    ("reserve", &SET),
    ("permit", &SET),
    ("preBind", &SET),
    ("bind", &SET),
    ("postBind", &SET),
    ("multiPoint", &SET),
    ("placementGenerate", &SET),
    ("placementScore", &SET),
]);

const PLUGIN_CONFIG: Shape = Object(&[("name", &Any), ("args", &Any)]);

const EXTENDER: Shape = Object(&[
    ("urlPrefix", &Any),
    ("filterVerb", &Any),
    ("preemptVerb", &Any),
    ("prioritizeVerb", &Any),
    ("weight", &Any),
    ("bindVerb", &Any),
    ("enableHTTPS", &Any),
    ("tlsConfig", &Any),
    ("httpTimeout", &Any),
    ("nodeCacheCapable", &Any),
    ("managedResources", &Any),
    ("ignorable", &Any),
]);

const RESOURCES: Shape = List(&Object(&[("name", &Any), ("weight", &Any)]));
const POINTS: Shape = List(&Object(&[("utilization", &Any), ("score", &Any)]));

/// What the arguments of a plugin may hold, besides their type.
fn arguments(plugin: Plugin) -> Option<&'static [(&'static str, &'static Shape)]> {
    Some(match plugin {
        Plugin::DefaultPreemption => &[
            ("minCandidateNodesPercentage", &Any),
            ("minCandidateNodesAbsolute", &Any),
        ],
        Plugin::InterPodAffinity => &[
            ("hardPodAffinityWeight", &Any),
            ("ignorePreferredTermsOfExistingPods", &Any),
        ],
        Plugin::NodeAffinity => &[("addedAffinity", &Any)],
        Plugin::NodeResourcesBalancedAllocation => &[("resources", &RESOURCES)],
        Plugin::NodeResourcesFit => &[
            ("ignoredResources", &Any),
            ("ignoredResourceGroups", &Any),
            (
                "scoringStrategy",
                &Object(&[
                    ("type", &Any),
                    ("resources", &RESOURCES),
                    ("requestedToCapacityRatio", &Object(&[("shape", &POINTS)])),
                ]),
            ),
        ],
        Plugin::PodTopologySpread => &[("defaultConstraints", &Any), ("defaultingType", &Any)],
        Plugin::VolumeBinding => &[("bindTimeoutSeconds", &Any), ("shape", &POINTS)],
        Plugin::DynamicResources => &[("filterTimeout", &Any), ("bindingTimeout", &Any)],
        _ => return None,
    })
}

/// Complains about unknown fields.
pub(super) fn check(value: &Value, complaints: &mut Vec<String>) {
    walk(value, &CONFIGURATION, "", complaints);
}

/// Complains about unknown fields of a plugin's arguments.
pub(super) fn check_args(plugin: Plugin, value: &Value, complaints: &mut Vec<String>) {
    let Some(known) = arguments(plugin) else {
        return;
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        match known.iter().find(|(name, _)| name == key) {
            Some((_, shape)) => walk(value, shape, key, complaints),
            None if key == "apiVersion" || key == "kind" => {}
            None => complaints.push(format!("unknown field {key:?}")),
        }
    }
}

fn walk(value: &Value, shape: &Shape, path: &str, complaints: &mut Vec<String>) {
    match (shape, value) {
        (Object(known), Value::Object(fields)) => {
            for (key, value) in fields {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                match known.iter().find(|(name, _)| name == key) {
                    Some((_, shape)) => walk(value, shape, &path, complaints),
                    None => complaints.push(format!("unknown field {path:?}")),
                }
            }
        }
        (List(shape), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, shape, &format!("{path}[{at}]"), complaints);
            }
        }
        _ => {}
    }
}
