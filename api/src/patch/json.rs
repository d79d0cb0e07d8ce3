//! JSON patch (RFC 6902) with the leniencies of the library upstream uses, evanphx/json-patch v4:
//! negative indices, `replace` of a key that is not there, `copy` and `move` from nowhere.

use super::{Class, PatchError};
use crate::codec::json::{self, MAX_DEPTH};
use crate::doc::{Doc, Id, Kind, New, Node};

/// More operations are refused.
pub const MAX_OPERATIONS: usize = 10_000;

/// Bytes that `copy` may add in all.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies the operations of a patch in order. After an error the document is of no use.
///
/// # Errors
///
/// If it is no patch, an operation does not fit the document, or one asks for too much.
pub fn apply(doc: &mut Doc, patch: Node<'_>) -> Result<(), PatchError> {
    if patch.kind() != Kind::List || patch.children().any(|op| op.kind() != Kind::Object) {
        let message = "json: cannot unmarshal patch into Go value of type jsonpatch.Patch";
        return Err(PatchError::new(Class::BadRequest, message));
    }
    let count = patch.len();
    if count > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        );
        return Err(PatchError::new(Class::TooLarge, message));
    }
    let mut run = Run { doc, copied: 0 };
    for op in patch.children() {
        run.operation(op)
            .map_err(|message| PatchError::new(Class::Unprocessable, message))?;
    }
    Ok(())
}

struct Run<'d> {
    doc: &'d mut Doc,
    copied: usize,
}

type Outcome = Result<(), String>;

const MISSING: &str = "missing value";

