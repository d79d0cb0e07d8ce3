//! Stories of the graph, most of them upstream's.

use super::*;

/// The graph, and what is still to be looked at.
#[derive(Default)]
struct Story {
    graph: Graph,
    wakes: Vec<Wake>,
}

/// `kind namespace/name uid`, with an empty namespace for the cluster's.
fn parts(text: &str) -> [&str; 4] {
    let words: Vec<&str> = text.split(' ').collect();
    let (namespace, name) = words[1].split_once('/').unwrap();
    [words[0], namespace, name, words[2]]
}

impl Story {
    fn identity(&mut self, text: &str) -> Identity {
        let [kind, namespace, name, uid] = parts(text);
        Identity {
            kind: self.graph.kind("v1", kind),
            namespace: self.graph.namespace(namespace),
            name: name.into(),
            uid: Uid::new(uid),
        }
    }

    /// Owners as `Kind/name uid`, with `!` behind those that the object blocks.
    fn seen(&mut self, text: &str, owners: &[&str]) -> Seen {
        let owners = owners.iter().map(|owner| {
            let (owner, blocks) = match owner.strip_suffix('!') {
                Some(owner) => (owner, true),
                None => (*owner, false),
            };
            let (what, uid) = owner.split_once(' ').unwrap();
            let (kind, name) = what.split_once('/').unwrap();
            Owner {
                kind: self.graph.kind("v1", kind),
                name: name.into(),
                uid: Uid::new(uid),
                blocks,
            }
        });
        let owners = owners.collect();
        Seen {
            identity: self.identity(text),
            owners,
            being_deleted: false,
            foreground: false,
            orphan: false,
        }
    }

    fn see(&mut self, text: &str, owners: &[&str]) -> &mut Self {
        let seen = self.seen(text, owners);
        let wakes = self.graph.see(seen);
        self.wakes.extend(wakes);
        self
    }

    fn gone(&mut self, text: &str) -> &mut Self {
        let identity = self.identity(text);
        let wakes = self.graph.gone(&identity);
        self.wakes.extend(wakes);
        self
    }

    fn absent(&mut self, text: &str) -> &mut Self {
        let identity = self.identity(text);
        let wakes = self.graph.verified_absent(&identity);
        self.wakes.extend(wakes);
        self
    }

