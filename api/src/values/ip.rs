//! IP addresses and CIDR blocks, as sloppy as upstream has always read them and as strict as it now
//! wants them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, in which numbers of IPv4 may have leading zeros. An IPv4 address that is written as
/// IPv6 stays one: see [`IpAddr::to_canonical`].
pub fn parse(text: &str) -> Option<IpAddr> {
    if let Some(address) = v4(text) {
        return Some(IpAddr::V4(address));
    }
    if !text.contains('.') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let (head, tail) = text.rsplit_once(':')?;
    let plain = format!("{head}:{}", v4(tail)?);
    plain.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = number(parts.next()?, 255)?.try_into().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Decimal digits, leading zeros allowed.
fn number(text: &str, most: u32) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let value = if digits.is_empty() {
        Some(0)
    } else {
        digits.parse().ok()
    };
    value.filter(|value| *value <= most)
}

/// The usual text of an address; one of IPv4 that was written as IPv6 becomes IPv4.
pub fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// Whether a text is an IPv6 address. One of IPv4 that is written as IPv6 is not.
pub fn is_v6(text: &str) -> bool {
    parse(text).is_some_and(|address| address.to_canonical().is_ipv6())
}

/// Whether a text is an IPv4 address.
pub fn is_v4(text: &str) -> bool {
    parse(text).is_some_and(|address| address.to_canonical().is_ipv4())
}

/// An address with the length of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address as it is written, bits beyond the prefix included.
    pub address: IpAddr,
    /// Length of the prefix.
    pub bits: u8,
}

impl Cidr {
    /// A block such as `10.0.0.0/8`, as sloppy as [`parse`].
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address = parse(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = number(bits, most)?.try_into().ok()?;
        Some(Self { address, bits })
    }

    /// The address with the bits beyond the prefix cleared.
    pub fn network(&self) -> IpAddr {
        let keep = u32::from(self.bits);
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - keep).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - keep).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        }
    }

    /// Whether an address is in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other) = (self.network().to_canonical(), address.to_canonical());
        let masked = Self {
            address: other,
            bits: self.plain_bits(),
        };
        own.is_ipv4() == other.is_ipv4() && masked.network() == own
    }

    /// Whether it is a block of IPv6.
    pub fn is_v6(&self) -> bool {
        self.network().to_canonical().is_ipv6()
    }

    /// The usual text of the block: the network, not the address.
    pub fn canonical(&self) -> String {
        format!("{}/{}", canonical(self.network()), self.plain_bits())
    }

    /// The length of the prefix in what [`canonical`] writes.
    pub fn plain_bits(&self) -> u8 {
        match (self.address, self.network().to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(_)) => self.bits.saturating_sub(96),
            _ => self.bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them_sloppily() {
        for (text, want) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.0.01", Some("10.0.0.1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("::ffff:1.2.3.04", Some("1.2.3.4")),
            ("2001:DB8:0:0::1", Some("2001:db8::1")),
            ("fe80::1%eth0", None),
            ("10.0.0.256", None),
            ("10.0.0", None),
            ("1:2:3:4::5:6:7:8", None),
            ("", None),
        ] {
            let found = parse(text).map(canonical);
            assert_eq!(found.as_deref(), want, "{text}");
        }
        assert!(is_v6("::1") && !is_v6("::ffff:1.2.3.4") && is_v4("::ffff:1.2.3.4"));
    }

    #[test]
    fn blocks_know_what_they_contain() {
        let block = Cidr::parse("10.1.2.3/08").unwrap();
        assert_eq!(block.canonical(), "10.0.0.0/8");
        assert!(block.contains(parse("10.255.0.1").unwrap()));
        assert!(!block.contains(parse("11.0.0.1").unwrap()));
        assert!(!block.contains(parse("::1").unwrap()));
        let mapped = Cidr::parse("::ffff:192.168.0.1/120").unwrap();
        assert_eq!(mapped.canonical(), "192.168.0.0/24");
        assert!(Cidr::parse("::/0").unwrap().is_v6());
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "::/129", "a/8"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