impl Run<'_> {
    fn operation(&mut self, op: Node<'_>) -> Outcome {
        match op.text(&["op"]) {
            "add" => self.add(op),
            "remove" => self.remove(op),
            "replace" => self.replace(op),
            "move" => self.relocate(op),
            "test" => self.test(op),
            "copy" => self.copy(op),
            "" => Err("Unexpected kind: unknown".to_string()),
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    fn add(&mut self, op: Node<'_>) -> Outcome {
        let path = pointer(op, "path")
            .ok_or_else(|| format!("add operation failed to decode path: {MISSING}"))?;
        let Some((parent, key)) = self.locate(path) else {
            return Err(format!(
                "add operation does not apply: doc is missing path: \"{path}\": {MISSING}"
            ));
        };
        let value = self.value(op);
        self.insert(parent, &key, value, path)
            .map_err(|error| format!("error in add for path: '{path}': {error}"))
    }

    fn remove(&mut self, op: Node<'_>) -> Outcome {
        let path = pointer(op, "path")
            .ok_or_else(|| format!("remove operation failed to decode path: {MISSING}"))?;
        let Some((parent, key)) = self.locate(path) else {
            return Err(format!(
                "remove operation does not apply: doc is missing path: \"{path}\": {MISSING}"
            ));
        };
        let removed = self.take(parent, &key);
        removed
            .map(drop)
            .map_err(|error| format!("error in remove for path: '{path}': {error}"))
    }

    fn replace(&mut self, op: Node<'_>) -> Outcome {
        let path = pointer(op, "path").ok_or_else(|| {
            format!(
                "replace operation failed to decode path: operation missing path field: {MISSING}"
            )
        })?;
        let value = self.value(op);
        if path.is_empty() {
            // Anything else is ignored, as there.
            if matches!(self.doc.cell(value).kind, Kind::Object | Kind::List) {
                self.doc.set_root(value);
            }
            return Ok(());
        }
        let Some((parent, key)) = self.locate(path) else {
            return Err(format!(
                "replace operation does not apply: doc is missing path: {path}: {MISSING}"
            ));
        };
        if self.doc.cell(parent).kind == Kind::Object {
            return self.insert(parent, &key, value, path);
        }
        let Ok(old) = self.element(parent, &key) else {
            return Err(format!(
                "replace operation does not apply: doc is missing key: {path}: {MISSING}"
            ));
        };
        self.shallow(value, path)?;
        self.doc.replace_in(parent, old, value);
        Ok(())
    }

    fn relocate(&mut self, op: Node<'_>) -> Outcome {
        let from = pointer(op, "from").ok_or_else(|| {
            format!(
                "move operation failed to decode from: operation, missing from field: {MISSING}"
            )
        })?;
        let Some((parent, key)) = self.locate(from) else {
            return Err(format!(
                "move operation does not apply: doc is missing from path: {from}: {MISSING}"
            ));
        };
        let taken = self.take(parent, &key);
        let value = taken.map_err(|error| format!("error in move for path: '{key}': {error}"))?;
        let path = pointer(op, "path").ok_or_else(|| {
            format!("move operation failed to decode path: operation missing path field: {MISSING}")
        })?;
        let Some((parent, key)) = self.locate(path) else {
            return Err(format!(
                "move operation does not apply: doc is missing destination path: {path}: {MISSING}"
            ));
        };
        self.insert(parent, &key, value, path)
            .map_err(|error| format!("error in move for path: '{path}': {error}"))
    }

    fn copy(&mut self, op: Node<'_>) -> Outcome {
        let from = pointer(op, "from").ok_or_else(|| {
            format!(
                "copy operation failed to decode from: operation, missing from field: {MISSING}"
            )
        })?;
        let Some((parent, key)) = self.locate(from) else {
            return Err(format!(
                "copy operation does not apply: doc is missing from path: {from}: {MISSING}"
            ));
        };
        let found = match self.doc.cell(parent).kind {
            Kind::Object => self.doc.find(parent, &key),
            _ => Some(
                self.element(parent, &key)
                    .map_err(|error| format!("error in copy for from: '{from}': {error}"))?,
            ),
        };
        let path = pointer(op, "path")
            .ok_or_else(|| format!("copy operation failed to decode path: {MISSING}"))?;
        let Some((parent, key)) = self.locate(path) else {
            return Err(format!(
                "copy operation does not apply: doc is missing destination path: {path}: {MISSING}"
            ));
        };
        let value = match found {
            None => self.doc.make(New::Null),
            Some(found) => {
                let mut text = Vec::new();
                json::write(self.doc.node(found), &mut text);
                self.copied += text.len();
                if self.copied > MAX_COPIED {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, \
                         exceeding the limit {MAX_COPIED}",
                        self.copied,
                    ));
                }
                self.doc.copy(found)
            }
        };
        self.insert(parent, &key, value, path)
            .map_err(|error| format!("error while adding value during copy: {error}"))
    }

    fn test(&mut self, op: Node<'_>) -> Outcome {
        let path = pointer(op, "path").ok_or_else(|| {
            format!("test operation failed to decode path: operation missing path field: {MISSING}")
        })?;
        let found = if path.is_empty() {
            Some(self.doc.top())
        } else {
            let Some((parent, key)) = self.locate(path) else {
                return Err(format!(
                    "test operation does not apply: is missing path: {path}: {MISSING}"
                ));
            };
            match self.doc.cell(parent).kind {
                Kind::Object => self.doc.find(parent, &key),
                _ => Some(
                    self.element(parent, &key)
                        .map_err(|error| format!("error in test for path: '{path}': {error}"))?,
                ),
            }
        };
        // What is not there equals null.
        let found = found
            .map(|id| self.doc.node(id))
            .filter(|node| !node.is_null());
        let wanted = op.get("value").filter(|node| !node.is_null());
        if found == wanted {
            return Ok(());
        }
        Err(format!("testing value {path} failed: test failed"))
    }

    /// A copy of the operation's value; null if it has none.
    fn value(&mut self, op: Node<'_>) -> Id {
        match op.get("value") {
            Some(value) => self.doc.graft(value),
            None => self.doc.make(New::Null),
        }
    }

    /// The object or list that a pointer's last token is about, and that token.
    fn locate(&self, path: &str) -> Option<(Id, String)> {
        let (_, tokens) = path.split_once('/')?;
        let (parents, last) = match tokens.rsplit_once('/') {
            Some((parents, last)) => (Some(parents), last),
            None => (None, tokens),
        };
        let mut at = self.doc.top();
        for token in parents.into_iter().flat_map(|parents| parents.split('/')) {
            let key = unescaped(token);
            at = match self.doc.cell(at).kind {
                Kind::Object => self.doc.find(at, &key)?,
                _ => self.element(at, &key).ok()?,
            };
            if !matches!(self.doc.cell(at).kind, Kind::Object | Kind::List) {
                return None;
            }
        }
        let is_container = matches!(self.doc.cell(at).kind, Kind::Object | Kind::List);
        is_container.then(|| (at, unescaped(last)))
    }

    /// An element of a list; negative indices count from the end.
    fn element(&self, list: Id, key: &str) -> Result<Id, String> {
        let index = index(key)?;
        let length = self.doc.node(list).len();
        let place = if index < 0 {
            index + length as i64
        } else {
            index
        };
        let found = usize::try_from(place)
            .ok()
            .and_then(|at| self.doc.node(list).item(at));
        found.map(Node::id).ok_or_else(|| invalid_index(index))
    }

    fn take(&mut self, parent: Id, key: &str) -> Result<Id, String> {
        let found = match self.doc.cell(parent).kind {
            Kind::Object => self
                .doc
                .find(parent, key)
                .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))?,
            _ => self.element(parent, key)?,
        };
        self.doc.unlink(parent, found);
        Ok(found)
    }

    fn insert(&mut self, parent: Id, key: &str, value: Id, path: &str) -> Outcome {
        self.shallow(value, path)?;
        if self.doc.cell(parent).kind == Kind::Object {
            self.doc.put(parent, key, value);
            return Ok(());
        }
        if key == "-" {
            self.doc.push_id(parent, value);
            return Ok(());
        }
        let index = index(key)
            .map_err(|error| format!("value was not a proper array index: '{key}': {error}"))?;
        let room = self.doc.node(parent).len() as i64 + 1;
        let place = if index < 0 { index + room } else { index };
        match usize::try_from(place) {
            Ok(place) if (place as i64) < room => self.doc.insert_id(parent, place, value),
            _ => return Err(invalid_index(index)),
        }
        Ok(())
    }

    /// Copies of copies nest without end.
    fn shallow(&self, value: Id, path: &str) -> Outcome {
        let depth = path.matches('/').count() + self.doc.node(value).depth();
        if depth > MAX_DEPTH {
            Err("exceeded max depth".to_string())
        } else {
            Ok(())
        }
    }
}