    /// What was woken since the last look, sorted.
    #[track_caller]
    fn woke(&mut self, want: &[&str]) -> &mut Self {
        let mut found: Vec<String> = std::mem::take(&mut self.wakes)
            .into_iter()
            .map(|wake| match wake {
                Wake::Delete(uid) => uid.to_string(),
                Wake::Later(uid) => format!("later {uid}"),
                Wake::Orphan(uid) => format!("orphan {uid}"),
                Wake::Report { dependent, owner } => format!("report {} {owner}", dependent.name),
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, want);
        self
    }

    #[track_caller]
    fn is(&mut self, uid: &str, virtually: bool, text: &str) -> &mut Self {
        let item = self.graph.item(&Uid::new(uid)).unwrap();
        let want = self.identity(text);
        assert_eq!((item.is_virtual, item.identity), (virtually, want));
        self
    }
}

#[test]
fn owners_that_nobody_has_seen_are_verified() {
    let mut story = Story::default();
    story.see("Pod a/p p", &["ReplicaSet/r r"]).woke(&["r"]);
    story.is("r", true, "ReplicaSet a/r r");
    story.see("ReplicaSet a/r r", &[]).woke(&[]);
    story.is("r", false, "ReplicaSet a/r r");
    story.gone("ReplicaSet a/r r").woke(&["p"]);
    let identity = story.identity("ReplicaSet a/r r");
    assert!(story.graph.is_absent(&identity));
    story.gone("Pod a/p p").woke(&[]);
    assert_eq!(story.graph.nodes.len(), 0);
    drop(identity);
    story.graph.shrink();
    // Only the owner that is known to be absent still has a kind.
    assert_eq!(story.graph.kinds.len(), 1);
}

#[test]
fn an_absent_owner_takes_its_dependents_along() {
    let mut story = Story::default();
    story
        .see("Pod a/p p", &["ReplicaSet/r r"])
        .see("Pod a/q q", &["ReplicaSet/r r"]);
    story.woke(&["r"]);
    story.absent("ReplicaSet a/r r").woke(&["p", "q"]);
    assert_eq!(story.graph.nodes.len(), 2);
}

#[test]
fn deletion_in_the_foreground_looks_at_all_dependents_once() {
    let mut story = Story::default();
    story
        .see("ReplicaSet a/r r", &[])
        .see("Pod a/p p", &["ReplicaSet/r r!"])
        .woke(&[]);
    let mut deleted = story.seen("ReplicaSet a/r r", &[]);
    (deleted.being_deleted, deleted.foreground) = (true, true);
    let wakes = story.graph.see(deleted.clone());
    story.wakes.extend(wakes);
    story.woke(&["p", "r"]);
    let item = story.graph.item(&Uid::new("r")).unwrap();
    assert!(item.deleting_dependents && item.is_blocked && item.has_dependents);
    assert_eq!(item.to_delete, [Uid::new("p")]);
    let wakes = story.graph.see(deleted);
    assert!(wakes.is_empty(), "nothing has changed");
    story.gone("Pod a/p p").woke(&["r"]);
    assert!(!story.graph.item(&Uid::new("r")).unwrap().is_blocked);
}

#[test]
fn an_owner_goes_on_as_soon_as_nobody_blocks_it() {
    for (owners, woken) in [
        (&["ReplicaSet/r r"][..], &["r"][..]),
        (&[], &["r"]),
        (&["ReplicaSet/r r!"], &[]),
    ] {
        let mut story = Story::default();
        story
            .see("ReplicaSet a/r r", &[])
            .see("Pod a/p p", &["ReplicaSet/r r!"])
            .woke(&[]);
        story.see("Pod a/p p", owners).woke(woken);
    }
}

#[test]
fn orphaning_comes_before_everything_else() {
    let mut story = Story::default();
    let mut seen = story.seen("ReplicaSet a/r r", &[]);
    (seen.being_deleted, seen.orphan, seen.foreground) = (true, true, true);
    let wakes = story.graph.see(seen.clone());
    story.wakes.extend(wakes);
    story.woke(&["orphan r"]);
    seen.being_deleted = false;
    let wakes = story.graph.see(seen);
    assert!(wakes.is_empty());
}

#[test]
fn a_bad_child_before_its_good_parent() {
    let mut story = Story::default();
    story.see("Pod b/bad bad", &["Node/n n"]).woke(&["n"]);
    story
        .see("Pod a/good good", &["ReplicaSet/n n"])
        .woke(&["good"]);
    // The watch shows whom they mean: the good one is right, the bad one names another kind.
    story.see("ReplicaSet a/n n", &[]);
    story.woke(&["bad", "report bad [v1/Node, namespace: b, name: n, uid: n]"]);
    story.is("n", false, "ReplicaSet a/n n");
    // That there is no Node n says nothing of the ReplicaSet, but the bad child may go.
    story.absent("Node b/n n").woke(&["bad"]);
    story.is("n", false, "ReplicaSet a/n n");
}

#[test]
fn a_bad_child_after_its_good_parent() {
    let mut story = Story::default();
    story.see("ReplicaSet a/r r", &[]).woke(&[]);
    story
        .see("Pod a/wrong wrong", &["Deployment/r r"])
        .woke(&["wrong"]);
    story.see("Pod b/far far", &["ReplicaSet/r r"]);
    story.woke(&[
        "far",
        "report far [v1/ReplicaSet, namespace: b, name: r, uid: r]",
    ]);
    story.absent("Deployment a/r r").woke(&["wrong"]);
    story.is("r", false, "ReplicaSet a/r r");
    let deployment = story.identity("Deployment a/r r");
    assert!(story.graph.is_absent(&deployment));
}

#[test]
fn children_that_disagree_are_asked_in_turn() {
    let mut story = Story::default();
    story.see("Pod a/one one", &["Alpha/o o"]).woke(&["o"]);
    story.see("Pod a/two two", &["Beta/o o"]).woke(&["two"]);
    story
        .see("Pod b/three three", &["Alpha/o o"])
        .woke(&["three"]);
    story.is("o", true, "Alpha a/o o");
    story.absent("Alpha a/o o").woke(&["later o", "one"]);
    story.is("o", true, "Alpha b/o o");
    story.absent("Alpha b/o o").woke(&["later o", "three"]);
    story.is("o", true, "Beta a/o o");
    // Once all that disagree are gone, so is the owner that nobody has.
    story
        .gone("Pod a/one one")
        .gone("Pod b/three three")
        .woke(&[]);
    story.absent("Beta a/o o").woke(&["two"]);
    assert!(story.graph.item(&Uid::new("o")).is_none());
}

#[test]
fn a_namespaced_owner_of_an_object_of_the_cluster_is_doubtful() {
    let mut story = Story::default();
    story.see("Node /n n", &["Pod/p p"]).woke(&["p"]);
    story.is("p", true, "Pod /p p");
    // Another child in a namespace finds a virtual owner of the cluster: it is verified itself.
    story.see("Secret a/s s", &["Pod/p p"]).woke(&["s"]);
    story.see("Pod a/p p", &[]);
    story.woke(&["n", "report n [v1/Pod, namespace: , name: p, uid: p]"]);
}

#[test]
fn an_object_of_the_cluster_may_own_what_is_in_a_namespace() {
    let mut story = Story::default();
    story
        .see("Node /n n", &[])
        .see("Lease a/l l", &["Node/n n"])
        .woke(&[]);
    story.gone("Node /n n").woke(&["l"]);
    let absent = story.identity("Node /n n");
    assert!(story.graph.is_absent(&absent));
}

#[test]
fn what_was_used_longest_ago_is_forgotten_first() {
    let mut story = Story::default();
    let ids: Vec<Identity> = (0..=ABSENT_MAX)
        .map(|at| story.identity(&format!("Pod a/p {at}")))
        .collect();
    for id in &ids[..ABSENT_MAX] {
        story.graph.note_absent(id.clone());
    }
    assert!(story.graph.is_absent(&ids[0]));
    story.graph.note_absent(ids[ABSENT_MAX].clone());
    assert!(story.graph.is_absent(&ids[0]) && !story.graph.is_absent(&ids[1]));
}
