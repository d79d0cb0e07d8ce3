//! What is to be done so that a volume is attached where pods want it, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::View;
use jiff::{SignedDuration, Timestamp};

use crate::note::Note;
use crate::pod::Pod;
use crate::volumes::Volume;

/// How long a node that is not ready may keep a volume mounted that nobody wants there.
const UNMOUNT_PATIENCE: SignedDuration = SignedDuration::from_mins(6);

/// How long a driver may take to attach or detach.
const DRIVER_PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// First and longest pause between two complaints about the same failure.
const BACKOFF_MIN: SignedDuration = SignedDuration::from_millis(500);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(122);

/// What is known of one volume of a driver.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) driver: String,
    pub(super) handle: String,
    /// The volume's object; none if it is gone.
    pub(super) volume: Option<Arc<Volume>>,
    /// Whether its driver attaches at all.
    pub(super) is_attachable: bool,
    /// Pods that use it, by the node where they are; only nodes whose volumes are managed from here.
    pub(super) wanted: BTreeMap<String, Vec<Arc<Pod>>>,
    /// VolumeAttachments by node.
    pub(super) attachments: BTreeMap<String, Attachment>,
    /// The nodes that matter.
    pub(super) nodes: BTreeMap<String, Node>,
}

/// A VolumeAttachment of the volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) is_attached: bool,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) attach_error: Option<String>,
    pub(super) detach_error: Option<String>,
}

/// A node as far as this volume goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) is_ready: bool,
    pub(super) is_out_of_service: bool,
    /// Whether it says that it has the volume mounted.
    pub(super) uses_volume: bool,
}

/// What was seen of the volume before, by node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Memory {
    /// Since when nobody wants it there.
    pub(super) unwanted: BTreeMap<String, Timestamp>,
    /// Where it was said that another node has it.
    pub(super) told: BTreeSet<String>,
    /// Where it is being attached.
    pub(super) attaching: BTreeMap<String, Attempt>,
}

/// An attempt to attach.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt {
    pub(super) since: Timestamp,
    /// The next complaint comes no earlier, and after how long the one after it.
    pub(super) quiet_until: Timestamp,
    pub(super) backoff: SignedDuration,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Create a VolumeAttachment.
    Attach { node: String },
    /// Take the volume off the node's list, then delete the VolumeAttachment; first ask the node
    /// itself whether it still has it mounted, unless it is forced.
    Detach {
        node: String,
        attachment: String,
        is_forced: bool,
    },
    /// Say something about the pods that use the volume on a node.
    Note { node: String, note: Note },
}

/// What to do, what to remember, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) memory: Memory,
    pub(super) again: Option<SignedDuration>,
}

/// Makes the plan.
pub(super) fn plan(world: &World, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    // Whoever wants the volume elsewhere waits for these, so they come first.
    for (node, attachment) in &world.attachments {
        if !world.is_wanted(node) {
            detach(&mut plan, world, memory, node, attachment, now);
        }
    }
    for (node, pods) in &world.wanted {
        if world.is_attachable && !pods.is_empty() {
            attach(&mut plan, world, memory, node, now);
        }
    }
    plan
}

impl World {
    fn is_wanted(&self, node: &str) -> bool {
        let is_used = self.wanted.get(node).is_some_and(|pods| !pods.is_empty());
        self.is_attachable && is_used
    }

    /// Whether it may be attached to several nodes at once.
    fn is_shareable(&self) -> bool {
        let Some(volume) = &self.volume else {
            return true;
        };
        let modes = &volume.spec.access_modes;
        let is_many = |mode: &String| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany");
        modes.is_empty() || modes.iter().any(is_many)
    }

    /// How messages begin: `PREFIX for volume "NAME" SUFFIX`.
    fn message(&self, prefix: &str, suffix: &str) -> String {
        let name = self.volume.as_ref().map_or("nil", |volume| volume.name());
        format!("{prefix} for volume {name:?} {suffix}")
    }
}

