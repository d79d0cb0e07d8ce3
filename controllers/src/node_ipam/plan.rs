//! Which block of pod addresses a node gets: the cluster's blocks are cut into equal parts, one per
//! node and family.

use std::net::IpAddr;

use api::values::ip::Cidr;

/// A cluster's block of addresses and which parts of it are taken.
#[derive(Debug, Clone)]
pub struct Pool {
    cluster: Cidr,
    node_bits: u8,
    parts: usize,
    taken: Vec<u64>,
    free: usize,
    next: usize,
}

/// How much longer a node's prefix may be than its cluster's, since every part is a bit here.
const PREFIX_DIFFERENCE_MAX: u8 = 16;

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There are too many parts.
    #[error("New CIDR set failed; the node CIDR size is too big")]
    TooManyParts,
    /// A node's part is larger than the whole.
    #[error(
        "Controller: Invalid --cluster-cidr, mask size of cluster CIDR must be less than or equal \
         to --node-cidr-mask-size configured for CIDR family"
    )]
    PartTooLarge,
    /// Every part is taken.
    #[error(
        "CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"
    )]
    Exhausted,
    /// A node's block is not one of the cluster's.
    #[error("cidr {0} is out the range of cluster cidr {1}")]
    OutOfRange(String, String),
}

impl Pool {
    /// A block of which nothing is taken.
    pub fn new(cluster: Cidr, node_bits: u8) -> Result<Pool, PoolError> {
        let bits = cluster.bits;
        let difference = node_bits.checked_sub(bits).ok_or(PoolError::PartTooLarge)?;
        if difference > PREFIX_DIFFERENCE_MAX && cluster.is_v6() || difference >= 32 {
            return Err(PoolError::TooManyParts);
        }
        let parts = 1_usize << difference;
        Ok(Pool {
            cluster,
            node_bits,
            parts,
            taken: vec![0; parts.div_ceil(64)],
            free: parts,
            next: 0,
        })
    }

    fn width(&self) -> u8 {
        if self.cluster.address.is_ipv4() {
            32
        } else {
            128
        }
    }

    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => address.into(),
        }
    }

    fn part(&self, index: usize) -> Cidr {
        let shift = u32::from(self.width() - self.node_bits);
        let base = Self::number(self.cluster.network());
        let address = base | (index as u128).checked_shl(shift).unwrap_or(0);
        let address = match self.cluster.address {
            IpAddr::V4(_) => IpAddr::V4((address as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(address.into()),
        };
        Cidr {
            address,
            bits: self.node_bits,
        }
    }

    /// The parts that a block covers or lies in.
    fn range(&self, block: &Cidr) -> Result<std::ops::Range<usize>, PoolError> {
        let is_inside = self.cluster.contains(block.network());
        let is_outside = block.contains(self.cluster.network());
        if block.is_v6() != self.cluster.is_v6() || !(is_inside || is_outside) {
            let (block, cluster) = (block.canonical(), self.cluster.canonical());
            return Err(PoolError::OutOfRange(block, cluster));
        }
        if block.bits <= self.cluster.bits {
            return Ok(0..self.parts);
        }
        let shift = u32::from(self.width() - self.node_bits);
        let offset = Self::number(block.network()) - Self::number(self.cluster.network());
        let first = offset.checked_shr(shift).unwrap_or(0) as usize;
        let count = 1_usize << self.node_bits.saturating_sub(block.bits);
        Ok(first..(first + count).min(self.parts))
    }

    fn is_taken(&self, index: usize) -> bool {
        self.taken[index / 64] & (1 << (index % 64)) != 0
    }

    fn set(&mut self, index: usize, is_taken: bool) {
        if self.is_taken(index) == is_taken {
            return;
        }
        self.taken[index / 64] ^= 1 << (index % 64);
        if is_taken {
            self.free -= 1;
        } else {
            self.free += 1;
        }
    }

    /// Takes the parts that a block covers.
    pub fn occupy(&mut self, block: &Cidr) -> Result<(), PoolError> {
        self.range(block)?.for_each(|index| self.set(index, true));
        Ok(())
    }

    /// Gives the parts that a block covers back.
    pub fn release(&mut self, block: &Cidr) -> Result<(), PoolError> {
        self.range(block)?.for_each(|index| self.set(index, false));
        Ok(())
    }

    /// Takes the next free part. Parts are taken in turn, so that one that was given back is not
    /// used again at once.
    pub fn allocate(&mut self) -> Result<Cidr, PoolError> {
        if self.free == 0 {
            return Err(PoolError::Exhausted);
        }
        let candidates = (self.next..self.parts).chain(0..self.next);
        let mut free = candidates
            .into_iter()
            .filter(|index| !self.is_taken(*index));
        let index = free.next().ok_or(PoolError::Exhausted)?;
        self.next = (index + 1) % self.parts;
        self.set(index, true);
        Ok(self.part(index))
    }
}

/// Takes what a node has in the pools.
pub fn occupy(pools: &mut [Pool], node: &str, blocks: &[&str]) -> Result<(), String> {
    each(pools, node, blocks, |pool, block, index| {
        let text = block.canonical();
        pool.occupy(block).map_err(|error| {
            format!(
                "failed to mark cidr[{text}] at idx [{index}] as occupied for node: {node}: {error}"
            )
        })
    })
}

/// Gives what a node had back to the pools.
pub fn release(pools: &mut [Pool], node: &str, blocks: &[&str]) -> Result<(), String> {
    each(pools, node, blocks, |pool, block, _| {
        let text = block.canonical();
        pool.release(block)
            .map_err(|error| format!("error when releasing CIDR {text}: {error}"))
    })
}

fn each(
    pools: &mut [Pool],
    node: &str,
    blocks: &[&str],
    mut act: impl FnMut(&mut Pool, &Cidr, usize) -> Result<(), String>,
) -> Result<(), String> {
    for (index, text) in blocks.iter().enumerate() {
        let block =
            Cidr::parse(text).ok_or_else(|| format!("failed to parse node {node}, CIDR {text}"))?;
        let pool = pools.get_mut(index).ok_or_else(|| {
            format!(
                "node:{node} has an allocated cidr: {text} at index:{index} that does not exist in \
                 cluster cidrs configuration"
            )
        })?;
        act(pool, &block, index)?;
    }
    Ok(())
}

/// Takes a block of every pool; if one has none left, none is taken.
pub fn allocate(pools: &mut [Pool]) -> Result<Vec<Cidr>, String> {
    let mut blocks = Vec::with_capacity(pools.len());
    let mut failure = None;
    for (index, pool) in pools.iter_mut().enumerate() {
        match pool.allocate() {
            Ok(block) => blocks.push(block),
            Err(error) => {
                let message =
                    format!("failed to allocate cidr from cluster cidr at idx:{index}: {error}");
                failure = Some(message);
                break;
            }
        }
    }
    let Some(failure) = failure else {
        return Ok(blocks);
    };
    for (pool, block) in pools.iter_mut().zip(&blocks) {
        // It was just taken from there.
        let _ = pool.release(block);
    }
    Err(failure)
}
