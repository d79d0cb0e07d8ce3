//! A real API server on a store in memory for tests of controllers, with clients for anybody.

use std::time::Duration;

use apiserver::testing::{PATIENCE, Server};
use apiserver::user::{MASTERS, User};
use client::transport::transport;
use client::{Access, Identity};
use seams::{Seams, Tasks};
use tokio::time::{Instant, sleep};

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

/// Waits for something to come about, and yields it.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