impl Plan {
    fn look_again(&mut self, wait: SignedDuration) {
        let wait = wait.max(SignedDuration::from_millis(1));
        self.again = Some(self.again.map_or(wait, |other| other.min(wait)));
    }

    fn note(&mut self, node: &str, note: Note) {
        let node = node.to_string();
        self.steps.push(Step::Note { node, note });
    }
}

/// A volume that nobody wants on a node any more.
fn detach(
    plan: &mut Plan,
    world: &World,
    memory: &Memory,
    node: &str,
    attachment: &Attachment,
    now: Timestamp,
) {
    if attachment.deleted_at.is_some() {
        // The driver is at it; the end of the object wakes this up.
        return;
    }
    let since = memory.unwanted.get(node).copied().unwrap_or(now);
    plan.memory.unwanted.insert(node.into(), since);
    let known = world.nodes.get(node).cloned().unwrap_or_default();
    let waited = now.duration_since(since);
    let has_waited = waited > UNMOUNT_PATIENCE;
    let is_forced = !known.is_ready && has_waited || known.is_out_of_service;
    if known.uses_volume && !is_forced {
        if !has_waited {
            plan.look_again(UNMOUNT_PATIENCE - waited + SignedDuration::from_millis(1));
        }
        return;
    }
    plan.steps.push(Step::Detach {
        node: node.into(),
        attachment: attachment.name.clone(),
        is_forced: has_waited || known.is_out_of_service,
    });
}

/// A volume that pods want on a node.
fn attach(plan: &mut Plan, world: &World, memory: &Memory, node: &str, now: Timestamp) {
    let own = world.attachments.get(node);
    if own.is_some_and(|own| own.is_attached && own.deleted_at.is_none()) {
        if memory.attaching.contains_key(node) {
            let message = world.message("AttachVolume.Attach succeeded", "");
            plan.note(node, Note::normal("SuccessfulAttachVolume", message));
        }
        return;
    }
    if own.is_none() && !world.is_shareable() {
        let others = world.others(node);
        if others.iter().any(|other| is_leaving(other.1, now)) {
            plan.look_again(DRIVER_PATIENCE);
            remember_told(plan, memory, node);
            return;
        }
        let has_it = |other: &&(&String, &Attachment)| other.1.is_attached;
        let holders: Vec<&str> = others
            .iter()
            .filter(has_it)
            .map(|(n, _)| n.as_str())
            .collect();
        if !holders.is_empty() {
            if !memory.told.contains(node) {
                tell_multi_attach(plan, world, node, &holders);
            }
            plan.memory.told.insert(node.into());
            return;
        }
    }
    wait_for_driver(plan, world, memory, node, own, now);
}

impl World {
    fn others(&self, node: &str) -> Vec<(&String, &Attachment)> {
        let all = self.attachments.iter();
        all.filter(|(other, _)| *other != node).collect()
    }
}

/// Whether the driver is still expected to detach it soon.
fn is_leaving(attachment: &Attachment, now: Timestamp) -> bool {
    let is_recent = |at: Timestamp| now.duration_since(at) < DRIVER_PATIENCE;
    attachment.detach_error.is_none() && attachment.deleted_at.is_some_and(is_recent)
}

fn remember_told(plan: &mut Plan, memory: &Memory, node: &str) {
    if memory.told.contains(node) {
        plan.memory.told.insert(node.into());
    }
}

