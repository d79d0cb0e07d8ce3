//! How pods that have ended are counted, and how that ends the job.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::View as _;
use k8s_openapi::api::batch::v1::UncountedTerminatedPods;

use super::super::indexes::Indexes;
use super::super::policy::{self, Verdict};
use super::super::view;
use super::{Sync, UNCOUNTED_MAX, count, ensure, event, has_failed, has_finalizer, index};
use crate::pod::{Phase, Pod};

impl Sync<'_> {
    /// Notes what has ended. Gives the pods whose finalizers may go once the status is written, if
    /// that is needed.
    pub(crate) fn track(&mut self) -> (bool, Vec<Arc<Pod>>) {
        let job = self.observed.job;
        let mut pods: Vec<Arc<Pod>> = self
            .observed
            .pods
            .iter()
            .filter(|pod| has_finalizer(pod))
            .cloned()
            .collect();
        if job.is_indexed() {
            pods.sort_by_key(|pod| index(pod));
        }
        self.held = pods.iter().map(|pod| pod.uid().to_string()).collect();
        self.flush |= self.count_released();
        let mut release = Vec::new();
        let mut new_indexes = BTreeSet::new();
        for pod in pods {
            if !self.may_release(&pod) {
                continue;
            }
            self.note(&pod, &mut new_indexes);
            release.push(pod);
            let uncounted = self
                .status
                .uncounted_terminated_pods
                .get_or_insert_default();
            let noted = [&uncounted.succeeded, &uncounted.failed]
                .map(|uids| uids.as_ref().map_or(0, Vec::len));
            if new_indexes.len() + noted[0] + noted[1] >= UNCOUNTED_MAX {
                self.reached_max = true;
                break;
            }
        }
        if job.is_indexed() {
            self.note_indexes(new_indexes);
        }
        self.note_end();
        (std::mem::take(&mut self.flush), release)
    }

    /// Counts the pods whose finalizers are gone, and ends the job if nothing is left. Says whether
    /// the status changes by that.
    pub(crate) fn finish(&mut self, released: &[String]) -> bool {
        for uid in released {
            self.held.remove(uid);
        }
        let counted = self.count_released();
        let ended = !self.reached_max && self.enact();
        counted || ended
    }

    /// Counts what is gone although the rest failed: the job does not end.
    pub(crate) fn finish_partly(&mut self, released: &[String]) -> bool {
        self.reached_max = true;
        self.finish(released)
    }

    fn may_release(&self, pod: &Pod) -> bool {
        let job = self.observed.job;
        let is_over = job.metadata.deletion_timestamp.is_some() || self.end.is_some();
        if is_over || pod.status.phase == Phase::Succeeded {
            return true;
        }
        // A failed pod of an index tells its successor how often it failed: it waits for that.
        let is_delayed = index(pod).and_then(|index| self.indexes.delayed.get(&index));
        has_failed(job, pod) && is_delayed.is_none_or(|delayed| delayed.uid() != pod.uid())
    }

    fn note(&mut self, pod: &Pod, new_indexes: &mut BTreeSet<u32>) {
        let job = self.observed.job;
        let uid = pod.uid().to_string();
        let index = index(pod).filter(|index| *index < job.indexes());
        let uncounted = self
            .status
            .uncounted_terminated_pods
            .get_or_insert_default();
        let has_succeeded = pod.status.phase == Phase::Succeeded;
        let was_failed = self.noted.failed.contains(&uid);
        let is_stopped = self
            .end
            .as_ref()
            .is_some_and(|end| end.type_ != "SuccessCriteriaMet");
        if has_succeeded && !was_failed {
            match index.filter(|index| !self.indexes.counted.has(*index)) {
                Some(index) if job.is_indexed() => {
                    self.flush |= new_indexes.insert(index);
                }
                _ if !job.is_indexed() && !self.noted.succeeded.contains(&uid) => {
                    uncounted.succeeded.get_or_insert_default().push(uid);
                    self.flush = true;
                }
                _ => {}
            }
        } else if (has_failed(job, pod) || is_stopped)
            && !was_failed
            && (!job.is_indexed() || index.is_some())
            && policy::judge(job, pod) != Verdict::Ignored
        {
            uncounted.failed.get_or_insert_default().push(uid);
            self.flush = true;
        }
    }

    fn note_indexes(&mut self, new: BTreeSet<u32>) {
        let sets = &mut self.indexes;
        sets.succeeded = sets.succeeded.with(&new.into_iter().collect());
        let text = |set: &Indexes| Some(set.to_string()).filter(|text| !text.is_empty());
        let completed = text(&sets.succeeded);
        // Failed indexes are there as soon as they can be, even if there are none.
        let failed = sets.failed.as_ref().map(ToString::to_string);
        let status = &mut self.status;
        self.flush |= status.completed_indexes.as_deref().unwrap_or_default()
            != completed.as_deref().unwrap_or_default();
        self.flush |= status.failed_indexes != failed;
        let succeeded = i32::try_from(sets.succeeded.count()).unwrap_or(i32::MAX);
        status.succeeded = (succeeded != 0).then_some(succeeded);
        (status.completed_indexes, status.failed_indexes) = (completed, failed);
    }

    /// What will end the job is said before it ends.
    fn note_end(&mut self) {
        let Some(end) = self.end.take() else {
            return;
        };
        self.end = Some(match &*end.type_ {
            "FailureTarget" => {
                let failed = self.failed_for(&end);
                self.status.conditions.get_or_insert_default().push(end);
                self.flush = true;
                failed
            }
            "SuccessCriteriaMet" => {
                let (reason, message) = (end.reason.clone(), end.message.clone());
                if view::find(&self.status, "SuccessCriteriaMet")
                    .is_none_or(|found| found.status != "True")
                {
                    self.status.conditions.get_or_insert_default().push(end);
                    self.flush = true;
                }
                let text = |text: Option<String>| text.unwrap_or_default();
                self.condition("Complete", &text(reason), &text(message))
            }
            _ => end,
        });
    }

    /// Moves noted pods that have no finalizer any more into the counters.
    fn count_released(&mut self) -> bool {
        let status = &mut self.status;
        let Some(UncountedTerminatedPods { failed, succeeded }) =
            &mut status.uncounted_terminated_pods
        else {
            return false;
        };
        let mut is_changed = false;
        for (uids, counter) in [
            (succeeded, &mut status.succeeded),
            (failed, &mut status.failed),
        ] {
            let before = uids.as_ref().map_or(0, Vec::len);
            if let Some(uids) = uids {
                uids.retain(|uid| self.held.contains(uid));
            }
            uids.take_if(|uids| uids.is_empty());
            let released = before - uids.as_ref().map_or(0, Vec::len);
            if released > 0 {
                *counter = Some(counter.unwrap_or(0) + count(released));
                is_changed = true;
            }
        }
        is_changed
    }

    fn enact(&mut self) -> bool {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let is_counted =
            uncounted.is_none_or(|found| found.failed.is_none() && found.succeeded.is_none());
        let Some(end) = self
            .end
            .clone()
            .filter(|_| is_counted && self.terminating == 0)
        else {
            return false;
        };
        let (reason, message) = (
            end.reason.clone().unwrap_or_default(),
            end.message.clone().unwrap_or_default(),
        );
        if end.type_ == "Complete" {
            self.status.completion_time = end.last_transition_time.clone();
            let completions = self.observed.job.spec.completions;
            if completions
                .is_some_and(|completions| self.status.succeeded.unwrap_or(0) > completions)
            {
                let message = "Too many succeeded pods running after completion count reached";
                self.events
                    .push(event(true, "TooManySucceededPods", message));
            }
            self.events.push(event(false, "Completed", "Job completed"));
        } else {
            self.events.push(event(true, &reason, &message));
        }
        ensure(&mut self.status, end);
        true
    }
}
