//! Addresses of services: out of the blocks of `ServiceCIDR` objects, each held by an `IPAddress`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::doc::{Doc, New};
use api::field::FieldError;
use api::schema;
use api::status::Status;
use api::values::ip::{self, Cidr};

use super::families::of_address;
use super::{invalid, kept_for_askers, spec};
use crate::registry::object::canonical;
use crate::registry::{Call, Outcome, metadata};
use crate::storage::{Along, keys, object};
use crate::validation::At;

const GROUP: &str = "networking.k8s.io";
/// How upstream marks the addresses that it gave.
const LABELS: (&str, &str, &str) = (
    "ipaddress.kubernetes.io/ip-family",
    "ipaddress.kubernetes.io/managed-by",
    "ipallocator.k8s.io",
);
/// Of every block so much, and so many at most, is kept for those who ask.
const KEPT_STEP: u128 = 16;
const KEPT_MOST: u128 = 256;

/// The addresses that a service holds.
pub(super) fn of(service: &Doc) -> Vec<String> {
    let spec = spec(service);
    if spec.get("type").str() == "ExternalName" {
        return Vec::new();
    }
    let addresses = spec.get("clusterIPs").items().map(At::str);
    let held = addresses.filter(|one| !one.is_empty() && *one != "None");
    held.map(str::to_string).collect()
}

/// Gives a service the addresses that it lacks, and takes back those that it has left.
pub(super) fn give(
    call: &Call<'_>,
    new: &mut Doc,
    old: Option<&Doc>,
    along: &mut Along,
) -> Outcome<()> {
    let before = old.map(of).unwrap_or_default();
    let is_headless = spec(new).get("clusterIPs").contains("None");
    if spec(new).get("type").str() != "ExternalName" && !is_headless {
        let families: Vec<String> = spec(new)
            .get("ipFamilies")
            .items()
            .map(|at| at.str().to_string())
            .collect();
        for (at, family) in families.iter().enumerate() {
            let asked = spec(new)
                .get("clusterIPs")
                .items()
                .nth(at)
                .map_or("", At::str)
                .to_string();
            if asked.is_empty() {
                let address = free(call, new, family)?;
                set(new, at, &address);
                hold(call, new, &address, along)?;
            } else if !before.contains(&asked) {
                judge(call, new, &asked)?;
                hold(call, new, &asked, along)?;
            }
        }
    }
    let now = of(new);
    let left: Vec<String> = before
        .into_iter()
        .filter(|one| !now.contains(one))
        .collect();
    take_back(call, old.unwrap_or(new), &left, along);
    Ok(())
}

/// Takes back addresses that a service holds.
pub(super) fn take_back(call: &Call<'_>, service: &Doc, addresses: &[String], along: &mut Along) {
    for address in addresses {
        let Some(held) = call.api.objects().get(GROUP, "ipaddresses", "", address) else {
            continue;
        };
        let held = held.doc();
        let parent = At::root(&held).path(&["spec", "parentRef"]);
        let is = |key, value: &str| parent.get(key).str() == value;
        if is("resource", "services")
            && is("namespace", metadata::text(service, "namespace"))
            && is("name", metadata::text(service, "name"))
        {
            along.deletes(key(address));
        }
    }
}

fn key(address: &str) -> String {
    format!("{}{address}", keys::prefix(GROUP, "ipaddresses", false))
}

/// Writes an address where it belongs.
fn set(new: &mut Doc, at: usize, address: &str) {
    let top = new.top();
    let spec = new.object(top, "spec");
    let list = new.list(spec, "clusterIPs");
    match new.node(list).item(at).map(|node| node.id()) {
        Some(old) => new.assign(old, New::Str(address)),
        None => {
            new.push(list, address);
        }
    }
    if at == 0 {
        new.set(spec, "clusterIP", address);
    }
}

