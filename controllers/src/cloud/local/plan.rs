//! Which addresses a Service gets on bare metal, and which node answers for them.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use api::values::ip::{self, Cidr};
use k8s_openapi::api::core::v1::Service;

use crate::service_endpoints::{IPV6, spec_of};

/// A range of addresses to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u128,
    last: u128,
    is_v6: bool,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Range {
    /// A block, `192.0.2.0/28`, or a range, `192.0.2.10-192.0.2.20`.
    pub fn parse(text: &str) -> Option<Range> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (ip::parse(first.trim())?, ip::parse(last.trim())?);
            let range = Range {
                first: number(first),
                last: number(last),
                is_v6: first.is_ipv6(),
            };
            return (first.is_ipv6() == last.is_ipv6() && range.first <= range.last)
                .then_some(range);
        }
        let block = Cidr::parse(text)?;
        let first = block.network();
        let width = if first.is_ipv6() { 128 } else { 32 };
        let size = u32::from(width - block.bits);
        let rest = 1_u128
            .checked_shl(size)
            .map_or(u128::MAX, |count| count - 1);
        Some(Range {
            first: number(first),
            last: number(first) | rest,
            is_v6: first.is_ipv6(),
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_v6 && (self.first..=self.last).contains(&number(address))
    }

    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (self.first..=self.last).map(move |number| match self.is_v6 {
            true => IpAddr::V6(number.into()),
            false => IpAddr::V4((number as u32).into()),
        })
    }
}

/// The families that a Service wants, in its order.
fn families(service: &Service) -> Vec<bool> {
    let families = spec_of(service).ip_families.iter().flatten();
    let wanted: Vec<_> = families.map(|family| family == IPV6).collect();
    if wanted.is_empty() {
        vec![false]
    } else {
        wanted
    }
}

/// The addresses of a Service: those it has, where they may stay; the one it asks for; else the
/// lowest that is free. One per family that there are addresses of.
///
/// # Errors
///
/// Why it gets none.
pub fn addresses(
    service: &Service,
    has: &[IpAddr],
    taken: &BTreeSet<IpAddr>,
    pools: &[Range],
) -> Result<Vec<IpAddr>, String> {
    let requested = spec_of(service)
        .load_balancer_ip
        .as_deref()
        .filter(|ip| !ip.is_empty());
    let requested = match requested {
        None => None,
        Some(text) => {
            let address =
                ip::parse(text).ok_or_else(|| format!("requested address {text} is no address"))?;
            if !pools.iter().any(|pool| pool.contains(address)) {
                return Err(format!("requested address {text} is not in a pool"));
            }
            if taken.contains(&address) {
                return Err(format!(
                    "requested address {text} is taken by another Service"
                ));
            }
            Some(address)
        }
    };
    let mut given = Vec::new();
    for is_v6 in families(service) {
        let is_fit = |address: &IpAddr| {
            address.is_ipv6() == is_v6
                && !taken.contains(address)
                && pools.iter().any(|pool| pool.contains(*address))
        };
        let wanted = requested.filter(|address| address.is_ipv6() == is_v6);
        let kept = || has.iter().copied().find(is_fit);
        let free = || {
            let pools = pools.iter().filter(|pool| pool.is_v6 == is_v6);
            pools
                .flat_map(|pool| pool.addresses())
                .find(|address| !taken.contains(address))
        };
        given.extend(wanted.or_else(kept).or_else(free));
    }
    if given.is_empty() {
        return Err("no address is free in the pools of the Service's families".to_owned());
    }
    Ok(given)
}

/// The node that answers for a Service: the one that does, while it may; else one that the Service
/// and the node decide between them, so that Services spread, and few move when nodes do.
pub fn announcer<'n>(service: &str, current: Option<&str>, nodes: &[&'n str]) -> Option<&'n str> {
    let stays = nodes.iter().copied().find(|node| Some(*node) == current);
    stays.or_else(|| {
        nodes
            .iter()
            .copied()
            .max_by_key(|node| (weight(service, node), *node))
    })
}

fn weight(service: &str, node: &str) -> u64 {
    // The same in every process and release: FNV-1a.
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            // Mixed once more, since names differ in their last bytes.
            let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            mixed ^ (mixed >> 33)
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    service.hash(&mut hasher);
    node.hash(&mut hasher);
    hasher.finish()
}
