//! What services get of what there is only once: addresses in the cluster and ports of all nodes.
//!
//! It is given in the transaction that writes the service and taken back in the one that deletes or
//! changes it, so that nothing is ever held by nobody or by two. What is free the cache tells; that
//! it still is, the transaction.
//!
//! - [`families`]: which of IPv4 and IPv6 a service has
//! - [`addresses`]: addresses, each an `IPAddress` object
//! - [`ports`]: ports of nodes

pub mod addresses;
pub mod families;
pub mod ports;

use std::ops::RangeInclusive;

use api::doc::Doc;
use api::field::FieldError;
use api::status::{Qualified, Status};
use api::values::ip::Cidr;

use crate::failure;
use crate::registry::{Call, Outcome, metadata};
use crate::storage::Along;
use crate::validation::At;
use ports::Ports;

/// What services may get.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Blocks of addresses: one, or one of each family.
    pub blocks: Vec<Cidr>,
    /// Ports of nodes.
    pub node_ports: RangeInclusive<i64>,
}

impl Default for Settings {
    /// Upstream's.
    fn default() -> Self {
        Self {
            blocks: Cidr::parse("10.96.0.0/12").into_iter().collect(),
            node_ports: 30_000..=32_767,
        }
    }
}

impl Settings {
    /// Addresses out of a block, or out of one of each family, set apart by a comma.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn of_blocks(text: &str) -> Result<Self, String> {
        let blocks: Option<Vec<Cidr>> =
            text.split(',').map(|one| Cidr::parse(one.trim())).collect();
        let blocks = blocks.ok_or_else(|| format!("{text:?} is not a block of addresses"))?;
        match &*blocks {
            [_] => {}
            [one, two] if one.is_v6() != two.is_v6() => {}
            _ => return Err(format!("{text:?} is not one block, or one of each family")),
        }
        if blocks.iter().any(|block| block.is_v6() && block.bits < 64) {
            return Err("blocks of IPv6 have prefixes of 64 bits at least".to_string());
        }
        Ok(Self {
            blocks,
            ..Self::default()
        })
    }
}

/// Gives services what they need.
pub struct Allocator {
    settings: Settings,
    ports: Ports,
}

impl Allocator {
    /// Gives what the settings say.
    pub fn new(settings: Settings) -> Self {
        let ports = Ports::new(settings.node_ports.clone());
        Self { settings, ports }
    }

    /// What it gives.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Call<'_> {
    /// Gives a new or changed service what it needs, and takes back what it needs no more.
    ///
    /// # Errors
    ///
    /// If there is nothing left, or not what it asks for.
    pub async fn allocate(
        &self,
        new: &mut Doc,
        old: Option<&Doc>,
        along: &mut Along,
    ) -> Outcome<()> {
        let resource = self.row.resource;
        let is_service = (resource.group, resource.name) == ("", "services");
        if !is_service || !self.info.subresource.is_empty() {
            return Ok(());
        }
        let (mut given, mut with) = (new.clone(), along.clone());
        if self.give(&mut given, old, &mut with).is_ok() {
            (*new, *along) = (given, with);
            return Ok(());
        }
        // What seems to be taken may have been given back a moment ago.
        let caught_up = self.api.storage.cache.catch_up(self.deadline).await;
        caught_up.map_err(|error| failure::of_read(&error))?;
        self.give(new, old, along)
    }

    fn give(&self, new: &mut Doc, old: Option<&Doc>, along: &mut Along) -> Outcome<()> {
        let allocator = &self.api.allocator;
        families::settle(new, old, &allocator.settings)?;
        addresses::give(self, new, old, along)?;
        ports::give(self, &allocator.ports, new, old, along)
    }

    /// Takes back what a service has that goes.
    pub fn release(&self, old: &Doc, along: &mut Along) {
        if self.row.qualified().name == "services" && self.row.resource.group.is_empty() {
            addresses::take_back(self, old, &addresses::of(old), along);
            ports::take_back(&ports::of(old), along);
        }
    }
}

/// The refusal of a service.
fn invalid(service: &Doc, errors: &[FieldError]) -> Outcome<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let of = Qualified {
        group: "",
        name: "Service",
    };
    Err(Status::invalid(of, metadata::text(service, "name"), errors).into())
}

fn spec(service: &Doc) -> At<'_> {
    At::root(service).get("spec")
}

/// How many values at the start of a range are kept for those who ask for one, as upstream reckons:
/// whoever asks for none gets one of the rest first.
fn kept_for_askers(size: u128, step: u128, most: u128) -> u128 {
    const LEAST: u128 = 16;
    match size {
        size if size < LEAST => 0,
        size => (size / step).clamp(LEAST, most),
    }
}

#[cfg(test)]
mod tests;
