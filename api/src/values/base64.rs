//! Base64 as Go reads and writes bytes: the standard alphabet with padding; line breaks are ignored.

use std::fmt;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Where text stops being base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorruptInput(pub usize);

impl std::error::Error for CorruptInput {}

impl fmt::Display for CorruptInput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "illegal base64 data at input byte {}", self.0)
    }
}

/// Appends the text of some bytes.
pub fn encode(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            if at > chunk.len() {
                out.push('=');
            } else {
                let six = group >> (18 - 6 * at) & 63;
                out.push(char::from(ALPHABET[six as usize]));
            }
        }
    }
}

/// The bytes of a text.
///
/// # Errors
///
/// If it is not base64.
pub fn decode(text: &str) -> Result<Vec<u8>, CorruptInput> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut group = [0_u32; 4];
    let mut count = 0;
    let mut padding = 0;
    for (at, byte) in text.bytes().enumerate() {
        if matches!(byte, b'\r' | b'\n') {
            continue;
        }
        if byte == b'=' && count >= 2 && count + padding < 4 {
            padding += 1;
        } else if padding > 0 {
            return Err(CorruptInput(at));
        } else if let Some(six) = value(byte) {
            group[count] = six;
            count += 1;
        } else {
            return Err(CorruptInput(at));
        }
        if count + padding == 4 && padding == 0 {
            push(&mut out, group, 3);
            count = 0;
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) | (3, 1) => push(&mut out, group, count - 1),
        _ => return Err(CorruptInput(text.len())),
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, group: [u32; 4], len: usize) {
    let bits = group[0] << 18 | group[1] << 12 | group[2] << 6 | group[3];
    out.extend_from_slice(&bits.to_be_bytes()[1..=len]);
}

fn value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for text in ["", "AA==", "AAA=", "AAAA", "/+8B", "aGVsbG8gd29ybGQ="] {
            let mut again = String::new();
            encode(&decode(text).unwrap(), &mut again);
            assert_eq!(again, text);
        }
        assert_eq!(decode("aGVs\r\nbG8=").unwrap(), b"hello");
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "A", "AA", "AA=", "A===", "AAA=A", "====", "AA!A", "AAAA=", "AA=A", "é",
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
        let error = decode("AA!A").unwrap_err().to_string();
        assert_eq!(error, "illegal base64 data at input byte 2");
    }
}
