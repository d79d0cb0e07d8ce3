//! What watches must not have seen. Every check yields complaints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::load::{Ack, COMPLETIONS, WEB_MOST};
use super::witness::{Change, Object, Told};

/// Every change once, in order: versions rise, and objects come before they change and go.
pub(super) fn order(what: &str, told: &[Told]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut there: BTreeMap<&str, &str> = BTreeMap::new();
    let mut last = 0;
    for one in told {
        let (name, uid) = (one.object.name.as_str(), one.object.uid.as_str());
        if one.version <= last {
            complaints.push(format!("{what} {name}: {} after {last}", one.version));
        }
        last = one.version;
        let known = match one.change {
            Change::Added => there.insert(name, uid).is_none(),
            // What was there before the watch began is met for the first time.
            Change::Modified => *there.entry(name).or_insert(uid) == uid,
            Change::Deleted => there.remove(name).is_none_or(|known| known == uid),
        };
        if !known {
            let (change, version) = (one.change, one.version);
            complaints.push(format!(
                "{what} {name} ({uid}): {change:?} at {version} is out of turn"
            ));
        }
    }
    complaints
}

/// A pod that is bound stays where it is.
pub(super) fn bindings(pods: &[Told]) -> Vec<String> {
    let mut nodes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut moved = BTreeSet::new();
    for one in pods {
        let node = one.object.node.as_str();
        let bound = nodes.entry(&one.object.uid).or_insert(node);
        if bound.is_empty() {
            *bound = node;
        } else if *bound != node {
            moved.insert(one.object.uid.as_str());
        }
    }
    let moved = moved.into_iter();
    let history = |uid| history(pods, |one| one.object.uid == uid);
    moved
        .map(|uid| format!("a pod moves: {}", history(uid)))
        .collect()
}

/// No Job, of which no pod fails, has more pods than it shall complete.
pub(super) fn jobs(pods: &[Told]) -> Vec<String> {
    let mut made: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in pods {
        if one.object.owner.starts_with("Job/") {
            let pods = made.entry(&one.object.owner).or_default();
            pods.insert(&one.object.uid);
        }
    }
    let over = made.iter().filter(|(_, pods)| pods.len() > COMPLETIONS);
    let history = |job| history(pods, |one| one.object.owner == job);
    over.map(|(job, _)| format!("{job} has too many pods: {}", history(*job)))
        .collect()
}

/// What was told of some objects.
pub(super) fn history(told: &[Told], is_it: impl Fn(&Told) -> bool) -> String {
    let its = told.iter().filter(|one| is_it(one));
    let line = |one: &Told| {
        let Object {
            name,
            node,
            uid,
            holder,
            ..
        } = &one.object;
        format!(
            "\n  {} {:?} {name} ({uid}) at {node:?}{holder}",
            one.version, one.change
        )
    };
    its.map(line).collect()
}

/// The pods that are active after each change, by name, with their owners.
fn each_state<'t>(pods: &'t [Told], mut look: impl FnMut(&'t Told, &BTreeMap<&'t str, &'t Told>)) {
    let mut there = BTreeMap::new();
    for one in pods {
        match one.change {
            Change::Deleted => there.remove(one.object.name.as_str()),
            _ => there.insert(one.object.name.as_str(), one),
        };
        look(one, &there);
    }
}

/// The Deployment never wants more pods than its replicas and its surge, and none of its ReplicaSets
/// makes more than it was ever told to. Together they may have more for a moment, as upstream's: a new
/// pod need not wait until an old one knows that it shall end.
pub(super) fn surge(sets: &[Told], pods: &[Told]) -> Vec<String> {
    let mut complaints = Vec::new();
    each_state(sets, |one, there| {
        let wanted: u64 = there.values().map(|told| told.object.replicas).sum();
        if wanted > WEB_MOST {
            complaints.push(format!("at {} ReplicaSets want {wanted} pods", one.version));
        }
    });
    each_state(pods, |one, there| {
        let owner = one.object.owner.as_str();
        let Some(name) = owner.strip_prefix("ReplicaSet/") else {
            return;
        };
        let so_far = sets.iter().filter(|set| set.version < one.version);
        let told = so_far.filter(|set| set.object.name == name);
        let most = told.map(|set| set.object.replicas).max().unwrap_or(0);
        let is_its = |told: &&&Told| told.object.owner == owner && told.object.is_active;
        let active = there.values().filter(is_its).count() as u64;
        if one.change == Change::Added && active > most {
            complaints.push(format!(
                "at {} {owner} has {active} pods, not {most}",
                one.version
            ));
        }
    });
    complaints
}

