//! The writer: compact, with Go's escapes (which include `<`, `>` and `&`).

use crate::doc::{Kind, Node};

/// Appends a value as compact JSON.
pub fn write(node: Node<'_>, out: &mut Vec<u8>) {
    match node.kind() {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::False => out.extend_from_slice(b"false"),
        Kind::True => out.extend_from_slice(b"true"),
        Kind::Int => write_int(node.cell().as_int(), out),
        Kind::Number => out.extend_from_slice(node.as_number().unwrap_or("0").as_bytes()),
        Kind::String => write_string(node.as_str().unwrap_or_default(), out),
        Kind::List => {
            out.push(b'[');
            for (at, child) in node.children().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(child, out);
            }
            out.push(b']');
        }
        Kind::Object => {
            out.push(b'{');
            for (at, child) in node.children().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(child.key(), out);
                out.push(b':');
                write(child, out);
            }
            out.push(b'}');
        }
    }
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Bytes that cannot be copied: controls, quote, backslash, what HTML minds, and the first byte of
/// U+2028 and U+2029, which JavaScript minds.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 0x20 {
        table[at] = true;
        at += 1;
    }
    let mut others: &[u8] = b"\"\\<>&\xe2";
    while let [first, rest @ ..] = others {
        table[*first as usize] = true;
        others = rest;
    }
    table
};

/// How many bytes at the start need no attention, in whole words.
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The classic test for a zero byte; it may err on the side of finding one.
    let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let is_plain = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        let is = |byte: u8| zero(word ^ (ONES * u64::from(byte)));
        // `<` and `>` differ in one bit.
        let angles = zero((word & (ONES * 0xfd)) ^ (ONES * u64::from(b'<')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        is(b'"') | is(b'\\') | is(b'&') | is(0xe2) | angles | controls == 0
    };
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().take_while(|word| is_plain(word)).count() * 8
}

/// Appends a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut start = 0;
    // Most texts need nothing, which is found out eight bytes at a time.
    let plain = plain_words(bytes);
    for (at, byte) in bytes.iter().enumerate().skip(plain) {
        if !SPECIAL[usize::from(*byte)] {
            continue;
        }
        if *byte == 0xe2 {
            let separator =
                bytes.get(at + 1) == Some(&0x80) && matches!(bytes.get(at + 2), Some(0xa8 | 0xa9));
            if separator {
                out.extend_from_slice(&bytes[start..at]);
                out.extend_from_slice(b"\\u202");
                out.push(if bytes[at + 2] == 0xa8 { b'8' } else { b'9' });
                start = at + 3;
            }
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        escape(*byte, out);
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// A float as Go writes it: shortest digits, an exponent below 1e-6 and from 1e21.
pub(crate) fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Rust writes `1e21` where Go writes `1e+21`.
        let text = format!("{value:e}");
        return match text.contains("e-") {
            true => text,
            false => text.replace('e', "e+"),
        };
    }
    format!("{value}")
}
