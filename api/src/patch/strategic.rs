//! Strategic merge patch: lists are merged by the keys that the schema names, and directives in the
//! patch say what merging cannot: `$patch`, `$retainKeys`, `$setElementOrder`,
//! `$deleteFromPrimitiveList`.

mod order;

use std::collections::HashSet;

use super::merge::drop_nulls;
use super::{Class, PatchError};
use crate::doc::{Doc, Entries, Id, Kind, Node};
use crate::schema::{Field, Shape, Type};
use order::{Identity, interleave, split};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_SCALARS: &str = "$deleteFromPrimitiveList";

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ELEMENT_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_DELETE_LIST: &str = "invalid patch format of primitive list";

/// Applies a strategic merge patch to a document of a type.
///
/// # Errors
///
/// If the patch is no object, or its directives make no sense where they stand.
pub fn apply(doc: &mut Doc, patch: Node<'_>, schema: &Type) -> Result<(), PatchError> {
    if patch.kind() != Kind::Object {
        return Err(bad_request("invalid JSON document"));
    }
    let top = doc.top();
    Merger { doc }.map(top, patch, Meaning::Struct(schema))
}

type Outcome = Result<(), PatchError>;

fn bad_request(message: &str) -> PatchError {
    PatchError::new(Class::BadRequest, message)
}

fn internal(message: String) -> PatchError {
    PatchError::new(Class::Internal, message)
}

fn no_merge_key(node: Node<'_>, key: &str) -> PatchError {
    internal(format!(
        "map: {node} does not contain declared merge key: {key}"
    ))
}

/// What the schema says about an object.
#[derive(Clone, Copy)]
enum Meaning<'s> {
    Struct(&'s Type),
    /// Not a struct: Go's kind of it.
    Other(&'static str),
}

impl<'s> Meaning<'s> {
    fn of(shape: &'s Shape) -> Self {
        match shape {
            Shape::Struct(schema) => Self::Struct(schema),
            Shape::SchemaOr(_, schema) => Self::Struct(schema),
            Shape::Map(_) => Self::Other("map"),
            Shape::List(_) => Self::Other("slice"),
            Shape::Raw | Shape::Json | Shape::FieldsV1 => Self::Other("struct"),
            _ => Self::Other("interface"),
        }
    }

    fn field(self, key: &str) -> Result<&'s Field, PatchError> {
        match self {
            Self::Struct(schema) => schema.field(key).ok_or_else(|| {
                let name = &schema.name;
                internal(format!(
                    "unable to find api field in struct {name} for the json field {key:?}"
                ))
            }),
            Self::Other(kind) => Err(internal(format!(
                "merging an object in json but data type is not struct, instead is: {kind}"
            ))),
        }
    }
}

struct Merger<'d> {
    doc: &'d mut Doc,
}

