//! Merge patches: what of a JSON value changed.

use serde_json::{Map, Value};

/// The merge patch that makes one object another; none if they are the same.
pub(crate) fn diff(old: &Value, new: &Value) -> Option<Value> {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        let change = match before.get(key) {
            Some(known) => diff(known, value),
            None => Some(value.clone()),
        };
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_is_patched() {
        let old = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3});
        let new = json!({"a": 1, "b": {"c": [1, 2]}, "f": {"g": 1}});
        let want = json!({"b": {"c": [1, 2], "d": null}, "e": null, "f": {"g": 1}});
        assert_eq!(diff(&old, &new), Some(want));
        assert_eq!(diff(&old, &old), None);
    }
}
