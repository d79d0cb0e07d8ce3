//! CronJobs.

use std::str::FromStr;

use api::values::schedule::Schedule;

use super::job_spec;
use crate::kinds::apps::named_pods;
use crate::kinds::facts::{Facts, Generation, Status};
use crate::kinds::pod::prepare_template;
use crate::validation::pod::PodOptions;
use crate::validation::{At, Errors, same};

const TEMPLATE: [&str; 4] = ["spec", "jobTemplate", "spec", "template"];
/// A Job's name is its CronJob's with a time, and no longer than a label.
const NAME_BYTES_MAX: usize = 52;

/// CronJobs.
pub(super) static CRON_JOB: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    status: Status::Own("{}"),
    prepare_create: |_, new| prepare_template(new, &TEMPLATE, None),
    prepare_update: |_, new, old| prepare_template(new, &TEMPLATE, Some(old)),
    create: |_, new, errors| {
        cron_job(errors, new, None);
        let name = new.path(&["metadata", "name"]);
        if name.str().len() > NAME_BYTES_MAX {
            errors.invalid(name, "must be no more than 52 characters");
        }
    },
    update: |_, new, old, errors| cron_job(errors, new, Some(old)),
    warnings: |cx, new, old, told| {
        if !cx.subresource.is_empty() {
            return;
        }
        named_pods(new, old, told);
        let path = ["spec", "jobTemplate", "spec"];
        told.extend(job_spec::warnings(
            "spec.jobTemplate.spec",
            new.path(&path),
            new,
            old,
        ));
        if old.is_some() && new.path(&["spec", "schedule"]).str().contains("TZ") {
            told.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_string(),
            );
        }
    },
    ..Facts::PLAIN
};

fn cron_job(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    schedule(errors, spec, old.map(|old| old.get("spec")));
    errors.non_negative(spec.get("startingDeadlineSeconds"));
    let zone = spec.get("timeZone");
    if old.is_none_or(|old| !same(old.path(&["spec", "timeZone"]), zone)) && zone.is_set() {
        time_zone(errors, zone);
    }
    let policy = spec.get("concurrencyPolicy");
    errors.need_one_of(policy, &["Allow", "Forbid", "Replace"]);
    let job = spec.path(&["jobTemplate", "spec"]);
    let options = PodOptions::for_template(old.map(|old| old.path(&TEMPLATE)));
    job_spec::validate(errors, job, &options);
    if job.has("selector") {
        errors.invalid(job.get("selector"), "`selector` will be auto-generated");
    }
    if job.get("manualSelector").flag() {
        errors.not_supported(job.get("manualSelector"), &["nil", "false"]);
    }
    errors.non_negative(spec.get("successfulJobsHistoryLimit"));
    errors.non_negative(spec.get("failedJobsHistoryLimit"));
}

fn schedule(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let at = spec.get("schedule");
    if !errors.need(at, "") {
        return;
    }
    if let Err(error) = Schedule::parse(at.str(), is_zone) {
        errors.invalid(at, error);
    }
    let may_name_zone = old.is_some_and(|old| old.get("schedule").str().contains("TZ"));
    if !at.str().contains("TZ") {
        return;
    }
    if !may_name_zone {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(at, detail);
    } else if spec.has("timeZone") {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid(at, detail);
    }
}

/// Whether there is a time zone of this name.
fn is_zone(name: &str) -> bool {
    chrono_tz::Tz::from_str(name).is_ok()
}

fn time_zone(errors: &mut Errors, at: At<'_>) {
    let is_part = |part: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
        (1..=14).contains(&part.len())
            && ![".", ".."].contains(&part)
            && !part.starts_with('-')
            && part.bytes().all(is_letter)
    };
    let text = at.str();
    let unknown = format!("unknown time zone {text}");
    if text.is_empty() {
        errors.invalid(at, "timeZone must be nil or non-empty string");
    } else if !text.split('/').all(is_part) {
        errors.invalid(at, unknown);
    } else if text.eq_ignore_ascii_case("local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, detail);
        if text != "Local" {
            errors.invalid(at, unknown);
        }
    } else if !is_zone(text) {
        errors.invalid(at, unknown);
    }
}
