//! How fast replicas may change: recommendations are smoothed over a window, and changes are limited
//! per period.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
};

/// What was recommended and done before; lost with the process, as upstream's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    recommendations: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// How far replicas may go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// At least.
    pub min: i32,
    /// At most.
    pub max: i32,
    /// Now.
    pub current: i32,
}

/// A number with what to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// How many replicas.
    pub replicas: i32,
    /// Why, in a word.
    pub reason: &'static str,
    /// Why.
    pub message: &'static str,
}

const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: (&str, &str) = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_MANY: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const TOO_FAST_UP: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

fn limited(replicas: i32, (reason, message): (&'static str, &'static str)) -> Limited {
    Limited {
        replicas,
        reason,
        message,
    }
}

fn before(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_sub(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MIN)
}

/// Rules of one direction, defaults filled in.
struct Rules<'a> {
    window_s: i64,
    select: &'a str,
    policies: Vec<(&'a str, i32, i32)>,
}

impl<'a> Rules<'a> {
    fn of(rules: Option<&'a HPAScalingRules>, default_window: i64, is_up: bool) -> Rules<'a> {
        let given = rules
            .and_then(|rules| rules.policies.as_deref())
            .unwrap_or_default();
        let mut policies: Vec<_> = given
            .iter()
            .map(
                |HPAScalingPolicy {
                     type_,
                     value,
                     period_seconds,
                 }| (type_.as_str(), *value, *period_seconds),
            )
            .collect();
        if policies.is_empty() {
            policies.push(("Percent", 100, 15));
            policies.extend(is_up.then_some(("Pods", 4, 15)));
        }
        let window = rules.and_then(|rules| rules.stabilization_window_seconds);
        Rules {
            window_s: window.map_or(default_window, i64::from),
            select: rules
                .and_then(|rules| rules.select_policy.as_deref())
                .unwrap_or("Max"),
            policies,
        }
    }

    fn longest_period_s(&self) -> i64 {
        self.policies
            .iter()
            .map(|(_, _, period)| i64::from(*period))
            .max()
            .unwrap_or(0)
    }

    /// How far one may go within the periods of the policies.
    fn limit(&self, current: i32, history: &History, is_up: bool, now: Timestamp) -> i32 {
        if self.select == "Disabled" {
            return current;
        }
        let proposals = self.policies.iter().map(|(kind, value, period)| {
            let cutoff = before(now, (*period).into());
            let sum = |changes: &[(Timestamp, i32)]| -> i32 {
                changes
                    .iter()
                    .filter(|(at, _)| *at > cutoff)
                    .map(|(_, change)| change)
                    .sum()
            };
            let start = current - sum(&history.ups) + sum(&history.downs);
            let share = f64::from(*value) / 100.0;
            match (*kind, is_up) {
                ("Pods", true) => start.saturating_add(*value),
                ("Pods", false) => start.saturating_sub(*value),
                (_, true) => (f64::from(start) * (1.0 + share)).ceil() as i32,
                (_, false) => (f64::from(start) * (1.0 - share)) as i32,
            }
        });
        let wants_most_change = self.select != "Min";
        let best = if wants_most_change == is_up {
            proposals.max()
        } else {
            proposals.min()
        };
        best.unwrap_or(current)
    }
}

/// The rules of a behavior.
pub struct Behavior<'a> {
    up: Rules<'a>,
    down: Rules<'a>,
}

impl<'a> Behavior<'a> {
    /// The rules, with a default for how long lower recommendations wait.
    pub fn of(
        behavior: &'a HorizontalPodAutoscalerBehavior,
        down_window: Duration,
    ) -> Behavior<'a> {
        let down_window = down_window.as_secs().try_into().unwrap_or(i64::MAX);
        Behavior {
            up: Rules::of(behavior.scale_up.as_ref(), 0, true),
            down: Rules::of(behavior.scale_down.as_ref(), down_window, false),
        }
    }
}

