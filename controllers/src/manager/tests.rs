//! Controllers as the manager runs them, against a real API server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use client::{EventType, Informer, Key, Queue, Subscription, View, errors};
use k8s_openapi::api::core::v1::{ConfigMap, Event, ObjectReference};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;
use crate::controller::{Again, Controller, Error};
use crate::testing::{Cluster, eventually};

/// Copies `in` of every config map to `out`.
struct Copier {
    maps: Informer<ConfigMap>,
    context: Context,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for Copier {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let maps = context.informers.of::<ConfigMap>();
        let queue = queue.clone();
        let subscription = maps.on_change(move |_, new| {
            if let Some(new) = new {
                queue.add(Key::of(&**new));
            }
        });
        Self {
            maps,
            context: context.clone(),
            _subscription: subscription,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(map) = self.maps.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let data = map.data.clone().unwrap_or_default();
        let wanted = data
            .get("in")
            .filter(|wanted| data.get("out") != Some(wanted));
        let Some(wanted) = wanted else {
            return Ok(Again::Done);
        };
        let maps: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({"data": {"out": wanted}}));
        maps.patch(&key.name, &PatchParams::default(), &patch)
            .await?;
        let object = ObjectReference {
            kind: Some("ConfigMap".to_string()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            ..ObjectReference::default()
        };
        let recorder = self.context.recorder("copier");
        recorder.event(&object, EventType::Normal, "Copied", "It was copied");
        Ok(Again::Done)
    }
}

/// An identity that may write config maps and events.
const ROWS: &[Row] = &[Row::of::<Copier>("copier", "namespace-controller")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_brings_objects_to_what_they_should_be() {
    let cluster = Cluster::start().await;
    allow_everything(&cluster).await;
    cluster.run(ROWS);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin.clone(), "default");
    let mut map = ConfigMap::default();
    map.metadata.name = Some("m".to_string());
    map.data = Some(BTreeMap::from([("in".to_string(), "1".to_string())]));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let found = eventually("it is copied", || async {
        let map = maps.get("m").await.unwrap();
        map.data.as_ref()?.get("out")?;
        Some(map)
    })
    .await;
    // Objects know who changed them.
    let managers = found.metadata.managed_fields.unwrap_or_default();
    let managers: Vec<_> = managers.into_iter().filter_map(|one| one.manager).collect();
    assert!(
        managers.contains(&"kube-controller-manager".to_string()),
        "{managers:?}"
    );
    let events: Api<Event> = Api::namespaced(cluster.admin.clone(), "default");
    let event = eventually("there is an event", || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("Copied"))
    })
    .await;
    assert_eq!(event.source.unwrap().component.as_deref(), Some("copier"));
    assert_eq!(event.count, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_act_in_their_own_names() {
    let cluster = Cluster::start().await;
    let identity = Identity::system("deployment-controller");
    let client = cluster.access.client(&identity, None);
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let refused = maps.list(&ListParams::default()).await.unwrap_err();
    assert!(errors::is_forbidden(&refused), "{refused}");
    let message = &errors::status(&refused).unwrap().message;
    let wanted = "User \"system:serviceaccount:kube-system:deployment-controller\" cannot list";
    assert!(message.contains(wanted), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warm_informers_have_their_objects_before_anybody_leads() {
    let cluster = Cluster::start().await;
    let early = serde_json::from_value(json!({"metadata": {"name": "early"}})).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin.clone(), "default");
    maps.create(&PostParams::default(), &early).await.unwrap();
    let settings = Settings::default();
    let access = cluster.access.clone();
    let manager = Manager::of(ROWS, access, settings, &cluster.seams, &cluster.tasks);
    manager.warm();
    let maps = manager.informers().of::<ConfigMap>();
    maps.synced().await;
    assert!(maps.list().iter().any(|map| map.name() == "early"));
}

#[test]
fn controllers_are_chosen_by_name() {
    let on = Row::of::<Copier>("on", "x");
    let off = Row::of::<Copier>("off", "x").off_by_default();
    let words = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
    for (text, on_wanted, off_wanted) in [
        ("*", true, false),
        ("*,off", true, true),
        ("*,-on", false, false),
        ("-on,*", false, false),
        ("off", false, true),
    ] {
        let wanted = words(text);
        assert_eq!(is_wanted(&on, &wanted), on_wanted, "{text}");
        assert_eq!(is_wanted(&off, &wanted), off_wanted, "{text}");
    }
    assert_eq!(
        crate::controller::unknown(&[on, off], &words("*,on,-x")),
        ["x"]
    );
}

async fn allow_everything(cluster: &Cluster) {
    use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
    let binding = ClusterRoleBinding {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some("everybody".to_string()),
            ..Default::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_string()),
            kind: "ClusterRole".to_string(),
            name: "cluster-admin".to_string(),
        },
        subjects: Some(vec![Subject {
            kind: "Group".to_string(),
            name: "system:serviceaccounts".to_string(),
            ..Subject::default()
        }]),
    };
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.admin.clone());
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}