impl Merger<'_> {
    /// Merges an object of a patch into one of the document.
    fn map(&mut self, object: Id, patch: Node<'_>, meaning: Meaning<'_>) -> Outcome {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    self.doc.clear(object, Kind::Object);
                    for child in patch.children().filter(|child| child.key() != DIRECTIVE) {
                        let copy = self.doc.graft(child);
                        self.doc.put(object, child.key(), copy);
                    }
                    Ok(())
                }
                Some("delete") => {
                    self.doc.clear(object, Kind::Object);
                    Ok(())
                }
                _ => {
                    let found = directive
                        .as_str()
                        .map_or_else(|| directive.to_string(), str::to_string);
                    Err(internal(format!(
                        "unknown patch type: {found} in map: {patch}"
                    )))
                }
            };
        }
        self.retain_keys(object, patch)?;
        let ordered = self.ordered_lists(object, patch, meaning)?;
        let mut entries = Entries::of(self.doc, object);
        for change in patch.children() {
            let key = change.key();
            if key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || ordered.contains(key) {
                continue;
            }
            let is_deletion = key.starts_with(DELETE_SCALARS);
            let key = if is_deletion {
                list_key(key, DELETE_SCALARS, BAD_DELETE_LIST)?
            } else {
                key
            };
            self.entry(&mut entries, key, change, is_deletion, meaning)?;
        }
        entries.finish(self.doc, object);
        Ok(())
    }

    /// One key of a patch.
    fn entry(
        &mut self,
        entries: &mut Entries,
        key: &str,
        change: Node<'_>,
        is_deletion: bool,
        meaning: Meaning<'_>,
    ) -> Outcome {
        if change.is_null() {
            entries.remove(key);
            return Ok(());
        }
        let current = entries.find(key);
        let same_kind = current.filter(|id| same_go_type(self.doc.cell(*id).kind, change.kind()));
        let Some(current) = same_kind else {
            if !is_deletion {
                self.add(entries, key, change);
            }
            return Ok(());
        };
        match change.kind() {
            Kind::Object => {
                let field = meaning.field(key)?;
                if field.facts.patch.replace {
                    let copy = self.doc.graft(change);
                    entries.put(self.doc, key, copy);
                    return Ok(());
                }
                self.map(current, change, Meaning::of(&field.shape))
            }
            Kind::List => {
                let field = meaning.field(key)?;
                if !field.facts.patch.merge && !is_deletion {
                    let copy = self.doc.graft(change);
                    entries.put(self.doc, key, copy);
                    return Ok(());
                }
                self.list(current, change, field, is_deletion)
            }
            _ => {
                self.add(entries, key, change);
                Ok(())
            }
        }
    }

    /// Sets a key to what a patch adds, without its nulls and without what it deletes.
    fn add(&mut self, entries: &mut Entries, key: &str, value: Node<'_>) {
        if value.kind() == Kind::Object && value.get(DIRECTIVE).is_some() {
            entries.remove(key);
            return;
        }
        let copy = self.without_directives(value);
        entries.put(self.doc, key, copy);
    }

    fn without_directives(&mut self, value: Node<'_>) -> Id {
        let copy = self.doc.graft(value);
        drop_nulls(self.doc, copy);
        let mut todo = vec![copy];
        while let Some(parent) = todo.pop() {
            let children: Vec<Id> = self.doc.node(parent).children().map(Node::id).collect();
            for child in children {
                if self.doc.find(child, DIRECTIVE).is_some() {
                    self.doc.unlink(parent, child);
                } else {
                    todo.push(child);
                }
            }
        }
        copy
    }

    /// `$retainKeys`: the object keeps no other keys, and the patch may set no others.
    fn retain_keys(&mut self, object: Id, patch: Node<'_>) -> Outcome {
        let Some(directive) = patch.get(RETAIN_KEYS) else {
            return Ok(());
        };
        if directive.kind() != Kind::List {
            return Err(bad_request(BAD_RETAIN_KEYS));
        }
        let kept: HashSet<&str> = directive.children().filter_map(Node::as_str).collect();
        let is_directive = |key: &str| {
            key == RETAIN_KEYS || key.starts_with(DELETE_SCALARS) || key.starts_with(ELEMENT_ORDER)
        };
        let mut set = patch
            .children()
            .filter(|child| !child.is_null() && !is_directive(child.key()));
        if set.any(|child| !kept.contains(child.key())) {
            return Err(bad_request(BAD_RETAIN_KEYS));
        }
        let mut entries = Entries::of(self.doc, object);
        entries.retain(|key| kept.contains(key));
        entries.finish(self.doc, object);
        Ok(())
    }

    /// Lists whose order the patch gives by `$setElementOrder/KEY`. Returns their keys, which are
    /// then done with.
    fn ordered_lists<'p>(
        &mut self,
        object: Id,
        patch: Node<'p>,
        meaning: Meaning<'_>,
    ) -> Result<HashSet<&'p str>, PatchError> {
        let mut done = HashSet::new();
        for directive in patch
            .children()
            .filter(|child| child.key().starts_with(ELEMENT_ORDER))
        {
            let type_error = |found: Node<'_>| {
                internal(format!(
                    "expected a []interface {{}}, but received a {}",
                    go_type(found)
                ))
            };
            if directive.kind() != Kind::List {
                return Err(type_error(directive));
            }
            let key = list_key(directive.key(), ELEMENT_ORDER, BAD_ELEMENT_ORDER)?;
            let current = self.doc.find(object, key);
            let change = patch.get(key);
            if let Some(wrong) = change.filter(|change| change.kind() != Kind::List) {
                return Err(type_error(wrong));
            }
            if let Some(wrong) = current.filter(|id| self.doc.cell(*id).kind != Kind::List) {
                return Err(type_error(self.doc.node(wrong)));
            }
            let field = meaning.field(key)?;
            let merge_key = field.facts.patch.key;
            check_order(change, directive, merge_key)?;
            let before: Vec<Id> = current.map(|id| self.items(id)).unwrap_or_default();
            let list = match (current, change) {
                (None, None) => continue,
                (Some(current), None) => current,
                (Some(current), Some(change)) if field.facts.patch.merge => {
                    self.list(current, change, field, false)?;
                    current
                }
                (_, Some(change)) => {
                    let copy = self.without_directives(change);
                    self.doc.put(object, key, copy);
                    copy
                }
            };
            let wanted = Identity::of_nodes(directive.children(), merge_key)?;
            self.reorder(list, &wanted, &before, merge_key)?;
            done.insert(key);
        }
        Ok(done)
    }

    /// Merges a list of a patch into one of the document.
    fn list(&mut self, list: Id, patch: Node<'_>, field: &Field, is_deletion: bool) -> Outcome {
        let mut kinds = self
            .doc
            .node(list)
            .children()
            .chain(patch.children())
            .map(Node::kind);
        let Some(first) = kinds.next() else {
            return Ok(());
        };
        if first == Kind::List {
            let message = "lists of lists are not supported";
            return Err(PatchError::new(Class::Unprocessable, message));
        }
        if !kinds.all(|kind| same_go_type(kind, first)) {
            let current = self.doc.node(list);
            return Err(internal(format!(
                "list element types are not identical: [{current} {patch}]"
            )));
        }
        if first == Kind::Object {
            return self.objects(list, patch, field);
        }
        if is_deletion {
            let unwanted = Identity::of_nodes(patch.children(), "")?;
            let mut kept = self.items(list);
            kept.retain(|item| unwanted.place(self.doc.node(*item), "").is_none());
            self.doc.relink(list, &kept);
            return Ok(());
        }
        let before = self.items(list);
        let mut known = Identity::of_nodes(self.doc.node(list).children(), "")?;
        for item in patch.children() {
            if known.add(item, "", 0) {
                let copy = self.doc.graft(item);
                self.doc.push_id(list, copy);
            }
        }
        let wanted = Identity::of_nodes(patch.children(), "")?;
        self.reorder(list, &wanted, &before, "")
    }

    /// Lists of objects, which a key tells apart.
    fn objects(&mut self, list: Id, patch: Node<'_>, field: &Field) -> Outcome {
        let key = field.facts.patch.key;
        let item = match &field.shape {
            Shape::List(list) => Meaning::of(&list.item),
            other => Meaning::of(other),
        };
        if key.is_empty() {
            let kind = match item {
                Meaning::Struct(_) => "struct",
                Meaning::Other(kind) => kind,
            };
            return Err(internal(format!(
                "cannot merge lists without merge key for {kind}"
            )));
        }
        let (mut plain, mut replaces) = (Vec::new(), false);
        for element in patch.children() {
            let Some(directive) = element.get(DIRECTIVE) else {
                plain.push(element);
                continue;
            };
            match directive.as_str() {
                Some("delete") => {
                    let value = element.get(key).ok_or_else(|| no_merge_key(element, key))?;
                    self.delete_matching(list, key, value);
                }
                Some("replace") => replaces = true,
                Some("merge") => {
                    return Err(internal(
                        "merging lists cannot yet be specified in the patch".into(),
                    ));
                }
                _ => {
                    let found = directive
                        .as_str()
                        .map_or_else(|| directive.to_string(), str::to_string);
                    return Err(internal(format!(
                        "unknown patch type: {found} in map: {element}"
                    )));
                }
            }
        }
        if replaces {
            self.doc.clear(list, Kind::List);
        }
        let before = self.items(list);
        let mut known = Identity::of_nodes(self.doc.node(list).children(), key)?;
        let mut targets = before.clone();
        for element in &plain {
            if element.get(key).is_none() {
                return Err(no_merge_key(*element, key));
            }
            match known.place(*element, key) {
                Some(place) => self.map(targets[place], *element, item)?,
                None => {
                    let copy = self.without_directives(*element);
                    self.doc.push_id(list, copy);
                    known.add(*element, key, targets.len());
                    targets.push(copy);
                }
            }
        }
        if replaces {
            return Ok(());
        }
        let wanted = Identity::of_nodes(plain.into_iter(), key)?;
        self.reorder(list, &wanted, &before, key)
    }

    fn delete_matching(&mut self, list: Id, key: &str, value: Node<'_>) {
        for item in self.items(list) {
            if self.doc.node(item).get(key) == Some(value) {
                self.doc.unlink(list, item);
            }
        }
    }

    /// Puts the elements that the patch names in its order, and the others where they stood among
    /// them.
    fn reorder(&mut self, list: Id, wanted: &Identity, before: &[Id], key: &str) -> Outcome {
        let items = self.items(list);
        let doc = &*self.doc;
        if !key.is_empty() {
            for item in &items {
                let node = doc.node(*item);
                node.get(key).ok_or_else(|| no_merge_key(node, key))?;
            }
        }
        let live = Identity::of_ids(doc, before, key);
        let (named, others) = split(doc, &items, wanted, key);
        let order = interleave(doc, &others, &named, &live, key);
        self.doc.relink(list, &order);
        Ok(())
    }

    fn items(&self, list: Id) -> Vec<Id> {
        self.doc.node(list).children().map(Node::id).collect()
    }
}

