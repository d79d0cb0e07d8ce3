//! A watch's bytes: cut into lines, an event each, and relieved of what nobody here reads.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use memchr::memmem;

/// Cuts bytes into lines. A line that comes in one piece is not copied.
#[derive(Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end did not come yet.
    begun: BytesMut,
    rest: Bytes,
}

impl Lines {
    pub(super) fn add(&mut self, piece: Bytes) {
        self.rest = piece;
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(end) = memchr(b'\n', &self.rest) else {
                self.begun
                    .extend_from_slice(&std::mem::take(&mut self.rest));
                return None;
            };
            let line = self.rest.split_to(end);
            self.rest.advance(1);
            let line = match self.begun.is_empty() {
                true => line,
                false => {
                    self.begun.extend_from_slice(&line);
                    self.begun.split().freeze()
                }
            };
            if !line.is_empty() {
                return Some(line);
            }
        }
    }
}

/// The key of what objects say of who manages their fields. A quote within a text has a backslash before
/// it, so that these bytes are a key wherever they stand.
const MANAGED_FIELDS: &[u8] = b"\"managedFields\":[";

/// An event without the first `managedFields` in it, which are its object's: often half of it.
pub(super) fn without_managed_fields(line: &[u8]) -> Cow<'_, [u8]> {
    let found = memmem::find(line, MANAGED_FIELDS);
    let cut = found.and_then(|start| {
        let inside = start + MANAGED_FIELDS.len();
        let end = inside + end_of_list(&line[inside..])?;
        // Of the commas around it one stays.
        match line.get(end) {
            Some(b',') => Some((start, end + 1)),
            _ if start > 0 && line[start - 1] == b',' => Some((start - 1, end)),
            _ => Some((start, end)),
        }
    });
    match cut {
        Some((start, end)) => Cow::Owned([&line[..start], &line[end..]].concat()),
        None => Cow::Borrowed(line),
    }
}

/// Where a list ends whose bracket was opened before.
fn end_of_list(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut is_text, mut is_escaped) = (1, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let text = b"one\ntwo\n\nthree\n";
        for step in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(step) {
                lines.add(Bytes::copy_from_slice(piece));
                while let Some(line) = lines.next() {
                    found.push(line);
                }
            }
            assert_eq!(found, ["one", "two", "three"], "{step}");
        }
    }

    #[test]
    fn managed_fields_are_cut_out_and_nothing_else() {
        let fields =
            r#""managedFields":[{"fieldsV1":{"f:a":{"k:{\"x\":\"]\"}":[1]}},"manager":"m"}]"#;
        for (before, after, wanted) in [
            (r#"{"a":1,"#, r#","z":2}"#, r#"{"a":1,"z":2}"#),
            (r#"{"a":1,"#, "}", r#"{"a":1}"#),
            ("{", r#","z":2}"#, r#"{"z":2}"#),
            ("{", "}", "{}"),
        ] {
            let line = format!("{before}{fields}{after}");
            assert_eq!(
                &*without_managed_fields(line.as_bytes()),
                wanted.as_bytes(),
                "{line}"
            );
        }
        for same in [
            r#"{"a":"\"managedFields\":[{"}"#,
            r#"{"managedFields":[{"a":"#,
            r#"{"managedFields":null}"#,
            "",
        ] {
            assert_eq!(&*without_managed_fields(same.as_bytes()), same.as_bytes());
        }
    }
}
