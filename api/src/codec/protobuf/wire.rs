//! The wire format: tags, varints, lengths.

use super::ProtobufError;

/// A field as it stands on the wire.
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Nothing here has such a field.
    Fixed32,
}

impl Value<'_> {
    pub(super) fn wire_type(&self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// The fields of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next tag and value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtobufError::Overflow)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| ProtobufError::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            // Groups, which nothing here uses.
            _ => return Err(ProtobufError::Truncated),
        };
        Ok(Some((tag, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ProtobufError> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        self.take(N)?
            .try_into()
            .map_err(|_| ProtobufError::Truncated)
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Overflow)
    }
}

/// Appends fields.
pub(super) struct Writer<'o> {
    pub(super) out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }

    fn key(&mut self, tag: u8, wire_type: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire_type));
    }

    #[expect(clippy::cast_sign_loss, reason = "negative numbers take ten bytes")]
    pub(super) fn int(&mut self, tag: u8, value: i64) {
        self.key(tag, 0);
        self.varint(value as u64);
    }

    pub(super) fn double(&mut self, tag: u8, value: f64) {
        self.key(tag, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn string(&mut self, tag: u8, value: &str) {
        self.bytes(tag, value.as_bytes());
    }

    /// What stands before a message or bytes of a length.
    pub(super) fn header(&mut self, tag: u8, len: usize) {
        self.key(tag, 2);
        self.varint(len as u64);
    }

    pub(super) fn bytes(&mut self, tag: u8, value: &[u8]) {
        self.header(tag, value.len());
        self.out.extend_from_slice(value);
    }

    /// Begins a message; its length is not known yet.
    pub(super) fn open(&mut self, tag: u8) -> usize {
        self.key(tag, 2);
        // One byte for the length; most messages are short. `close` makes room for more.
        self.out.push(0);
        self.out.len()
    }

    /// Ends the message that began there.
    pub(super) fn close(&mut self, start: usize) {
        let len = self.out.len() - start;
        if let Ok(len @ 0..0x80) = u8::try_from(len) {
            self.out[start - 1] = len;
            return;
        }
        let mut prefix = Vec::with_capacity(5);
        Writer { out: &mut prefix }.varint(len as u64);
        self.out.splice(start - 1..start, prefix);
    }
}
