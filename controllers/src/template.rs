//! Pod templates: kept as one canonical text, so that comparing two is comparing bytes.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::selector::Labels;

/// The label by which a Deployment tells its ReplicaSets apart: no part of what a template says.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A `PodTemplateSpec`.
///
/// Two are equal if they say the same, whatever their `pod-template-hash`.
#[derive(Debug, Clone, Default)]
pub struct Template {
    /// Sorted keys, no nulls, without the label `pod-template-hash`.
    text: Arc<str>,
    labels: Labels,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Template {
    /// A template as objects have it.
    pub fn new(mut value: Value) -> Self {
        drop_nulls(&mut value);
        let labels = value
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or_default();
        let labels = Labels::deserialize(labels).unwrap_or_default();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
                labels.remove(POD_TEMPLATE_HASH);
            }
            metadata.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
            if metadata.is_empty() {
                value.as_object_mut().map(|all| all.remove("metadata"));
            }
        }
        let text = value.to_string().into();
        Self { text, labels }
    }

    /// The labels that its pods get.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The template as objects have it.
    pub fn value(&self) -> Value {
        let mut value = serde_json::from_str(&self.text).unwrap_or_else(|_| json!({}));
        if !self.labels.is_empty() {
            value["metadata"]["labels"] = json!(self.labels);
        }
        value
    }

    /// The same template whose pods get one more label.
    pub fn with_label(&self, key: &str, value: &str) -> Self {
        let mut all = self.value();
        all["metadata"]["labels"][key] = value.into();
        Self::new(all)
    }

    /// What tells this template from others of the same owner: stable, and fit for a name.
    ///
    /// Upstream hashes a dump of its Go structs, which nobody else can; the hash of an existing
    /// ReplicaSet is therefore never computed again, only templates are compared.
    pub fn hash(&self, collisions: Option<i32>) -> String {
        let mut hash = fnv1a(FNV_OFFSET, self.text.as_bytes());
        if let Some(collisions) = collisions {
            hash = fnv1a(hash, &i64::from(collisions).to_le_bytes());
        }
        safe_encode(&hash.to_string())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(Value::deserialize(from)?))
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(all) => {
            all.retain(|_, value| !value.is_null());
            all.values_mut().for_each(drop_nulls);
        }
        Value::Array(all) => all.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Where FNV hashes of 32 bits start.
pub const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// FNV-1a of 32 bits: xor, then multiply.
fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME);
    bytes.iter().fold(start, step)
}

/// FNV-1 of 32 bits: multiply, then xor.
pub fn fnv1(start: u32, bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| hash.wrapping_mul(FNV_PRIME) ^ u32::from(*byte);
    bytes.iter().fold(start, step)
}

/// Replaces every byte by one of an alphabet that spells no words, as names have it.
pub fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let encode = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_equal_whatever_their_hash_label() {
        let bare = json!({"metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
                          "spec": {"containers": [{"name": "c", "image": "x"}]}});
        let one = Template::new(bare);
        let two = one.with_label(POD_TEMPLATE_HASH, "abc");
        assert_eq!(one, two);
        assert_eq!(two.labels()[POD_TEMPLATE_HASH], "abc");
        assert_eq!(
            two.value()["metadata"]["labels"],
            json!({"app": "web", "pod-template-hash": "abc"})
        );
        assert_ne!(one, one.with_label("more", "x"));
        assert_eq!(
            Template::new(json!({"spec": {}})),
            Template::new(json!({"metadata": {"labels": {}}, "spec": {}}))
        );
    }

    #[test]
    fn hashes_are_stable_and_differ_by_collision() {
        let one = Template::new(json!({"spec": {"containers": []}}));
        assert_eq!(one.hash(None), one.hash(None));
        assert_ne!(one.hash(None), one.hash(Some(1)));
        assert_ne!(one.hash(Some(2)), one.hash(Some(1)));
        assert!(
            one.hash(None)
                .bytes()
                .all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
        );
    }

    /// Vectors of Go's hash/fnv and of SafeEncodeString.
    #[test]
    fn the_primitives_are_gos() {
        assert_eq!(fnv1a(FNV_OFFSET, b"abc"), 0x1a47_e90b);
        assert_eq!(fnv1(FNV_OFFSET, b"abc"), 0x439c_2f4b);
        assert_eq!(safe_encode("1234567890"), "56789bcdf4");
    }
}