/// A pod of the StatefulSet comes when all before it are ready.
pub(super) fn ordinals(pods: &[Told]) -> Vec<String> {
    let mut complaints = Vec::new();
    each_state(pods, |one, there| {
        let ordinal = one
            .object
            .name
            .strip_prefix("db-")
            .and_then(|n| n.parse::<u32>().ok());
        let (Some(ordinal), Change::Added) = (ordinal, one.change) else {
            return;
        };
        for before in 0..ordinal {
            let before = format!("db-{before}");
            let is_ready = |told: &&Told| told.object.is_ready && told.object.is_active;
            if !there.get(before.as_str()).is_some_and(is_ready) {
                let (name, version) = (&one.object.name, one.version);
                complaints.push(format!("{name} comes at {version} without {before}"));
            }
        }
    });
    complaints
}

/// Whoever lost a Lease never has it again: a new term has a new holder.
pub(super) fn terms(leases: &[Told]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut holders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in leases {
        let (name, holder) = (one.object.name.as_str(), one.object.holder.as_str());
        let all = holders.entry(name).or_default();
        if holder.is_empty() || all.last() == Some(&holder) {
            continue;
        }
        if all.contains(&holder) {
            complaints.push(format!(
                "{name} is held by {holder} again, at {}",
                one.version
            ));
        }
        all.push(holder);
    }
    complaints
}

/// What was acknowledged was seen, and is there unless it was deleted.
pub(super) fn acknowledged(acks: &[Ack], told: &[Told], left: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let seen: BTreeSet<(&str, u64)> = told
        .iter()
        .map(|one| (one.object.name.as_str(), one.version))
        .collect();
    let gone: BTreeSet<&str> = acks
        .iter()
        .filter(|ack| ack.version == 0)
        .map(|ack| ack.name.as_str())
        .collect();
    for Ack { name, version } in acks {
        if *version != 0 && !seen.contains(&(name.as_str(), *version)) {
            complaints.push(format!("{name}: no watch saw its version {version}"));
        }
        if left.contains(name) == gone.contains(name.as_str()) {
            complaints.push(format!("{name} is lost, or it came back"));
        }
    }
    complaints
}

/// Two tell the same.
pub(super) fn agreement(what: &str, one: &[Told], other: &[Told]) -> Vec<String> {
    let differ = one
        .iter()
        .zip(other)
        .find(|(a, b)| a.essence() != b.essence());
    match differ {
        Some((a, b)) => vec![format!("{what}: {:?} or {:?}", a.essence(), b.essence())],
        None if one.len() != other.len() => {
            vec![format!("{what}: {} changes or {}", one.len(), other.len())]
        }
        None => Vec::new(),
    }
}