/// Holds an address for a service.
fn hold(call: &Call<'_>, service: &Doc, address: &str, along: &mut Along) -> Outcome<()> {
    let schema = schema::kind(GROUP, "v1", "IPAddress");
    let schema = schema.ok_or_else(|| Status::internal("IPAddress has no schema"))?;
    let mut doc = Doc::literal(r#"{"kind":"IPAddress","apiVersion":"networking.k8s.io/v1"}"#);
    for (name, value) in [
        ("name", address),
        ("uid", &*call.api.uuid()),
        ("creationTimestamp", &*call.now),
    ] {
        doc.set_path(&["metadata", name], value);
    }
    doc.set_path(&["metadata", "labels", LABELS.0], of_address(address));
    doc.set_path(&["metadata", "labels", LABELS.1], LABELS.2);
    for (name, value) in [
        ("resource", "services"),
        ("namespace", metadata::text(service, "namespace")),
        ("name", metadata::text(service, "name")),
    ] {
        doc.set_path(&["spec", "parentRef", name], value);
    }
    canonical(&mut doc, schema)?;
    along.needs(key(address), 0);
    along.puts(key(address), object::to_stored(&mut doc));
    Ok(())
}

fn is_held(call: &Call<'_>, address: &str) -> bool {
    call.api
        .objects()
        .get(GROUP, "ipaddresses", "", address)
        .is_some()
}

/// Whether an address can be had that a service asks for.
fn judge(call: &Call<'_>, service: &Doc, asked: &str) -> Outcome<()> {
    let why = match ip::parse(asked).map(|address| address.to_canonical()) {
        Some(address)
            if !blocks(call)
                .iter()
                .any(|block| Range::of(block).has(address)) =>
        {
            "the provided network does not match the current range"
        }
        Some(_) if is_held(call, asked) => "provided IP is already allocated",
        Some(_) => return Ok(()),
        None => {
            let why = format!("failed to parse service IP {asked:?}");
            return Err(Status::internal(why).into());
        }
    };
    let field = "spec.clusterIPs";
    let list = spec(service).get("clusterIPs");
    let why = format!("failed to allocate IP {asked}: {why}");
    let error = match list.node() {
        Some(node) => FieldError::invalid(field, node, why),
        None => FieldError::invalid(field, asked, why),
    };
    invalid(service, &[error])
}

/// An address that nobody holds.
fn free(call: &Call<'_>, service: &Doc, family: &str) -> Outcome<String> {
    for block in blocks(call) {
        if block.is_v6() != (family == "IPv6") {
            continue;
        }
        let range = Range::of(&block);
        let kept = kept_for_askers(range.size(), KEPT_STEP, KEPT_MOST);
        for (from, size) in [(kept, range.size() - kept), (0, kept)] {
            if size == 0 {
                continue;
            }
            let start = u128::from(call.api.seams.rng.next_u64()) % size;
            let all = (start..size).chain(0..start).map(|at| range.at(from + at));
            if let Some(free) = all
                .map(ip::canonical)
                .find(|address| !is_held(call, address))
            {
                return Ok(free);
            }
        }
    }
    let name = metadata::text(service, "name");
    let why = format!("failed to allocate a serviceIP for Service {name:?}: range is full");
    Err(Status::internal(why).into())
}

/// The blocks that addresses are given out of: those of objects that are ready, or those of the
/// settings until there is an object of them.
fn blocks(call: &Call<'_>) -> Vec<Cidr> {
    let mut blocks = Vec::new();
    let mut has_own = false;
    for object in call.api.objects().list(GROUP, "servicecidrs", "") {
        let doc = object.doc();
        let at = At::root(&doc);
        has_own |= at.path(&["metadata", "name"]).str() == "kubernetes";
        let ready = at.path(&["status", "conditions"]).find("type", "Ready");
        let is_ready = ready.is_none_or(|ready| ready.get("status").str() == "True");
        if is_ready && at.path(&["metadata", "deletionTimestamp"]).is_empty() {
            let cidrs = at.path(&["spec", "cidrs"]).items();
            blocks.extend(cidrs.filter_map(|cidr| Cidr::parse(cidr.str())));
        }
    }
    if !has_own {
        blocks.extend(&call.api.allocator.settings().blocks);
    }
    blocks
}

/// The addresses of a block that services can have: not the first, and of IPv4 not the last.
struct Range {
    first: u128,
    last: u128,
    is_v6: bool,
}

impl Range {
    fn of(block: &Cidr) -> Self {
        let (network, width) = match block.network().to_canonical() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let hosts = width - u32::from(block.plain_bits());
        let most = u128::MAX.checked_shr(128 - hosts).unwrap_or(0);
        let last = network + most;
        Self {
            first: network + 1,
            last: if width == 32 {
                last.saturating_sub(1)
            } else {
                last
            },
            is_v6: width == 128,
        }
    }

    fn size(&self) -> u128 {
        (self.last + 1).saturating_sub(self.first)
    }

    fn at(&self, index: u128) -> IpAddr {
        let address = self.first + index;
        match (self.is_v6, u32::try_from(address)) {
            (false, Ok(address)) => Ipv4Addr::from(address).into(),
            _ => Ipv6Addr::from(address).into(),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        let (number, is_v6) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false),
            IpAddr::V6(address) => (u128::from(address), true),
        };
        is_v6 == self.is_v6 && (self.first..=self.last).contains(&number)
    }
}

/// The first address of a block: that of the API itself.
pub fn first(block: &Cidr) -> String {
    ip::canonical(Range::of(block).at(0))
}