/// Creates the VolumeAttachment, or complains about what has become of it.
fn wait_for_driver(
    plan: &mut Plan,
    world: &World,
    memory: &Memory,
    node: &str,
    own: Option<&Attachment>,
    now: Timestamp,
) {
    let fresh = Attempt {
        since: now,
        quiet_until: now,
        backoff: BACKOFF_MIN,
    };
    let mut attempt = memory.attaching.get(node).cloned().unwrap_or(fresh);
    let timed_out = now.duration_since(attempt.since) >= DRIVER_PATIENCE;
    let failure = match own {
        None => {
            plan.steps.push(Step::Attach { node: node.into() });
            None
        }
        Some(own) if own.deleted_at.is_some() => Some("volume attachment is being deleted".into()),
        Some(own) => own.attach_error.clone().or_else(|| {
            timed_out.then(|| {
                let (driver, handle) = (&world.driver, &world.handle);
                format!(
                    "timed out waiting for external-attacher of {driver} CSI driver to attach \
                     volume {handle}"
                )
            })
        }),
    };
    match failure {
        Some(why) if now >= attempt.quiet_until => {
            let message = world.message("AttachVolume.Attach failed", &format!(": {why}"));
            plan.note(node, Note::warning("FailedAttachVolume", message));
            attempt.since = now;
            attempt.quiet_until = now + attempt.backoff;
            plan.look_again(attempt.backoff);
            attempt.backoff = (attempt.backoff * 2).min(BACKOFF_MAX);
        }
        Some(_) => plan.look_again(attempt.quiet_until.duration_since(now)),
        None => plan.look_again(DRIVER_PATIENCE - now.duration_since(attempt.since)),
    }
    plan.memory.attaching.insert(node.into(), attempt);
}

