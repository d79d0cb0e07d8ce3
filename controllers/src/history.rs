//! ControllerRevisions: what a StatefulSet's or DaemonSet's template was, one object per template.

use std::sync::Arc;

use client::{View, errors};
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Api, Client};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::adoption::{Owned, controller_ref};
use crate::template::{FNV_OFFSET, Template, fnv1, safe_encode};

/// The label of a revision, and of the pods made from it, that tells it from its siblings.
pub const REVISION_HASH: &str = "controller-revision-hash";
/// The label of a StatefulSet's revision that has its hash.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// A ControllerRevision.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Revision {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The template, as a patch of its owner.
    #[serde(deserialize_with = "canonical")]
    pub data: Arc<str>,
    /// Its number; the highest is the latest.
    pub revision: i64,
}

client::view!(Revision, k8s_openapi::api::apps::v1::ControllerRevision);

fn canonical<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    let data = Value::deserialize(from)?;
    let template = data.pointer("/spec/template").cloned();
    // What is no template of ours stays as it is: it equals nothing that is ours.
    Ok(template.map_or_else(
        || data.to_string().into(),
        |template| snapshot(&Template::new(template)),
    ))
}

impl Revision {
    /// The template that it stands for.
    pub fn template(&self) -> Template {
        let mut data: Value = serde_json::from_str(&self.data).unwrap_or_default();
        let mut template = data
            .pointer_mut("/spec/template")
            .map(Value::take)
            .unwrap_or_default();
        if let Some(template) = template.as_object_mut() {
            template.remove("$patch");
        }
        Template::new(template)
    }
}

/// What a revision of a template holds: a patch that puts the template into its owner.
pub fn snapshot(template: &Template) -> Arc<str> {
    let mut template = template.value();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}}).to_string().into()
}

/// The hash of a revision that collided `collisions` times.
pub fn hash(data: &str, collisions: i32) -> String {
    let hash = fnv1(
        fnv1(FNV_OFFSET, data.as_bytes()),
        collisions.to_string().as_bytes(),
    );
    safe_encode(&hash.to_string())
}

/// The name of a parent's revision.
pub fn name(parent: &str, hash: &str) -> String {
    let end = parent.floor_char_boundary(223);
    format!("{}-{hash}", &parent[..end])
}

/// Sorts revisions, the latest last.
pub fn sort(revisions: &mut [Arc<Revision>]) {
    revisions.sort_by(|a, b| {
        let born = |one: &Revision| one.metadata.creation_timestamp.clone();
        a.revision
            .cmp(&b.revision)
            .then_with(|| born(a).cmp(&born(b)))
            .then_with(|| a.name().cmp(b.name()))
    });
}

/// Which revision stands for a template.
#[derive(Debug)]
pub enum Wanted {
    /// The latest does.
    Latest(Arc<Revision>),
    /// An older one does: it becomes the latest.
    Older(Arc<Revision>, i64),
    /// None does yet: the next number is for a new one.
    New(i64),
}

/// Which of `revisions`, sorted, stands for a template.
pub fn wanted(revisions: &[Arc<Revision>], data: &str) -> Wanted {
    let next = revisions.last().map_or(1, |last| last.revision + 1);
    let equal = revisions.iter().rev().find(|one| *one.data == *data);
    match (revisions.last(), equal) {
        (Some(last), Some(_)) if *last.data == *data => Wanted::Latest(last.clone()),
        (_, Some(equal)) => Wanted::Older(equal.clone(), next),
        (_, None) => Wanted::New(next),
    }
}

/// Those of `revisions`, sorted, that go: all that are not live but the `limit` latest.
pub fn surplus(
    revisions: &[Arc<Revision>],
    is_live: impl Fn(&Revision) -> bool,
    limit: usize,
) -> Vec<&Arc<Revision>> {
    let mut old: Vec<_> = revisions.iter().filter(|one| !is_live(one)).collect();
    old.truncate(old.len().saturating_sub(limit));
    old
}

/// The whole revision of an owner's template.
pub fn body<O: Owned>(
    owner: &O,
    template: &Template,
    hash: &str,
    label: (&str, &str),
    revision: i64,
) -> Value {
    let mut labels = template.labels().clone();
    labels.insert(label.0.into(), label.1.into());
    let data: Value = serde_json::from_str(&snapshot(template)).unwrap_or_default();
    json!({
        "apiVersion": Revision::API_VERSION,
        "kind": Revision::KIND,
        "metadata": {
            "name": name(owner.name(), hash),
            "namespace": owner.namespace(),
            "labels": labels,
            "annotations": owner.meta().annotations,
            "ownerReferences": [controller_ref(owner)],
        },
        "data": data,
        "revision": revision,
    })
}

