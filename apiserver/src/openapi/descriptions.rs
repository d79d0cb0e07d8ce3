//! What kinds and fields are for, in upstream's words, as `build.rs` found them.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.zz"));

/// The texts, unpacked: some megabytes, to be dropped when a document is built.
pub(crate) struct Descriptions {
    text: String,
    /// Where the record of a type starts and ends, sorted by the type's name.
    records: Vec<(usize, usize)>,
}

impl Descriptions {
    pub(crate) fn load() -> Self {
        let mut text = String::new();
        // What stands here was packed when this was compiled.
        let _ = ZlibDecoder::new(PACKED).read_to_string(&mut text);
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(len) = text[at..].find('\x01') {
            records.push((at, at + len));
            at += len + 1;
        }
        Self { text, records }
    }

    /// What is said of a type.
    pub(crate) fn of(&self, definition: &str) -> Record<'_> {
        let name = |record: &(usize, usize)| {
            let record = &self.text[record.0..record.1];
            record.split('\0').next().unwrap_or_default()
        };
        let found = self
            .records
            .binary_search_by(|known| name(known).cmp(definition));
        let text = found.map_or("", |at| &self.text[self.records[at].0..self.records[at].1]);
        Record { text }
    }
}

/// What is said of a type and its fields.
#[derive(Clone, Copy)]
pub(crate) struct Record<'d> {
    /// Name, description, and the same for each field, each ended by a zero byte.
    text: &'d str,
}

impl<'d> Record<'d> {
    /// What the type is; empty if nothing is known.
    pub(crate) fn own(self) -> &'d str {
        self.text.split('\0').nth(1).unwrap_or_default()
    }

    /// What a field is for; empty if nothing is known.
    pub(crate) fn field(self, name: &str) -> &'d str {
        let mut words = self.text.split('\0').skip(2);
        while let Some(known) = words.next() {
            let description = words.next().unwrap_or_default();
            if known == name {
                return description;
            }
        }
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_fields_are_described() {
        let all = Descriptions::load();
        assert!(all.records.len() > 600, "{}", all.records.len());
        let port = all.of("io.k8s.api.core.v1.ContainerPort");
        assert!(port.own().starts_with("ContainerPort represents"));
        assert!(port.field("containerPort").ends_with("0 < x < 65536."));
        assert!(port.field("hostIP").contains("host IP"));
        assert_eq!((port.field("nope"), all.of("nope").own()), ("", ""));
        let schema =
            all.of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        assert!(schema.field("x-kubernetes-map-type").contains("granular"));
    }
}