/// Tells pods who else has the volume that only one node can have.
fn tell_multi_attach(plan: &mut Plan, world: &World, node: &str, holders: &[&str]) {
    const PREFIX: &str = "Multi-Attach error";
    let of_holder = |holder: &&str| world.wanted.get(*holder).into_iter().flatten();
    let users: Vec<&Arc<Pod>> = holders.iter().flat_map(of_holder).collect();
    let suffix = if users.is_empty() {
        "Volume is already exclusively attached to one node and can't be attached to another".into()
    } else {
        // All pods of a claim are in its namespace.
        let names: Vec<&str> = users.iter().map(|pod| pod.name()).collect();
        format!("Volume is already used by pod(s) {}", names.join(", "))
    };
    let message = world.message(PREFIX, &suffix);
    plan.note(node, Note::warning("FailedAttachVolume", message));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(name: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"nodeName": "n"}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// A volume of a mode, wanted on nodes, with attachments: node, whether it is attached.
    fn world(mode: &str, wanted: &[&str], attached: &[(&str, bool)]) -> World {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": [mode]}});
        let attachment = |(node, is_attached): &(&str, bool)| {
            let attachment = Attachment {
                name: format!("csi-{node}"),
                is_attached: *is_attached,
                ..Attachment::default()
            };
            (node.to_string(), attachment)
        };
        let node = Node {
            is_ready: true,
            ..Node::default()
        };
        let names = ["a", "b"].into_iter();
        World {
            driver: "d".into(),
            handle: "h".into(),
            volume: Some(Arc::new(serde_json::from_value(volume).unwrap())),
            is_attachable: true,
            wanted: wanted
                .iter()
                .map(|n| (n.to_string(), vec![pod(&format!("p-{n}"))]))
                .collect(),
            attachments: attached.iter().map(attachment).collect(),
            nodes: names.map(|name| (name.to_string(), node.clone())).collect(),
        }
    }

    fn notes(plan: &Plan) -> Vec<&str> {
        let notes = plan.steps.iter().filter_map(|step| match step {
            Step::Note { note, .. } => Some(note.message.as_str()),
            _ => None,
        });
        notes.collect()
    }

    fn detached(plan: &Plan) -> Option<bool> {
        plan.steps.iter().find_map(|step| match step {
            Step::Detach { is_forced, .. } => Some(*is_forced),
            _ => None,
        })
    }

    #[test]
    fn a_volume_is_attached_and_success_is_told_once() {
        let first = plan(
            &world("ReadWriteOnce", &["a"], &[]),
            &Memory::default(),
            now(),
        );
        assert_eq!(first.steps, [Step::Attach { node: "a".into() }]);
        assert_eq!(first.again, Some(DRIVER_PATIENCE));
        let done = world("ReadWriteOnce", &["a"], &[("a", true)]);
        let second = plan(&done, &first.memory, now());
        assert_eq!(
            notes(&second),
            ["AttachVolume.Attach succeeded for volume \"v\" "]
        );
        assert_eq!(plan(&done, &second.memory, now()).steps, []);
    }

    #[test]
    fn failures_are_told_with_growing_pauses() {
        let mut failing = world("ReadWriteOnce", &["a"], &[("a", false)]);
        let attachment = failing.attachments.get_mut("a").unwrap();
        attachment.attach_error = Some("no such disk".into());
        let first = plan(&failing, &Memory::default(), now());
        assert_eq!(
            notes(&first),
            ["AttachVolume.Attach failed for volume \"v\" : no such disk"]
        );
        assert_eq!(first.again, Some(BACKOFF_MIN));
        assert_eq!(
            notes(&plan(&failing, &first.memory, now())),
            Vec::<&str>::new()
        );
        let second = plan(&failing, &first.memory, now() + BACKOFF_MIN);
        assert_eq!(second.again, Some(BACKOFF_MIN * 2));
        failing.attachments.get_mut("a").unwrap().attach_error = None;
        let late = plan(&failing, &first.memory, now() + DRIVER_PATIENCE);
        assert_eq!(
            notes(&late),
            [
                "AttachVolume.Attach failed for volume \"v\" : timed out waiting for \
              external-attacher of d CSI driver to attach volume h"
            ]
        );
    }

    #[test]
    fn one_node_at_a_time_unless_the_volume_is_shared() {
        let taken = world("ReadWriteOnce", &["a", "b"], &[("a", true)]);
        let first = plan(&taken, &Memory::default(), now());
        assert_eq!(
            notes(&first),
            ["Multi-Attach error for volume \"v\" Volume is already used by pod(s) p-a"]
        );
        assert_eq!(plan(&taken, &first.memory, now()).steps, []);
        let shared = world("ReadWriteMany", &["a", "b"], &[("a", true)]);
        let steps = plan(&shared, &Memory::default(), now()).steps;
        assert_eq!(steps, [Step::Attach { node: "b".into() }]);

        // Nobody wants it on the other node: first it leaves there.
        let moving = world("ReadWriteOnce", &["b"], &[("a", true)]);
        let first = plan(&moving, &Memory::default(), now());
        assert_eq!(detached(&first), Some(false));
        assert_eq!(
            notes(&first),
            [
                "Multi-Attach error for volume \"v\" Volume is already exclusively attached to one \
              node and can't be attached to another"
            ]
        );
        let mut leaving = moving;
        leaving.attachments.get_mut("a").unwrap().deleted_at = Some(now());
        assert_eq!(plan(&leaving, &first.memory, now()).steps, []);
    }

    #[test]
    fn a_mounted_volume_stays_until_its_node_is_given_up() {
        let mut idle = world("ReadWriteOnce", &[], &[("a", true)]);
        idle.nodes.get_mut("a").unwrap().uses_volume = true;
        let first = plan(&idle, &Memory::default(), now());
        assert_eq!((detached(&first), first.memory.unwanted.len()), (None, 1));
        // A node that is ready keeps it for ever, one that is not for six minutes.
        let later = now() + UNMOUNT_PATIENCE + SignedDuration::from_secs(1);
        assert_eq!(detached(&plan(&idle, &first.memory, later)), None);
        idle.nodes.get_mut("a").unwrap().is_ready = false;
        assert_eq!(detached(&plan(&idle, &first.memory, now())), None);
        assert_eq!(detached(&plan(&idle, &first.memory, later)), Some(true));
        idle.nodes.get_mut("a").unwrap().is_out_of_service = true;
        assert_eq!(detached(&plan(&idle, &first.memory, now())), Some(true));
    }

    #[test]
    fn a_driver_that_does_not_attach_gets_no_attachments() {
        let mut plain = world("ReadWriteOnce", &["a"], &[]);
        plain.is_attachable = false;
        assert_eq!(plan(&plain, &Memory::default(), now()), Plan::default());
    }
}
