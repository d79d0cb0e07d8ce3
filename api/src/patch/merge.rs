//! JSON merge patch (RFC 7386), as evanphx/json-patch applies it: nulls are also dropped within what
//! a patch adds.

use super::{Class, PatchError};
use crate::doc::{Doc, Entries, Id, Kind, Node};

/// Applies a merge patch.
///
/// # Errors
///
/// If the patch is no object.
pub fn apply(doc: &mut Doc, patch: Node<'_>) -> Result<(), PatchError> {
    if patch.kind() != Kind::Object {
        return Err(PatchError::new(Class::BadRequest, "Invalid JSON Patch"));
    }
    // A stack of what is to be merged into what: depth must not cost the thread's stack.
    let mut todo = vec![(doc.top(), patch)];
    while let Some((object, patch)) = todo.pop() {
        if doc.cell(object).kind != Kind::Object {
            doc.clear(object, Kind::Object);
        }
        let mut entries = Entries::of(doc, object);
        for change in patch.children() {
            let key = change.key();
            let current = entries.find(key);
            let was_object = current.is_some_and(|id| doc.cell(id).kind == Kind::Object);
            match (change.kind(), current) {
                (Kind::Null, _) => entries.remove(key),
                (Kind::Object, Some(current)) if was_object => todo.push((current, change)),
                (kind, _) => {
                    let new = doc.graft(change);
                    // A list that takes an object's place keeps its nulls.
                    if !(kind == Kind::List && was_object) {
                        drop_nulls(doc, new);
                    }
                    entries.put(doc, key, new);
                }
            }
        }
        entries.finish(doc, object);
    }
    Ok(())
}

/// Removes what is `null` from all objects below a value.
pub(super) fn drop_nulls(doc: &mut Doc, top: Id) {
    let mut todo = vec![top];
    while let Some(parent) = todo.pop() {
        let is_object = doc.cell(parent).kind == Kind::Object;
        let is_dropped = |child: &Node<'_>| is_object && child.is_null();
        if doc.node(parent).children().any(|child| is_dropped(&child)) {
            let kept = doc
                .node(parent)
                .children()
                .filter(|child| !is_dropped(child));
            let kept: Vec<Id> = kept.map(Node::id).collect();
            doc.relink(parent, &kept);
        }
        let inner = doc.node(parent).children();
        todo.extend(inner.filter(|child| !child.is_empty()).map(Node::id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7386, and where evanphx differs.
    #[test]
    fn stories() {
        for (target, patch, want) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            ("{}", r#"{"a":[{"b":null}]}"#, r#"{"a":[{}]}"#),
            (
                r#"{"a":1}"#,
                r#"{"a":{"b":null,"c":1}}"#,
                r#"{"a":{"c":1}}"#,
            ),
        ] {
            let mut doc = Doc::literal(target);
            apply(&mut doc, Doc::literal(patch).root()).unwrap();
            assert_eq!(doc.to_string(), want, "{target} {patch}");
        }
        let refused = apply(&mut Doc::new(), Doc::literal("[]").root()).unwrap_err();
        assert_eq!(refused.class, Class::BadRequest);
    }
}
