//! JSON that a controller copies but does not read: kept as text, a fraction of the bytes of a tree.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Raw(Box<str>);

impl Raw {
    /// The tree; null if there is no value.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for Raw {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::from(&Value::deserialize(from)?))
    }
}
