//! Addresses of hollow nodes and their pods. Nothing listens there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::values::ip::Cidr;

/// The network's own address and that of the node's end.
const RESERVED: u128 = 2;

/// The address at a place in a block, if the block has so many.
pub(super) fn nth(block: &Cidr, place: u128) -> Option<IpAddr> {
    if place >= size(block) {
        return None;
    }
    match block.network() {
        IpAddr::V4(base) => {
            let address = u32::from(base).checked_add(u32::try_from(place).ok()?)?;
            Some(IpAddr::V4(address.into()))
        }
        IpAddr::V6(base) => Some(IpAddr::V6(u128::from(base).checked_add(place)?.into())),
    }
}

/// The block of a given size at a place within a larger one.
pub(super) fn subnet(block: &Cidr, bits: u8, place: u128) -> Option<Cidr> {
    let share = size(&Cidr { bits, ..*block });
    let address = nth(block, place.checked_mul(share)?)?;
    (bits >= block.bits).then_some(Cidr { address, bits })
}

fn size(block: &Cidr) -> u128 {
    let most = if block.address.is_ipv4() { 32 } else { 128 };
    let free = u32::from(most - block.bits);
    1u128.checked_shl(free).unwrap_or(u128::MAX)
}

/// The addresses of one node's pods: each of one pod at a time, and not of the next one at once.
#[derive(Debug)]
pub(super) struct Pool {
    block: Cidr,
    next: u128,
    taken: BTreeSet<IpAddr>,
}

impl Pool {
    pub(super) fn new(block: Cidr) -> Pool {
        Pool {
            block,
            next: RESERVED,
            taken: BTreeSet::new(),
        }
    }

    /// Goes over to another block; what was given stays given.
    pub(super) fn move_to(&mut self, block: Cidr) {
        if block != self.block {
            self.block = block;
            self.next = RESERVED;
        }
    }

    /// The next address that is free; `None` if all are taken.
    pub(super) fn take(&mut self) -> Option<IpAddr> {
        // The last one is the network's broadcast address.
        let end = size(&self.block).saturating_sub(1);
        let count = end.checked_sub(RESERVED)?;
        // Among one more than are taken, one is free.
        let tries = count.min(self.taken.len() as u128 + 1);
        for _ in 0..tries {
            if self.next >= end {
                self.next = RESERVED;
            }
            let address = nth(&self.block, self.next)?;
            self.next += 1;
            if self.taken.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// An address that a pod has already.
    pub(super) fn reserve(&mut self, address: IpAddr) {
        self.taken.insert(address);
    }

    pub(super) fn free(&mut self, address: IpAddr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn blocks_are_cut_and_counted() {
        let all = block("10.128.0.0/9");
        assert_eq!(subnet(&all, 24, 1).unwrap().canonical(), "10.128.1.0/24");
        assert_eq!(
            subnet(&all, 24, 32_767).unwrap().canonical(),
            "10.255.255.0/24"
        );
        assert_eq!(subnet(&all, 24, 32_768), None);
        assert_eq!(
            nth(&block("198.18.0.0/15"), 257).unwrap().to_string(),
            "198.18.1.1"
        );
        assert_eq!(nth(&block("10.0.0.0/30"), 4), None);
        assert_eq!(nth(&block("fd00::/64"), 3).unwrap().to_string(), "fd00::3");
    }

    #[test]
    fn every_address_has_one_owner() {
        let mut pool = Pool::new(block("10.0.0.0/29"));
        pool.reserve("10.0.0.3".parse().unwrap());
        let mut given: Vec<String> = Vec::new();
        while let Some(address) = pool.take() {
            given.push(address.to_string());
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        pool.free("10.0.0.2".parse().unwrap());
        assert_eq!(pool.take().unwrap().to_string(), "10.0.0.2");
        pool.move_to(block("10.1.0.0/24"));
        assert_eq!(pool.take().unwrap().to_string(), "10.1.0.2");
    }
}