fn pointer<'a>(op: Node<'a>, key: &str) -> Option<&'a str> {
    op.get(key).and_then(Node::as_str)
}

fn unescaped(token: &str) -> String {
    // In this order: `~01` is `~1`.
    token.replace("~1", "/").replace("~0", "~")
}

fn index(key: &str) -> Result<i64, String> {
    key.parse()
        .map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))
}

fn invalid_index(index: i64) -> String {
    format!("Unable to access invalid index: {index}: invalid index referenced")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(target: &str, patch: &str) -> String {
        let mut doc = Doc::literal(target);
        match apply(&mut doc, Doc::literal(patch).root()) {
            Ok(()) => doc.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn stories() {
        for (target, patch, want) in [
            (
                r#"{"a":1}"#,
                r#"[{"op":"add","path":"/b","value":[1]}]"#,
                r#"{"a":1,"b":[1]}"#,
            ),
            (
                r#"{"a":[1,3]}"#,
                r#"[{"op":"add","path":"/a/1","value":2}]"#,
                r#"{"a":[1,2,3]}"#,
            ),
            (
                r#"{"a":[1]}"#,
                r#"[{"op":"add","path":"/a/-","value":2}]"#,
                r#"{"a":[1,2]}"#,
            ),
            (
                r#"{"a":[1,2]}"#,
                r#"[{"op":"add","path":"/a/-1","value":3}]"#,
                r#"{"a":[1,2,3]}"#,
            ),
            (
                r#"{"a":[1,2]}"#,
                r#"[{"op":"remove","path":"/a/-1"}]"#,
                r#"{"a":[1]}"#,
            ),
            (
                r#"{"a":{"b":1}}"#,
                r#"[{"op":"remove","path":"/a/b"}]"#,
                r#"{"a":{}}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"replace","path":"/a","value":null}]"#,
                r#"{"a":null}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"replace","path":"/b","value":2}]"#,
                r#"{"a":1,"b":2}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"replace","path":"","value":{"b":2}}]"#,
                r#"{"b":2}"#,
            ),
            (
                r#"{"a":[1,2]}"#,
                r#"[{"op":"replace","path":"/a/0","value":9}]"#,
                r#"{"a":[9,2]}"#,
            ),
            (
                r#"{"a":{"b":1}}"#,
                r#"[{"op":"move","from":"/a/b","path":"/c"}]"#,
                r#"{"a":{},"c":1}"#,
            ),
            (
                r#"{"a":{"b":1}}"#,
                r#"[{"op":"copy","from":"/a","path":"/c"}]"#,
                r#"{"a":{"b":1},"c":{"b":1}}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"copy","from":"/x","path":"/c"}]"#,
                r#"{"a":1,"c":null}"#,
            ),
            (
                r#"{"a/b":1,"m~n":2}"#,
                r#"[{"op":"remove","path":"/a~1b"},{"op":"remove","path":"/m~0n"}]"#,
                "{}",
            ),
            (
                r#"{"a":{"b":[1]}}"#,
                r#"[{"op":"test","path":"/a","value":{"b":[1]}}]"#,
                r#"{"a":{"b":[1]}}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"test","path":"/b","value":null}]"#,
                r#"{"a":1}"#,
            ),
        ] {
            assert_eq!(patched(target, patch), want, "{target} {patch}");
        }
    }

    #[test]
    fn errors_speak_as_upstream_does() {
        for (target, patch, want) in [
            (
                r#"{"a":1}"#,
                r#"[{"op":"add","path":"/b/c","value":1}]"#,
                r#"add operation does not apply: doc is missing path: "/b/c": missing value"#,
            ),
            (
                r#"{"a":[]}"#,
                r#"[{"op":"add","path":"/a/1","value":1}]"#,
                "error in add for path: '/a/1': Unable to access invalid index: 1: invalid index referenced",
            ),
            (
                r#"{"a":[]}"#,
                r#"[{"op":"add","path":"/a/x","value":1}]"#,
                "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"remove","path":"/b"}]"#,
                "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"replace","path":"/b/c","value":1}]"#,
                "replace operation does not apply: doc is missing path: /b/c: missing value",
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"test","path":"/a","value":2}]"#,
                "testing value /a failed: test failed",
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"test","path":"/a","value":1.0}]"#,
                "testing value /a failed: test failed",
            ),
            (
                "{}",
                r#"[{"op":"frob","path":"/a"}]"#,
                "Unexpected kind: frob",
            ),
            ("{}", r#"[{"path":"/a"}]"#, "Unexpected kind: unknown"),
        ] {
            assert_eq!(patched(target, patch), want, "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let op = r#"{"op":"copy","from":"/a","path":"/a/x"}"#;
        let bomb = format!("[{}]", vec![op; 2_000].join(","));
        assert!(patched(r#"{"a":{"b":[]}}"#, &bomb).contains("exceeding the limit"));
        let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
        let inner = "/0".repeat(599);
        let bomb = format!(
            r#"[{{"op":"add","path":"/a","value":{deep}}},{{"op":"add","path":"/a{inner}/-","value":{deep}}}]"#
        );
        assert!(patched("{}", &bomb).contains("exceeded max depth"));
        let op = r#"{"op":"copy","from":"/a","path":"/a/-"}"#;
        let bomb = format!("[{}]", vec![op; 40].join(","));
        assert!(patched(r#"{"a":["text"]}"#, &bomb).contains("exceeding the limit"));
        let many = format!(
            "[{}]",
            vec![r#"{"op":"test","path":""}"#; MAX_OPERATIONS + 1].join(",")
        );
        assert!(patched("{}", &many).starts_with("The allowed maximum operations"));
    }
}