/// Makes a revision; the one that is there already, if it holds the same; `None` if it holds
/// something else.
pub async fn create<O: Owned>(
    client: &Client,
    owner: &O,
    body: &Value,
) -> Result<Option<Revision>, kube::Error> {
    let api = Api::<Revision>::namespaced(client.clone(), owner.namespace());
    let bytes = body.to_string().into_bytes();
    let request = Request::new(api.resource_url()).create(&PostParams::default(), bytes);
    let request = request.map_err(kube::Error::BuildRequest)?;
    match client.request::<Revision>(request).await {
        Ok(made) => Ok(Some(made)),
        Err(error) if errors::is_already_exists(&error) => {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let known = api.get(name).await?;
            let wanted = Revision::deserialize(body).map_err(kube::Error::SerdeError)?;
            Ok((known.data == wanted.data).then_some(known))
        }
        Err(error) => Err(error),
    }
}

/// Gives a revision a new number.
pub async fn renumber(
    client: &Client,
    revision: &Revision,
    number: i64,
) -> Result<Revision, kube::Error> {
    let api = Api::<Revision>::namespaced(client.clone(), revision.namespace());
    let patch = Patch::Merge(json!({"metadata": {"uid": revision.uid()}, "revision": number}));
    api.patch(revision.name(), &PatchParams::default(), &patch)
        .await
}

/// Deletes a revision; one that is gone is.
pub async fn delete(client: &Client, revision: &Revision) -> Result<(), kube::Error> {
    let api = Api::<Revision>::namespaced(client.clone(), revision.namespace());
    let preconditions = Some(Preconditions {
        uid: Some(revision.uid().into()),
        ..Preconditions::default()
    });
    let how = DeleteParams {
        preconditions,
        ..DeleteParams::default()
    };
    match api.delete(revision.name(), &how).await {
        Err(error) if !errors::is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> Template {
        Template::new(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"image": image}}))
    }

    fn revision(name: &str, number: i64, image: &str) -> Arc<Revision> {
        let template = template(image).value();
        let mut data = json!({"spec": {"template": template}});
        data["spec"]["template"]["$patch"] = "replace".into();
        data["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        let value = json!({"metadata": {"name": name}, "revision": number, "data": data});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_revision_stands_for_the_template_it_was_made_from() {
        let one = revision("a", 1, "x");
        assert_eq!(one.data, snapshot(&template("x")));
        assert_eq!(one.template(), template("x"));
        assert_eq!(one.template().labels()["a"], "b");
    }

    #[test]
    fn the_latest_an_older_or_a_new_revision_is_wanted() {
        let mut all = vec![revision("b", 2, "y"), revision("a", 1, "x")];
        sort(&mut all);
        assert_eq!(all[1].name(), "b");
        assert!(
            matches!(wanted(&all, &snapshot(&template("y"))), Wanted::Latest(one) if one.name() == "b")
        );
        assert!(
            matches!(wanted(&all, &snapshot(&template("x"))), Wanted::Older(one, 3) if one.name() == "a")
        );
        assert!(matches!(
            wanted(&all, &snapshot(&template("z"))),
            Wanted::New(3)
        ));
        assert!(matches!(
            wanted(&[], &snapshot(&template("z"))),
            Wanted::New(1)
        ));
    }

    #[test]
    fn the_oldest_that_nobody_uses_go() {
        let all: Vec<_> = (1..=5).map(|n| revision(&n.to_string(), n, "x")).collect();
        let names = |limit| -> Vec<_> {
            let gone = surplus(&all, |one| ["2", "5"].contains(&one.name()), limit);
            gone.into_iter().map(|one| one.name().to_string()).collect()
        };
        assert_eq!(names(0), ["1", "3", "4"]);
        assert_eq!(names(2), ["1"]);
        assert!(names(3).is_empty() && names(9).is_empty());
    }

    #[test]
    fn names_are_cut_to_fit() {
        assert_eq!(name("web", "abc"), "web-abc");
        assert_eq!(name(&"w".repeat(300), "abc").len(), 227);
        assert_ne!(hash("data", 0), hash("data", 1));
    }
}
