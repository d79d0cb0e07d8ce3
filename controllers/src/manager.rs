//! The table of controllers, and what runs them: all in one process, in one term of leadership.
//!
//! Informers live as long as the process and are warm before it leads, so that a new leader works at once.

use std::sync::Arc;

use client::{Access, Fence, Identity, Informers, Leadership, Recorder};
use seams::{Seams, Tasks};

use crate::apps::{ReplicaSet, ReplicationController};
use crate::cluster_role_aggregation::ClusterRoleAggregation;
use crate::context::Context;
use crate::controller::{Row, is_wanted};
use crate::cronjob::CronJobs;
use crate::daemonset::DaemonSets;
use crate::deployment::Deployments;
use crate::disruption::Disruption;
use crate::endpoints::EndpointsController;
use crate::endpointslice::EndpointSlices;
use crate::endpointslice_mirroring::Mirroring;
use crate::garbage_collector::GarbageCollector;
use crate::horizontal_pod_autoscaling::Autoscaling;
use crate::job::Jobs;
use crate::legacy_token_cleaner::LegacyTokenCleaner;
use crate::namespace::Namespaces;
use crate::node_ipam::NodeIpam;
use crate::node_lifecycle::NodeLifecycle;
use crate::pod_gc::PodGc;
use crate::replicaset::Replication;
use crate::resource_quota::ResourceQuotas;
use crate::root_ca::RootCaPublisher;
use crate::service_account::ServiceAccounts;
use crate::service_account_token::ServiceAccountTokens;
use crate::service_cidr::ServiceCidrs;
use crate::settings::Settings;
use crate::statefulset::StatefulSets;
use crate::taint_eviction::TaintEviction;
use crate::ttl::Ttl;
use crate::ttl_after_finished::TtlAfterFinished;
use crate::{bootstrap, certificates, devices, volumes};

/// All controllers, with upstream's names and service accounts.
pub const CONTROLLERS: &[Row] = &[
    Row::of::<bootstrap::signer::Signer>("bootstrap-signer-controller", "bootstrap-signer"),
    Row::of::<certificates::approving::Approving>(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
    ),
    Row::of::<certificates::cleaner::Cleaner>(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
    ),
    Row::of::<certificates::signing::Signing>(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
    ),
    Row::of::<ClusterRoleAggregation>(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
    ),
    Row::of::<CronJobs>("cronjob-controller", "cronjob-controller"),
    Row::of::<DaemonSets>("daemonset-controller", "daemon-set-controller"),
    Row::of::<Deployments>("deployment-controller", "deployment-controller"),
    Row::of::<devices::taints::Taints>(
        "device-taint-eviction-controller",
        "device-taint-eviction-controller",
    ),
    Row::of::<Disruption>("disruption-controller", "disruption-controller"),
    Row::of::<EndpointsController>("endpoints-controller", "endpoint-controller"),
    Row::of::<EndpointSlices>("endpointslice-controller", "endpointslice-controller"),
    Row::of::<Mirroring>(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring-controller",
    ),
    Row::of::<volumes::ephemeral::Ephemeral>(
        "ephemeral-volume-controller",
        "ephemeral-volume-controller",
    ),
    Row::of::<GarbageCollector>("garbage-collector-controller", "generic-garbage-collector"),
    Row::of::<Autoscaling>(
        "horizontal-pod-autoscaler-controller",
        "horizontal-pod-autoscaler",
    ),
    Row::of::<Jobs>("job-controller", "job-controller"),
    Row::of::<LegacyTokenCleaner>(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy-service-account-token-cleaner",
    ),
    Row::of::<Namespaces>("namespace-controller", "namespace-controller"),
    Row::of::<NodeIpam>("node-ipam-controller", "node-controller"),
    Row::of::<NodeLifecycle>("node-lifecycle-controller", "node-controller"),
    Row::of::<volumes::attach_detach::AttachDetach>(
        "persistentvolume-attach-detach-controller",
        "attachdetach-controller",
    ),
    Row::of::<volumes::binder::Binder>(
        "persistentvolume-binder-controller",
        "persistent-volume-binder",
    ),
    Row::of::<volumes::expand::Expand>("persistentvolume-expander-controller", "expand-controller"),
    Row::of::<volumes::protection::Volumes>(
        "persistentvolume-protection-controller",
        "pv-protection-controller",
    ),
    Row::of::<volumes::protection::Claims>(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection-controller",
    ),
    Row::of::<PodGc>("pod-garbage-collector-controller", "pod-garbage-collector"),
    Row::of::<Replication<ReplicaSet>>("replicaset-controller", "replicaset-controller"),
    Row::of::<Replication<ReplicationController>>(
        "replicationcontroller-controller",
        "replication-controller",
    ),
    Row::of::<devices::claims::Claims>("resourceclaim-controller", "resource-claim-controller"),
    Row::of::<ResourceQuotas>("resourcequota-controller", "resourcequota-controller"),
    Row::of::<RootCaPublisher>(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
    ),
    Row::of::<ServiceCidrs>("service-cidr-controller", "service-cidrs-controller"),
    Row::of::<ServiceAccounts>("serviceaccount-controller", "service-account-controller"),
    Row::of::<ServiceAccountTokens>("serviceaccount-token-controller", "tokens-controller"),
    Row::of::<StatefulSets>("statefulset-controller", "statefulset-controller"),
    Row::of::<TaintEviction>("taint-eviction-controller", "node-controller"),
    Row::of::<bootstrap::token_cleaner::TokenCleaner>("token-cleaner-controller", "token-cleaner"),
    Row::of::<TtlAfterFinished>(
        "ttl-after-finished-controller",
        "ttl-after-finished-controller",
    ),
    Row::of::<Ttl>("ttl-controller", "ttl-controller"),
    Row::of::<volumes::protection::Attributes>(
        "volumeattributesclass-protection-controller",
        "volumeattributesclass-protection-controller",
    ),
];

