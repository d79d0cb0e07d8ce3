//! What a Job's status may become: other controllers than ours may manage Jobs, and clients rely on
//! what they tell. Fields that did not change are not judged, so that the rest can.

use std::collections::HashSet;

use super::indexes;
use super::job_spec::is_indexed;
use crate::validation::{At, Errors, same};

/// Whether a condition of this type has that status.
pub(super) fn is(status: At<'_>, kind: &str, value: &str) -> bool {
    let mut conditions = status.get("conditions").items();
    conditions.any(|at| at.get("type").str() == kind && at.get("status").str() == value)
}

fn is_true(status: At<'_>, kind: &str) -> bool {
    is(status, kind, "True")
}

fn is_finished(status: At<'_>) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

/// Both sides of a change.
struct Change<'d> {
    spec: At<'d>,
    new: At<'d>,
    old: At<'d>,
}

impl Change<'_> {
    fn condition(&self, kind: &str) -> bool {
        is_true(self.new, kind) != is_true(self.old, kind)
    }

    fn finished(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn field(&self, field: &'static str) -> bool {
        !same(self.new.get(field), self.old.get(field))
    }

    fn number(&self, field: &'static str) -> bool {
        self.new.get(field).int() != self.old.get(field).int()
    }
}

/// A change of the status.
pub(super) fn validate(errors: &mut Errors, job: At<'_>, old: At<'_>) {
    let change = Change {
        spec: job.get("spec"),
        new: job.get("status"),
        old: old.get("status"),
    };
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.non_negative(change.new.get(field));
    }
    uncounted(errors, change.new.get("uncountedTerminatedPods"));
    conditions(errors, &change);
    times(errors, &change);
    end(errors, &change);
    finished(errors, &change);
    index_sets(errors, &change);
    counts(errors, &change);
    last_conditions(errors, &change);
    transitions(errors, &change);
}

fn uncounted(errors: &mut Errors, at: At<'_>) {
    let mut seen = HashSet::new();
    for uid in at.get("succeeded").items().chain(at.get("failed").items()) {
        if uid.is_empty() {
            errors.invalid(uid, "must not be empty");
        } else if !seen.insert(uid.str()) {
            errors.duplicate(uid);
        }
    }
}

