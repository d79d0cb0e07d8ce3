//! JSON merge patch (RFC 7386), as evanphx/json-patch applies it: nulls are also dropped within what
//! a patch adds.

use super::{Class, PatchError};
use crate::doc::{Doc, Id, Kind, Node};

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
        for change in patch.children() {
            let current = doc.find(object, change.key());
            match (change.kind(), current) {
                (Kind::Null, _) => {
                    doc.remove(object, change.key());
                }
                (Kind::Object, Some(current)) if doc.cell(current).kind == Kind::Object => {
                    todo.push((current, change));
                }
                (kind, current) => {
                    let new = doc.graft(change);
                    // A list that takes an object's place keeps its nulls.
                    let over_object = current.is_some_and(|id| doc.cell(id).kind == Kind::Object);
                    if !(kind == Kind::List && over_object) {
                        drop_nulls(doc, new);
                    }
                    doc.put(object, change.key(), new);
                }
            }
        }
    }
    Ok(())
}

/// Removes what is `null` from all objects below a value.
pub(super) fn drop_nulls(doc: &mut Doc, top: Id) {
    let mut todo = vec![top];
    while let Some(parent) = todo.pop() {
        let is_object = doc.cell(parent).kind == Kind::Object;
        let children: Vec<Id> = doc.node(parent).children().map(Node::id).collect();
        for child in children {
            match doc.cell(child).kind {
                Kind::Null if is_object => doc.unlink(parent, child),
                Kind::Object | Kind::List => todo.push(child),
                _ => {}
            }
        }
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
