//! Defaulting: what an object says once nothing is left to be understood. Upstream's defaulting
//! functions are rules in the schema table; this interprets them. What types contain no rule is never
//! looked at, custom resources have none.

mod image;
mod place;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::doc::{Doc, Id, Kind, Node};
use crate::schema::rule::{Condition, Key, Keys, Literal, Place, Rule, Setter, Value};
use crate::schema::{Shape, Type};
use crate::values::Quantity;

/// Sets upstream's defaults on a document that conforms to a type; it conforms afterwards. `now` is
/// the time as metav1.Time writes it.
pub fn apply(doc: &mut Doc, schema: &Type, now: &str) {
    let top = doc.top();
    Pass { doc, now }.structure(top, schema);
}

struct Pass<'d> {
    doc: &'d mut Doc,
    now: &'d str,
}

/// What a rule is about: the object of its type, then the elements that surround the place.
type Bound<'s> = Vec<(Id, &'s Type)>;

impl Pass<'_> {
    fn structure(&mut self, id: Id, schema: &Type) {
        if schema.rules.is_empty() || self.doc.cell(id).kind != Kind::Object {
            return;
        }
        let own = schema
            .rules
            .iter()
            .take_while(|rule| matches!(rule, Rule::Set(_)));
        let count = own.clone().count();
        for rule in own {
            if let Rule::Set(setter) = rule {
                self.each(setter, &mut vec![(id, schema)]);
            }
        }
        self.fields(id, schema, &schema.rules[count..]);
    }

    /// Both the document's fields and the rules about them stand in the type's order.
    fn fields(&mut self, id: Id, schema: &Type, mut rules: &[Rule]) {
        let mut hint = 0;
        let mut next = self.doc.cell(id).first();
        while let (Some(child), false) = (next.some(), rules.is_empty()) {
            next = self.doc.cell(child).next;
            let key = self.doc.slice(self.doc.cell(child).key);
            let Some(position) = schema.position(key, hint) else {
                continue;
            };
            hint = position + 1;
            while let [rule, rest @ ..] = rules
                && concerns(rule) <= position
            {
                rules = rest;
                match rule {
                    _ if concerns(rule) < position => {}
                    Rule::Round(_) => self.round(child),
                    _ => self.value(child, &schema.fields[position].shape),
                }
            }
        }
    }

    fn value(&mut self, id: Id, shape: &Shape) {
        let item = match shape {
            Shape::Struct(schema) => return self.structure(id, schema),
            Shape::List(list) => &list.item,
            Shape::Map(map) => &map.item,
            _ => return,
        };
        let mut next = self.doc.cell(id).first();
        while let Some(child) = next.some() {
            self.value(child, item);
            next = self.doc.cell(child).next;
        }
    }

    /// Rounds quantities up to thousandths. Few are written in a form that has smaller parts.
    fn round(&mut self, map: Id) {
        let mut next = self.doc.cell(map).first();
        while let Some(child) = next.some() {
            let text = self.doc.node(child).as_str().unwrap_or_default();
            let is_fine = text.bytes().any(|byte| b"nueE.".contains(&byte));
            if is_fine && let Ok(quantity) = Quantity::parse(text) {
                let rounded = quantity.rounded_to_millis();
                if rounded != quantity {
                    self.doc.assign(child, &rounded.to_string());
                }
            }
            next = self.doc.cell(child).next;
        }
    }

    /// Applies a rule for every element that it ranges over.
    fn each(&mut self, setter: &Setter, bound: &mut Bound<'_>) {
        let Some(path) = setter.each.get(bound.len() - 1) else {
            return self.for_keys(setter, bound);
        };
        let (owner, schema) = bound[bound.len() - 1];
        let list = self.doc.node(owner).path(path);
        let elements: Vec<Id> =
            list.map_or(Vec::new(), |list| list.children().map(Node::id).collect());
        let Some(item) = place::element_type(schema, path) else {
            return;
        };
        for element in elements {
            bound.push((element, item));
            self.each(setter, bound);
            bound.pop();
        }
    }

    fn for_keys(&mut self, setter: &Setter, bound: &Bound<'_>) {
        match setter.keys {
            Keys::None => self.set(setter, bound, "", None),
            Keys::Of(map) => {
                let map = Place {
                    keyed: false,
                    ..map
                };
                let keys = self.find(map, bound, "").map_or(Vec::new(), |map| {
                    map.children()
                        .map(|child| child.key().to_string())
                        .collect()
                });
                for key in keys {
                    self.set(setter, bound, &key, None);
                }
            }
            Keys::Aggregate(kind) => {
                // Only pods that say something as a whole get more of it.
                let spec = self.doc.node(bound[0].0).get("spec");
                let total = spec
                    .filter(|spec| spec.get("resources").is_some())
                    .map_or(BTreeMap::new(), |spec| resources::aggregate(spec, kind));
                for (key, quantity) in total {
                    self.set(setter, bound, &key, Some(&quantity));
                }
            }
        }
    }

    fn set(&mut self, setter: &Setter, bound: &Bound<'_>, key: &str, total: Option<&Quantity>) {
        if !setter.when.iter().all(|one| self.holds(one, bound, key)) {
            return;
        }
        let Some(value) = self.made(&setter.value, bound, key, total) else {
            return;
        };
        let (owner, schema) = bound[usize::from(setter.target.depth)];
        place::put(
            self.doc,
            (owner, schema),
            setter.target.path,
            key_of(setter.target, key),
            value,
        );
    }

    /// A rule's value; none if there is nothing to set.
    fn made(
        &mut self,
        value: &Value,
        bound: &Bound<'_>,
        key: &str,
        total: Option<&Quantity>,
    ) -> Option<Id> {
        let text = |pass: &Self, place: Place| {
            let found = pass.find(place, bound, key).and_then(Node::as_str);
            found.unwrap_or_default().to_string()
        };
        let text = match *value {
            Value::Is(Literal::Json(json)) => {
                let value = Doc::literal(json);
                return Some(self.doc.absorb(value));
            }
            Value::Is(literal) => return Some(self.doc.make(place::scalar(literal))),
            Value::Copy(from) => {
                let from = self.find(from, bound, key)?.id();
                return Some(self.doc.copy(from));
            }
            Value::StorageVersions(versions) => {
                let mut versions = self.find(versions, bound, key)?.children();
                let is_stored = |version: &Node<'_>| {
                    version.get("storage").and_then(Node::as_bool) == Some(true)
                };
                let name = versions.find(is_stored)?.text(&["name"]).to_string();
                let list = self.doc.make(crate::doc::New::List);
                self.doc.push(list, &name);
                return Some(list);
            }
            Value::Lower(from) => text(self, from).to_lowercase(),
            Value::Concat(from, suffix) => text(self, from) + suffix,
            Value::Now => self.now.to_string(),
            Value::Aggregate => total?.to_string(),
        };
        Some(self.doc.make(crate::doc::New::Str(&text)))
    }

    fn find(&self, place: Place, bound: &Bound<'_>, key: &str) -> Option<Node<'_>> {
        let (owner, _) = bound[usize::from(place.depth)];
        let found = self.doc.node(owner).path(place.path)?;
        if place.keyed {
            found.get(key)
        } else {
            Some(found)
        }
    }

    fn holds(&self, condition: &Condition, bound: &Bound<'_>, key: &str) -> bool {
        let find = |place| {
            let found = self.find(place, bound, key);
            found.filter(|node| !node.is_null())
        };
        match *condition {
            Condition::Absent(place) => find(place).is_none(),
            Condition::Zero(place) => find(place).is_none_or(|node| self.doc.is_zero(node.id())),
            Condition::Present(place) => {
                find(place).is_some_and(|node| node.kind() != Kind::List || !node.is_empty())
            }
            Condition::In(place, values, wanted) => {
                let node = find(place);
                values.iter().any(|value| equals(node, value)) == wanted
            }
            Condition::Latest(place, wanted) => {
                let image = find(place).and_then(Node::as_str).unwrap_or_default();
                (image::tag(image) == Some("latest")) == wanted
            }
            Condition::Any(ways) => ways
                .iter()
                .any(|all| all.iter().all(|one| self.holds(one, bound, key))),
            // Every other field of a volume is a source.
            Condition::NoVolumeSource => {
                let mut fields = self.doc.node(bound[0].0).children();
                !fields.any(|field| field.key() != "name")
            }
            Condition::Key(Key::HugePage) => resources::is_huge_page(key),
            Condition::Key(Key::PodLevel) => resources::is_pod_level(key),
            Condition::Key(Key::Overcommitted) => resources::is_overcommitted(key),
        }
    }
}

/// The position of the field that a rule is about.
fn concerns(rule: &Rule) -> usize {
    match rule {
        Rule::Set(_) => 0,
        Rule::Round(position) | Rule::Visit(position) => usize::from(*position),
    }
}

fn key_of(place: Place, key: &str) -> Option<&str> {
    place.keyed.then_some(key)
}

fn equals(node: Option<Node<'_>>, value: &Literal) -> bool {
    match *value {
        Literal::Null | Literal::Json(_) => node.is_none(),
        Literal::Bool(value) => node.map_or(Some(false), Node::as_bool) == Some(value),
        Literal::Int(value) => node.map_or(Some(0), Node::as_i64) == Some(value),
        Literal::Str(value) => node.map_or(Some(""), Node::as_str) == Some(value),
    }
}