impl History {
    /// Starts with what there is, so that a new controller does not shrink at once.
    pub fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Notes a recommendation in the place of one that is too old to matter.
    fn recommend(&mut self, replicas: i32, cutoff: Timestamp, now: Timestamp) {
        match self
            .recommendations
            .iter_mut()
            .rev()
            .find(|(at, _)| *at < cutoff)
        {
            Some(old) => *old = (now, replicas),
            None => self.recommendations.push((now, replicas)),
        }
    }

    /// Notes that replicas were changed.
    pub fn changed(&mut self, behavior: &Behavior<'_>, from: i32, to: i32, now: Timestamp) {
        let (changes, rules) = if to > from {
            (&mut self.ups, &behavior.up)
        } else {
            (&mut self.downs, &behavior.down)
        };
        let cutoff = before(now, rules.longest_period_s());
        changes.retain(|(at, _)| *at >= cutoff);
        changes.push((now, (to - from).abs()));
    }

    /// Smooths a recommendation without a behavior: only what is lower waits. The second value says
    /// what came of it.
    pub fn stabilize(&mut self, wanted: i32, window: Duration, now: Timestamp) -> Limited {
        let cutoff = before(now, window.as_secs().try_into().unwrap_or(i64::MAX));
        let recent = self.recommendations.iter().filter(|(at, _)| *at >= cutoff);
        let highest = recent.map(|(_, replicas)| *replicas).fold(wanted, i32::max);
        self.recommend(wanted, cutoff, now);
        limited(
            highest,
            if highest == wanted {
                READY
            } else {
                DOWN_STABILIZED
            },
        )
    }

    /// Smooths a recommendation over the windows of a behavior.
    pub fn stabilize_with(
        &mut self,
        behavior: &Behavior<'_>,
        wanted: i32,
        current: i32,
        now: Timestamp,
    ) -> Limited {
        let up_cutoff = before(now, behavior.up.window_s);
        let down_cutoff = before(now, behavior.down.window_s);
        let recent = |cutoff: Timestamp| {
            let recent = self
                .recommendations
                .iter()
                .filter(move |(at, _)| *at > cutoff);
            recent.map(|(_, replicas)| *replicas)
        };
        let lowest = recent(up_cutoff).fold(wanted, i32::min);
        let highest = recent(down_cutoff).fold(wanted, i32::max);
        let replicas = current.max(lowest).min(highest);
        self.recommend(wanted, up_cutoff.min(down_cutoff), now);
        let why = match replicas == wanted {
            true => READY,
            false if wanted >= current => UP_STABILIZED,
            false => DOWN_STABILIZED,
        };
        limited(replicas, why)
    }

    /// Limits the speed by a behavior.
    pub fn limit_with(
        &self,
        behavior: &Behavior<'_>,
        wanted: i32,
        bounds: Bounds,
        now: Timestamp,
    ) -> Limited {
        let current = bounds.current;
        if wanted > current {
            let fastest = behavior.up.limit(current, self, true, now).max(current);
            if wanted > bounds.max.min(fastest) {
                let is_fast = bounds.max > fastest;
                let why = if is_fast { TOO_FAST_UP } else { TOO_MANY };
                return limited(bounds.max.min(fastest), why);
            }
        } else if wanted < current {
            let fastest = behavior.down.limit(current, self, false, now).min(current);
            if wanted < bounds.min.max(fastest) {
                let is_fast = bounds.min < fastest;
                let why = if is_fast { TOO_FAST_DOWN } else { TOO_FEW };
                return limited(bounds.min.max(fastest), why);
            }
        }
        limited(wanted, WITHIN)
    }
}

/// Limits the speed without a behavior: at most twice as many, or four.
pub fn limit(wanted: i32, bounds: Bounds) -> Limited {
    let fastest = bounds.current.saturating_mul(2).max(4);
    if wanted < bounds.min {
        limited(bounds.min, TOO_FEW)
    } else if wanted > bounds.max.min(fastest) {
        let why = if bounds.max > fastest {
            TOO_FAST_UP
        } else {
            TOO_MANY
        };
        limited(bounds.max.min(fastest), why)
    } else {
        limited(wanted, WITHIN)
    }
}
