//! What a directory says of its cluster, and what may be asked of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DEFAULT_PORT_BASE, LocalError, Options, PORTS_PER_MASTER};

/// Masters of a cluster when nothing else is asked for.
const DEFAULT_MASTERS: u16 = 3;

/// More members than this only make writes slower.
const MASTERS_MAX: u16 = 9;

/// `cluster.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Definition {
    /// Of this file.
    format: u32,
    pub(super) masters: u16,
    pub(super) port_base: u16,
    pub(super) insecure: bool,
    /// Clusters of before there were masters are stores.
    #[serde(default = "yes")]
    pub(super) store_only: bool,
    #[serde(default)]
    pub(super) hollow: u32,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) node_settings: BTreeMap<String, String>,
    /// Where others reach the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advertise_address: Option<IpAddr>,
}

fn yes() -> bool {
    true
}

/// The format of `cluster.yaml` that this version writes.
const FORMAT: u32 = 1;

impl Definition {
    /// What the file at a path holds.
    pub(super) fn read(path: &Path, text: &str) -> Result<Definition, LocalError> {
        let wrong = |message: String| LocalError::Options(format!("{}: {message}", path.display()));
        let definition: Definition =
            serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if definition.format != FORMAT {
            return Err(wrong(format!(
                "format {} is not known to this version, which reads format {FORMAT}",
                definition.format
            )));
        }
        Ok(definition)
    }

    /// The cluster that the options ask for, given what the directory holds.
    pub(super) fn new(
        options: &Options,
        held: Option<&Definition>,
        dir: &Path,
    ) -> Result<Definition, LocalError> {
        let mut definition = held.cloned().unwrap_or(Definition {
            format: FORMAT,
            masters: options.masters.unwrap_or(DEFAULT_MASTERS),
            port_base: options.port_base.unwrap_or(DEFAULT_PORT_BASE),
            insecure: options.insecure.unwrap_or(false),
            store_only: options.store_only.unwrap_or(false),
            hollow: 0,
            settings: BTreeMap::new(),
            node_settings: BTreeMap::new(),
            advertise_address: None,
        });
        // Nodes come and go; what a master is stays.
        definition.hollow = options.hollow.unwrap_or(definition.hollow);
        definition.settings.extend(options.settings.clone());
        let node_settings = options.node_settings.clone();
        definition.node_settings.extend(node_settings);
        definition.advertise_address = options.advertise_address.or(definition.advertise_address);
        if let Some(address) = definition.advertise_address {
            check_advertised(address, &definition)?;
        }
        if definition.store_only && definition.hollow > 0 {
            return Err(LocalError::Options(
                "a store alone has no nodes: leave out --store-only or --hollow".into(),
            ));
        }
        let fits = options.masters.is_none_or(|n| n == definition.masters)
            && options.port_base.is_none_or(|p| p == definition.port_base)
            && options.insecure.is_none_or(|i| i == definition.insecure)
            && options
                .store_only
                .is_none_or(|only| only == definition.store_only);
        if !fits {
            return Err(LocalError::Options(format!(
                "{} holds a cluster of {} {} with port base {} and {}: ask for the same, or use \
                 another directory",
                dir.display(),
                definition.masters,
                if definition.store_only {
                    "members of a store"
                } else {
                    "masters"
                },
                definition.port_base,
                if definition.insecure {
                    "plain text"
                } else {
                    "mTLS"
                },
            )));
        }
        if !(1..=MASTERS_MAX).contains(&definition.masters) {
            return Err(LocalError::Options(format!(
                "{} masters: use 1 to {MASTERS_MAX}, an odd number for the same safety at less cost",
                definition.masters
            )));
        }
        let ports = u32::from(PORTS_PER_MASTER) * (u32::from(definition.masters) + 1);
        if u32::from(definition.port_base) + ports > 65536 {
            return Err(LocalError::Options(format!(
                "port base {} leaves too few ports: use {} or less",
                definition.port_base,
                65536 - ports
            )));
        }
        Ok(definition)
    }
}

/// Refuses what no endpoint of a service may be.
fn check_advertised(address: IpAddr, definition: &Definition) -> Result<(), LocalError> {
    if definition.store_only {
        let why = "a store alone has no API: leave out --store-only or --advertise-address";
        return Err(LocalError::Options(why.into()));
    }
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address.is_loopback() || address.is_unspecified() || is_link_local {
        true => Err(LocalError::Options(format!(
            "{address} reaches no other machine: advertise an address of a network, such as `hostname -I` shows"
        ))),
        false => Ok(()),
    }
}
