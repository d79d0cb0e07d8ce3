//! Stories of server-side apply: who wants what, and what comes of it. The rules are those of
//! structured-merge-diff's and kube-apiserver's tests, told with our own objects.

use super::*;
use crate::schema;

const NOW: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:01:00Z";

/// An object through several writes.
struct Story {
    live: Doc,
    kind: &'static str,
    version: &'static str,
    now: &'static str,
    subresource: &'static str,
}

impl Story {
    fn of(version: &'static str, kind: &'static str) -> Self {
        let mut story = Self {
            live: Doc::new(),
            kind,
            version,
            now: NOW,
            subresource: "",
        };
        story.live.set_path(&["apiVersion"], version);
        story.live.set_path(&["kind"], kind);
        let schema = story.schema();
        conform(&mut story.live, schema, Unknown::Drop).unwrap();
        story
    }

    fn schema(&self) -> &'static Type {
        let (group, version) = self.version.rsplit_once('/').unwrap_or(("", self.version));
        schema::kind(group, version, self.kind).unwrap()
    }

    fn with<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        work(&FieldManager {
            schema: self.schema(),
            api_version: self.version,
            kind: self.kind,
            subresource: self.subresource,
            reset: None,
            now: self.now,
        })
    }

    fn config(&self, text: &str) -> Doc {
        let mut doc = Doc::literal(text);
        doc.set_path(&["apiVersion"], self.version);
        doc.set_path(&["kind"], self.kind);
        doc
    }

    fn apply(&mut self, manager: &str, text: &str) -> &mut Self {
        self.live = self.try_apply(manager, text, false).unwrap();
        self.live.set_path(&["metadata", "uid"], "u");
        self
    }

    fn force(&mut self, manager: &str, text: &str) -> &mut Self {
        self.live = self.try_apply(manager, text, true).unwrap();
        self
    }

    fn try_apply(&self, manager: &str, text: &str, force: bool) -> Result<Doc, ApplyError> {
        self.with(|fields| fields.apply(&self.live, &self.config(text), manager, force))
    }

    fn refused(&self, manager: &str, text: &str) -> String {
        self.try_apply(manager, text, false)
            .unwrap_err()
            .to_string()
    }

    /// An ordinary write: a merge patch, tracked.
    fn update(&mut self, manager: &str, patch: &str) -> &mut Self {
        let mut new = self.live.clone();
        crate::patch::merge::apply(&mut new, Doc::literal(patch).root()).unwrap();
        conform(&mut new, self.schema(), Unknown::Drop).unwrap();
        self.with(|fields| fields.update(&self.live, &mut new, manager));
        self.live = new;
        self.live.set_path(&["metadata", "uid"], "u");
        self
    }

    #[track_caller]
    fn has(&mut self, path: &[&str], want: &str) -> &mut Self {
        let found = self
            .live
            .root()
            .path(path)
            .map(|node| node.to_string())
            .unwrap_or_default();
        assert_eq!(found, want, "{}", self.live);
        self
    }

    /// `manager operation paths…`, a line each.
    #[track_caller]
    fn owners(&mut self, want: &[&str]) -> &mut Self {
        let managed = Managed::read(&self.live).unwrap();
        let lines: Vec<String> = managed
            .owners
            .iter()
            .map(|(manager, owned)| {
                let paths: Vec<String> =
                    owned.fields.paths().iter().map(|p| path_text(p)).collect();
                format!("{} {} {}", manager.name, manager.operation, paths.join(" "))
            })
            .collect();
        assert_eq!(lines, want);
        self
    }
}

fn config_map() -> Story {
    Story::of("v1", "ConfigMap")
}

