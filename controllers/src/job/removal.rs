//! Which of a job's active pods go when there are too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View as _;
use jiff::Timestamp;

use super::plan::index;
use crate::pod::Pod;
use crate::ranking;

/// At least so many pods, if there are. Of an indexed job with so many indexes, those that have no
/// index or one too many go in any case, and all but one of those that share one.
pub(crate) fn choose(
    active: &[Arc<Pod>],
    at_least: usize,
    indexes: Option<u32>,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let (mut going, mut left) = (Vec::new(), active.to_vec());
    if let Some(indexes) = indexes {
        let mut by_index = BTreeMap::<Option<u32>, Vec<Arc<Pod>>>::new();
        for pod in active {
            let index = index(pod).filter(|index| *index < indexes);
            by_index.entry(index).or_default().push(pod.clone());
        }
        going = by_index.remove(&None).unwrap_or_default();
        left.clear();
        for (_, same) in by_index {
            let surplus = ranking::to_delete(same.clone(), &[], same.len() - 1, now);
            left.extend(
                same.into_iter()
                    .filter(|pod| surplus.iter().all(|gone| gone.uid() != pod.uid())),
            );
            going.extend(surplus);
        }
    }
    let more = at_least.saturating_sub(going.len());
    going.extend(ranking::to_delete(left, &[], more, now));
    going
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `name index phase`.
    fn pods(texts: &[&str]) -> Vec<Arc<Pod>> {
        let pods = texts.iter().map(|text| {
            let parts: Vec<&str> = text.split(' ').collect();
            let mut pod = json!({"metadata": {"name": parts[0], "uid": parts[0]},
                "spec": {"nodeName": "n"}, "status": {"phase": parts[2]}});
            if parts[1] != "-" {
                pod["metadata"]["annotations"] = json!({super::super::plan::INDEX: parts[1]});
            }
            Arc::new(serde_json::from_value(pod).unwrap())
        });
        pods.collect()
    }

    /// Upstream's TestAppendDuplicatedIndexPodsForRemoval, retold.
    #[test]
    fn duplicates_and_strays_go_first() {
        for (texts, at_least, want) in [
            (
                &["a 0 Running", "b 0 Running", "c 0 Pending"][..],
                0,
                &["a", "c"][..],
            ),
            (
                &["a - Running", "b 7 Pending", "c 1 Running"],
                0,
                &["a", "b"],
            ),
            (&["a 0 Running", "b 1 Pending", "c 2 Running"], 1, &["b"]),
            (
                &["a 0 Running", "b 0 Running", "c 2 Running"],
                3,
                &["a", "b", "c"],
            ),
        ] {
            let gone = choose(&pods(texts), at_least, Some(3), Timestamp::UNIX_EPOCH);
            let mut names: Vec<&str> = gone.iter().map(|pod| pod.name()).collect();
            names.sort_unstable();
            assert_eq!(names, want, "{texts:?}");
        }
        let gone = choose(
            &pods(&["a - Running", "b - Pending"]),
            1,
            None,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(gone[0].name(), "b");
    }
}