/// Runs controllers.
pub struct Manager {
    rows: Vec<Row>,
    access: Access,
    informers: Informers,
    settings: Arc<Settings>,
    seams: Seams,
    tasks: Tasks,
}

impl Manager {
    /// A manager of the controllers that the settings want. Its informers live as long as the tasks.
    pub fn new(access: Access, settings: Settings, seams: &Seams, tasks: &Tasks) -> Self {
        Self::of(CONTROLLERS, access, settings, seams, tasks)
    }

    /// A manager of some controllers.
    pub fn of(
        rows: &[Row],
        access: Access,
        settings: Settings,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Self {
        let own = access.client(&Identity::Component, None);
        let rows = rows
            .iter()
            .filter(|row| is_wanted(row, &settings.controllers));
        Self {
            rows: rows.copied().collect(),
            informers: Informers::new(own, seams, tasks),
            access,
            settings: Arc::new(settings),
            seams: seams.clone(),
            tasks: tasks.clone(),
        }
    }

    /// The informers that all controllers share.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// Makes the informers of all controllers fetch their objects, where nobody leads yet.
    pub fn warm(&self) {
        for row in &self.rows {
            let client = self.access.client(&identity(row), None);
            let events = Recorder::silent(&self.seams);
            (row.warm)(&self.context(row, None, client, events, &self.tasks.child()));
        }
    }

    /// Runs the controllers for a term, until it ends.
    pub async fn lead(&self, term: Leadership) {
        self.run(Some(&term.fence), &term.tasks).await;
    }

    /// Runs the controllers until the tasks end; with a fence, as long as that holds.
    pub async fn run(&self, fence: Option<&Fence>, tasks: &Tasks) {
        for row in &self.rows {
            let client = self.access.client(&identity(row), fence);
            let events = Recorder::start(&client, row.name, "", &self.seams, tasks);
            let context = self.context(row, fence, client, events, tasks);
            tasks.spawn(row.name, (row.run)(context));
        }
        tasks.cancelled().await;
    }

    fn context(
        &self,
        row: &Row,
        fence: Option<&Fence>,
        client: kube::Client,
        events: Recorder,
        tasks: &Tasks,
    ) -> Context {
        Context {
            name: row.name,
            since: fence.map_or(0, |fence| fence.revision),
            client,
            informers: self.informers.handle(),
            events,
            seams: self.seams.clone(),
            tasks: tasks.clone(),
            settings: self.settings.clone(),
        }
    }
}

fn identity(row: &Row) -> Identity {
    Identity::system(row.identity)
}

#[cfg(test)]
mod tests;
