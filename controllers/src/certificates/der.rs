//! As much of DER as writing a certificate takes.

use jiff::Timestamp;

pub(super) const BOOLEAN_TRUE: [u8; 3] = [0x01, 0x01, 0xff];
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const CONTEXT: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;

/// From this moment on, years no longer fit the two digits of a UTCTime: 2050-01-01T00:00:00Z.
const GENERALIZED_SINCE_SECONDS: i64 = 2_524_608_000;

/// A value with its tag and length.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
            out.push(0x80 | (bytes.len() - from) as u8);
            out.extend_from_slice(&bytes[from..]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE of values.
pub(super) fn sequence<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    value(SEQUENCE, &concat(parts))
}

/// `[number]` around a value.
pub(super) fn explicit(number: u8, inner: &[u8]) -> Vec<u8> {
    value(CONTEXT | CONSTRUCTED | number, inner)
}

/// `[number]` in place of a primitive value's own tag.
pub(super) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    value(CONTEXT | number, content)
}

/// An INTEGER that is not negative, of its big-endian bytes.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let from = bytes.iter().position(|byte| *byte != 0);
    let digits = &bytes[from.unwrap_or(bytes.len().saturating_sub(1))..];
    match digits.first() {
        Some(first) if first & 0x80 == 0 => value(INTEGER, digits),
        _ => value(INTEGER, &concat([&[0][..], digits])),
    }
}

/// A BIT STRING of whole bytes.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &concat([&[0][..], bytes]))
}

/// A point in time as certificates write it, in whole seconds.
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    let (tag, format) = match at.as_second() < GENERALIZED_SINCE_SECONDS {
        true => (UTC_TIME, "%y%m%d%H%M%SZ"),
        false => (GENERALIZED_TIME, "%Y%m%d%H%M%SZ"),
    };
    value(tag, at.strftime(format).to_string().as_bytes())
}

fn concat<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(part.as_ref());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(value(4, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(value(4, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(value(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn integers_have_no_sign_and_no_zeros_in_front() {
        assert_eq!(unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
    }

    #[test]
    fn times_are_short_until_2050() {
        let at = |text: &str| time(text.parse().unwrap())[2..].to_vec();
        assert_eq!(at("2049-12-31T23:59:59Z"), b"491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00Z"), b"20500101000000Z");
    }
}
