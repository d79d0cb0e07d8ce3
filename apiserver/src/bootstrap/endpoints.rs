//! Who answers for the service `kubernetes`: every API server that lives.
//!
//! Each keeps a Lease that says where it is. Whoever sees one that nobody renews takes it away, and
//! with it the address. Lives are measured by when changes are seen, not by the clocks of others.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::doc::{Doc, New};
use api::values::time::Precision;
use tokio::time::{Instant, sleep, timeout};

use super::{object, remove, write};
use crate::instance::Api;
use crate::registry::{Outcome, metadata};
use crate::validation::At;

const GROUP: &str = "coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
/// What names of these leases start with; the name of the server follows.
const PREFIX: &str = "apiserver-";
/// Where upstream says that a lease is one of an API server.
const IDENTITY: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// Where a lease says where its server is.
const ADDRESS: &str = "trireme.io/address";
/// Between two renewals, and how long a server lives without one.
const INTERVAL: Duration = Duration::from_secs(4);
const LIFETIME: Duration = Duration::from_secs(10);
/// How long a server that stops may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// When which revision of a lease was seen first.
type Seen = HashMap<String, (u64, Instant)>;

/// Keeps the lease of this server and the addresses of all, until the tasks end.
pub(super) fn keep(api: &Arc<Api>) {
    let (api, owner) = (api.clone(), api.tasks.clone());
    let Ok(address) = api.addresses.default.parse::<SocketAddr>() else {
        let address = &api.addresses.default;
        tracing::warn!(
            address,
            "no IP address is advertised: this server does not answer for the \
                                 service kubernetes"
        );
        return;
    };
    owner.clone().spawn("apiserver-lease", async move {
        let mut seen = Seen::new();
        loop {
            if let Err(status) = turn(&api, address, &mut seen).await {
                tracing::debug!(%status, "the addresses of the API could not be kept");
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = owner.cancelled() => break,
            }
        }
        // Should the store be gone already, others notice soon enough.
        let _ = timeout(FAREWELL, leave(&api)).await;
    });
}

async fn turn(api: &Arc<Api>, own: SocketAddr, seen: &mut Seen) -> Outcome<()> {
    renew(api, own).await?;
    let mut addresses = BTreeSet::from([own]);
    let now = Instant::now();
    let leases = leases(api);
    seen.retain(|name, _| {
        leases
            .iter()
            .any(|lease| metadata::text(&lease.1, "name") == name)
    });
    for (revision, lease) in leases {
        let name = metadata::text(&lease, "name").to_string();
        let entry = seen.entry(name.clone()).or_insert((revision, now));
        if entry.0 != revision {
            *entry = (revision, now);
        }
        if now - entry.1 >= LIFETIME {
            remove(api, GROUP, "v1", "leases", NAMESPACE, &name).await?;
        } else if let Some(address) = address_of(&lease) {
            addresses.insert(address);
        }
    }
    publish(api, &addresses).await
}

async fn leave(api: &Arc<Api>) -> Outcome<()> {
    let name = format!("{PREFIX}{}", api.name);
    remove(api, GROUP, "v1", "leases", NAMESPACE, &name).await?;
    let others = leases(api)
        .into_iter()
        .filter(|(_, lease)| metadata::text(lease, "name") != name);
    // Servers behind one balancer share an address: it stays for the others.
    let addresses: BTreeSet<SocketAddr> =
        others.filter_map(|(_, lease)| address_of(&lease)).collect();
    // The last one's address stays: nobody else could be asked anyway.
    if addresses.is_empty() {
        return Ok(());
    }
    publish(api, &addresses).await
}

/// The leases of all API servers, with their revisions.
fn leases(api: &Api) -> Vec<(u64, Doc)> {
    let all = api.objects().list(GROUP, "leases", NAMESPACE);
    let docs = all.iter().map(|object| (object.revision, object.doc()));
    docs.filter(|(_, doc)| metadata::text(doc, "name").starts_with(PREFIX))
        .collect()
}

fn address_of(lease: &Doc) -> Option<SocketAddr> {
    let annotations = At::root(lease).path(&["metadata", "annotations"]);
    annotations.entry(ADDRESS)?.str().parse().ok()
}

