//! Log entries on their way to being applied, decoded once: whether applying them takes long is
//! asked of them before they are applied.

use bytes::Bytes;
use prost::Message;

use super::{Entry, check};
use crate::pb::log::Command;
use crate::pb::log::command::Op;
use crate::position::LogPosition;

/// Commands of this size together are applied within a millisecond or two.
const AT_ONCE_BYTES: usize = 128 << 10;

/// Entries in order, decoded.
pub struct Decoded {
    pub(super) entries: Vec<(LogPosition, Step)>,
    /// Of all commands, as they were encoded.
    bytes: usize,
}

/// What one entry asks for.
pub(super) enum Step {
    /// Nothing.
    Blank,
    /// A membership, opaque here.
    Membership(Bytes),
    /// An operation, or why it is not understood.
    Command(Result<Op, String>),
}

impl Decoded {
    /// Whether the entries cost about as much as their size says, and that is little.
    pub(super) fn is_light(&self) -> bool {
        let light = |step: &Step| match step {
            Step::Blank | Step::Membership(_) => true,
            Step::Command(op) => op.as_ref().is_ok_and(check::is_light),
        };
        self.bytes <= AT_ONCE_BYTES && self.entries.iter().all(|(_, step)| light(step))
    }
}

impl From<Vec<(LogPosition, Entry)>> for Decoded {
    fn from(entries: Vec<(LogPosition, Entry)>) -> Decoded {
        let mut bytes = 0;
        let mut step = |entry| match entry {
            Entry::Blank => Step::Blank,
            Entry::Membership(membership) => Step::Membership(membership),
            Entry::Command(command) => {
                bytes += command.len();
                Step::Command(operation(command))
            }
        };
        let entries = entries.into_iter();
        let entries = entries
            .map(|(position, entry)| (position, step(entry)))
            .collect();
        Decoded { entries, bytes }
    }
}

fn operation(command: Bytes) -> Result<Op, String> {
    let command = Command::decode(command).map_err(|error| error.to_string())?;
    command.op.ok_or_else(|| "no operation".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::PutRequest;

    fn is_light(commands: Vec<Bytes>) -> bool {
        let at = |index| LogPosition { term: 1, index };
        let entries = (1..).zip(commands);
        let entries = entries.map(|(index, command)| (at(index), Entry::Command(command)));
        Decoded::from(entries.collect::<Vec<_>>()).is_light()
    }

    #[test]
    fn much_at_once_and_what_is_not_understood_are_not_light() {
        let put = |len: usize| {
            let request = PutRequest {
                value: vec![7; len].into(),
                ..PutRequest::default()
            };
            let command = Command {
                op: Some(Op::Put(request)),
                ..Command::default()
            };
            Bytes::from(command.encode_to_vec())
        };
        assert!(is_light(vec![put(10), put(10)]));
        assert!(!is_light(vec![
            put(AT_ONCE_BYTES / 2),
            put(AT_ONCE_BYTES / 2)
        ]));
        assert!(!is_light(vec![put(10), Bytes::from_static(b"nonsense")]));
        assert!(!is_light(vec![Bytes::new()]), "no operation");
    }
}
