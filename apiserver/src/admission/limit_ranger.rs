//! LimitRanger: what containers need if they do not say, and how much it may be.

use api::doc::{Doc, Id};
use async_trait::async_trait;

use super::lookups::Lookups;
use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::Along;
use crate::validation::At;
use api::quota::amounts::{self, Amounts};
use api::values::quantity::Quantity;

/// Where a pod says what was set for it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Above, thousandths may not fit into 64 bits.
const MILLIS_MAX: i64 = i64::MAX / 1000;

#[derive(Default)]
pub(super) struct LimitRanger {
    lookups: Lookups,
}

#[async_trait]
impl Plugin for LimitRanger {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let Some(new) = new.filter(|_| concerns(attempt, old)) else {
            return Ok(());
        };
        if attempt.resource().1 == "pods" {
            for range in self.ranges(attempt).await {
                set_defaults(At::root(&range), new);
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let Some(new) = new.filter(|_| concerns(attempt, old)) else {
            return Ok(());
        };
        for range in self.ranges(attempt).await {
            let limits = At::root(&range).path(&["spec", "limits"]);
            let mut complaints = Vec::new();
            for limit in limits.items() {
                judge(
                    attempt.resource().1,
                    limit,
                    At::root(new).get("spec"),
                    &mut complaints,
                );
            }
            complaints.dedup();
            match &*complaints {
                [] => {}
                [one] => return Err(attempt.forbidden(one)),
                many => return Err(attempt.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// New pods, pods that are resized, and claims.
fn concerns(attempt: &Attempt<'_>, old: Option<&Doc>) -> bool {
    let is_ending = |doc: &Doc| {
        At::root(doc)
            .path(&["metadata", "deletionTimestamp"])
            .is_set()
    };
    if old.is_some_and(is_ending) {
        return false;
    }
    let write = (attempt.operation, attempt.subresource());
    match attempt.resource() {
        ("", "pods") => matches!(
            write,
            (Operation::Create, "") | (Operation::Update, "resize")
        ),
        ("", "persistentvolumeclaims") => {
            matches!(write, (Operation::Create | Operation::Update, ""))
        }
        _ => false,
    }
}

impl LimitRanger {
    async fn ranges(&self, attempt: &Attempt<'_>) -> Vec<Doc> {
        let found = self.lookups.list(attempt, "limitranges").await;
        found.iter().map(|object| object.doc()).collect()
    }
}

/// Gives containers what they do not say, and notes that.
fn set_defaults(range: At<'_>, pod: &mut Doc) {
    let (mut requests, mut limits) = (Amounts::default(), Amounts::default());
    for limit in range.path(&["spec", "limits"]).items() {
        if limit.get("type").str() == "Container" {
            requests
                .0
                .extend(Amounts::read(limit.get("defaultRequest")).0);
            limits.0.extend(Amounts::read(limit.get("default")).0);
        }
    }
    let mut notes = Vec::new();
    for (list, kind) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = At::root(pod).path(&["spec", list]).items();
        let containers: Vec<(Id, String)> = containers
            .filter_map(|at| Some((at.node()?.id(), at.get("name").str().to_string())))
            .collect();
        for (container, name) in containers {
            for (which, defaults, word) in [
                ("requests", &requests, "request"),
                ("limits", &limits, "limit"),
            ] {
                let set = merge(pod, container, which, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set_path(&["metadata", "annotations", ANNOTATION], &note);
    }
}

fn merge(pod: &mut Doc, container: Id, which: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in &defaults.0 {
        let known = pod.node(container).path(&["resources", which, name]);
        if known.is_none_or(|known| known.is_null()) {
            let resources = pod.object(container, "resources");
            let list = pod.object(resources, which);
            pod.set(list, name, &amount.to_string());
            set.push(name.clone());
        }
    }
    set
}

/// Holds an object against one limit.
fn judge(resource: &str, limit: At<'_>, spec: At<'_>, complaints: &mut Vec<String>) {
    let kind = limit.get("type").str();
    let bound = |key| Amounts::read(limit.get(key));
    match (resource, kind) {
        ("pods", "Container") => {
            let lists = ["containers", "initContainers"];
            for container in lists.into_iter().flat_map(|list| spec.get(list).items()) {
                let of = |which| Amounts::read(container.path(&["resources", which]));
                all(limit, kind, &of("requests"), &of("limits"), complaints);
            }
        }
        ("pods", "Pod") => {
            let of = |which| amounts::of_pod(spec, which);
            all(limit, kind, &of("requests"), &of("limits"), complaints);
        }
        ("persistentvolumeclaims", "PersistentVolumeClaim") => {
            let requests = Amounts::read(spec.path(&["resources", "requests"]));
            let none = Amounts::default();
            for (name, least) in &bound("min").0 {
                complaints.extend(at_least(kind, name, least, &requests, &none));
            }
            for (name, most) in &bound("max").0 {
                complaints.extend(requests_at_most(kind, name, most, &requests));
            }
        }
        _ => {}
    }
}

fn all(
    limit: At<'_>,
    kind: &str,
    requests: &Amounts,
    limits: &Amounts,
    complaints: &mut Vec<String>,
) {
    type Check = fn(&str, &str, &Quantity, &Amounts, &Amounts) -> Option<String>;
    let checks: [(&str, Check); 3] = [
        ("min", at_least),
        ("max", at_most),
        ("maxLimitRequestRatio", ratio),
    ];
    for (key, check) in checks {
        for (name, bound) in &Amounts::read(limit.get(key)).0 {
            complaints.extend(check(kind, name, bound, requests, limits));
        }
    }
}

fn at_least(
    kind: &str,
    name: &str,
    least: &Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let minimum = format!("minimum {name} usage per {kind} is {least}");
    let Some(request) = requests.get(name) else {
        return Some(format!("{minimum}.  No request is specified"));
    };
    if request < least {
        return Some(format!("{minimum}, but request is {request}"));
    }
    let limit = limits.get(name).filter(|limit| *limit < least)?;
    Some(format!("{minimum}, but limit is {limit}"))
}

fn requests_at_most(kind: &str, name: &str, most: &Quantity, requests: &Amounts) -> Option<String> {
    let maximum = format!("maximum {name} usage per {kind} is {most}");
    let Some(request) = requests.get(name) else {
        return Some(format!("{maximum}.  No request is specified"));
    };
    (request > most).then(|| format!("{maximum}, but request is {request}"))
}

fn at_most(
    kind: &str,
    name: &str,
    most: &Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let maximum = format!("maximum {name} usage per {kind} is {most}");
    let Some(limit) = limits.get(name) else {
        return Some(format!("{maximum}.  No limit is specified"));
    };
    if limit > most {
        return Some(format!("{maximum}, but limit is {limit}"));
    }
    let request = requests.get(name).filter(|request| *request > most)?;
    Some(format!("{maximum}, but request is {request}"))
}

fn ratio(
    kind: &str,
    name: &str,
    most: &Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let maximum = format!("{name} max limit to request ratio per {kind} is {most}");
    let positive = |amounts: &Amounts| amounts.get(name).filter(|a| !a.is_zero()).cloned();
    let Some(request) = positive(requests) else {
        return Some(format!(
            "{maximum}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = positive(limits) else {
        return Some(format!(
            "{maximum}, but no limit is specified or limit is 0"
        ));
    };
    let is_small = [&request, &limit, most]
        .iter()
        .all(|a| a.units() <= MILLIS_MAX);
    let value = |amount: &Quantity| match is_small {
        true => amount.millis(),
        false => amount.units(),
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "ratios are approximate, as upstream's are"
    )]
    let (found, bound) = (
        value(&limit) as f64 / value(&request) as f64,
        match most.units() <= MILLIS_MAX {
            true => most.millis() as f64 / 1000.0,
            false => most.units() as f64,
        },
    );
    (found > bound).then(|| format!("{maximum}, but provided ratio is {found:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    const RANGE: &str = r#"{"metadata":{"name":"r"},"spec":{"limits":[{"type":"Container",
        "default":{"cpu":"200m"},"defaultRequest":{"cpu":"100m"},"max":{"cpu":"1"},
        "min":{"cpu":"50m"},"maxLimitRequestRatio":{"cpu":"4"}}]}}"#;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn containers_get_defaults_and_keep_within_bounds() {
        let server = Server::start().await;
        server.namespace("a").await;
        server
            .create("/api/v1/namespaces/a/limitranges", RANGE)
            .await
            .ok();
        let pod = |resources: &str| {
            format!(
                r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i",
                    "resources":{resources}}}]}}}}"#
            )
        };
        let path = "/api/v1/namespaces/a/pods?dryRun=All";
        let made = server.create(path, &pod("{}")).await.ok();
        let at = At::root(&made);
        assert_eq!(
            at.path(&["metadata", "annotations"])
                .entry(ANNOTATION)
                .unwrap()
                .str(),
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
        let container = made
            .root()
            .path(&["spec", "containers"])
            .unwrap()
            .item(0)
            .unwrap();
        assert_eq!(container.text(&["resources", "limits", "cpu"]), "200m");
        assert_eq!(container.text(&["resources", "requests", "cpu"]), "100m");
        for (resources, want) in [
            (
                r#"{"limits":{"cpu":"2"},"requests":{"cpu":"1"}}"#,
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                r#"{"requests":{"cpu":"10m"},"limits":{"cpu":"20m"}}"#,
                "minimum cpu usage per Container is 50m, but request is 10m",
            ),
            (
                r#"{"requests":{"cpu":"100m"},"limits":{"cpu":"500m"}}"#,
                "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000",
            ),
        ] {
            let refused = server.create(path, &pod(resources)).await;
            let want = format!("pods \"p\" is forbidden: {want}");
            assert_eq!(refused.refusal(), (403, &*want));
        }
    }
}
