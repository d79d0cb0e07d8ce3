//! Addresses and blocks of addresses in fields: as old fields have them, as new ones must have them,
//! and what to tell those who write old forms.

use std::net::{IpAddr, Ipv6Addr};

use api::values::ip::{self, Cidr};

use crate::validation::{At, Errors};

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address in a field that once took sloppy ones: what the old object had stays good.
pub fn legacy_ip(errors: &mut Errors, at: At<'_>, old: &[&str]) {
    if !old.contains(&at.str()) {
        for complaint in ip_complaints(at.str()) {
            errors.invalid(at, complaint);
        }
    }
}

/// An address in a newer field, in canonical form.
pub fn strict_ip(errors: &mut Errors, at: At<'_>) {
    for complaint in canonical_ip_complaints(at.str()) {
        errors.invalid(at, complaint);
    }
}

/// What is wrong with an address that must be in canonical form.
pub fn canonical_ip_complaints(text: &str) -> Vec<String> {
    let complaints = ip_complaints(text);
    if !complaints.is_empty() {
        return complaints;
    }
    let canonical = ip::parse(text).map(ip::canonical).unwrap_or_default();
    if canonical == text {
        return Vec::new();
    }
    vec![format!("must be in canonical form ({canonical:?})")]
}

/// A block in a field that once took sloppy ones.
pub fn legacy_cidr(errors: &mut Errors, at: At<'_>, old: &[&str]) {
    if !old.contains(&at.str())
        && let Some(complaint) = cidr_complaint(at.str())
    {
        errors.invalid(at, complaint);
    }
}

/// A block in a newer field, in canonical form.
pub fn strict_cidr(errors: &mut Errors, at: At<'_>) {
    if let Some(complaint) = cidr_complaint(at.str()) {
        errors.invalid(at, complaint);
        return;
    }
    let canonical = Cidr::parse(at.str()).map(|block| block.canonical());
    if let Some(canonical) = canonical.filter(|canonical| canonical != at.str()) {
        errors.invalid(at, format!("must be in canonical form ({canonical:?})"));
    }
}

/// What is wrong with a block, if something is.
pub fn cidr_complaint(text: &str) -> Option<&'static str> {
    let Some(block) = Cidr::parse(text) else {
        return Some(NOT_A_CIDR);
    };
    let (address, bits) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        return Some("must not have leading 0s in IP or prefix length");
    }
    if is_mapped(block.address) {
        return Some("must not have an IPv4-mapped IPv6 address");
    }
    (block.network() != block.address).then_some("must not have bits set beyond the prefix length")
}

/// An interface's address: `ip addr` style, in canonical form.
pub fn interface_address(errors: &mut Errors, at: At<'_>) {
    let Some(block) = Cidr::parse(at.str()) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.invalid(at, detail);
        return;
    };
    let mut bits = block.bits;
    if is_mapped(block.address) && bits > 32 {
        bits = bits.saturating_sub(96);
    }
    let canonical = format!("{}/{bits}", ip::canonical(block.address));
    if canonical != at.str() {
        errors.invalid(at, format!("must be in canonical form ({canonical:?})"));
    }
}

/// An address that endpoints may have.
pub fn endpoint_ip(errors: &mut Errors, at: At<'_>) {
    let Some(address) = ip::parse(at.str()).map(|address| address.to_canonical()) else {
        errors.invalid(at, "must be a valid IP address");
        return;
    };
    let (is_local, is_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), is_local_multicast(v6)),
    };
    if address.is_unspecified() {
        errors.invalid(at, format!("may not be unspecified ({})", at.str()));
    }
    for (is_bad, detail) in [
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            is_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            is_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if is_bad {
            errors.invalid(at, detail);
        }
    }
}

/// Warns of an address that is written in another form than the usual one.
pub fn ip_warning(path: &str, text: &str) -> Option<String> {
    let address = ip::parse(text)?;
    let usual = ip::canonical(address);
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        return Some(format!(
            "{path}: non-standard IP address {text:?} is invalid: use {usual:?}"
        ));
    }
    (address.is_ipv6() && usual != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({usual:?})")
    })
}

/// Warns of a block that is written in another form than the usual one.
pub fn cidr_warnings(path: &str, text: &str) -> Vec<String> {
    let Some(block) = Cidr::parse(text) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    let usual = block.canonical();
    if block.network() != block.address {
        let most = if block.address.is_ipv4() { 32 } else { 128 };
        let single = format!("{}/{most}", ip::canonical(block.address));
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {usual:?} or \
             {single:?}?)"
        ));
    }
    let (address, bits) = text.split_once('/').unwrap_or_default();
    let is_strict =
        address.parse::<IpAddr>().is_ok() && (bits.len() == 1 || !bits.starts_with('0'));
    if !is_strict || is_mapped(block.address) {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} is invalid: use {usual:?}"
        ));
    } else if warnings.is_empty() && block.address.is_ipv6() && usual != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({usual:?})"
        ));
    }
    warnings
}

fn ip_complaints(text: &str) -> Vec<String> {
    let Some(address) = ip::parse(text) else {
        return vec![NOT_AN_IP.to_string()];
    };
    let mut complaints = Vec::new();
    if text.parse::<IpAddr>().is_err() {
        complaints.push("must not have leading 0s".to_string());
    } else if is_mapped(address) {
        complaints.push("must not be an IPv4-mapped IPv6 address".to_string());
    }
    complaints
}

fn is_mapped(address: IpAddr) -> bool {
    address.is_ipv6() && address.to_canonical().is_ipv4()
}

fn is_local_multicast(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    octets[0] == 0xff && octets[1] & 0x0f == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_as_upstream_does() {
        for (text, want) in [
            ("10.0.0.1", vec![]),
            ("2001:db8::1", vec![]),
            (
                "2001:DB8::1",
                vec!["must be in canonical form (\"2001:db8::1\")"],
            ),
            ("010.0.0.1", vec!["must not have leading 0s"]),
            (
                "::ffff:1.2.3.4",
                vec!["must not be an IPv4-mapped IPv6 address"],
            ),
            ("a", vec![NOT_AN_IP]),
        ] {
            assert_eq!(canonical_ip_complaints(text), want, "{text}");
        }
        for (text, want) in [
            ("10.0.0.0/8", None),
            (
                "10.0.0.1/8",
                Some("must not have bits set beyond the prefix length"),
            ),
            (
                "10.0.0.0/08",
                Some("must not have leading 0s in IP or prefix length"),
            ),
            (
                "::ffff:10.0.0.0/104",
                Some("must not have an IPv4-mapped IPv6 address"),
            ),
            ("10.0.0.0", Some(NOT_A_CIDR)),
        ] {
            assert_eq!(cidr_complaint(text), want, "{text}");
        }
    }

    #[test]
    fn old_forms_are_warned_of() {
        assert_eq!(ip_warning("a", "10.0.0.1"), None);
        assert_eq!(
            ip_warning("a", "010.0.0.1").unwrap(),
            r#"a: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#
        );
        assert_eq!(
            ip_warning("a", "2001:DB8::1").unwrap(),
            r#"a: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#
        );
        assert_eq!(
            cidr_warnings("a", "10.0.0.1/8"),
            [
                r#"a: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)"#
            ]
        );
        assert!(cidr_warnings("a", "2001:db8::/64").is_empty());
    }
}
