//! A real API server on a store in memory for tests of controllers, with clients for anybody.

use std::fmt::Debug;

use apiserver::testing::Server;
pub(crate) use apiserver::testing::eventually;
use apiserver::user::{MASTERS, User};
use client::transport::transport;
use client::{Access, Identity};
use seams::{Seams, Tasks};
use serde::de::DeserializeOwned;

use crate::controller::Row;
use crate::manager::Manager;
use crate::settings::Settings;

/// An API server, and what runs against it; all of it ends when this is dropped.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    /// Access as kube-controller-manager and its service accounts have it.
    pub(crate) access: Access,
    /// A client that may do everything.
    pub(crate) admin: kube::Client,
    pub(crate) seams: Seams,
    pub(crate) tasks: Tasks,
}

impl Cluster {
    /// A server without controllers. Namespaces have no service accounts: see `Server::namespace`.
    pub(crate) async fn start() -> Self {
        let server = Server::start().await;
        let api = server.api.clone();
        let access = Access::new("kube-controller-manager", move |identity: &Identity| {
            let user = match identity.user() {
                Some((name, groups)) => User {
                    name,
                    groups,
                    ..User::default()
                },
                None => User::new("system:kube-controller-manager", &[]),
            };
            transport(apiserver::in_process::InProcess::new(api.clone(), user))
        });
        let admin = transport(server.service(User::new("admin", &[MASTERS])));
        let seams = Seams::real();
        Self {
            tasks: seams.tasks(),
            admin: kube::Client::new(admin, "default"),
            access,
            server,
            seams,
        }
    }

    /// Runs controllers until the cluster is dropped.
    pub(crate) fn run(&self, rows: &[Row]) {
        self.run_with(rows, Settings::default());
    }

    /// Runs controllers that are set up otherwise.
    pub(crate) fn run_with(&self, rows: &[Row], settings: Settings) {
        let access = self.access.clone();
        let manager = Manager::of(rows, access, settings, &self.seams, &self.tasks);
        let tasks = self.tasks.clone();
        self.tasks.spawn("controllers", async move {
            manager.run(None, &tasks).await;
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Waits until there is no object of a name.
pub(crate) async fn gone<K>(objects: &kube::Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + Debug,
{
    let what = format!("{name} is gone");
    eventually(&what, || async {
        objects.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

/// Waits until a selector finds so many pods that nobody wants gone.
pub(crate) async fn pods_of(
    pods: &kube::Api<k8s_openapi::api::core::v1::Pod>,
    selector: &str,
    count: usize,
) -> Vec<k8s_openapi::api::core::v1::Pod> {
    let which = kube::api::ListParams::default().labels(selector);
    let what = format!("there are {count} pods of {selector}");
    eventually(&what, || async {
        let mut all = pods.list(&which).await.ok()?.items;
        all.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        (all.len() == count).then_some(all)
    })
    .await
}

/// Says of pods what their node would say once they serve.
pub(crate) async fn make_ready(
    pods: &kube::Api<k8s_openapi::api::core::v1::Pod>,
    which: &[k8s_openapi::api::core::v1::Pod],
) {
    let now = "2026-01-01T00:00:00Z";
    let patch = serde_json::json!({"status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": now}]}});
    let patch = kube::api::Patch::Merge(patch);
    for pod in which {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        // One that is gone meanwhile needs nothing.
        let _ = pods
            .patch_status(name, &kube::api::PatchParams::default(), &patch)
            .await;
    }
}
