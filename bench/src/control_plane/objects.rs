//! What is written, after the templates of upstream's scheduler_perf; and what events show.

/// Where pods go.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
/// Where Deployments go.
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Pods that share a colour are at most this share of the nodes, as upstream has it: each of them wants a
/// node without the others.
const SHARE: (usize, usize) = (3, 5);

/// What pods ask the scheduler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Basic,
    PreferredAffinity,
    RequiredAffinity,
    RequiredAntiAffinity,
    ZoneSpread,
}

impl Kind {
    /// How many zones the nodes of this measurement are in.
    pub(crate) fn zones(self) -> usize {
        if self == Kind::ZoneSpread { 3 } else { 1 }
    }
}

/// A node that is ready, without anybody behind it.
pub(crate) fn node(at: usize, zones: usize) -> String {
    let zone = at % zones + 1;
    let resources = r#"{"cpu":"4","memory":"32Gi","pods":"110"}"#;
    format!(
        r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"bare-{at}","labels":{{"kubernetes.io/hostname":"bare-{at}","topology.kubernetes.io/zone":"zone{zone}"}}}},"status":{{"capacity":{resources},"allocatable":{resources},"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
    )
}

/// The number `at` of pods for so many nodes.
pub(crate) fn pod(name: &str, at: usize, kind: Kind, nodes: usize) -> String {
    let group = match kind {
        Kind::RequiredAntiAffinity => at / (nodes * SHARE.0 / SHARE.1).max(1),
        _ => 0,
    };
    let color = format!("color-{group}");
    let selector = format!(r#""labelSelector":{{"matchLabels":{{"color":"{color}"}}}}"#);
    let host = format!(r#"{{{selector},"topologyKey":"kubernetes.io/hostname"}}"#);
    let zone = format!(r#"{{{selector},"topologyKey":"topology.kubernetes.io/zone"}}"#);
    let wish = match kind {
        Kind::Basic => String::new(),
        Kind::PreferredAffinity => format!(
            r#""affinity":{{"podAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":1,"podAffinityTerm":{host}}}]}}}},"#
        ),
        Kind::RequiredAffinity => format!(
            r#""affinity":{{"podAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{zone}]}}}},"#
        ),
        Kind::RequiredAntiAffinity => format!(
            r#""affinity":{{"podAntiAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{host}]}}}},"#
        ),
        Kind::ZoneSpread => format!(
            r#""topologySpreadConstraints":[{{"maxSkew":5,"whenUnsatisfiable":"DoNotSchedule","topologyKey":"topology.kubernetes.io/zone",{selector}}}],"#
        ),
    };
    let container = container();
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"color":"{color}"}}}},"spec":{{{wish}"containers":[{container}]}}}}"#
    )
}

fn container() -> &'static str {
    r#"{"name":"pause","image":"registry.k8s.io/pause:3.10","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"100m","memory":"500Mi"},"limits":{"cpu":"100m","memory":"500Mi"}}}"#
}

/// A Deployment whose pods ask for little, so that the number of pods limits how many fit.
pub(crate) fn deployment(name: &str, replicas: usize) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{name}"}},"spec":{{"replicas":{replicas},"selector":{{"matchLabels":{{"app":"{name}"}}}},"template":{{"metadata":{{"labels":{{"app":"{name}"}}}},"spec":{{"containers":[{{"name":"pause","image":"registry.k8s.io/pause:3.10"}}]}}}}}}}}"#
    )
}

/// Whether an event is of a type.
pub(crate) fn is(event: &[u8], kind: &str) -> bool {
    let head = event.strip_prefix(br#"{"type":""#);
    head.is_some_and(|head| head.starts_with(kind.as_bytes()))
}

/// The number at the end of the name of the event's object, of those whose names begin so.
pub(crate) fn number(event: &[u8], prefix: &str) -> Option<usize> {
    let key = format!(r#""name":"{prefix}"#);
    let at = find(event, key.as_bytes())? + key.len();
    digits(&event[at..])
}

/// The value of the first field of this name, which is a number.
pub(crate) fn field(event: &[u8], name: &str) -> Option<usize> {
    let key = format!(r#""{name}":"#);
    digits(&event[find(event, key.as_bytes())? + key.len()..])
}

/// Whether the event's pod is ready.
pub(crate) fn is_ready(event: &[u8]) -> bool {
    const READY: &[u8] = br#""type":"Ready""#;
    let Some(at) = find(event, READY) else {
        return false;
    };
    // The condition has no objects within it.
    let begin = event[..at].iter().rposition(|byte| *byte == b'{');
    let end = event[at..].iter().position(|byte| *byte == b'}');
    let condition = &event[begin.unwrap_or(0)..end.map_or(event.len(), |end| at + end)];
    find(condition, br#""status":"True""#).is_some()
}

fn digits(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit());
    std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())])
        .ok()?
        .parse()
        .ok()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        from += text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[from..].starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood_without_parsing_them() {
        let event = br#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"start-17","generation":3},"status":{"conditions":[{"type":"PodScheduled","status":"True"},{"status":"False","type":"Ready"}]}}}"#;
        assert!(is(event, "MODIFIED") && !is(event, "ADDED"));
        assert_eq!(number(event, "start-"), Some(17));
        assert_eq!(number(event, "other-"), None);
        assert_eq!(field(event, "generation"), Some(3));
        assert!(!is_ready(event));
        let text = String::from_utf8_lossy(event).replace("False", "True");
        assert!(is_ready(text.as_bytes()));
        assert!(!is_ready(br#"{"status":{}}"#));
    }

    #[test]
    fn what_is_written_is_json() {
        let kinds = [
            Kind::Basic,
            Kind::PreferredAffinity,
            Kind::RequiredAffinity,
            Kind::RequiredAntiAffinity,
            Kind::ZoneSpread,
        ];
        let bodies = kinds.map(|kind| pod("a", 7, kind, 10));
        for body in bodies.iter().chain([&node(1, 3), &deployment("a", 2)]) {
            assert!(
                serde_json::from_str::<serde_json::Value>(body).is_ok(),
                "{body}"
            );
        }
        // 6 of 10 nodes: the seventh pod begins another colour.
        assert!(bodies[3].contains("color-1") && bodies[0].contains("color-0"));
    }
}