/// `containers` of `$setElementOrder/containers`.
fn list_key<'k>(key: &'k str, prefix: &str, complaint: &str) -> Result<&'k str, PatchError> {
    let rest = key
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'));
    rest.ok_or_else(|| bad_request(complaint))
}

/// A patch's own elements must stand in the order that it asks for.
fn check_order(change: Option<Node<'_>>, order: Node<'_>, key: &str) -> Outcome {
    let Some(change) = change else {
        return Ok(());
    };
    if change.is_empty() || order.is_empty() {
        return Ok(());
    }
    let plain = change
        .children()
        .filter(|item| item.get(DIRECTIVE).is_none());
    let mut wanted = order.children();
    for item in plain {
        let mut found = false;
        for next in wanted.by_ref() {
            let same = match key {
                "" => next == item,
                key => {
                    let one = next.get(key).ok_or_else(|| no_merge_key(next, key))?;
                    one == item.get(key).ok_or_else(|| no_merge_key(item, key))?
                }
            };
            if same {
                found = true;
                break;
            }
        }
        if !found {
            return Err(internal(format!(
                "The order in patch list:\n{change}\n doesn't match {ELEMENT_ORDER} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Whether Go decodes both into the same type.
fn same_go_type(one: Kind, other: Kind) -> bool {
    let is_bool = |kind| matches!(kind, Kind::True | Kind::False);
    one == other || is_bool(one) && is_bool(other)
}

fn go_type(node: Node<'_>) -> &'static str {
    match node.kind() {
        Kind::Null => "%!s(<nil>)",
        Kind::False | Kind::True => "bool",
        Kind::Int => "int64",
        Kind::Number => "float64",
        Kind::String => "string",
        Kind::List => "[]interface {}",
        Kind::Object => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests;