/// The longest that a Job waited for its first pod, and that a pod waited for its node.
pub(super) fn waits(jobs: &[Told], pods: &[Told]) -> (Duration, Duration) {
    let added = |told: &&Told| told.change == Change::Added;
    let mut wait_of_jobs = Duration::ZERO;
    for job in jobs.iter().filter(added) {
        let owner = format!("Job/{}", job.object.name);
        if let Some(first) = pods.iter().find(|pod| pod.object.owner == owner) {
            wait_of_jobs = wait_of_jobs.max(first.at.saturating_duration_since(job.at));
        }
    }
    let mut wait_of_pods = Duration::ZERO;
    for pod in pods.iter().filter(added) {
        let is_it =
            |told: &&Told| told.object.uid == pod.object.uid && !told.object.node.is_empty();
        if let Some(bound) = pods.iter().find(is_it) {
            wait_of_pods = wait_of_pods.max(bound.at.saturating_duration_since(pod.at));
        }
    }
    (wait_of_jobs, wait_of_pods)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn told(version: u64, change: Change, name: &str, edit: impl FnOnce(&mut Object)) -> Told {
        let mut object = Object {
            name: name.to_owned(),
            uid: format!("uid of {name}"),
            is_active: true,
            is_ready: true,
            ..Object::default()
        };
        edit(&mut object);
        let at = Instant::now();
        Told {
            at,
            version,
            change,
            object,
        }
    }

    fn plain(version: u64, change: Change, name: &str) -> Told {
        told(version, change, name, |_| {})
    }

    #[test]
    fn lost_repeated_and_disordered_changes_are_found() {
        use Change::{Added, Deleted, Modified};
        let good = [(1, Added), (2, Modified), (4, Deleted), (5, Added)];
        let of = |changes: &[(u64, Change)]| {
            let all: Vec<Told> = changes.iter().map(|(v, c)| plain(*v, *c, "a")).collect();
            order("pods", &all).len()
        };
        assert_eq!(of(&good), 0);
        assert_eq!(of(&[(1, Added), (2, Modified), (2, Modified)]), 1, "twice");
        assert_eq!(of(&[(3, Added), (2, Modified)]), 1, "backwards");
        assert_eq!(of(&[(1, Added), (5, Added)]), 1, "a deletion is lost");
        let other = told(3, Deleted, "a", |object| object.uid = "another".to_owned());
        assert_eq!(order("pods", &[plain(1, Added, "a"), other]).len(), 1);
        let whole: Vec<Told> = good.iter().map(|(v, c)| plain(*v, *c, "a")).collect();
        assert!(agreement("pods", &whole, &whole).is_empty());
        assert_eq!(
            agreement("pods", &whole, &whole[..3]).len(),
            1,
            "the last one is lost"
        );
        assert_eq!(
            agreement("pods", &whole[1..], &whole).len(),
            1,
            "the first one is lost"
        );
    }

    #[test]
    fn too_much_of_anything_is_found() {
        let at = |node: &str| {
            let node = node.to_owned();
            told(1, Change::Modified, "a", |object| object.node = node)
        };
        assert!(bindings(&[at(""), at("x"), at("x")]).is_empty());
        assert_eq!(bindings(&[at("x"), at("y")]).len(), 1);
        assert_eq!(bindings(&[at("x"), at("")]).len(), 1);

        let of = |owner: &str, count: u64| -> Vec<Told> {
            let one = |n| {
                told(n, Change::Added, &n.to_string(), |o| {
                    o.owner = owner.to_owned()
                })
            };
            (1..=count).map(one).collect()
        };
        assert!(jobs(&of("Job/a", COMPLETIONS as u64)).is_empty());
        assert_eq!(jobs(&of("Job/a", COMPLETIONS as u64 + 1)).len(), 1);
        let set = |name: &str, replicas| {
            told(0, Change::Added, name, |object| object.replicas = replicas)
        };
        assert!(surge(&[set("a", 3)], &of("ReplicaSet/a", 3)).is_empty());
        assert_eq!(surge(&[set("a", 3)], &of("ReplicaSet/a", 4)).len(), 1);
        assert_eq!(surge(&[set("a", 3), set("b", 3)], &[]).len(), 1);
    }

    #[test]
    fn disorder_and_lies_are_found() {
        let pod = |name: &str| plain(1, Change::Added, name);
        assert!(ordinals(&[pod("db-0"), pod("db-1")]).is_empty());
        assert_eq!(ordinals(&[pod("db-1")]).len(), 1);
        let unready = told(1, Change::Added, "db-0", |object| object.is_ready = false);
        assert_eq!(ordinals(&[unready, pod("db-1")]).len(), 1);

        let held = |holder: &str| {
            let holder = holder.to_owned();
            told(1, Change::Modified, "kube-scheduler", |object| {
                object.holder = holder
            })
        };
        assert!(terms(&[held("a"), held("a"), held(""), held("b")]).is_empty());
        assert_eq!(terms(&[held("a"), held("b"), held("a")]).len(), 1);

        let ack = |name: &str, version| Ack {
            name: name.to_owned(),
            version,
        };
        let left = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let seen = [plain(7, Change::Added, "a")];
        assert!(acknowledged(&[ack("a", 7)], &seen, &left(&["a"])).is_empty());
        assert!(acknowledged(&[ack("a", 7), ack("a", 0)], &seen, &left(&[])).is_empty());
        assert_eq!(
            acknowledged(&[ack("a", 7)], &seen, &left(&[])).len(),
            1,
            "lost"
        );
        assert_eq!(
            acknowledged(&[ack("a", 8)], &seen, &left(&["a"])).len(),
            1,
            "unseen"
        );
        let came_back = acknowledged(&[ack("a", 7), ack("a", 0)], &seen, &left(&["a"]));
        assert!(!came_back.is_empty());
    }
}
