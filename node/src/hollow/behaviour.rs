//! How the pods of hollow nodes behave: settings of the process, and annotations of single pods.

use std::str::FromStr;
use std::time::Duration;

use regex::Regex;

use super::pod::{Container, Pod};
use super::script::Script;

/// The prefix of annotations that a hollow node minds.
const PREFIX: &str = "hollow.trireme.io/";

/// Images that cannot be pulled anywhere; the tests of Kubernetes rely on these.
pub const UNPULLABLE: &str =
    "^(foo:non-existent|webserver:404|gcr\\.io/google_samples/gb-redisslave:nonexistent)$";

/// How pods behave, unless an annotation of the pod says otherwise.
///
/// The annotations are `hollow.trireme.io/` with `start-after`, `ready-after`, `run-for`,
/// `stop-after` (times such as `5s`) and `exit-code`; `run-for` and `exit-code` may name containers:
/// `setup=1,main=0`. `ready-after` may be `never`.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long containers take to start, from when the pod is bound.
    pub start_after: Duration,
    /// How long a running container takes to be ready.
    pub ready_after: Duration,
    /// How long containers take to stop; `None` is the whole grace period.
    pub stop_after: Option<Duration>,
    /// How long the containers of Jobs run whose commands do not tell.
    pub job_runs_for: Duration,
    /// Images that cannot be pulled.
    pub unpullable: Regex,
    /// Images of which containers end by themselves, as those of Jobs do.
    pub short_lived: Option<Regex>,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            start_after: Duration::ZERO,
            ready_after: Duration::ZERO,
            stop_after: None,
            job_runs_for: Duration::from_secs(1),
            #[expect(clippy::unwrap_used, reason = "a constant, which tests compile")]
            unpullable: Regex::new(UNPULLABLE).unwrap(),
            short_lived: None,
        }
    }
}

impl Behaviour {
    pub(super) fn start_after(&self, pod: &Pod) -> Duration {
        span(pod, "start-after").unwrap_or(self.start_after)
    }

    /// `None` if it never is ready.
    pub(super) fn ready_after(&self, pod: &Pod) -> Option<Duration> {
        match pod.annotation(&key("ready-after")) {
            Some("never") => None,
            _ => Some(span(pod, "ready-after").unwrap_or(self.ready_after)),
        }
    }

    pub(super) fn stop_after(&self, pod: &Pod) -> Option<Duration> {
        span(pod, "stop-after").or(self.stop_after)
    }

    /// How long a container runs until it ends by itself; `None` if it does not.
    pub(super) fn runs_for(
        &self,
        pod: &Pod,
        container: &Container,
        kind: Kind,
    ) -> Option<Duration> {
        let given = pod.annotation(&key("run-for"));
        if let Some(given) = given.and_then(|text| for_container(text, container, kind)) {
            return parse_span(given);
        }
        match (container.script, kind) {
            (Some(Script { runs, .. }), _) => runs,
            (None, Kind::Init) => Some(Duration::ZERO),
            (None, Kind::Sidecar | Kind::Ephemeral) => None,
            (None, Kind::Main) => {
                let image = container.image.as_str();
                let is_short = self.short_lived.as_ref().is_some_and(|r| r.is_match(image));
                (is_short || pod.is_of_a_job()).then_some(self.job_runs_for)
            }
        }
    }

    /// With which code a container ends by itself.
    pub(super) fn exit_code(&self, pod: &Pod, container: &Container, kind: Kind) -> i32 {
        let given = pod.annotation(&key("exit-code"));
        let given = given.and_then(|text| for_container(text, container, kind)?.parse().ok());
        given.unwrap_or_else(|| container.script.map_or(0, |script| script.code))
    }

    pub(super) fn is_pullable(&self, container: &Container) -> bool {
        !self.unpullable.is_match(&container.image)
    }
}

/// What part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs to its end before the next one.
    Init,
    /// Starts among the init containers and goes on.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Added for debugging.
    Ephemeral,
}

/// What may be wrong with a node, by its annotation `hollow.trireme.io/failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failure {
    /// Nothing.
    #[default]
    None,
    /// It does nothing any more, as if its power was cut.
    Crash,
    /// It says that it is not ready, and starts no pods.
    NotReady,
    /// Everything that it does for pods takes so much longer.
    Slow(Duration),
}

impl Failure {
    /// The name of the annotation of nodes.
    pub const ANNOTATION: &'static str = "hollow.trireme.io/failure";
}

impl FromStr for Failure {
    type Err = String;

    fn from_str(text: &str) -> Result<Failure, String> {
        let slow = text.strip_prefix("slow=").and_then(parse_span);
        match (text, slow) {
            ("" | "none", _) => Ok(Failure::None),
            ("crash", _) => Ok(Failure::Crash),
            ("not-ready", _) => Ok(Failure::NotReady),
            (_, Some(span)) => Ok(Failure::Slow(span)),
            _ => Err(format!(
                "`{text}` is none of: none, crash, not-ready, slow=TIME"
            )),
        }
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn span(pod: &Pod, name: &str) -> Option<Duration> {
    parse_span(pod.annotation(&key(name))?)
}

/// The part of `VALUE` or `NAME=VALUE,…` that is for a container; a bare value is for main ones.
fn for_container<'a>(text: &'a str, container: &Container, kind: Kind) -> Option<&'a str> {
    let mut parts = text.split(',').map(str::trim);
    if !text.contains('=') {
        return parts.next().filter(|_| kind == Kind::Main);
    }
    parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        (name == container.name).then_some(value)
    })
}

/// A time such as `250ms`, `5s` or `2m`.
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_may_name_containers() {
        let container = |name: &str| Container {
            name: name.into(),
            ..Container::default()
        };
        let of = |text, name: &str, kind| for_container(text, &container(name), kind);
        assert_eq!(of("5s", "a", Kind::Main), Some("5s"));
        assert_eq!(of("5s", "a", Kind::Init), None);
        assert_eq!(of("a=1, b=2", "b", Kind::Init), Some("2"));
        assert_eq!(of("a=1", "b", Kind::Main), None);
    }

    #[test]
    fn failures_are_read() {
        assert_eq!("crash".parse(), Ok(Failure::Crash));
        let slow = Failure::Slow(Duration::from_millis(1500));
        assert_eq!("slow=1.5s".parse(), Ok(slow));
        assert!("slow".parse::<Failure>().is_err());
        assert!(Behaviour::default().unpullable.is_match("webserver:404"));
    }
}