fn conditions(errors: &mut Errors, change: &Change<'_>) {
    let is_complete = is_true(change.new, "Complete");
    for (is_judged, is_bad, detail) in [
        (
            change.condition("Complete") || change.condition("Failed"),
            is_complete && is_true(change.new, "Failed"),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            change.condition("Complete") || change.condition("FailureTarget"),
            is_complete && is_true(change.new, "FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
    ] {
        if is_judged && is_bad {
            errors.invalid_omitted(change.new.get("conditions"), detail);
        }
    }
}

fn times(errors: &mut Errors, change: &Change<'_>) {
    let (start, end) = (
        change.new.get("startTime"),
        change.new.get("completionTime"),
    );
    let is_complete = is_true(change.new, "Complete");
    if change.condition("Complete") || change.field("completionTime") {
        if end.is_set() && !is_complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(end, detail);
        }
        if !end.is_set() && is_complete {
            errors.required(end, "completionTime is required for Complete jobs");
        }
    }
    // Canonical times compare as their texts do.
    let is_backwards = start.is_set() && end.is_set() && end.str() < start.str();
    if is_backwards && (change.field("startTime") || change.field("completionTime")) {
        errors.invalid(end, "must be equal to or after `startTime`");
    }
}

fn end(errors: &mut Errors, change: &Change<'_>) {
    let status = change.new;
    let is_lonely = |end, before| is_true(status, end) && !is_true(status, before);
    if (change.condition("Failed") || change.field("failedIndexes"))
        && is_lonely("Failed", "FailureTarget")
    {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.invalid_omitted(status.get("conditions"), detail);
    }
    if (change.condition("Complete") || change.condition("SuccessCriteriaMet"))
        && is_lonely("Complete", "SuccessCriteriaMet")
    {
        let detail =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_omitted(status.get("conditions"), detail);
    }
}

fn finished(errors: &mut Errors, change: &Change<'_>) {
    let status = change.new;
    if !is_finished(status) {
        return;
    }
    if status.get("active").int() > 0 && (change.finished() || change.number("active")) {
        errors.invalid(status.get("active"), "active>0 is invalid for finished job");
    }
    let is_empty_and_suspended =
        change.spec.get("suspend").flag() && change.spec.get("completions").opt_int() == Some(0);
    if !status.has("startTime")
        && !is_empty_and_suspended
        && (change.finished() || change.field("startTime"))
    {
        errors.required(
            status.get("startTime"),
            "startTime is required for finished job",
        );
    }
    let uncounted = status.get("uncountedTerminatedPods");
    let has_some = !uncounted.get("failed").is_empty() || !uncounted.get("succeeded").is_empty();
    if has_some && (change.finished() || change.field("uncountedTerminatedPods")) {
        errors.invalid(uncounted, "must be empty for finished job");
    }
}

fn index_sets(errors: &mut Errors, change: &Change<'_>) {
    let (spec, status) = (change.spec, change.new);
    let (completed, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    let (is_new, is_new_failed) = (
        completed.str() != change.old.get("completedIndexes").str(),
        change.field("failedIndexes"),
    );
    let completions = spec.get("completions").opt_int();
    let has_backoff = spec.has("backoffLimitPerIndex");
    if let Some(completions) = completions {
        for (at, name, is_judged) in [
            (completed, "completedIndexes", is_new),
            (
                failed,
                "failedIndexes",
                is_new_failed && has_backoff && failed.is_set(),
            ),
        ] {
            if is_judged && let Err(error) = indexes::count(at.str(), completions) {
                errors.invalid(at, format!("error parsing {name}: {error}"));
            }
        }
    }
    if is_new && !completed.is_empty() && !is_indexed(spec) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(completed, detail);
    }
    if is_new_failed && failed.is_set() && !has_backoff {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(failed, detail);
    }
    if let Some(completions) = completions.filter(|_| failed.is_set() && (is_new || is_new_failed))
        && let Some(index) = indexes::overlap(completed.str(), failed.str(), completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(failed, detail);
    }
}

fn counts(errors: &mut Errors, change: &Change<'_>) {
    let status = change.new;
    let terminating = status.get("terminating");
    if terminating.int() > 0
        && is_finished(status)
        && (change.finished() || change.field("terminating"))
    {
        errors.invalid(terminating, "terminating>0 is invalid for finished job");
    }
    let ready = status.get("ready");
    if ready.int() > status.get("active").int()
        && ready.is_set()
        && (change.field("ready") || change.number("active"))
    {
        errors.invalid(ready, "cannot set more ready pods than active");
    }
}

fn last_conditions(errors: &mut Errors, change: &Change<'_>) {
    let status = change.new;
    let met = is_true(status, "SuccessCriteriaMet");
    for (is_bad, detail) in [
        (
            met && is_true(status, "Failed"),
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            met && is_true(status, "FailureTarget"),
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            change.spec.has("successPolicy") && !met && is_true(status, "Complete"),
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ] {
        if is_bad {
            errors.invalid_omitted(status.get("conditions"), detail);
        }
    }
}

fn transitions(errors: &mut Errors, change: &Change<'_>) {
    let (new, old) = (change.new, change.old);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, kind) && !is_true(new, kind) {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            errors.invalid_omitted(new.get("conditions"), detail);
        }
    }
    if new.get("failed").int() < old.get("failed").int() {
        errors.invalid(new.get("failed"), "cannot decrease the failed counter");
    }
    // An indexed Job whose completions follow its parallelism can be scaled down.
    let scales = is_indexed(change.spec)
        && same(
            change.spec.get("completions"),
            change.spec.get("parallelism"),
        );
    if !scales && new.get("succeeded").int() < old.get("succeeded").int() {
        errors.invalid(
            new.get("succeeded"),
            "cannot decrease the succeeded counter",
        );
    }
    let (end, old_end) = (new.get("completionTime"), old.get("completionTime"));
    if end.is_set() && old_end.is_set() && !same(end, old_end) {
        errors.invalid(end, "field is immutable");
    }
    let resumes = is_true(old, "Suspended") && is(new, "Suspended", "False");
    let is_suspended = change.spec.get("suspend").flag();
    if old.has("startTime") && change.field("startTime") && !is_suspended && !resumes {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(new.get("startTime"), detail);
    }
    let (met, was_met) = (
        is_true(new, "SuccessCriteriaMet"),
        is_true(old, "SuccessCriteriaMet"),
    );
    if was_met && !met {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        errors.invalid_omitted(new.get("conditions"), detail);
    }
    if is_true(old, "Complete") && !was_met && met {
        let detail =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_omitted(new.get("conditions"), detail);
    }
}