#[test]
fn what_is_applied_is_owned() {
    config_map()
        .apply(
            "one",
            r#"{"metadata":{"name":"c","labels":{"a":"1"}},"data":{"k":"v"}}"#,
        )
        .owners(&["one Apply .data.k .metadata.labels.a"])
        .has(&["data"], r#"{"k":"v"}"#);
}

#[test]
fn what_is_no_longer_applied_goes() {
    config_map()
        .apply("one", r#"{"data":{"a":"1","b":"2"}}"#)
        .apply("one", r#"{"data":{"b":"2"}}"#)
        .has(&["data"], r#"{"b":"2"}"#)
        .owners(&["one Apply .data.b"]);
}

#[test]
fn what_others_own_stays() {
    config_map()
        .apply("one", r#"{"data":{"a":"1","b":"2"}}"#)
        .apply("two", r#"{"data":{"a":"1"}}"#)
        .apply("one", r#"{"data":{"b":"2"}}"#)
        .has(&["data"], r#"{"a":"1","b":"2"}"#)
        .owners(&["one Apply .data.b", "two Apply .data.a"]);
}

#[test]
fn changing_what_others_own_is_a_conflict() {
    let mut story = config_map();
    story.apply("one", r#"{"data":{"a":"1","b":"1"}}"#);
    assert_eq!(
        story.refused("two", r#"{"data":{"a":"2"}}"#),
        r#"Apply failed with 1 conflict: conflict with "one": .data.a"#
    );
    assert_eq!(
        story.refused("two", r#"{"data":{"a":"2","b":"2"}}"#),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b"
    );
    story
        .force("two", r#"{"data":{"a":"2"}}"#)
        .has(&["data"], r#"{"a":"2","b":"1"}"#)
        .owners(&["one Apply .data.b", "two Apply .data.a"]);
}

#[test]
fn updates_take_what_they_change() {
    let mut story = config_map();
    story
        .apply("one", r#"{"data":{"a":"1","b":"1"}}"#)
        .update("ui", r#"{"data":{"a":"2","c":"3"}}"#)
        .owners(&["one Apply .data.b", "ui Update .data.a .data.c"]);
    assert_eq!(
        story.refused("one", r#"{"data":{"a":"1","b":"1"}}"#),
        r#"Apply failed with 1 conflict: conflict with "ui" using v1: .data.a"#
    );
    // The same value is no conflict; then both own it.
    story
        .apply("one", r#"{"data":{"a":"2","b":"1"}}"#)
        .owners(&["one Apply .data.a .data.b", "ui Update .data.a .data.c"]);
    story
        .update("ui", r#"{"data":{"c":null}}"#)
        .owners(&["one Apply .data.a .data.b", "ui Update .data.a"]);
}

#[test]
fn what_was_there_before_the_first_apply_is_an_owner() {
    let mut story = config_map();
    story.live.set_path(&["data", "a"], "1");
    story.live.set_path(&["metadata", "uid"], "u");
    story.apply("one", r#"{"data":{"b":"1"}}"#).owners(&[
        "one Apply .data.b",
        "before-first-apply Update .data .data.a",
    ]);
    assert!(
        story
            .refused("one", r#"{"data":{"a":"2"}}"#)
            .contains(r#""before-first-apply" using v1"#)
    );
}

#[test]
fn elements_of_lists_are_owned_by_their_keys() {
    let one =
        r#"{"spec":{"containers":[{"name":"a","image":"1","ports":[{"containerPort":80}]}]}}"#;
    let mut story = Story::of("v1", "Pod");
    story.apply("one", one).owners(&[concat!(
        r#"one Apply .spec.containers[name="a"] .spec.containers[name="a"].image "#,
        r#".spec.containers[name="a"].name .spec.containers[name="a"].ports[containerPort=80,protocol="TCP"] "#,
        r#".spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort"#
    )]);
    story
        .apply("two", r#"{"spec":{"containers":[{"name":"b","image":"2"}]}}"#)
        .has(&["spec", "containers"], r#"[{"name":"a","image":"1","ports":[{"containerPort":80}],"resources":{}},{"name":"b","image":"2","resources":{}}]"#)
        .apply("one", r#"{"spec":{"nodeName":"n"}}"#)
        .has(&["spec", "containers"], r#"[{"name":"b","image":"2","resources":{}}]"#);
}

#[test]
fn sets_are_owned_by_their_values() {
    config_map()
        .apply("one", r#"{"metadata":{"finalizers":["x/a","x/b"]}}"#)
        .apply("two", r#"{"metadata":{"finalizers":["x/c"]}}"#)
        .has(&["metadata", "finalizers"], r#"["x/a","x/b","x/c"]"#)
        .apply("one", r#"{"metadata":{"finalizers":["x/b"]}}"#)
        .has(&["metadata", "finalizers"], r#"["x/b","x/c"]"#)
        .owners(&[
            r#"one Apply .metadata.finalizers[="x/b"]"#,
            r#"two Apply .metadata.finalizers[="x/c"]"#,
        ]);
}

#[test]
fn atomic_values_are_owned_as_a_whole() {
    let mut story = Story::of("v1", "Service");
    story
        .apply(
            "one",
            r#"{"spec":{"selector":{"a":"1"},"externalIPs":["1.1.1.1"]}}"#,
        )
        .owners(&["one Apply .spec.externalIPs .spec.selector"]);
    assert_eq!(
        story.refused("two", r#"{"spec":{"selector":{"b":"1"}}}"#),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.selector"#
    );
    story
        .force("two", r#"{"spec":{"selector":{"b":"1"}}}"#)
        .has(&["spec", "selector"], r#"{"b":"1"}"#);
}

#[test]
fn an_apply_that_changes_nothing_keeps_its_time() {
    let mut story = config_map();
    story.apply("one", r#"{"data":{"a":"1"}}"#);
    let before = story.live.clone();
    story.now = LATER;
    story.apply("one", r#"{"data":{"a":"1"}}"#);
    assert_eq!(story.live, before);
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let story = config_map();
    assert_eq!(
        story.refused(
            "one",
            r#"{"metadata":{"name":"c","namespace":"n"},"unknownField":1}"#
        ),
        "failed to create typed patch object (n/c; v1, Kind=ConfigMap): .unknownField: field not declared in schema"
    );
    assert_eq!(
        story.refused("one", r#"{"metadata":{"managedFields":[]}}"#),
        "metadata.managedFields must be nil"
    );
    let pod = Story::of("v1", "Pod");
    assert!(
        pod.refused(
            "one",
            r#"{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}"#
        )
        .contains(r#".spec.containers: duplicate entries for key [name="a"]"#)
    );
    assert!(
        pod.refused("one", r#"{"spec":{"containers":[{"image":"a"}]}}"#)
            .contains("omits all key fields [\"name\"]")
    );
}

#[test]
fn client_side_apply_migrates() {
    let last = r#"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"},\"data\":{\"a\":\"1\"}}"#;
    let object = format!(
        r#"{{"metadata":{{"annotations":{{"{LAST_APPLIED}":"{last}"}}}},"data":{{"a":"1","b":"1"}}}}"#
    );
    let mut story = config_map();
    story.update("kubectl-client-side-apply", &object);
    // Others may not, kubectl may change what the annotation says, and nothing else.
    assert!(
        story
            .refused("other", r#"{"data":{"a":"2"}}"#)
            .contains(".data.a")
    );
    assert!(
        story
            .refused("kubectl", r#"{"data":{"a":"2","b":"2"}}"#)
            .ends_with(": .data.b")
    );
    story
        .apply("kubectl", r#"{"data":{"a":"2"}}"#)
        .has(&["data"], r#"{"a":"2","b":"1"}"#);
    let annotation = story
        .live
        .root()
        .text(&["metadata", "annotations", LAST_APPLIED])
        .to_string();
    assert!(annotation.contains(r#""data":{"a":"2"}"#), "{annotation}");
}

#[test]
fn subresources_are_managers_of_their_own() {
    let mut story = Story::of("v1", "Pod");
    story.update("kubelet", r#"{"spec":{"nodeName":"n"}}"#);
    story.subresource = "status";
    story.update("kubelet", r#"{"status":{"phase":"Running"}}"#);
    let list = managed::entries(&story.live).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(
        list.children().last().unwrap().text(&["subresource"]),
        "status"
    );
    assert_eq!(
        story.refused("one", r#"{"status":{"phase":"Failed"}}"#),
        r#"Apply failed with 1 conflict: conflict with "kubelet" with subresource "status" using v1: .status.phase"#
    );
}

#[test]
fn managers_of_updates_are_capped() {
    let mut story = config_map();
    for at in 0..15 {
        story.update(
            &format!("m{at:02}"),
            &format!(r#"{{"data":{{"k{at}":"v"}}}}"#),
        );
    }
    let managed = Managed::read(&story.live).unwrap();
    assert_eq!(managed.owners.len(), MAX_UPDATERS);
    assert!(
        managed
            .owners
            .keys()
            .any(|manager| manager.name == "ancient-changes")
    );
}

#[test]
fn tracking_is_switched_off_by_emptying_the_list() {
    let mut story = config_map();
    story
        .update("one", r#"{"data":{"a":"1"}}"#)
        .owners(&["one Update .data .data.a"]);
    assert!(asks_for_reset(&Doc::literal(
        r#"{"metadata":{"managedFields":[]}}"#
    )));
    assert!(!asks_for_reset(&story.live));
    story
        .update("one", r#"{"metadata":{"managedFields":[{}]}}"#)
        .owners(&[]);
    story.update("two", r#"{"data":{"a":"2"}}"#).owners(&[]);
}