async fn renew(api: &Arc<Api>, own: SocketAddr) -> Outcome<()> {
    let name = format!("{PREFIX}{}", api.name);
    let live = api
        .objects()
        .get(GROUP, "leases", NAMESPACE, &name)
        .map(|live| live.doc());
    let is_new = live.is_none();
    let mut doc = live.unwrap_or_else(|| {
        let mut doc = object("coordination.k8s.io/v1", "Lease", NAMESPACE, &name);
        doc.set_path(&["metadata", "labels", IDENTITY.0], IDENTITY.1);
        doc
    });
    doc.set_path(&["metadata", "annotations", ADDRESS], &own.to_string());
    doc.set_path(&["spec", "holderIdentity"], &api.name);
    let lifetime = i64::try_from(LIFETIME.as_secs()).unwrap_or_default();
    doc.set_path(&["spec", "leaseDurationSeconds"], lifetime);
    let now = api.moment().text(Precision::Micros);
    doc.set_path(&["spec", "renewTime"], &now);
    write(api, GROUP, "v1", "leases", doc, is_new).await
}

/// Writes the addresses, if others are published.
async fn publish(api: &Arc<Api>, addresses: &BTreeSet<SocketAddr>) -> Outcome<()> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .iter()
        .map(SocketAddr::ip)
        .partition(IpAddr::is_ipv4);
    let ips = if v4.is_empty() { &v6 } else { &v4 };
    let kind = if v4.is_empty() { "IPv6" } else { "IPv4" };
    let port = addresses
        .first()
        .map_or(0, |address| i64::from(address.port()));
    let endpoints = endpoints(ips, port);
    replace(api, "", "endpoints", "subsets", endpoints).await?;
    replace(
        api,
        "discovery.k8s.io",
        "endpointslices",
        "endpoints",
        slice(ips, kind, port),
    )
    .await
}

/// Creates an object, or puts other contents under a key of it.
async fn replace(
    api: &Arc<Api>,
    group: &str,
    resource: &str,
    key: &'static str,
    wanted: Doc,
) -> Outcome<()> {
    let Some(live) = api.objects().get(group, resource, "default", "kubernetes") else {
        return write(api, group, "v1", resource, wanted, true).await;
    };
    let mut doc = live.doc();
    let shown = |doc: &Doc| essence(At::root(doc).get(key));
    if shown(&doc) == shown(&wanted) {
        return Ok(());
    }
    if let Some(value) = wanted.root().get(key) {
        let copy = doc.graft(value);
        let top = doc.top();
        doc.put(top, key, copy);
    }
    write(api, group, "v1", resource, doc, false).await
}

/// All texts and numbers of a value, without what defaults add.
fn essence(at: At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for one in at.items() {
        for list in ["addresses", "ports"] {
            for item in one.get(list).items() {
                let address = item.get("ip").str();
                let port = item.get("port").int();
                found.push(format!("{}{address}{port}", item.str()));
            }
        }
    }
    found
}

fn endpoints(ips: &[IpAddr], port: i64) -> Doc {
    let mut doc = object("v1", "Endpoints", "default", "kubernetes");
    doc.set_path(
        &[
            "metadata",
            "labels",
            "endpointslice.kubernetes.io/skip-mirror",
        ],
        "true",
    );
    let list = doc.set_path(&["subsets"], New::List);
    let subset = doc.push(list, New::Object);
    let addresses = doc.list(subset, "addresses");
    for ip in ips {
        let address = doc.push(addresses, New::Object);
        doc.set(address, "ip", &ip.to_string());
    }
    let ports = doc.list(subset, "ports");
    https(&mut doc, ports, port);
    doc
}

fn slice(ips: &[IpAddr], kind: &str, port: i64) -> Doc {
    let mut doc = object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "default",
        "kubernetes",
    );
    doc.set_path(
        &["metadata", "labels", "kubernetes.io/service-name"],
        "kubernetes",
    );
    doc.set_path(&["addressType"], kind);
    let list = doc.set_path(&["endpoints"], New::List);
    for ip in ips {
        let endpoint = doc.push(list, New::Object);
        let addresses = doc.list(endpoint, "addresses");
        doc.push(addresses, &ip.to_string());
        let conditions = doc.object(endpoint, "conditions");
        doc.set(conditions, "ready", true);
    }
    let ports = doc.set_path(&["ports"], New::List);
    https(&mut doc, ports, port);
    doc
}

fn https(doc: &mut Doc, ports: api::doc::Id, port: i64) {
    let one = doc.push(ports, New::Object);
    doc.set(one, "name", "https");
    doc.set(one, "protocol", "TCP");
    doc.set(one, "port", port);
}
